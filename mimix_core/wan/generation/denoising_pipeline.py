"""Build the pipeline of a backbone around its transformers, with the settings' scheduler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mimix_core.settings import SampleSettings
from mimix_core.wan import model_registry
from mimix_core.wan.generation.component_folders import ComponentFolders
from mimix_core.wan.generation.device_plan import DevicePlan
from mimix_core.wan.generation.velocity_pipeline import VelocityPipeline

if TYPE_CHECKING:
    import torch


def build_pipeline(
    components: ComponentFolders,
    transformers: Mapping[str, Any],
    settings: SampleSettings,
    device: torch.device,
    plan: DevicePlan,
) -> Any:
    """Build the backbone's pipeline around its transformers, without a text encoder.

    It is diffusers', or a ``VelocityPipeline`` for a backbone with a scheduler of its own.
    """
    import diffusers

    backbone = components.backbone
    boundary = backbone.boundary
    interface = model_registry.load_interface(backbone)
    vae = interface.load_vae(components.vae, device, settings.vae_precision)
    if plan.tiled:
        vae.enable_tiling()
    if interface.load_scheduler is not None:
        return VelocityPipeline(
            transformers["transformer"],
            vae,
            interface.load_scheduler(components.scheduler, settings.shift),
            backbone.vae_stride,
        )
    pipeline = getattr(diffusers, backbone.pipeline_class)(
        tokenizer=None,
        text_encoder=None,
        vae=vae,
        scheduler=load_scheduler(components, settings),
        **transformers,
        # Another architecture's pipeline does not know it.
        **({} if boundary is None else {"boundary_ratio": boundary}),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load_scheduler(components: ComponentFolders, settings: SampleSettings) -> Any:
    """Load the scheduler of the settings' solver; UniPC's is the backbone's own."""
    import diffusers

    from mimix_core.wan.generation.euler_scheduler import EqualStepsEulerScheduler

    if settings.solver == "euler":
        return EqualStepsEulerScheduler(shift=settings.shift)
    return diffusers.UniPCMultistepScheduler.from_pretrained(
        components.scheduler, flow_shift=settings.shift
    )
