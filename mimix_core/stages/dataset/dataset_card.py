"""Render the dataset card: counts by show, character, style and split, in Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from mimix_core.domain.splits import Split
from mimix_core.engine.text_escaping import escape_markdown
from mimix_core.settings import DatasetSettings
from mimix_core.tables import Reason, Row, Status

CARD_FILE = "README.md"
"""The name under which dataset tools look for a card, which points them to the manifest."""

_HEAD = """---
configs:
- config_name: default
  data_files: table.parquet
task_categories:
- text-to-video
---
"""

_COLUMNS = {
    "sample_id": "id of the clip or composite",
    "kind": "original or composite",
    "split": "train, val or test; empty where `status` is not ok",
    "show, style": "of the video; a composite has those of its background",
    "characters": "those the caption names, in its order",
    "caption": "the training caption; ends with the style tag",
    "caption_backend": "its source; `script-composed`: combined from two scripted captions",
    "video": "path relative to the store's root",
    "sha256": "of the video file",
    "frames, rate_num, rate_den, width, height": "of the video",
    "episode_id": "of the video; a composite has that of its background",
    "source_episode_id": "of a composite's cutout; otherwise empty",
    "pasted, pasted_style": "the pasted character and its style; otherwise empty",
    "rank": "a composite's position in its plan, of which any first n are a plan; otherwise -1",
    "status, reason, detail": "ok, or why the row must not be used for training",
}


class SampleCounts:
    """Counts of the rows of a dataset, for its card and notes.

    All but ``excluded`` and ``unreplayed`` are of the ok rows; names come with the row's kind.
    """

    def __init__(self, new_characters: Collection[str] = ()) -> None:
        self._new_characters = frozenset(new_characters)
        self.splits: Counter[tuple[str, str]] = Counter()
        self.styles: Counter[tuple[str, str]] = Counter()
        self.shows: Counter[tuple[str, str]] = Counter()
        self.characters: Counter[tuple[str, str]] = Counter()
        self.pasted: Counter[tuple[str, str]] = Counter()
        self.excluded: Counter[tuple[str, str]] = Counter()
        self.unreplayed: Counter[str] = Counter()
        self.trained_with_new = 0

    def add(self, row: Row) -> None:
        """Count a row."""
        kind, split = row["kind"], row["split"]
        if row["reason"] is not None:
            self.excluded[kind, row["reason"]] += 1
            self.unreplayed[kind] += row["reason"] == Reason.NOT_REPLAYED
        if row["status"] != Status.OK:
            return
        self.splits[split, kind] += 1
        self.styles[f"{split}, {row['style']}", kind] += 1
        self.shows[f"{split}, {row['show']}", kind] += 1
        self.characters.update((f"{split}, {name}", kind) for name in row["characters"])
        if kind == "composite":
            pasted = f"{row['pasted']} ({row['pasted_style']}), {row['style']}"
            self.pasted[pasted, kind] += 1
        if split == Split.TRAIN and not self._new_characters.isdisjoint(row["characters"]):
            self.trained_with_new += 1


def render_dataset_card(
    counts: SampleCounts, settings: DatasetSettings, notes: Mapping[str, str | int | float]
) -> str:
    """Render Markdown with counts of the ok rows, and of the reasons of all other rows."""
    parts = [
        _HEAD,
        "# A MiMix dataset",
        _summary(notes, settings),
        "Only rows with `status` `ok` are meant for training. Episodes were split before "
        "composites were made; both sources of each composite are in train.",
        "## Splits",
        _table(("split", "originals", "composites"), _list_kinds(counts.splits, Split)),
        "## Styles",
        _table(("split, style", "originals", "composites"), _list_kinds(counts.styles)),
        "## Shows",
        _table(("split, show", "originals", "composites"), _list_kinds(counts.shows)),
        "## Characters",
        "Samples whose caption names the character.",
        _table(("split, character", "originals", "composites"), _list_kinds(counts.characters)),
        "## Pasted characters",
        _table(
            ("character and its style, into", "originals", "composites"),
            _list_kinds(counts.pasted),
        ),
        "## Rejected rows",
        _rejected_table(counts.excluded),
        "## Columns",
        "\n".join(
            ["| column | meaning |", "| --- | --- |"]
            + [f"| {name} | {meaning} |" for name, meaning in _COLUMNS.items()]
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _summary(notes: Mapping[str, str | int | float], settings: DatasetSettings) -> str:
    composites, train = notes["composites"], notes["train"]
    summary = (
        f"{train} samples to train on, {composites} of them composites "
        f"(a share of {notes['composite_share']:.4f})."
    )
    if settings.new_characters:
        summary += (
            f" {notes['samples_with_new_characters']} of them show "
            f"{escape_markdown(' or '.join(settings.new_characters))}, to be added to an adapter; "
            f"{notes['samples_replayed']} are a share of {settings.replay_share} of the others, "
            "trained on again."
        )
    if settings.excluded_characters:
        names = escape_markdown(", ".join(settings.excluded_characters))
        summary += f" Left out: all samples that show {names}."
    if settings.ratio is None:
        return summary
    wanted = notes["composites_wanted"]
    summary += f" A share of {settings.ratio} was requested: {wanted} composites."
    if int(composites) + int(notes.get("composites_not_replayed", 0)) != wanted:
        summary += " There are not enough captioned composites for it."
    return summary


def _list_kinds(
    counts: Mapping[tuple[str, str], int], first: Iterable[str] = ()
) -> list[tuple[str, int, int]]:
    """List originals and composites per name, sorted by name, those in ``first`` at the top."""
    order = [*first, *sorted({name for name, _ in counts} - set(first))]
    return [
        (str(name), counts.get((name, "original"), 0), counts.get((name, "composite"), 0))
        for name in order
    ]


def _table(head: Sequence[str], lines: Iterable[tuple[str, int, int]]) -> str:
    return "\n".join(
        [f"| {' | '.join(head)} |", "| --- | ---: | ---: |"]
        + [
            f"| {escape_markdown(name)} | {originals} | {composites} |"
            for name, originals, composites in lines
        ]
    )


def _rejected_table(counts: Mapping[tuple[str, str], int]) -> str:
    if not counts:
        return "None."
    return "\n".join(
        ["| kind, reason | samples |", "| --- | ---: |"]
        + [
            f"| {escape_markdown(f'{kind}, {reason}')} | {count} |"
            for (kind, reason), count in sorted(counts.items())
        ]
    )
