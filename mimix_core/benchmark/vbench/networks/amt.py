"""AMT-S (Li et al., CVPR 2023, arXiv 2304.09790): interpolate the frame halfway between two others.

Bidirectional correlation volumes like RAFT's (section 3.2 of the paper), flow refined from coarse
to fine as in IFRNet, and several flow fields blended at the end (section 3.4). Limited to the small
model and to the middle of the interval, which is all that VBench uses; modules are named as in the
public weights.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from mimix_core.benchmark.vbench.networks.raft_correlation import (
    LEVELS,
    CorrelationPyramid,
    build_pyramid,
    coordinate_grid,
    correlate_all_pairs,
    lookup_correlations,
)

CHANNELS = (20, 32, 44, 56)
"""Channels of the features at 1/2, 1/4, 1/8 and 1/16 of the frame size."""
SIDE_CHANNELS = 20
FLOWS = 3
RADIUS = 3
STRIDE = 16
"""The sides of input frames must be multiples of it."""
MIN_SIDE = 64
"""Shortest side of a frame: the coarsest correlation level is 1/64 of it."""
MIDPOINT = 0.5


class AmtS(nn.Module):
    """Interpolates the middle frame of each pair of frames."""

    def __init__(self) -> None:
        super().__init__()
        half, quarter, eighth, sixteenth = CHANNELS
        self.feat_encoder = CorrelationEncoder()
        self.encoder = PyramidEncoder()
        self.decoder4 = FlowDecoder(2 * sixteenth + 1, 2 * sixteenth, eighth + 4)
        self.decoder3 = FlowDecoder(3 * eighth + 4, 3 * eighth, quarter + 4)
        self.decoder2 = FlowDecoder(3 * quarter + 4, 3 * quarter, half + 4)
        self.decoder1 = FlowDecoder(3 * half + 4, 3 * half, 8 * FLOWS)
        self.update4 = FlowUpdateBlock(eighth, times=1)
        self.update3 = FlowUpdateBlock(quarter, times=2)
        self.update2 = FlowUpdateBlock(half, times=4)
        self.comb_block = nn.Sequential(
            nn.Conv2d(3 * FLOWS, 6 * FLOWS, 3, 1, 1),
            nn.PReLU(6 * FLOWS),
            nn.Conv2d(6 * FLOWS, 3, 3, 1, 1),
        )

    def forward(
        self, before_BCHW: torch.Tensor, after_BCHW: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """Return middle_BCHW, 0..1, of RGB frames in 0..1.

        ``scale``: the scale at which flow is computed; the scaled sides must be divisible by
        STRIDE. Raises ValueError for scaled frames below 64 x 64.
        """
        mean_B111 = torch.cat([before_BCHW, after_BCHW], dim=2).mean(1, keepdim=True)
        mean_B111 = mean_B111.mean(2, keepdim=True).mean(3, keepdim=True)
        frames = (before_BCHW - mean_B111, after_BCHW - mean_B111)
        scaled = frames if scale == 1 else tuple(rescale(f, scale) for f in frames)
        flows, mask, residual = self._final_flows(*scaled)
        if scale != 1:
            flows = (
                rescale(flows[0], 1 / scale) / scale,
                rescale(flows[1], 1 / scale) / scale,
            )
            mask, residual = (
                rescale(mask, 1 / scale),
                rescale(residual, 1 / scale),
            )
        return self._blend(frames, flows, mask, residual, mean_B111).clamp(0, 1)

    def _final_flows(
        self, before_BCHW: torch.Tensor, after_BCHW: torch.Tensor
    ) -> tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor, torch.Tensor]:
        """Return FLOWS flows to each frame, the blending mask of the first, and residuals."""
        encoded = self.feat_encoder(torch.cat([before_BCHW, after_BCHW]))
        correlation = BidirectionalCorrelation(*encoded.chunk(2))
        levels = list(zip(self.encoder(before_BCHW), self.encoder(after_BCHW), strict=True))
        features = torch.cat(levels[3], dim=1)
        time_B1HW = torch.full_like(features[:, :1], MIDPOINT)
        out = self.decoder4(torch.cat([features, time_B1HW], dim=1))
        flows, hidden = out[:, :4], out[:, 4:]
        flows, hidden = self.update4(hidden, flows, correlation)
        for decoder, update, pair in (
            (self.decoder3, self.update3, levels[2]),
            (self.decoder2, self.update2, levels[1]),
        ):
            out = decoder(decoder_input(hidden, pair, flows))
            flows, hidden = out[:, :4] + upsample_flow(flows), out[:, 4:]
            flows, hidden = update(hidden, flows, correlation)
        out = self.decoder1(decoder_input(hidden, levels[0], flows))
        to_before, to_after, mask, residual = out.split(
            [2 * FLOWS, 2 * FLOWS, FLOWS, 3 * FLOWS], dim=1
        )
        coarse_before, coarse_after = (
            flow.repeat(1, FLOWS, 1, 1) for flow in upsample_flow(flows).chunk(2, dim=1)
        )
        final = (to_before + coarse_before, to_after + coarse_after)
        return final, torch.sigmoid(mask), residual

    def _blend(
        self,
        frames: tuple[torch.Tensor, torch.Tensor],
        flows: tuple[torch.Tensor, torch.Tensor],
        mask: torch.Tensor,
        residual: torch.Tensor,
        mean_B111: torch.Tensor,
    ) -> torch.Tensor:
        """Average the frames that each pair of flows yields, and add a learned correction."""
        batch, _, height, width = mask.shape

        def split_flows(x: torch.Tensor) -> torch.Tensor:
            """Move the FLOWS groups of channels to the batch dimension."""
            return x.reshape(batch * FLOWS, -1, height, width)

        before, after = (
            warp(frame.repeat_interleave(FLOWS, dim=0), split_flows(flow))
            for frame, flow in zip(frames, flows, strict=True)
        )
        weight, mean = split_flows(mask), mean_B111.repeat_interleave(FLOWS, dim=0)
        candidates = weight * before + (1 - weight) * after + mean + split_flows(residual)
        candidates_BFCHW = candidates.view(batch, FLOWS, 3, height, width)
        correction: torch.Tensor = self.comb_block(candidates_BFCHW.flatten(1, 2))
        return candidates_BFCHW.mean(1) + correction


class BidirectionalCorrelation:
    """Correlation pyramids of both frames with each other, at 1/8 of their size."""

    def __init__(self, before_BCHW: torch.Tensor, after_BCHW: torch.Tensor) -> None:
        batch, _, height, width = before_BCHW.shape
        correlations_BLM = correlate_all_pairs(before_BCHW, after_BCHW)
        self.before_to_after: CorrelationPyramid = build_pyramid(correlations_BLM, height, width)
        self.after_to_before: CorrelationPyramid = build_pyramid(
            correlations_BLM.transpose(1, 2), height, width
        )
        self.grid_BCHW = coordinate_grid(batch, height, width, before_BCHW.device)

    def lookup(self, flows_BCHW: torch.Tensor) -> torch.Tensor:
        """Sample correlations_BCHW around the positions that ``flows_BCHW`` point to.

        ``flows_BCHW``: from the middle to both frames. The flow from one frame to the other is
        taken to be twice that.
        """
        to_before, to_after = (flows_BCHW / MIDPOINT).chunk(2, dim=1)
        forward = lookup_correlations(self.before_to_after, self.grid_BCHW + to_after, RADIUS)
        backward = lookup_correlations(self.after_to_before, self.grid_BCHW + to_before, RADIUS)
        return torch.cat([forward, backward], dim=1)


class FlowUpdateBlock(nn.Module):
    """Refine flow and features by one correlation lookup.

    ``times``: size of flow and features relative to the correlation's 1/8 of the frame size.
    """

    def __init__(self, channels: int, times: int) -> None:
        super().__init__()
        self.times = times
        self.convc1 = nn.Conv2d(2 * LEVELS * (2 * RADIUS + 1) ** 2, 64, 1)
        self.convf1 = nn.Conv2d(4, 40, 7, padding=3)
        self.convf2 = nn.Conv2d(40, 20, 3, padding=1)
        self.conv = nn.Conv2d(64 + 20, 68, 3, padding=1)
        self.gru = _head(68 + 4 + channels, 76)
        self.feat_head = _head(76, channels)
        self.flow_head = _head(76, 4)

    def forward(
        self, hidden: torch.Tensor, flows: torch.Tensor, correlation: BidirectionalCorrelation
    ) -> tuple[torch.Tensor, torch.Tensor]:
        times = self.times
        small_hidden, small_flows = hidden, flows
        if times != 1:
            small_hidden = rescale(hidden, 1 / times)
            small_flows = rescale(flows, 1 / times) / times
        correlations = leaky_relu(self.convc1(correlation.lookup(small_flows)))
        encoded_flows = leaky_relu(self.convf2(leaky_relu(self.convf1(small_flows))))
        motion = leaky_relu(self.conv(torch.cat([correlations, encoded_flows], dim=1)))
        state = self.gru(torch.cat([motion, small_flows, small_hidden], dim=1))
        hidden_delta, flow_delta = self.feat_head(state), self.flow_head(state)
        if times != 1:
            hidden_delta = rescale(hidden_delta, times)
            flow_delta = times * rescale(flow_delta, times)
        return flows + flow_delta, hidden + hidden_delta


def _head(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, 76, 3, padding=1),
        nn.LeakyReLU(0.1),
        nn.Conv2d(76, outputs, 3, padding=1),
    )


def leaky_relu(x_BCHW: torch.Tensor) -> torch.Tensor:
    return F.leaky_relu(x_BCHW, 0.1)


class FlowDecoder(nn.Module):
    """Decode features to flow and features at twice the size."""

    def __init__(self, inputs: int, inner: int, outputs: int) -> None:
        super().__init__()
        self.convblock = nn.Sequential(
            _convolution(inputs, inner),
            SideChannelBlock(inner),
            nn.ConvTranspose2d(inner, outputs, 4, 2, 1),
        )

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        out_BCHW: torch.Tensor = self.convblock(x_BCHW)
        return out_BCHW


class SideChannelBlock(nn.Module):
    """IFRNet's residual block: every second convolution applies to the last SIDE_CHANNELS only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = _convolution(channels, channels)
        self.conv2 = _convolution(SIDE_CHANNELS, SIDE_CHANNELS)
        self.conv3 = _convolution(channels, channels)
        self.conv4 = _convolution(SIDE_CHANNELS, SIDE_CHANNELS)
        self.conv5 = nn.Conv2d(channels, channels, 3, 1, 1)
        self.prelu = nn.PReLU(channels)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        y_BCHW = x_BCHW
        for full, side in ((self.conv1, self.conv2), (self.conv3, self.conv4)):
            y_BCHW = full(y_BCHW)
            y_BCHW = torch.cat(
                [y_BCHW[:, :-SIDE_CHANNELS], side(y_BCHW[:, -SIDE_CHANNELS:])], dim=1
            )
        out_BCHW: torch.Tensor = self.prelu(x_BCHW + self.conv5(y_BCHW))
        return out_BCHW


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.PReLU(outputs))


class PyramidEncoder(nn.Module):
    """Features of a frame at four sizes, the largest first."""

    def __init__(self) -> None:
        super().__init__()
        for number, (inputs, outputs) in enumerate(
            zip((3, *CHANNELS[:-1]), CHANNELS, strict=True), start=1
        ):
            layer = nn.Sequential(_convolution(inputs, outputs, 2), _convolution(outputs, outputs))
            self.add_module(f"pyramid{number}", layer)

    def forward(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        levels: list[torch.Tensor] = []
        for layer in self.children():
            x_BCHW = layer(x_BCHW)
            levels.append(x_BCHW)
        return levels


class CorrelationEncoder(nn.Module):
    """Features to correlate, at 1/8 of the frame size: RAFT's small encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 7, 2, 3)
        self.layer1 = nn.Sequential(AmtBottleneck(32, 32, 1), AmtBottleneck(32, 32, 1))
        self.layer2 = nn.Sequential(AmtBottleneck(32, 64, 2), AmtBottleneck(64, 64, 1))
        self.layer3 = nn.Sequential(AmtBottleneck(64, 96, 2), AmtBottleneck(96, 96, 1))
        self.conv2 = nn.Conv2d(96, 84, 1)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        x_BCHW = F.relu(F.instance_norm(self.conv1(x_BCHW)))
        x_BCHW = self.layer3(self.layer2(self.layer1(x_BCHW)))
        out_BCHW: torch.Tensor = self.conv2(x_BCHW)
        return out_BCHW


class AmtBottleneck(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs // 4, 1)
        self.conv2 = nn.Conv2d(outputs // 4, outputs // 4, 3, stride, 1)
        self.conv3 = nn.Conv2d(outputs // 4, outputs, 1)
        self.downsample: nn.Module | None = None
        if stride != 1:
            # A sequence of one, to match upstream's tensor names.
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride))

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        y_BCHW = x_BCHW
        for layer in (self.conv1, self.conv2, self.conv3):
            y_BCHW = F.relu(F.instance_norm(layer(y_BCHW)))
        if self.downsample is not None:
            x_BCHW = F.instance_norm(self.downsample(x_BCHW))
        return F.relu(x_BCHW + y_BCHW)


def rescale(x_BCHW: torch.Tensor, factor: float) -> torch.Tensor:
    return F.interpolate(x_BCHW, scale_factor=factor, mode="bilinear", align_corners=False)


def upsample_flow(flows_BCHW: torch.Tensor) -> torch.Tensor:
    """Upsample flow to twice the size, in pixels of that size."""
    return 2.0 * rescale(flows_BCHW, 2.0)


def decoder_input(
    hidden: torch.Tensor, pair: tuple[torch.Tensor, torch.Tensor], flows: torch.Tensor
) -> torch.Tensor:
    """Concatenate a decoder's inputs: hidden features, both frames' warped features, flows."""
    to_before, to_after = flows.chunk(2, dim=1)
    return torch.cat([hidden, warp(pair[0], to_before), warp(pair[1], to_after), flows], dim=1)


def warp(x_BCHW: torch.Tensor, flow_BCHW: torch.Tensor) -> torch.Tensor:
    """Sample ``x_BCHW`` where the flow points, in pixels; outside, the border is repeated."""
    height, width = x_BCHW.shape[-2:]
    x_coordinates = torch.linspace(-1, 1, width, device=x_BCHW.device)[None, None, :]
    y_coordinates = torch.linspace(-1, 1, height, device=x_BCHW.device)[None, :, None]
    grid_BHWC = torch.stack(
        [
            x_coordinates + flow_BCHW[:, 0] / ((width - 1.0) / 2.0),
            y_coordinates + flow_BCHW[:, 1] / ((height - 1.0) / 2.0),
        ],
        dim=-1,
    )
    return F.grid_sample(x_BCHW, grid_BHWC, padding_mode="border", align_corners=True)
