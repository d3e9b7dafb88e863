"""Configurations and published checkpoints of SAM2.1's four sizes, and how to load one.

The digests are of the files that Meta published on 2024-09-29; many public projects verify their
download with the same ones.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mimix_core.engine.artifacts import digest_file
from mimix_core.errors import MissingModel

Sam2Size = Literal["tiny", "small", "base-plus", "large"]

_BASE = "https://dl.fbaipublicfiles.com/segment_anything_2/092824"


@dataclass(frozen=True)
class PublishedCheckpoint:
    """A model size: sam2's configuration, and the name and sha256 of Meta's checkpoint."""

    config: str
    file: str
    sha256: str

    @property
    def url(self) -> str:
        return f"{_BASE}/{self.file}"


PUBLISHED_CHECKPOINTS: dict[Sam2Size, PublishedCheckpoint] = {
    "tiny": PublishedCheckpoint(
        "configs/sam2.1/sam2.1_hiera_t.yaml",
        "sam2.1_hiera_tiny.pt",
        "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69",
    ),
    "small": PublishedCheckpoint(
        "configs/sam2.1/sam2.1_hiera_s.yaml",
        "sam2.1_hiera_small.pt",
        "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38",
    ),
    "base-plus": PublishedCheckpoint(
        "configs/sam2.1/sam2.1_hiera_b+.yaml",
        "sam2.1_hiera_base_plus.pt",
        "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5",
    ),
    "large": PublishedCheckpoint(
        "configs/sam2.1/sam2.1_hiera_l.yaml",
        "sam2.1_hiera_large.pt",
        "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318",
    ),
}

_POSTPROCESSING = (
    # The defaults of sam2's build_sam2_video_predictor, except the filling of small holes, which
    # needs its CUDA extension: holes are filled at the clip's size (matting.tidy).
    "++model.sam_mask_decoder_extra_args.dynamic_multimask_via_stability=true",
    "++model.sam_mask_decoder_extra_args.dynamic_multimask_stability_delta=0.05",
    "++model.sam_mask_decoder_extra_args.dynamic_multimask_stability_thresh=0.98",
    "++model.binarize_mask_from_pts_for_mem_enc=true",
)


def build_predictor(
    size: Sam2Size, *, image_size: int = 1024, device: str = "cpu", overrides: tuple[str, ...] = ()
) -> Any:
    """Build a ``SAM2VideoPredictor`` with random weights (from torch's global generator).

    ``overrides``: additional Hydra overrides, for tests. Raises MissingModel without the package
    sam2.
    """
    try:
        from sam2.build_sam import build_sam2_video_predictor
    except ImportError as error:
        raise MissingModel(
            f"the cutout backend 'sam2' needs the package sam2 ({error})",
            where="settings, key cutouts.backend",
            fix="pip install 'mimix[sam2]', then SAM2_BUILD_CUDA=0 pip install "
            "--no-build-isolation --no-deps sam2==1.1.0 (docs/cutouts.md).",
        ) from error
    return build_sam2_video_predictor(
        PUBLISHED_CHECKPOINTS[size].config,
        ckpt_path=None,
        device=device,
        apply_postprocessing=False,
        hydra_overrides_extra=[*_POSTPROCESSING, f"++model.image_size={image_size}", *overrides],
    )


def load_predictor(
    size: Sam2Size, checkpoint: Path, sha256: str | None, *, image_size: int, device: str
) -> Any:
    """Load a ``SAM2VideoPredictor`` with the weights of ``checkpoint``.

    The file's sha256 must be ``sha256``, or by default the published one of that size. Raises
    MissingModel for another file, an unreadable one, or one with other parameters.
    """
    import torch

    published = PUBLISHED_CHECKPOINTS[size]
    fix = f"Download {published.url} and set cutouts.weights to it."
    if not checkpoint.is_file():
        raise MissingModel("no such file", where=str(checkpoint), fix=fix)
    actual, expected = digest_file(checkpoint), sha256 or published.sha256
    if actual != expected:
        source = "cutouts.sam2.sha256" if sha256 else f"the published {published.file}"
        raise MissingModel(
            f"its sha256 is {actual}, expected {expected} ({source})",
            where=str(checkpoint),
            fix=fix if sha256 is None else "Correct cutouts.weights or cutouts.sam2.sha256.",
        )
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)["model"]
        model = build_predictor(size, image_size=image_size)
        model.load_state_dict(state)
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, RuntimeError) as error:
        raise MissingModel(
            f"not a checkpoint of SAM2.1 {size} ({error})", where=str(checkpoint), fix=fix
        ) from error
    return model.to(device)


def compile_predictor(model: Any) -> Any:
    """Compile the four parts of the model, as sam2's ``vos_optimized`` does.

    Uses torch's default mode: max-autotune compiles for minutes longer. The first clip is slow,
    and so is the first clip with another number of characters.
    """
    import torch

    # The memory grows from step to step. According to sam2, dynamic shapes cost accuracy in the
    # other parts.
    for name, dynamic in (
        ("image_encoder", False),
        ("memory_attention", True),
        ("memory_encoder", False),
        ("sam_mask_decoder", False),
    ):
        part = getattr(model, name)
        part.forward = torch.compile(part.forward, dynamic=dynamic)
    return model
