"""AMT-S (Li et al., CVPR 2023, arXiv 2304.09790): the frame half way between two others.

Bilateral correlation volumes as RAFT's (section 3.2 of the paper), flow refined from coarse to fine
as in IFRNet, and several flow fields blended at the end (section 3.4). Written for the small model
and for the middle of the interval, which is all that VBench asks of it; modules are named as in the
public weights.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from mimix_core.benchmark.vbench.networks.raft_correlation import (
    LEVELS,
    Pyramid,
    all_pairs,
    coordinate_grid,
    look_up,
    pyramid,
)

CHANNELS = (20, 32, 44, 56)
"""Of the picture's features at a half, a quarter, an eighth and a sixteenth of its size."""
SIDE_CHANNELS = 20
FLOWS = 3
RADIUS = 3
STRIDE = 16
"""Sides of pictures are multiples of it."""
SMALLEST = 64
"""Shortest side of a picture: the coarsest correlations are an eighth of an eighth of it."""
MIDDLE = 0.5


class AmtS(nn.Module):
    """The picture in the middle of each pair of pictures."""

    def __init__(self) -> None:
        super().__init__()
        half, quarter, eighth, sixteenth = CHANNELS
        self.feat_encoder = CorrelationEncoder()
        self.encoder = PictureEncoder()
        self.decoder4 = Decoder(2 * sixteenth + 1, 2 * sixteenth, eighth + 4)
        self.decoder3 = Decoder(3 * eighth + 4, 3 * eighth, quarter + 4)
        self.decoder2 = Decoder(3 * quarter + 4, 3 * quarter, half + 4)
        self.decoder1 = Decoder(3 * half + 4, 3 * half, 8 * FLOWS)
        self.update4 = Update(eighth, times=1)
        self.update3 = Update(quarter, times=2)
        self.update2 = Update(half, times=4)
        self.comb_block = nn.Sequential(
            nn.Conv2d(3 * FLOWS, 6 * FLOWS, 3, 1, 1),
            nn.PReLU(6 * FLOWS),
            nn.Conv2d(6 * FLOWS, 3, 3, 1, 1),
        )

    def forward(
        self, before_BCHW: torch.Tensor, after_BCHW: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """middle_BCHW, 0..1, of RGB pictures in 0..1.

        ``scale``: the size at which flow is computed, as a share of the pictures' own; STRIDE
        divides their sides at that size. Raises ValueError for pictures below 64 x 64 there.
        """
        mean_B111 = torch.cat([before_BCHW, after_BCHW], dim=2).mean(1, keepdim=True)
        mean_B111 = mean_B111.mean(2, keepdim=True).mean(3, keepdim=True)
        pictures = (before_BCHW - mean_B111, after_BCHW - mean_B111)
        small = pictures if scale == 1 else tuple(resize(p, scale) for p in pictures)
        flows, mask, residual = self._final_flows(*small)
        if scale != 1:
            flows = (resize(flows[0], 1 / scale) / scale, resize(flows[1], 1 / scale) / scale)
            mask, residual = resize(mask, 1 / scale), resize(residual, 1 / scale)
        return self._blend(pictures, flows, mask, residual, mean_B111).clamp(0, 1)

    def _final_flows(
        self, before_BCHW: torch.Tensor, after_BCHW: torch.Tensor
    ) -> tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor, torch.Tensor]:
        """FLOWS flows to each picture, how much of the first shows, and what both lack."""
        search = Search(*self.feat_encoder(torch.cat([before_BCHW, after_BCHW])).chunk(2))
        seen = list(zip(self.encoder(before_BCHW), self.encoder(after_BCHW), strict=True))
        features = torch.cat(seen[3], dim=1)
        time_B1HW = torch.full_like(features[:, :1], MIDDLE)
        out = self.decoder4(torch.cat([features, time_B1HW], dim=1))
        flows, hidden = out[:, :4], out[:, 4:]
        flows, hidden = self.update4(hidden, flows, search)
        for decoder, update, pair in (
            (self.decoder3, self.update3, seen[2]),
            (self.decoder2, self.update2, seen[1]),
        ):
            out = decoder(warped(hidden, pair, flows))
            flows, hidden = out[:, :4] + doubled(flows), out[:, 4:]
            flows, hidden = update(hidden, flows, search)
        out = self.decoder1(warped(hidden, seen[0], flows))
        to_before, to_after, mask, residual = out.split(
            [2 * FLOWS, 2 * FLOWS, FLOWS, 3 * FLOWS], dim=1
        )
        coarse_before, coarse_after = (
            flow.repeat(1, FLOWS, 1, 1) for flow in doubled(flows).chunk(2, dim=1)
        )
        final = (to_before + coarse_before, to_after + coarse_after)
        return final, torch.sigmoid(mask), residual

    def _blend(
        self,
        pictures: tuple[torch.Tensor, torch.Tensor],
        flows: tuple[torch.Tensor, torch.Tensor],
        mask: torch.Tensor,
        residual: torch.Tensor,
        mean_B111: torch.Tensor,
    ) -> torch.Tensor:
        """Each pair of flows makes a picture; their mean, corrected by a last small network."""
        batch, _, height, width = mask.shape

        def each(x: torch.Tensor) -> torch.Tensor:
            """Of all flows' channels, each flow's own."""
            return x.reshape(batch * FLOWS, -1, height, width)

        before, after = (
            warp(picture.repeat_interleave(FLOWS, dim=0), each(flow))
            for picture, flow in zip(pictures, flows, strict=True)
        )
        share, mean = each(mask), mean_B111.repeat_interleave(FLOWS, dim=0)
        candidates = share * before + (1 - share) * after + mean + each(residual)
        candidates_BFCHW = candidates.view(batch, FLOWS, 3, height, width)
        correction: torch.Tensor = self.comb_block(candidates_BFCHW.flatten(1, 2))
        return candidates_BFCHW.mean(1) + correction


class Search:
    """Where the places of each picture are found in the other, at an eighth of the size."""

    def __init__(self, before_BCHW: torch.Tensor, after_BCHW: torch.Tensor) -> None:
        batch, _, height, width = before_BCHW.shape
        correlations_BLM = all_pairs(before_BCHW, after_BCHW)
        self.forth: Pyramid = pyramid(correlations_BLM, height, width)
        self.back: Pyramid = pyramid(correlations_BLM.transpose(1, 2), height, width)
        self.grid_BCHW = coordinate_grid(batch, height, width, before_BCHW.device)

    def around(self, flows_BCHW: torch.Tensor) -> torch.Tensor:
        """found_BCHW around where ``flows_BCHW``, from the middle to both pictures, point.

        Flow from one picture to the other is taken to be twice that from the middle.
        """
        to_before, to_after = (flows_BCHW / MIDDLE).chunk(2, dim=1)
        forth = look_up(self.forth, self.grid_BCHW + to_after, RADIUS)
        back = look_up(self.back, self.grid_BCHW + to_before, RADIUS)
        return torch.cat([forth, back], dim=1)


class Update(nn.Module):
    """Refines flow and features of ``times`` an eighth of the size by one search."""

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
        self, hidden: torch.Tensor, flows: torch.Tensor, search: Search
    ) -> tuple[torch.Tensor, torch.Tensor]:
        times = self.times
        small_hidden, small_flows = hidden, flows
        if times != 1:
            small_hidden = resize(hidden, 1 / times)
            small_flows = resize(flows, 1 / times) / times
        found = leaky(self.convc1(search.around(small_flows)))
        moved = leaky(self.convf2(leaky(self.convf1(small_flows))))
        motion = leaky(self.conv(torch.cat([found, moved], dim=1)))
        state = self.gru(torch.cat([motion, small_flows, small_hidden], dim=1))
        hidden_step, flow_step = self.feat_head(state), self.flow_head(state)
        if times != 1:
            hidden_step = resize(hidden_step, times)
            flow_step = times * resize(flow_step, times)
        return flows + flow_step, hidden + hidden_step


def _head(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, 76, 3, padding=1),
        nn.LeakyReLU(0.1),
        nn.Conv2d(76, outputs, 3, padding=1),
    )


def leaky(x_BCHW: torch.Tensor) -> torch.Tensor:
    return F.leaky_relu(x_BCHW, 0.1)


class Decoder(nn.Module):
    """Features to flow and features at twice the size."""

    def __init__(self, inputs: int, inner: int, outputs: int) -> None:
        super().__init__()
        self.convblock = nn.Sequential(
            _convolution(inputs, inner),
            SideBlock(inner),
            nn.ConvTranspose2d(inner, outputs, 4, 2, 1),
        )

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        out_BCHW: torch.Tensor = self.convblock(x_BCHW)
        return out_BCHW


class SideBlock(nn.Module):
    """IFRNet's residual block: every second convolution sees the last SIDE_CHANNELS alone."""

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
        for whole, side in ((self.conv1, self.conv2), (self.conv3, self.conv4)):
            y_BCHW = whole(y_BCHW)
            y_BCHW = torch.cat(
                [y_BCHW[:, :-SIDE_CHANNELS], side(y_BCHW[:, -SIDE_CHANNELS:])], dim=1
            )
        out_BCHW: torch.Tensor = self.prelu(x_BCHW + self.conv5(y_BCHW))
        return out_BCHW


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.PReLU(outputs))


class PictureEncoder(nn.Module):
    """A picture's features at each of four sizes, the largest first."""

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
    """The features that are compared: RAFT's small encoder, at an eighth of the size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 7, 2, 3)
        self.layer1 = nn.Sequential(Bottleneck(32, 32, 1), Bottleneck(32, 32, 1))
        self.layer2 = nn.Sequential(Bottleneck(32, 64, 2), Bottleneck(64, 64, 1))
        self.layer3 = nn.Sequential(Bottleneck(64, 96, 2), Bottleneck(96, 96, 1))
        self.conv2 = nn.Conv2d(96, 84, 1)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        x_BCHW = F.relu(F.instance_norm(self.conv1(x_BCHW)))
        x_BCHW = self.layer3(self.layer2(self.layer1(x_BCHW)))
        out_BCHW: torch.Tensor = self.conv2(x_BCHW)
        return out_BCHW


class Bottleneck(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs // 4, 1)
        self.conv2 = nn.Conv2d(outputs // 4, outputs // 4, 3, stride, 1)
        self.conv3 = nn.Conv2d(outputs // 4, outputs, 1)
        self.downsample: nn.Module | None = None
        if stride != 1:
            # A sequence of one, for the name that upstream gives the weights.
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride))

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        y_BCHW = x_BCHW
        for layer in (self.conv1, self.conv2, self.conv3):
            y_BCHW = F.relu(F.instance_norm(layer(y_BCHW)))
        if self.downsample is not None:
            x_BCHW = F.instance_norm(self.downsample(x_BCHW))
        return F.relu(x_BCHW + y_BCHW)


def resize(x_BCHW: torch.Tensor, factor: float) -> torch.Tensor:
    return F.interpolate(x_BCHW, scale_factor=factor, mode="bilinear", align_corners=False)


def doubled(flows_BCHW: torch.Tensor) -> torch.Tensor:
    """Flow on a grid of twice the size, in that grid's pixels."""
    return 2.0 * resize(flows_BCHW, 2.0)


def warped(
    hidden: torch.Tensor, pair: tuple[torch.Tensor, torch.Tensor], flows: torch.Tensor
) -> torch.Tensor:
    """What a decoder sees: its features, both pictures' moved to the middle, and the flows."""
    to_before, to_after = flows.chunk(2, dim=1)
    return torch.cat([hidden, warp(pair[0], to_before), warp(pair[1], to_after), flows], dim=1)


def warp(x_BCHW: torch.Tensor, flow_BCHW: torch.Tensor) -> torch.Tensor:
    """``x_BCHW`` seen where the flow points, in pixels; beyond the border, the border."""
    height, width = x_BCHW.shape[-2:]
    across = torch.linspace(-1, 1, width, device=x_BCHW.device)[None, None, :]
    down = torch.linspace(-1, 1, height, device=x_BCHW.device)[None, :, None]
    grid_BHWC = torch.stack(
        [
            across + flow_BCHW[:, 0] / ((width - 1.0) / 2.0),
            down + flow_BCHW[:, 1] / ((height - 1.0) / 2.0),
        ],
        dim=-1,
    )
    return F.grid_sample(x_BCHW, grid_BHWC, padding_mode="border", align_corners=True)
