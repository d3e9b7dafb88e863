"""Stage ``character_scores``: is each asked-for character in the video, as itself?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from mimix_core import tables
from mimix_core.benchmark.judge.judge_inputs import SystemVideos
from mimix_core.domain.character_names import slugify
from mimix_core.domain.prompts import VideoPrompt
from mimix_core.domain.timeline import CLIP_RATE
from mimix_core.engine import progress
from mimix_core.engine.artifacts import FileRef, FrozenModel, TableRef
from mimix_core.engine.cache_key import ExcludeFromKey
from mimix_core.engine.stage import Phase, Resource, Stage, StageReport
from mimix_core.errors import BadInput
from mimix_core.media.decode import read_rate, read_rgb
from mimix_core.media.probe import UnreadableVideo
from mimix_core.settings import CharacterScoreSettings
from mimix_core.tables import CHARACTER_SCORES, Reason, Row

if TYPE_CHECKING:
    from mimix_core.benchmark.characters.cell_features import CellEncoder
    from mimix_core.benchmark.characters.trained_looks import TrainedLooks

MODEL_FILES = ("config.json", "model.safetensors")
"""Files of the model folder of a backend that needs one."""


class CharacterScoreInputs(FrozenModel):
    """A system's videos of prompts, and the training clips that show who the characters are.

    ``styles``: of each character's own show. ``vetoes``: cutouts whose masks people rejected.
    ``weights``: files of the backend's model folder.
    """

    unit: Annotated[str, ExcludeFromKey()]
    prompts: tuple[VideoPrompt, ...]
    system: SystemVideos
    styles: dict[str, str]
    clips: tuple[TableRef, ...]
    cutouts: tuple[TableRef, ...]
    vetoes: tuple[str, ...] = ()
    weights: tuple[FileRef, ...] = ()


def run(inputs: CharacterScoreInputs, settings: CharacterScoreSettings, out: Path) -> StageReport:
    """Score every asked-for character of every prompt: one row each. Writes no files.

    A character without a usable cutout is a rejected row; one of a video that is missing or cannot
    be read, a failed one. Raises BadInput if fewer than two characters have cutouts, MissingModel.
    """
    import cv2
    import torch

    from mimix_core.benchmark.characters.cell_features import load_cell_encoder
    from mimix_core.benchmark.characters.trained_looks import learn_looks
    from mimix_core.benchmark.characters.training_clips import choose_clips, list_masked_clips
    from mimix_core.engine.torch_runtime import select_device

    cv2.setNumThreads(settings.threads)
    torch.set_num_threads(settings.threads)
    encoder = load_cell_encoder(
        settings.backend, settings.weights, str(select_device(settings.device))
    )
    masked = list_masked_clips(inputs.clips, inputs.cutouts, inputs.vetoes)
    known = [clip for clip in masked if set(clip.masks) <= set(inputs.styles)]
    clips = choose_clips(known, settings.max_clips)
    total = len(clips) + len(inputs.prompts)
    looks = learn_looks(
        clips,
        inputs.styles,
        encoder,
        settings.threads,
        lambda done, note: progress.report_progress(done, total, note),
    )
    rows: list[Row] = []
    for number, prompt in enumerate(inputs.prompts, start=len(clips)):
        progress.report_progress(number, total, prompt.id)
        rows += _score_prompt(prompt, inputs, looks, encoder, settings.threads)
    progress.report_progress(total, total)
    asked = sum(len(set(prompt.characters)) for prompt in inputs.prompts)
    return StageReport(
        rows=rows,
        rows_in=asked,
        notes={"training_clips": len(clips), "characters": len(looks.bank.names)},
    )


@dataclass(frozen=True)
class _Asked:
    """The columns that every row of a prompt has."""

    prompt: VideoPrompt
    styles: Mapping[str, str]
    backend: str

    def columns(self, name: str) -> dict[str, Any]:
        return {
            "score_id": f"{self.prompt.id}/{slugify(name)}",
            "video_id": self.prompt.id,
            "character": name,
            "style": self.styles.get(name, ""),
            "scene_style": self.prompt.style.value,
            "backend": self.backend,
            "identity": "",
            "looks_like": "",
            "distance": None,
            "limit": None,
            "other": "",
            "other_distance": None,
            "in_own_style": None,
            "style_share": None,
            "count": 0,
            "presence": 0.0,
            "frames": [],
            "boxes": [],
            "nearest_clip": "",
            "nearest_frame": None,
            "copy_similarity": None,
            "copied": None,
            "motion": None,
            "motion_rank": None,
        }


def _score_prompt(
    prompt: VideoPrompt,
    inputs: CharacterScoreInputs,
    looks: TrainedLooks,
    encoder: CellEncoder,
    threads: int,
) -> list[Row]:
    from mimix_core.benchmark.characters.video_scores import score_characters

    asked = _Asked(prompt, inputs.styles, f"discriminant/{encoder.name}")
    names = list(dict.fromkeys(prompt.characters))
    video = inputs.system.videos.get(prompt.id)
    if video is None:
        detail = inputs.system.missing.get(prompt.id, "the system has no video of this prompt")
        return [tables.failed(Reason.NO_VIDEO, detail, **asked.columns(name)) for name in names]
    try:
        frames_THWC = read_rgb(video.path, threads=threads)
        rate = read_rate(video.path) or CLIP_RATE
    except UnreadableVideo as error:
        return [
            tables.failed(Reason.UNREADABLE_VIDEO, str(error), **asked.columns(name))
            for name in names
        ]
    known = [name for name in names if name in looks.bank.names]
    scored = score_characters(frames_THWC, known, looks, encoder, rate)
    return [
        tables.ok(**(asked.columns(name) | scored[name].columns()))
        if name in scored
        else tables.rejected(
            Reason.NO_MASK, f"{name} has no usable cutout to compare with", **asked.columns(name)
        )
        for name in names
    ]


def model_files(settings: CharacterScoreSettings) -> Sequence[Path]:
    """List the files of the backend's model folder; none for a backend that packages ship.

    Raises BadInput if the folder is not set.
    """
    if settings.backend != "dinov2":
        return ()
    if settings.weights is None:
        raise BadInput(
            "the backend dinov2 needs a model folder",
            where="settings, key character_scores.weights",
            fix="Set it to a folder with config.json and model.safetensors of DINOv2 "
            "(docs/character-scores.md).",
        )
    return tuple(settings.weights / name for name in MODEL_FILES)


STAGE = Stage(
    name="character_scores",
    title="Scores of characters",
    description="Find each asked-for character in its video: whether it is itself, in its own "
    "style, once, not copied and moving; only with character_scores.backend.",
    row_noun="characters",
    phase=Phase.EVALUATION,
    upstream=("samples", "duplicates", "cutouts"),
    resources=frozenset({Resource.CPU, Resource.GPU}),
    version=2,
    inputs=CharacterScoreInputs,
    settings=CharacterScoreSettings,
    table=CHARACTER_SCORES,
    run=run,
)
