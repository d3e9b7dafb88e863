"""Stage ``dataset``: the manifest a trainer reads: split by episode, composites by share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

from mimix_core import tables
from mimix_core.domain.splits import Split, assign_splits, captioned_episodes, composite_count
from mimix_core.domain.timeline import CLIP_RATE
from mimix_core.engine import progress
from mimix_core.engine.artifacts import FrozenModel, TableRef
from mimix_core.engine.cache_key import ExcludeFromKey
from mimix_core.engine.stage import Phase, Stage, StageReport
from mimix_core.settings import DatasetSettings
from mimix_core.stages.dataset.dataset_card import CARD, card
from mimix_core.tables import Reason, Row, Status


class DatasetInputs(FrozenModel):
    """All clips with their captions, the composites and theirs."""

    unit: Annotated[str, ExcludeFromKey()]
    clips: tuple[TableRef, ...]
    captions: tuple[TableRef, ...]
    composites: TableRef
    recaptions: TableRef


def run(inputs: DatasetInputs, settings: DatasetSettings, out: Path) -> StageReport:
    """One row per ok clip and per ok composite, each with its split, caption and video; a card.

    Composites are in train only. With a ratio, the first of their plan are taken, as many as come
    nearest to it: of one table of composites, a smaller ratio's set is inside a larger one's.
    """
    captions = _captions(inputs.captions)
    recaptions = _captions([inputs.recaptions])
    clips = [
        (ref, clip)
        for ref in inputs.clips
        for clip in tables.usable(tables.read(ref.path, tables.CLIPS))
    ]
    composites = list(tables.usable(tables.read(inputs.composites.path, tables.COMPOSITES)))
    splits = assign_splits(
        captioned_episodes((clip for _, clip in clips), captions),
        seed=settings.seed,
        val_share=settings.val_share,
        test_share=settings.test_share,
    )
    rows: list[Row] = [
        _original(ref, clip, captions.get(clip["clip_id"]), splits) for ref, clip in clips
    ]
    originals = sum(row["split"] == Split.TRAIN and row["status"] == Status.OK for row in rows)
    room = len(composites)
    if settings.ratio is not None:
        room = composite_count(originals, Fraction(settings.ratio))
    for composite in sorted(composites, key=lambda row: row["rank"]):
        row = _composite(
            inputs.composites, composite, recaptions.get(composite["composite_id"]), room, splits
        )
        room -= row["status"] == Status.OK
        rows.append(row)
    notes = _notes(rows, settings)
    (out / CARD).write_text(card(rows, settings, notes), encoding="utf-8")
    progress.report_progress(len(rows), len(rows), "manifest")
    return StageReport(rows, rows_in=len(clips) + len(composites), notes=notes)


def _captions(refs: Iterable[TableRef]) -> dict[str, Row]:
    return {
        row["clip_id"]: row
        for ref in refs
        for row in tables.usable(tables.read(ref.path, tables.CAPTIONS))
    }


def _original(ref: TableRef, clip: Row, caption: Row | None, splits: dict[str, Split]) -> Row:
    values = _columns(clip["clip_id"], "original", ref, clip, caption) | {
        "episode_id": clip["episode_id"],
        "source_episode_id": "",
        "pasted": "",
        "pasted_style": "",
        "rank": -1,
    }
    if caption is None:
        return tables.rejected(Reason.NO_CAPTION, "the clip has no caption", **values)
    return tables.ok(**values | {"split": splits[clip["episode_id"]].value})


def _composite(
    ref: TableRef, composite: Row, caption: Row | None, room: int, splits: dict[str, Split]
) -> Row:
    values = _columns(composite["composite_id"], "composite", ref, composite, caption) | {
        "episode_id": composite["background_episode_id"],
        "source_episode_id": composite["source_episode_id"],
        "pasted": composite["character"],
        "pasted_style": composite["character_style"],
        "rank": composite["rank"],
    }
    if caption is None:
        return tables.rejected(Reason.NO_CAPTION, "the composite has no caption", **values)
    episodes = (composite["source_episode_id"], composite["background_episode_id"])
    if any(splits.get(episode) is not Split.TRAIN for episode in episodes):
        # Made under another split than this one: to train on it would leak what is held out.
        detail = "one of its two sources is not in the training split"
        return tables.rejected(Reason.HELD_OUT, detail, **values)
    if room <= 0:
        detail = "the ratio is met without it"
        return tables.rejected(Reason.NOT_NEEDED_FOR_RATIO, detail, **values)
    return tables.ok(**values | {"split": Split.TRAIN.value})


def _columns(
    name: str, kind: str, ref: TableRef, video: Row, caption: Row | None
) -> dict[str, Any]:
    actions = caption["actions"] if caption is not None else []
    return {
        "sample_id": name,
        "kind": kind,
        "split": "",
        "show": video["show"],
        "style": video["style"],
        "characters": list(dict.fromkeys(action["name"] for action in actions)),
        "caption": caption["caption"] if caption is not None else "",
        "caption_backend": caption["backend"] if caption is not None else "",
        "video": _in_store(ref, video["file"]),
        "sha256": video["sha256"],
        "frames": video["frames"],
        "rate_num": CLIP_RATE.numerator,
        "rate_den": CLIP_RATE.denominator,
        "width": video["width"],
        "height": video["height"],
    }


def _in_store(ref: TableRef, file: str) -> str:
    """Where the video lies, relative to the store.

    A table that only judges another's files (``duplicates``) names them by way of the store's root.
    """
    parts = Path(file).parts
    if ".." not in parts:
        return f"{ref.stage}/{ref.key}/{file}"
    return Path(*(part for part in parts if part != "..")).as_posix()


def _notes(rows: Iterable[Row], settings: DatasetSettings) -> dict[str, str | int | float]:
    counts = Counter((row["split"], row["kind"]) for row in rows if row["status"] == Status.OK)
    notes: dict[str, str | int | float] = {
        split.value: counts[split.value, "original"] + counts[split.value, "composite"]
        for split in Split
    }
    composites = counts[Split.TRAIN.value, "composite"]
    notes["composites"] = composites
    notes["composite_share"] = round(composites / max(int(notes["train"]), 1), 6)
    if settings.ratio is not None:
        originals = counts[Split.TRAIN.value, "original"]
        notes["composites_wanted"] = composite_count(originals, Fraction(settings.ratio))
    return notes


def shortfall(notes: Mapping[str, str | int | float], ratio: Decimal) -> str:
    """What of a share of ``ratio`` is missing, in words; nothing when it is met.

    ``notes``: the stage's. Composites are too few when pairs were, or captions were rejected.
    """
    composites = int(notes["composites"])
    wanted = composite_count(int(notes["train"]) - composites, Fraction(ratio))
    if composites >= wanted:
        return ""
    return (
        f"{composites} of the {wanted} composites that a share of {ratio} needs "
        f"(share {notes['composite_share']}); the tables of composites and their captions say why"
    )


STAGE = Stage(
    name="dataset",
    title="Dataset",
    description="Assemble clips and composites at an exact ratio, split by episode.",
    row_noun="samples",
    phase=Phase.AUGMENTATION,
    upstream=("duplicates", "captions", "composites", "recaptions"),
    version=2,
    inputs=DatasetInputs,
    settings=DatasetSettings,
    table=tables.DATASET,
    run=run,
)
