"""All dimensions by name, without loading any.

A name is ``dimension/backend``. The ported ones also go by VBench's own name alone; a corrected
variant of one never does.
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

    from mimix_core.benchmark.vbench.video_reader import Video


@dataclass(frozen=True)
class Dimension:
    """One value of a video: where its code and its weights are.

    ``loader`` and ``rule`` are functions of ``module``, as its package's ``video`` describes them.
    ``version`` rises when values change.
    """

    metric: str
    files: tuple[str, ...]
    ported: bool = True
    reads_prompt: bool = False
    loader: str = "load"
    rule: str = "score"
    version: int = 2

    @property
    def name(self) -> str:
        """VBench's name for what is VBench's, the whole name for a variant."""
        return self.module if self.ported else self.metric

    @property
    def module(self) -> str:
        """The module of this package that has it."""
        return self.metric.partition("/")[0]

    @property
    def model(self) -> str:
        """Two dimensions of one model can share it."""
        return f"{self.module}.{self.loader}"

    def load(self, weights_dir: Path, device: torch.device) -> Any:
        """Its model. Raises BadInput for weights of something else."""
        return getattr(self._module(), self.loader)(weights_dir, device)

    def scorer(self) -> Callable[[Any, Video], float]:
        """From the model and a video to the value."""
        found: Callable[[Any, Video], float] = getattr(self._module(), self.rule)
        return found

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
            ported=False,
            reads_prompt=True,
            rule="score_short",
        ),
        Dimension("motion_smoothness/amt-s", (vbench_weights.AMT,)),
        Dimension(
            "motion_smoothness/amt-s-fixed-scale",
            (vbench_weights.AMT,),
            ported=False,
            loader="load_fixed_scale",
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
"""By ``metric``; for all of them more is better."""


def chosen(names: Sequence[str]) -> tuple[Dimension, ...]:
    """The dimensions of these names, each once, in their order; of no names, all that are ported.

    Raises BadInput for a name that is none.
    """
    if not names:
        return tuple(d for d in DIMENSIONS.values() if d.ported)
    known = {**DIMENSIONS, **{d.name: d for d in DIMENSIONS.values()}}
    for name in names:
        if name not in known:
            raise BadInput(
                f"{name} is no dimension",
                where="--dimensions",
                fix=f"There are: {', '.join(d.name for d in DIMENSIONS.values())}.",
            )
    return tuple({known[name].metric: known[name] for name in names}.values())
