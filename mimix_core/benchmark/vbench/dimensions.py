"""List VBench's dimensions by name, without loading their models.

A name is ``dimension/backend``. VBench's own dimensions can also be selected by VBench's name
alone; a corrected variant cannot.

Each dimension is a module of this package with two functions::

    load_model(weights_dir: Path, device: torch.device) -> model, a module or a frozen dataclass
    score_video(model, video: DecodedVideo) -> float

``weights_dir`` is laid out as VBench's own cache (``~/.cache/vbench``). ``score_video`` raises
Unmeasurable for a video that the dimension is undefined for (a single frame has no motion).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimix_core.benchmark.vbench import vbench_weights
from mimix_core.errors import BadInput

if TYPE_CHECKING:
    import torch

    from mimix_core.benchmark.vbench.video_reader import DecodedVideo


@dataclass(frozen=True)
class Dimension:
    """A dimension, or a corrected variant of one: its weights files and its functions.

    ``load_function`` and ``score_function`` are the names of functions of ``module``, with the
    signatures that this module's docstring gives. ``version`` increases when values change.
    """

    metric: str
    files: tuple[str, ...]
    is_variant: bool = False
    reads_prompt: bool = False
    load_function: str = "load_model"
    score_function: str = "score_video"
    version: int = 2

    @property
    def name(self) -> str:
        """VBench's name for its own dimension, the full metric name for a variant."""
        return self.metric if self.is_variant else self.module

    @property
    def module(self) -> str:
        """The module of this package that implements it."""
        return self.metric.partition("/")[0]

    @property
    def model_key(self) -> str:
        """Identify the model; dimensions with the same key share one."""
        return f"{self.module}.{self.load_function}"

    def load(self, weights_dir: Path, device: torch.device) -> Any:
        """Load the model. Raises BadInput for weights of another network."""
        return getattr(self._module(), self.load_function)(weights_dir, device)

    def scorer(self) -> Callable[[Any, DecodedVideo], float]:
        """Return the function from model and video to the score."""
        function: Callable[[Any, DecodedVideo], float]
        function = getattr(self._module(), self.score_function)
        return function

    def _module(self) -> Any:
        return import_module(f"{__package__}.{self.module}")


_VICLIP = (vbench_weights.VICLIP, vbench_weights.VOCABULARY)

DIMENSIONS = {
    dimension.metric: dimension
    for dimension in (
        Dimension("overall_consistency/viclip", _VICLIP, reads_prompt=True),
        Dimension(
            "overall_consistency/viclip-short-prompt",
            _VICLIP,
            is_variant=True,
            reads_prompt=True,
            score_function="score_video_short_prompt",
        ),
        Dimension("motion_smoothness/amt-s", (vbench_weights.AMT,)),
        Dimension(
            "motion_smoothness/amt-s-fixed-scale",
            (vbench_weights.AMT,),
            is_variant=True,
            load_function="load_fixed_scale_model",
        ),
        Dimension("dynamic_degree/raft", (vbench_weights.RAFT,)),
        Dimension("imaging_quality/musiq", (vbench_weights.MUSIQ,)),
        Dimension(
            "aesthetic_quality/laion", (vbench_weights.CLIP_L, vbench_weights.LAION), version=3
        ),
        Dimension("subject_consistency/dino", (vbench_weights.DINO,)),
        Dimension("background_consistency/clip", (vbench_weights.CLIP_B,), version=3),
    )
}
"""By ``metric``; higher is better for all of them."""


def select_dimensions(names: Sequence[str]) -> tuple[Dimension, ...]:
    """Return the named dimensions, each once, in order; without names, all but the variants.

    Raises BadInput for an unknown name.
    """
    if not names:
        return tuple(d for d in DIMENSIONS.values() if not d.is_variant)
    by_name = {**DIMENSIONS, **{d.name: d for d in DIMENSIONS.values()}}
    for name in names:
        if name not in by_name:
            raise BadInput(
                f"unknown dimension {name}",
                where="dimensions",
                fix=f"Available: {', '.join(d.name for d in DIMENSIONS.values())}.",
            )
    return tuple({by_name[name].metric: by_name[name] for name in names}.values())
