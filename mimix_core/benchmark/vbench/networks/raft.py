"""RAFT (Teed and Deng, ECCV 2020, arXiv 2003.12039): optical flow, tensors named as upstream.

The large model of princeton-vl/RAFT (BSD-3-Clause), without upstream's redundant computation: flow
is upsampled after the last iteration only, features of a frame in two pairs are computed once, and
so is the context's contribution to the recurrent unit, which is the same in all iterations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from mimix_core.benchmark.vbench.networks.raft_correlation import (
    LEVELS,
    build_pyramid,
    coordinate_grid,
    correlate_all_pairs,
    lookup_correlations,
)

HIDDEN = 128
FEATURES = 256
RADIUS = 4
STRIDE = 8
"""Features and flow are computed at 1/8 of the frame size."""

NormFactory = Callable[[int], nn.Module]


class ResidualUnit(nn.Module):
    """Two 3x3 convolutions with a residual connection, a 1x1 convolution if the size changes."""

    def __init__(self, inputs: int, outputs: int, norm: NormFactory, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.norm1 = norm(outputs)
        self.norm2 = norm(outputs)
        self.downsample: nn.Module | None = None
        if stride != 1:
            # One layer under two names: upstream's checkpoints store it twice.
            self.norm3 = norm(outputs)
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride), self.norm3)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        y_BCHW = F.relu(self.norm1(self.conv1(x_BCHW)))
        y_BCHW = F.relu(self.norm2(self.conv2(y_BCHW)))
        if self.downsample is not None:
            x_BCHW = self.downsample(x_BCHW)
        return F.relu(x_BCHW + y_BCHW)


class RaftEncoder(nn.Module):
    """Images to feature maps of ``outputs`` channels at 1/8 of their size."""

    def __init__(self, outputs: int, norm: NormFactory) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3)
        self.norm1 = norm(64)
        self.layer1 = _layer(64, 64, norm, stride=1)
        self.layer2 = _layer(64, 96, norm, stride=2)
        self.layer3 = _layer(96, 128, norm, stride=2)
        self.conv2 = nn.Conv2d(128, outputs, 1)

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        x_BCHW = F.relu(self.norm1(self.conv1(images_BCHW)))
        x_BCHW = self.layer3(self.layer2(self.layer1(x_BCHW)))
        out_BCHW: torch.Tensor = self.conv2(x_BCHW)
        return out_BCHW


def _layer(inputs: int, outputs: int, norm: NormFactory, stride: int) -> nn.Sequential:
    return nn.Sequential(
        ResidualUnit(inputs, outputs, norm, stride), ResidualUnit(outputs, outputs, norm, 1)
    )


class MotionEncoder(nn.Module):
    """Encode the sampled correlations and the current flow as HIDDEN channels."""

    def __init__(self) -> None:
        super().__init__()
        self.convc1 = nn.Conv2d(LEVELS * (2 * RADIUS + 1) ** 2, 256, 1)
        self.convc2 = nn.Conv2d(256, 192, 3, padding=1)
        self.convf1 = nn.Conv2d(2, 128, 7, padding=3)
        self.convf2 = nn.Conv2d(128, 64, 3, padding=1)
        self.conv = nn.Conv2d(64 + 192, HIDDEN - 2, 3, padding=1)

    def forward(self, flow_BCHW: torch.Tensor, correlations_BCHW: torch.Tensor) -> torch.Tensor:
        correlations_BCHW = F.relu(self.convc2(F.relu(self.convc1(correlations_BCHW))))
        encoded_flow_BCHW = F.relu(self.convf2(F.relu(self.convf1(flow_BCHW))))
        motion_BCHW = F.relu(self.conv(torch.cat([correlations_BCHW, encoded_flow_BCHW], dim=1)))
        return torch.cat([motion_BCHW, flow_BCHW], dim=1)


class SeparableGru(nn.Module):
    """A gated recurrent unit of 1x5 convolutions, followed by one of 5x1 convolutions."""

    def __init__(self) -> None:
        super().__init__()
        for number, kernel in enumerate(((1, 5), (5, 1)), start=1):
            padding = (kernel[0] // 2, kernel[1] // 2)
            for gate in "zrq":
                layer = nn.Conv2d(3 * HIDDEN, HIDDEN, kernel, padding=padding)
                self.add_module(f"conv{gate}{number}", layer)

    def passes(self, context_BCHW: torch.Tensor) -> list[GruPass]:
        """Return both units with the context's contribution to each gate precomputed."""
        passes: list[GruPass] = []
        for number in (1, 2):
            gates = [self.get_submodule(f"conv{gate}{number}") for gate in "zrq"]
            weight = torch.cat([gate.get_parameter("weight") for gate in gates])
            bias = torch.cat([gate.get_parameter("bias") for gate in gates])
            hidden_weight, context_weight, motion_weight = weight.chunk(3, dim=1)
            padding = (weight.shape[2] // 2, weight.shape[3] // 2)
            passes.append(
                GruPass(
                    torch.cat([hidden_weight, motion_weight], dim=1),
                    F.conv2d(context_BCHW, context_weight, bias, padding=padding),
                    padding,
                )
            )
        return passes


@dataclass(frozen=True)
class GruPass:
    """One of the two units, with filters of update gate, reset gate and candidate, in that order.

    ``weight``: applied to hidden state and motion; ``context_BCHW``: contribution of context and
    bias to each gate, the same in all iterations.
    """

    weight: torch.Tensor
    context_BCHW: torch.Tensor
    padding: tuple[int, int]

    def step(self, hidden_BCHW: torch.Tensor, motion_BCHW: torch.Tensor) -> torch.Tensor:
        """Compute the next hidden state."""
        input_BCHW = torch.cat([hidden_BCHW, motion_BCHW], dim=1)
        gates_BCHW = F.conv2d(input_BCHW, self.weight[: 2 * HIDDEN], padding=self.padding)
        gates_BCHW = torch.sigmoid(gates_BCHW + self.context_BCHW[:, : 2 * HIDDEN])
        update_BCHW, reset_BCHW = gates_BCHW.chunk(2, dim=1)
        input_BCHW = torch.cat([reset_BCHW * hidden_BCHW, motion_BCHW], dim=1)
        candidate_BCHW = F.conv2d(input_BCHW, self.weight[2 * HIDDEN :], padding=self.padding)
        candidate_BCHW = torch.tanh(candidate_BCHW + self.context_BCHW[:, 2 * HIDDEN :])
        return (1 - update_BCHW) * hidden_BCHW + update_BCHW * candidate_BCHW


class FlowHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(HIDDEN, 256, 3, padding=1)
        self.conv2 = nn.Conv2d(256, 2, 3, padding=1)

    def forward(self, hidden_BCHW: torch.Tensor) -> torch.Tensor:
        delta_BCHW: torch.Tensor = self.conv2(F.relu(self.conv1(hidden_BCHW)))
        return delta_BCHW


class UpdateBlock(nn.Module):
    """One iteration of the recurrent flow update."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = MotionEncoder()
        self.gru = SeparableGru()
        self.flow_head = FlowHead()
        self.mask = nn.Sequential(
            nn.Conv2d(HIDDEN, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 9 * STRIDE**2, 1),
        )

    def forward(
        self,
        hidden_BCHW: torch.Tensor,
        passes: Sequence[GruPass],
        correlations_BCHW: torch.Tensor,
        flow_BCHW: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the next hidden state and the change of the flow."""
        motion_BCHW = self.encoder(flow_BCHW, correlations_BCHW)
        for gru_pass in passes:
            hidden_BCHW = gru_pass.step(hidden_BCHW, motion_BCHW)
        return hidden_BCHW, self.flow_head(hidden_BCHW)


class Raft(nn.Module):
    """Optical flow from one frame to another. For inference (``eval`` mode) only."""

    def __init__(self) -> None:
        super().__init__()
        self.fnet = RaftEncoder(FEATURES, nn.InstanceNorm2d)
        self.cnet = RaftEncoder(2 * HIDDEN, nn.BatchNorm2d)
        self.update_block = UpdateBlock()

    def forward(
        self,
        frames_BCHW: torch.Tensor,
        features_BCHW: torch.Tensor,
        next_features_BCHW: torch.Tensor,
        iterations: int,
    ) -> torch.Tensor:
        """Return flow_BCHW, in pixels, from the frames to those with the next features.

        ``frames_BCHW``: float32 in -1..1, sides divisible by STRIDE; features: ``fnet`` of frames.
        Raises ValueError for frames below 64 x 64.
        """
        height, width = features_BCHW.shape[-2:]
        levels = build_pyramid(
            correlate_all_pairs(features_BCHW, next_features_BCHW), height, width
        )
        hidden_BCHW, context_BCHW = self.cnet(frames_BCHW).split(HIDDEN, dim=1)
        hidden_BCHW = torch.tanh(hidden_BCHW)
        passes = self.update_block.gru.passes(torch.relu(context_BCHW))
        start_BCHW = coordinate_grid(len(frames_BCHW), height, width, frames_BCHW.device)
        end_BCHW = start_BCHW
        for _ in range(iterations):
            correlations_BCHW = lookup_correlations(levels, end_BCHW, RADIUS)
            hidden_BCHW, delta_BCHW = self.update_block(
                hidden_BCHW, passes, correlations_BCHW, end_BCHW - start_BCHW
            )
            end_BCHW = end_BCHW + delta_BCHW
        # Upstream scales the mask by 1/4 "to balance gradients"; the weights were trained with it.
        return upsample(end_BCHW - start_BCHW, 0.25 * self.update_block.mask(hidden_BCHW))


def upsample(flow_BCHW: torch.Tensor, mask_BCHW: torch.Tensor) -> torch.Tensor:
    """Upsample flow by STRIDE: each pixel is a convex combination of 9 coarse vectors."""
    batch, _, height, width = flow_BCHW.shape
    weights = mask_BCHW.view(batch, 1, 9, STRIDE, STRIDE, height, width).softmax(dim=2)
    neighbors = F.unfold(STRIDE * flow_BCHW, 3, padding=1).view(batch, 2, 9, 1, 1, height, width)
    fine_BCSSHW = (weights * neighbors).sum(dim=2)
    return fine_BCSSHW.permute(0, 1, 4, 2, 5, 3).flatten(4, 5).flatten(2, 3)
