"""Stage ``dataset``: assemble the training manifest, split by episode, with composites by ratio."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from mimix_core import tables
from mimix_core.domain.splits import Split, assign_splits, captioned_episodes, composite_count
from mimix_core.domain.timeline import CLIP_RATE
from mimix_core.engine import progress
from mimix_core.engine.artifacts import FrozenModel, TableRef
from mimix_core.engine.cache_key import ExcludeFromKey, OmitDefault
from mimix_core.engine.stage import Phase, Stage, StageReport
from mimix_core.errors import BadInput
from mimix_core.settings import DatasetSettings
from mimix_core.stages.dataset.dataset_card import CARD_FILE, render_dataset_card
from mimix_core.stages.dataset.replay import ReplaySample, select_replay
from mimix_core.tables import BaseRow, CaptionRow, ClipRow, CompositeRow, Reason, Row, Status


class DatasetInputs(FrozenModel):
    """All clips with their captions, and the composites with theirs (``recaptions``).

    ``vetoes``: clips that people left out, with the reason that they gave. ``groups``: the group of
    episodes that must be in one split.
    """

    unit: Annotated[str, ExcludeFromKey()]
    clips: tuple[TableRef, ...]
    captions: tuple[TableRef, ...]
    composites: TableRef
    recaptions: TableRef
    vetoes: Annotated[dict[str, str], OmitDefault()] = Field(default_factory=dict)
    groups: Annotated[dict[str, str], OmitDefault()] = Field(default_factory=dict)


def run(inputs: DatasetInputs, settings: DatasetSettings, out: Path) -> StageReport:
    """Write one row per ok clip and per ok composite, with split, caption and video; and a card.

    Composites are in train only. With a ratio, the first composites by rank are taken, as many as
    come nearest to it: the set of a smaller ratio is a subset of that of a larger one. With new
    characters, samples without one are left out afterwards, except those that are replayed. Raises
    BadInput if no training sample shows a new character.
    """
    captions = _load_captions(inputs.captions)
    recaptions = _load_captions([inputs.recaptions])
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
        groups=inputs.groups,
    )
    excluded = settings.excluded_characters
    rows: list[Row] = [
        _clip_row(ref, clip, captions.get(clip["clip_id"]), splits, inputs.vetoes, excluded)
        for ref, clip in clips
    ]
    originals = sum(row["split"] == Split.TRAIN and row["status"] == Status.OK for row in rows)
    remaining = len(composites)
    if settings.ratio is not None:
        remaining = composite_count(originals, Fraction(settings.ratio))
    for composite in sorted(composites, key=lambda row: row["rank"]):
        row = _composite_row(
            inputs.composites,
            composite,
            recaptions.get(composite["composite_id"]),
            remaining,
            splits,
            excluded,
        )
        remaining -= row["status"] == Status.OK
        rows.append(row)
    if settings.new_characters:
        rows = _leave_out_unreplayed(rows, settings, inputs.unit)
    notes = _build_notes(rows, settings)
    (out / CARD_FILE).write_text(render_dataset_card(rows, settings, notes), encoding="utf-8")
    progress.report_progress(len(rows), len(rows), "manifest")
    return StageReport(rows, rows_in=len(clips) + len(composites), notes=notes)


def _load_captions(refs: Iterable[TableRef]) -> dict[str, CaptionRow]:
    return {
        row["clip_id"]: row
        for ref in refs
        for row in tables.usable(tables.read(ref.path, tables.CAPTIONS))
    }


def _clip_row(
    ref: TableRef,
    clip: ClipRow,
    caption: CaptionRow | None,
    splits: Mapping[str, Split],
    vetoes: Mapping[str, str],
    excluded: Collection[str],
) -> Row:
    values = _base_columns(clip["clip_id"], "original", ref, clip, caption) | {
        "episode_id": clip["episode_id"],
        "source_episode_id": "",
        "pasted": "",
        "pasted_style": "",
        "rank": -1,
    }
    if caption is None:
        return tables.rejected(Reason.NO_CAPTION, "the clip has no caption", **values)
    if (why := vetoes.get(clip["clip_id"])) is not None:
        detail = "left out by hand" + (f": {why}" if why else "")
        return tables.rejected(Reason.LEFT_OUT_BY_HAND, detail, **values)
    if detail := _excluded_detail(values, excluded):
        return tables.rejected(Reason.EXCLUDED_CHARACTER, detail, **values)
    return tables.ok(**values | {"split": splits[clip["episode_id"]].value})


def _composite_row(
    ref: TableRef,
    composite: CompositeRow,
    caption: CaptionRow | None,
    remaining: int,
    splits: Mapping[str, Split],
    excluded: Collection[str],
) -> Row:
    values = _base_columns(composite["composite_id"], "composite", ref, composite, caption) | {
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
        # Rendered under another split: training on it would leak held-out episodes.
        detail = "one of its two sources is not in the training split"
        return tables.rejected(Reason.HELD_OUT, detail, **values)
    if detail := _excluded_detail(values, excluded):
        return tables.rejected(Reason.EXCLUDED_CHARACTER, detail, **values)
    if remaining <= 0:
        detail = "the ratio is met without it"
        return tables.rejected(Reason.NOT_NEEDED_FOR_RATIO, detail, **values)
    return tables.ok(**values | {"split": Split.TRAIN.value})


def _excluded_detail(values: Mapping[str, Any], excluded: Collection[str]) -> str:
    """Say which excluded characters a sample shows; empty if none."""
    shown = [name for name in values["characters"] if name in excluded]
    return f"shows {', '.join(shown)}, which dataset.excluded_characters names" if shown else ""


def training_samples(rows: Iterable[Mapping[str, Any]]) -> list[ReplaySample]:
    """Return the usable samples of the training split, as far as a replay depends on them."""
    return [
        ReplaySample(
            row["sample_id"], row["show"], tuple(row["characters"]), row["kind"] == "composite"
        )
        for row in rows
        if row["status"] == Status.OK and row["split"] == Split.TRAIN
    ]


def _leave_out_unreplayed(rows: Iterable[Row], settings: DatasetSettings, unit: str) -> list[Row]:
    """Reject training samples that neither show a new character nor are replayed."""
    rows = list(rows)
    samples = training_samples(rows)
    new = set(settings.new_characters)
    for name in settings.new_characters:
        if not any(name in sample.characters for sample in samples):
            raise BadInput(
                f"no sample of the training split shows {name}, who is to be added",
                where=f"stage dataset ({unit}), setting dataset.new_characters",
                fix="Correct the name, or add episodes whose captions name the character.",
            )
    replayed = select_replay(
        samples, settings.new_characters, Fraction(settings.replay_share), settings.seed
    )
    unused = {sample.sample_id for sample in samples if not new & set(sample.characters)} - replayed
    detail = (
        f"shows no new character, and is not of the share {settings.replay_share} of the others"
    )
    return [
        tables.rejected(Reason.NOT_REPLAYED, detail, **_without_status(row) | {"split": ""})
        if row["sample_id"] in unused
        else row
        for row in rows
    ]


def _without_status(row: Row) -> Row:
    return {name: row[name] for name in row if name not in BaseRow.__annotations__}


def _base_columns(
    sample_id: str,
    kind: str,
    ref: TableRef,
    video: ClipRow | CompositeRow,
    caption: CaptionRow | None,
) -> dict[str, Any]:
    actions = caption["actions"] if caption is not None else []
    return {
        "sample_id": sample_id,
        "kind": kind,
        "split": "",
        "show": video["show"],
        "style": video["style"],
        "characters": list(dict.fromkeys(action["name"] for action in actions)),
        "caption": caption["caption"] if caption is not None else "",
        "caption_backend": caption["backend"] if caption is not None else "",
        "video": _store_path(ref, video["file"]),
        "sha256": video["sha256"],
        "frames": video["frames"],
        "rate_num": CLIP_RATE.numerator,
        "rate_den": CLIP_RATE.denominator,
        "width": video["width"],
        "height": video["height"],
    }


def _store_path(ref: TableRef, file: str) -> str:
    """Return the path of a video relative to the store's root.

    A table that only filters another stage's files (``duplicates``) refers to them with ``..``.
    """
    parts = Path(file).parts
    if ".." not in parts:
        return f"{ref.stage}/{ref.key}/{file}"
    return Path(*(part for part in parts if part != "..")).as_posix()


def _build_notes(rows: Sequence[Row], settings: DatasetSettings) -> dict[str, str | int | float]:
    counts = Counter((row["split"], row["kind"]) for row in rows if row["status"] == Status.OK)
    notes: dict[str, str | int | float] = {
        split.value: counts[split.value, "original"] + counts[split.value, "composite"]
        for split in Split
    }
    composites = counts[Split.TRAIN.value, "composite"]
    notes["composites"] = composites
    notes["composite_share"] = round(composites / max(int(notes["train"]), 1), 6)
    left_out = Counter(row["kind"] for row in rows if row["reason"] == Reason.NOT_REPLAYED)
    if settings.new_characters:
        new = set(settings.new_characters)
        with_new = sum(bool(new & set(one.characters)) for one in training_samples(rows))
        notes["samples_with_new_characters"] = with_new
        notes["samples_replayed"] = int(notes["train"]) - with_new
        notes["originals_not_replayed"] = left_out["original"]
        notes["composites_not_replayed"] = left_out["composite"]
    if settings.ratio is not None:
        originals = counts[Split.TRAIN.value, "original"] + left_out["original"]
        notes["composites_wanted"] = composite_count(originals, Fraction(settings.ratio))
    return notes


def describe_shortfall(notes: Mapping[str, str | int | float], ratio: Decimal) -> str:
    """Describe how many composites are missing for ``ratio``; empty when it is met.

    ``notes``: of the dataset stage. There are too few composites when there were too few pairs or
    when captions were rejected. Samples that are not replayed count: the ratio is that of all.
    """
    composites = int(notes["composites"]) + int(notes.get("composites_not_replayed", 0))
    originals = int(notes["train"]) - int(notes["composites"])
    originals += int(notes.get("originals_not_replayed", 0))
    wanted = composite_count(originals, Fraction(ratio))
    if composites >= wanted:
        return ""
    return (
        f"{composites} of the {wanted} composites that a share of {ratio} needs "
        f"(share {notes['composite_share']}); see the tables composites and recaptions"
    )


def describe_empty_validation(notes: Mapping[str, str | int | float], val_share: float) -> str:
    """Say that there is nothing to validate on, and what to do; empty if there is or none is asked.

    ``notes``: of the dataset stage. A show's only captioned episode is trained on.
    """
    if val_share == 0 or not notes["train"] or notes[Split.VAL.value]:
        return ""
    return (
        "the validation split is empty, so that training has no validation loss: no show has two "
        "episodes with captioned clips, and a show's only one is trained on. Add an episode to a "
        "show, or set dataset.val_share to 0 to train without validation"
    )


STAGE = Stage(
    name="dataset",
    title="Dataset",
    description="Assemble clips and composites at an exact ratio, split by episode.",
    row_noun="samples",
    phase=Phase.AUGMENTATION,
    upstream=("duplicates", "captions", "composites", "recaptions"),
    version=3,
    inputs=DatasetInputs,
    settings=DatasetSettings,
    table=tables.DATASET,
    run=run,
)
