"""Compute each sample's loss: the mean over the latent cells, or weighted by regions.

A weighted loss is a mean over a sample's cells with weights of mean 1
(``latent_regions.cell_weights``), so a step's loss stays a weighted sum over samples, whichever
process computes which.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from mimix_core.settings import LoraSettings
from mimix_core.training.data_loader import MicroBatch
from mimix_core.training.deepspeed_engine import TrainingEngine
from mimix_core.training.distributed import DistributedContext
from mimix_core.wan import fast, flow_matching, lora


@dataclass(frozen=True)
class SampleLosses:
    """Losses of a micro batch, fp32 [B].

    ``loss_B``: unweighted. ``objective_B``: what is minimized. ``inside_B``: the part of the
    weighted squared error that is in the characters' cells.
    """

    loss_B: torch.Tensor
    objective_B: torch.Tensor
    inside_B: torch.Tensor


def sample_losses(
    engine: TrainingEngine, batch: MicroBatch, settings: LoraSettings, context: DistributedContext
) -> SampleLosses:
    """Compute the losses of a micro batch by a forward pass of the engine.

    With ``region_preservation`` the frozen backbone predicts as well, without gradients; it
    processes all tokens in all blocks, also if others skip some.
    """
    if batch.cell_weight_BTHW is None or batch.inside_BTHW is None:
        with fast.routed_pass(engine.transformer, batch.processed_BK):
            loss_B = flow_matching.velocity_losses(
                engine.deepspeed,
                batch.latents_BCTHW,
                batch.text_BLD,
                batch.sigma_B,
                batch.noise_BCTHW,
                context.dtype,
            )
        return SampleLosses(loss_B, loss_B, torch.zeros_like(loss_B))
    base_BCTHW = None
    if settings.region_preservation > 0:
        with torch.no_grad(), lora.without_adapter(engine.transformer):
            base_BCTHW = _predict(engine.transformer, batch, context)
    with fast.routed_pass(engine.transformer, batch.processed_BK):
        velocity_BCTHW = _predict(engine.deepspeed, batch, context)
    error_BTHW = _squared_error(velocity_BCTHW, batch.noise_BCTHW - batch.latents_BCTHW)
    weighted_BTHW = batch.cell_weight_BTHW * error_BTHW
    objective_B = weighted_BTHW.flatten(1).mean(dim=1)
    inside_B = (weighted_BTHW.detach() * batch.inside_BTHW).flatten(1).mean(dim=1)
    if base_BCTHW is not None:
        outside_BTHW = 1 - batch.inside_BTHW
        change_B = (_squared_error(velocity_BCTHW, base_BCTHW) * outside_BTHW).flatten(1).sum(dim=1)
        cells_B = outside_BTHW.flatten(1).sum(dim=1).clamp(min=1)
        objective_B = objective_B + settings.region_preservation * change_B / cells_B
    return SampleLosses(error_BTHW.detach().flatten(1).mean(dim=1), objective_B, inside_B)


def _predict(transformer: object, batch: MicroBatch, context: DistributedContext) -> torch.Tensor:
    return flow_matching.predict_velocity(
        transformer,
        batch.latents_BCTHW,
        batch.text_BLD,
        batch.sigma_B,
        batch.noise_BCTHW,
        context.dtype,
    )


def _squared_error(one_BCTHW: torch.Tensor, other_BCTHW: torch.Tensor) -> torch.Tensor:
    """Return the squared difference of each latent cell, mean over its channels."""
    return (one_BCTHW - other_BCTHW).square().mean(dim=1)
