"""A denoising step of the 14B, variant by variant, and how exact an adapter in the weights is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from perf.generate_timing import Found, clear, seconds_of

GUIDANCE = 5.0


@dataclass
class Passes:
    """The 14B and what a denoising step gives it: a video's latents, its prompt and the other."""

    model: Any
    latents_BCTHW: Any
    text_1LD: Any
    negative_1LD: Any
    level_B: Any

    @classmethod
    def made(cls) -> Passes:
        import torch

        from perf.train_models import WAN_14B, batch, wan

        given = batch()
        text_1LD = given.text_BLD.bfloat16()
        return cls(
            wan(WAN_14B, torch.bfloat16).eval(),
            given.latents_BCTHW.bfloat16(),
            text_1LD,
            torch.zeros_like(text_1LD),
            torch.full((1,), 700.0, device="cuda"),
        )

    def apart(self) -> Any:
        """A step's guided velocity by two passes, as WanPipeline makes it."""
        import torch

        with torch.no_grad():
            one, other = (
                self.model(self.latents_BCTHW, self.level_B, words, return_dict=False)[0]
                for words in (self.text_1LD, self.negative_1LD)
            )
        return other + GUIDANCE * (one - other)

    def together(self) -> Any:
        """The same by one pass of two samples."""
        import torch

        from mimix_core.wan.generation.classifier_free_guidance import Guided

        with torch.no_grad():
            guided = Guided(self.model, self.negative_1LD, GUIDANCE)
            return guided(self.latents_BCTHW, self.level_B, self.text_1LD)[0]


def measure_steps(found: Found) -> Passes:
    """Each variant's step, on the same weights, one change after the other."""
    import torch

    from mimix_core.settings import SampleSettings
    from mimix_core.wan.generation.video_generator import accelerate
    from perf.train_models import attach

    passes = Passes.made()
    model = passes.model
    attach(model, torch.bfloat16)
    found.note("steps", "diffusers", seconds_of(passes.apart, 2))
    wanted = passes.apart()
    merge_in_place(model)
    settings = SampleSettings(compile="off")
    kernel, _ = accelerate(model, settings, torch.device("cuda"), streamed=False)
    found.note("steps", "eager", {**seconds_of(passes.apart, 1), "attention": kernel})
    for block in model.blocks:
        block.compile(dynamic=False)
    found.note("steps", "compiled", seconds_of(passes.apart, 3))
    found.note("steps", "difference", ((passes.apart() - wanted).norm() / wanted.norm()).item())
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    found.note("steps", "weights_gb", weights / 1e9)
    return passes


def compiled_passes() -> Passes:
    """The last variant of ``measure_steps``, without those before it."""
    import torch

    from mimix_core.settings import SampleSettings
    from mimix_core.wan.generation.video_generator import accelerate

    passes = Passes.made()
    accelerate(passes.model, SampleSettings(), torch.device("cuda"), streamed=False)
    return passes


def merge_in_place(model: Any) -> None:
    """The adapter goes into the weights by diffusers' own means, in the weights' type."""
    model.fuse_lora()
    model.unload_lora()


def measure_batched(found: Found, passes: Passes) -> None:
    """Both passes in one."""
    found.note("steps", "batched", seconds_of(passes.together, 2))


def measure_beside(found: Found, passes: Passes) -> None:
    """The adapter beside the weights, as in training."""
    import torch

    from mimix_core.wan.fast import layers
    from perf.train_models import attach

    torch._dynamo.reset()
    attach(passes.model, torch.float32)
    for block in passes.model.blocks:
        layers.swap(block, None, in_fp8=False)
    found.note("steps", "beside", seconds_of(passes.apart, 2))


def measure_adapter(found: Found) -> None:
    """Four blocks of the 14B's width: an adapter beside the weights or in them, against fp32.

    And what is left of a weak adapter (steps of a tenth of the weights' own in bf16) that was put
    into weights stored in fp32, or in bf16: the part of what it added that lies along it.
    """
    import torch

    from perf.train_models import WAN_14B, attach, wan

    shape = (1, 16, 5, 30, 52)
    numbers = torch.Generator("cuda").manual_seed(2)
    latents = torch.randn(*shape, generator=numbers, device="cuda")
    words = torch.randn(1, 512, 4096, generator=numbers, device="cuda")
    level = torch.full((1,), 700.0, device="cuda")

    @torch.no_grad()
    def answer(model: Any, dtype: torch.dtype) -> torch.Tensor:
        found: torch.Tensor = model(latents.to(dtype), level, words.to(dtype), return_dict=False)[
            0
        ].float()
        return found

    def made() -> Any:
        model = wan({**WAN_14B, "num_layers": 4}, torch.float32).eval()
        attach(model, torch.float32)
        return model

    model = made()
    wanted = answer(model, torch.float32)
    for name in ("beside", "merged"):
        model = made()
        if name == "merged":
            merge_in_place(model)
        wide = model._keep_in_fp32_modules
        for key, weight in model.named_parameters():
            if not any(part in wide for part in key.split(".")):
                weight.data = weight.data.bfloat16()
        off = answer(model, torch.bfloat16) - wanted
        found.note("adapter", name, (off.norm() / wanted.norm()).item())
        del model
        clear()
    stored = torch.randn(5120, 5120, generator=numbers, device="cuda") / 5120**0.5
    weak = torch.randn(5120, 32, generator=numbers, device="cuda") @ torch.randn(
        32, 5120, generator=numbers, device="cuda"
    )
    # bf16 has 8 bits: the step at a weight is some 2^-8 of it.
    weak *= 0.1 * stored.abs().mean() / 256 / weak.abs().mean()
    for name, base in (("fp32", stored), ("bf16", stored.bfloat16().float())):
        left = (base + weak).bfloat16().float() - base.bfloat16().float()
        share = ((left * weak).sum() / weak.square().sum()).item()
        found.note("adapter", f"weak_left_from_{name}", share)
