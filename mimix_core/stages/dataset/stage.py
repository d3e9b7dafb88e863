"""Stage ``dataset``: assemble the training manifest, split by episode, with composites by ratio."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
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
from mimix_core.stages.dataset.caption_lookup import CaptionLookup, SampleCaption
from mimix_core.stages.dataset.dataset_card import CARD_FILE, SampleCounts, render_dataset_card
from mimix_core.stages.dataset.replay import ReplaySample, select_replay
from mimix_core.tables import BaseRow, ClipRow, CompositeRow, Reason, Row, Status


class DatasetInputs(FrozenModel):
    """All clips with their captions, and the composites with theirs (``recaptions``).

    ``vetoes``: clips that people left out, with the reason that they gave. ``groups``: the group of
    episodes that must be in one split. ``frame_rate``: of all videos.
    """

    unit: Annotated[str, ExcludeFromKey()]
    clips: tuple[TableRef, ...]
    captions: tuple[TableRef, ...]
    composites: TableRef
    recaptions: TableRef
    vetoes: Annotated[dict[str, str], OmitDefault()] = Field(default_factory=dict)
    groups: Annotated[dict[str, str], OmitDefault()] = Field(default_factory=dict)
    frame_rate: Annotated[int, OmitDefault()] = int(CLIP_RATE)


def run(inputs: DatasetInputs, settings: DatasetSettings, out: Path) -> StageReport:
    """Write one row per ok clip and per ok composite, with split, caption and video; and a card.

    Composites are in train only. With a ratio, the first composites by rank are taken, as many as
    come nearest to it: the set of a smaller ratio is a subset of that of a larger one. With new
    characters, samples without one are left out afterwards, except those that are replayed. Raises
    BadInput if no training sample shows a new character.

    Tables are read episode by episode: apart from ids, no column of all clips is in memory.
    """
    sources = _load_sources(inputs, settings)
    samples = partial(_sample_rows, inputs, settings, sources)
    if settings.new_characters:
        unused = _unreplayed_samples(samples(), settings, inputs.unit)
        samples = partial(_reject_unreplayed, samples, unused, settings)
    rows = tables.SortedRows(tables.DATASET, out)
    counts = SampleCounts(settings.new_characters)
    for row in samples():
        counts.add(row)
        rows.add(row)
        if len(rows) % _PROGRESS_ROWS == 0:
            progress.report_progress(len(rows), sources.total, "manifest")
    notes = _build_notes(counts, settings)
    (out / CARD_FILE).write_text(render_dataset_card(counts, settings, notes), encoding="utf-8")
    progress.report_progress(len(rows), len(rows), "manifest")
    return StageReport(rows, rows_in=sources.total, notes=notes)


_PROGRESS_ROWS = 10_000

_BATCH_ROWS = 10_000
"""Composites in memory as Python values."""

_CLIP_COLUMNS = (
    *("clip_id", "episode_id", "show", "style", "file", "sha256", "frames", "width", "height"),
    "status",
)
_COMPOSITE_COLUMNS = (
    *("composite_id", "source_episode_id", "background_episode_id", "show", "style", "character"),
    *("character_style", "rank", "file", "sha256", "frames", "width", "height", "status"),
)


@dataclass(frozen=True)
class _Sources:
    """What the rows are made from besides the tables. ``total``: number of usable input rows."""

    captions: CaptionLookup
    recaptions: CaptionLookup
    splits: Mapping[str, Split]
    total: int


def _load_sources(inputs: DatasetInputs, settings: DatasetSettings) -> _Sources:
    captions, total = CaptionLookup(inputs.captions), 0

    def clips() -> Iterator[tuple[str, str, str]]:
        nonlocal total
        columns = ("clip_id", "episode_id", "show", "status")
        for ref in inputs.clips:
            for clip in tables.usable(tables.iterate(ref.path, tables.CLIPS, columns)):
                total += 1
                yield clip["clip_id"], clip["show"], clip["episode_id"]

    splits = assign_splits(
        captioned_episodes(clips(), captions.ids),
        seed=settings.seed,
        val_share=settings.val_share,
        test_share=settings.test_share,
        groups=inputs.groups,
    )
    composites = tables.iterate(inputs.composites.path, tables.COMPOSITES, ("status",))
    total += sum(1 for _ in tables.usable(composites))
    return _Sources(captions, CaptionLookup([inputs.recaptions]), splits, total)


def _sample_rows(
    inputs: DatasetInputs, settings: DatasetSettings, sources: _Sources
) -> Iterator[Row]:
    """Yield the rows of all clips, then those of all composites by rank."""
    excluded, originals = settings.excluded_characters, 0
    rate = {"rate_num": inputs.frame_rate, "rate_den": 1}
    for ref in inputs.clips:
        for clip in tables.usable(tables.iterate(ref.path, tables.CLIPS, _CLIP_COLUMNS)):
            caption = sources.captions.get(clip["clip_id"])
            row = _clip_row(ref, clip, caption, sources.splits, inputs.vetoes, excluded)
            originals += row["split"] == Split.TRAIN and row["status"] == Status.OK
            yield row | rate
    remaining = None
    if settings.ratio is not None:
        remaining = composite_count(originals, Fraction(settings.ratio))
    for composite in _composites_by_rank(inputs.composites):
        caption = sources.recaptions.get(composite["composite_id"])
        row = _composite_row(
            inputs.composites, composite, caption, remaining, sources.splits, excluded
        )
        if remaining is not None:
            remaining -= row["status"] == Status.OK
        yield row | rate


def _composites_by_rank(ref: TableRef) -> Iterator[CompositeRow]:
    """Yield the usable composites by rank, those of one rank in the order of the table."""
    groups = tables.read_groups(ref.path, tables.COMPOSITES, _COMPOSITE_COLUMNS)
    usable = [group.filter(pc.equal(group["status"], Status.OK.value)) for group in groups]
    if not usable:
        return
    composites = pa.concat_tables(usable)
    order = pc.sort_indices(composites["rank"])
    for start in range(0, len(order), _BATCH_ROWS):
        rows: list[CompositeRow] = composites.take(order[start : start + _BATCH_ROWS]).to_pylist()
        yield from rows


def _clip_row(
    ref: TableRef,
    clip: ClipRow,
    caption: SampleCaption | None,
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
    caption: SampleCaption | None,
    remaining: int | None,
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
    if remaining is not None and remaining <= 0:
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


def _unreplayed_samples(
    rows: Iterable[Row], settings: DatasetSettings, unit: str
) -> frozenset[str]:
    """Return the ids of training samples that neither show a new character nor are replayed."""
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
    old = {sample.sample_id for sample in samples if not new & set(sample.characters)}
    return frozenset(old - replayed)


def _reject_unreplayed(
    samples: Callable[[], Iterator[Row]], unused: Collection[str], settings: DatasetSettings
) -> Iterator[Row]:
    """Yield the rows with those in ``unused`` rejected."""
    detail = (
        f"shows no new character, and is not of the share {settings.replay_share} of the others"
    )
    for row in samples():
        if row["sample_id"] not in unused:
            yield row
            continue
        values = _without_status(row) | {"split": ""}
        yield tables.rejected(Reason.NOT_REPLAYED, detail, **values)


def _without_status(row: Row) -> Row:
    return {name: row[name] for name in row if name not in BaseRow.__annotations__}


def _base_columns(
    sample_id: str,
    kind: str,
    ref: TableRef,
    video: ClipRow | CompositeRow,
    caption: SampleCaption | None,
) -> dict[str, Any]:
    return {
        "sample_id": sample_id,
        "kind": kind,
        "split": "",
        "show": video["show"],
        "style": video["style"],
        "characters": list(caption.characters) if caption is not None else [],
        "caption": caption.text if caption is not None else "",
        "caption_backend": caption.backend if caption is not None else "",
        "video": _store_path(ref, video["file"]),
        "sha256": video["sha256"],
        "frames": video["frames"],
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


def _build_notes(counts: SampleCounts, settings: DatasetSettings) -> dict[str, str | int | float]:
    splits = counts.splits
    notes: dict[str, str | int | float] = {
        split.value: splits[split, "original"] + splits[split, "composite"] for split in Split
    }
    composites = splits[Split.TRAIN, "composite"]
    notes["composites"] = composites
    notes["composite_share"] = round(composites / max(int(notes["train"]), 1), 6)
    left_out = counts.unreplayed
    if settings.new_characters:
        notes["samples_with_new_characters"] = counts.trained_with_new
        notes["samples_replayed"] = int(notes["train"]) - counts.trained_with_new
        notes["originals_not_replayed"] = left_out["original"]
        notes["composites_not_replayed"] = left_out["composite"]
    if settings.ratio is not None:
        originals = splits[Split.TRAIN, "original"] + left_out["original"]
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
