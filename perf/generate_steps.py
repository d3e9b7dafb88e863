"""Time a denoising step of the 14B for each variant, and measure the accuracy of merging."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perf.generate_timing import Measurements, clear, seconds_of

if TYPE_CHECKING:
    from mimix_core.wan.generation.video_process import VideoProcess

GUIDANCE = 5.0


@dataclass
class Passes:
    """The 14B and the inputs of a denoising step: latents, prompt and negative prompt."""

    model: Any
    latents_BCTHW: Any
    text_1LD: Any
    negative_1LD: Any
    level_B: Any

    @classmethod
    def create(cls, device: str = "cuda") -> Passes:
        import torch

        from perf.train_models import WAN_14B, batch, wan

        given = batch(device=device)
        text_1LD = given.text_BLD.bfloat16()
        return cls(
            wan(WAN_14B, torch.bfloat16, device).eval(),
            given.latents_BCTHW.bfloat16(),
            text_1LD,
            torch.zeros_like(text_1LD),
            torch.full((1,), 700.0, device=device),
        )

    def two_passes(self) -> Any:
        """Compute a step's guided velocity by two passes, like WanPipeline."""
        import torch

        with torch.no_grad():
            one, other = (
                self.model(
                    hidden_states=self.latents_BCTHW,
                    timestep=self.level_B,
                    encoder_hidden_states=words,
                    return_dict=False,
                )[0]
                for words in (self.text_1LD, self.negative_1LD)
            )
        return other + GUIDANCE * (one - other)

    def batched(self) -> Any:
        """Compute the guided velocity by one pass of two samples."""
        import torch

        from mimix_core.wan.generation.classifier_free_guidance import BatchedCFG

        with torch.no_grad():
            guided = BatchedCFG(self.model, self.negative_1LD, GUIDANCE)
            return guided(self.latents_BCTHW, self.level_B, self.text_1LD)[0]

    def shared(self, process: VideoProcess) -> Any:
        """Compute the guided velocity by one pass here and the other in the other process."""
        import torch

        from mimix_core.wan.generation.classifier_free_guidance import ParallelCFG

        group = process.guidance_group
        assert group is not None
        with torch.no_grad():
            guided = ParallelCFG(self.model, self.negative_1LD, GUIDANCE, group, process.branch)
            return guided(self.latents_BCTHW, self.level_B, self.text_1LD)[0]


def measure_steps(measurements: Measurements) -> Passes:
    """Time each variant's step on the same weights, one change after the other."""
    import torch

    from mimix_core.settings import SampleSettings
    from mimix_core.wan.generation.video_generator import accelerate_inference
    from perf.train_models import attach

    passes = Passes.create()
    model = passes.model
    attach(model, torch.bfloat16)
    measurements.record("steps", "diffusers", seconds_of(passes.two_passes, 2))
    wanted = passes.two_passes()
    merge_in_place(model)
    settings = SampleSettings(compile="off")
    kernel, _ = accelerate_inference(model, settings, torch.device("cuda"), streamed=False)
    measurements.record("steps", "eager", {**seconds_of(passes.two_passes, 1), "attention": kernel})
    for block in model.blocks:
        block.compile(dynamic=False)
    measurements.record("steps", "compiled", seconds_of(passes.two_passes, 3))
    measurements.record(
        "steps", "difference", ((passes.two_passes() - wanted).norm() / wanted.norm()).item()
    )
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    measurements.record("steps", "weights_gb", weights / 1e9)
    return passes


def compiled_passes() -> Passes:
    """Create the last variant of ``measure_steps`` directly."""
    return accelerated(Passes.create())


def accelerated(passes: Passes) -> Passes:
    """Replace the model's layers and compile its blocks, in place."""
    from mimix_core.settings import SampleSettings
    from mimix_core.wan.generation.video_generator import accelerate_inference

    device = passes.latents_BCTHW.device
    accelerate_inference(passes.model, SampleSettings(), device, streamed=False)
    return passes


def merge_in_place(model: Any) -> None:
    """Merge the adapter by diffusers' own functions, in the weights' dtype."""
    model.fuse_lora()
    model.unload_lora()


def measure_batched(measurements: Measurements, passes: Passes) -> None:
    """Time batched guidance."""
    measurements.record("steps", "batched", seconds_of(passes.batched, 2))


def measure_unmerged(measurements: Measurements, passes: Passes) -> None:
    """Time an unmerged adapter, as in training."""
    import torch

    from mimix_core.wan.fast import layers
    from perf.train_models import attach

    torch._dynamo.reset()
    attach(passes.model, torch.float32)
    for block in passes.model.blocks:
        layers.replace_layers(block, None, use_fp8=False)
    measurements.record("steps", "beside", seconds_of(passes.two_passes, 2))


def measure_adapter(measurements: Measurements) -> None:
    """Measure errors of unmerged and merged adapters against fp32, in four blocks of 14B's width.

    Also measure how much of a weak adapter (a tenth of bf16's step at the weights) remains after
    merging into weights stored in fp32 or in bf16: the projection of the change onto the adapter.
    """
    import torch

    from perf.train_models import WAN_14B, attach, wan

    shape = (1, 16, 5, 30, 52)
    numbers = torch.Generator("cuda").manual_seed(2)
    latents = torch.randn(*shape, generator=numbers, device="cuda")
    words = torch.randn(1, 512, 4096, generator=numbers, device="cuda")
    level = torch.full((1,), 700.0, device="cuda")

    @torch.no_grad()
    def predict(model: Any, dtype: torch.dtype) -> torch.Tensor:
        found: torch.Tensor = model(latents.to(dtype), level, words.to(dtype), return_dict=False)[
            0
        ].float()
        return found

    def adapted_model() -> Any:
        model = wan({**WAN_14B, "num_layers": 4}, torch.float32).eval()
        attach(model, torch.float32)
        return model

    model = adapted_model()
    wanted = predict(model, torch.float32)
    for name in ("beside", "merged"):
        model = adapted_model()
        if name == "merged":
            merge_in_place(model)
        wide = model._keep_in_fp32_modules
        for key, weight in model.named_parameters():
            if not any(part in wide for part in key.split(".")):
                weight.data = weight.data.bfloat16()
        off = predict(model, torch.bfloat16) - wanted
        measurements.record("adapter", name, (off.norm() / wanted.norm()).item())
        del model
        clear()
    stored = torch.randn(5120, 5120, generator=numbers, device="cuda") / 5120**0.5
    weak = torch.randn(5120, 32, generator=numbers, device="cuda") @ torch.randn(
        32, 5120, generator=numbers, device="cuda"
    )
    # bf16 has 8 significant bits: its step at a weight is about 2^-8 of the weight.
    weak *= 0.1 * stored.abs().mean() / 256 / weak.abs().mean()
    for name, base in (("fp32", stored), ("bf16", stored.bfloat16().float())):
        left = (base + weak).bfloat16().float() - base.bfloat16().float()
        share = ((left * weak).sum() / weak.square().sum()).item()
        measurements.record("adapter", f"weak_left_from_{name}", share)
