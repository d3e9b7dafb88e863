"""RAFT (Teed and Deng, ECCV 2020, arXiv 2003.12039): optical flow, with upstream's weights' names.

Architecture of princeton-vl/RAFT (BSD-3-Clause), its large model. What upstream computes and
throws away is left out: the upsampled flow of all iterations but the last, the second features of a
frame that two pairs share, and the context's share of the recurrent unit, which stays the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from mimix_core.benchmark.vbench.networks.raft_correlation import (
    LEVELS,
    all_pairs,
    coordinate_grid,
    look_up,
    pyramid,
)

HIDDEN = 128
FEATURES = 256
RADIUS = 4
STRIDE = 8
"""Features and flow are computed at an eighth of the picture's size."""

Norm = Callable[[int], nn.Module]


class ResidualUnit(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 one where the size changes."""

    def __init__(self, inputs: int, outputs: int, norm: Norm, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.norm1 = norm(outputs)
        self.norm2 = norm(outputs)
        self.downsample: nn.Module | None = None
        if stride != 1:
            # One layer under two names: upstream's checkpoints hold it twice.
            self.norm3 = norm(outputs)
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride), self.norm3)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        y_BCHW = F.relu(self.norm1(self.conv1(x_BCHW)))
        y_BCHW = F.relu(self.norm2(self.conv2(y_BCHW)))
        if self.downsample is not None:
            x_BCHW = self.downsample(x_BCHW)
        return F.relu(x_BCHW + y_BCHW)


class Encoder(nn.Module):
    """Picture to a map of ``outputs`` channels at an eighth of its size."""

    def __init__(self, outputs: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3)
        self.norm1 = norm(64)
        self.layer1 = _layer(64, 64, norm, stride=1)
        self.layer2 = _layer(64, 96, norm, stride=2)
        self.layer3 = _layer(96, 128, norm, stride=2)
        self.conv2 = nn.Conv2d(128, outputs, 1)

    def forward(self, pictures_BCHW: torch.Tensor) -> torch.Tensor:
        x_BCHW = F.relu(self.norm1(self.conv1(pictures_BCHW)))
        x_BCHW = self.layer3(self.layer2(self.layer1(x_BCHW)))
        out_BCHW: torch.Tensor = self.conv2(x_BCHW)
        return out_BCHW


def _layer(inputs: int, outputs: int, norm: Norm, stride: int) -> nn.Sequential:
    return nn.Sequential(
        ResidualUnit(inputs, outputs, norm, stride), ResidualUnit(outputs, outputs, norm, 1)
    )


class MotionEncoder(nn.Module):
    """What the lookup found, and the flow so far, as HIDDEN channels."""

    def __init__(self) -> None:
        super().__init__()
        self.convc1 = nn.Conv2d(LEVELS * (2 * RADIUS + 1) ** 2, 256, 1)
        self.convc2 = nn.Conv2d(256, 192, 3, padding=1)
        self.convf1 = nn.Conv2d(2, 128, 7, padding=3)
        self.convf2 = nn.Conv2d(128, 64, 3, padding=1)
        self.conv = nn.Conv2d(64 + 192, HIDDEN - 2, 3, padding=1)

    def forward(self, flow_BCHW: torch.Tensor, found_BCHW: torch.Tensor) -> torch.Tensor:
        found_BCHW = F.relu(self.convc2(F.relu(self.convc1(found_BCHW))))
        moved_BCHW = F.relu(self.convf2(F.relu(self.convf1(flow_BCHW))))
        motion_BCHW = F.relu(self.conv(torch.cat([found_BCHW, moved_BCHW], dim=1)))
        return torch.cat([motion_BCHW, flow_BCHW], dim=1)


class SeparableGru(nn.Module):
    """A gated recurrent unit of 1x5 convolutions, then one of 5x1."""

    def __init__(self) -> None:
        super().__init__()
        for number, kernel in enumerate(((1, 5), (5, 1)), start=1):
            border = (kernel[0] // 2, kernel[1] // 2)
            for gate in "zrq":
                layer = nn.Conv2d(3 * HIDDEN, HIDDEN, kernel, padding=border)
                self.add_module(f"conv{gate}{number}", layer)

    def halves(self, context_BCHW: torch.Tensor) -> list[GruHalf]:
        """Both units for pictures of that context, whose share of each gate is computed here."""
        halves: list[GruHalf] = []
        for number in (1, 2):
            gates = [self.get_submodule(f"conv{gate}{number}") for gate in "zrq"]
            weight = torch.cat([gate.get_parameter("weight") for gate in gates])
            bias = torch.cat([gate.get_parameter("bias") for gate in gates])
            of_hidden, of_context, of_motion = weight.chunk(3, dim=1)
            border = (weight.shape[2] // 2, weight.shape[3] // 2)
            halves.append(
                GruHalf(
                    torch.cat([of_hidden, of_motion], dim=1),
                    F.conv2d(context_BCHW, of_context, bias, padding=border),
                    border,
                )
            )
        return halves


@dataclass(frozen=True)
class GruHalf:
    """One of the two units: filters of update, reset and candidate, in that order.

    ``weight``: on hidden state and motion; ``context_BCHW``: what context and bias add to each
    gate, the same in all iterations.
    """

    weight: torch.Tensor
    context_BCHW: torch.Tensor
    border: tuple[int, int]

    def next(self, hidden_BCHW: torch.Tensor, motion_BCHW: torch.Tensor) -> torch.Tensor:
        """The next hidden state."""
        both_BCHW = torch.cat([hidden_BCHW, motion_BCHW], dim=1)
        gates_BCHW = F.conv2d(both_BCHW, self.weight[: 2 * HIDDEN], padding=self.border)
        gates_BCHW = torch.sigmoid(gates_BCHW + self.context_BCHW[:, : 2 * HIDDEN])
        share_BCHW, kept_BCHW = gates_BCHW.chunk(2, dim=1)
        both_BCHW = torch.cat([kept_BCHW * hidden_BCHW, motion_BCHW], dim=1)
        new_BCHW = F.conv2d(both_BCHW, self.weight[2 * HIDDEN :], padding=self.border)
        new_BCHW = torch.tanh(new_BCHW + self.context_BCHW[:, 2 * HIDDEN :])
        return (1 - share_BCHW) * hidden_BCHW + share_BCHW * new_BCHW


class FlowHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(HIDDEN, 256, 3, padding=1)
        self.conv2 = nn.Conv2d(256, 2, 3, padding=1)

    def forward(self, hidden_BCHW: torch.Tensor) -> torch.Tensor:
        step_BCHW: torch.Tensor = self.conv2(F.relu(self.conv1(hidden_BCHW)))
        return step_BCHW


class UpdateBlock(nn.Module):
    """One step of the recurrent search."""

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
        halves: Sequence[GruHalf],
        found_BCHW: torch.Tensor,
        flow_BCHW: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The next hidden state and the step by which the flow changes."""
        motion_BCHW = self.encoder(flow_BCHW, found_BCHW)
        for half in halves:
            hidden_BCHW = half.next(hidden_BCHW, motion_BCHW)
        return hidden_BCHW, self.flow_head(hidden_BCHW)


class Raft(nn.Module):
    """Flow from one frame to another. ``eval`` mode only."""

    def __init__(self) -> None:
        super().__init__()
        self.fnet = Encoder(FEATURES, nn.InstanceNorm2d)
        self.cnet = Encoder(2 * HIDDEN, nn.BatchNorm2d)
        self.update_block = UpdateBlock()

    def forward(
        self,
        frames_BCHW: torch.Tensor,
        features_BCHW: torch.Tensor,
        next_features_BCHW: torch.Tensor,
        iterations: int,
    ) -> torch.Tensor:
        """flow_BCHW, in pixels of the frames, from them to those with the next features.

        ``frames_BCHW``: float32 in -1..1 with sides that STRIDE divides; features: ``fnet`` of
        frames. Raises ValueError for frames below 64 x 64.
        """
        height, width = features_BCHW.shape[-2:]
        levels = pyramid(all_pairs(features_BCHW, next_features_BCHW), height, width)
        hidden_BCHW, context_BCHW = self.cnet(frames_BCHW).split(HIDDEN, dim=1)
        hidden_BCHW = torch.tanh(hidden_BCHW)
        halves = self.update_block.gru.halves(torch.relu(context_BCHW))
        start_BCHW = coordinate_grid(len(frames_BCHW), height, width, frames_BCHW.device)
        end_BCHW = start_BCHW
        for _ in range(iterations):
            found_BCHW = look_up(levels, end_BCHW, RADIUS)
            hidden_BCHW, step_BCHW = self.update_block(
                hidden_BCHW, halves, found_BCHW, end_BCHW - start_BCHW
            )
            end_BCHW = end_BCHW + step_BCHW
        # Upstream scales the mask by 1/4 "to balance gradients"; the weights were trained so.
        return upsample(end_BCHW - start_BCHW, 0.25 * self.update_block.mask(hidden_BCHW))


def upsample(flow_BCHW: torch.Tensor, mask_BCHW: torch.Tensor) -> torch.Tensor:
    """Flow STRIDE times as large: each pixel a convex combination of 9 coarse vectors."""
    batch, _, height, width = flow_BCHW.shape
    weights = mask_BCHW.view(batch, 1, 9, STRIDE, STRIDE, height, width).softmax(dim=2)
    nine = F.unfold(STRIDE * flow_BCHW, 3, padding=1).view(batch, 2, 9, 1, 1, height, width)
    fine_BCSSHW = (weights * nine).sum(dim=2)
    return fine_BCSSHW.permute(0, 1, 4, 2, 5, 3).flatten(4, 5).flatten(2, 3)
