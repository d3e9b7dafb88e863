"""Render the dataset card: counts by show, character, style and split, in Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from mimix_core.domain.splits import Split
from mimix_core.engine.text_escaping import escape_markdown
from mimix_core.settings import DatasetSettings
from mimix_core.tables import Row, Status

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


def render_dataset_card(
    rows: Sequence[Row], settings: DatasetSettings, notes: Mapping[str, str | int | float]
) -> str:
    """Render Markdown with counts of the ok rows, and of the reasons of all other rows."""
    ok_rows = [row for row in rows if row["status"] == Status.OK]
    parts = [
        _HEAD,
        "# A MiMix dataset",
        _summary(notes, settings),
        "Only rows with `status` `ok` are meant for training. Episodes were split before "
        "composites were made; both sources of each composite are in train.",
        "## Splits",
        _table(
            ("split", "originals", "composites"),
            _count_kinds(ok_rows, lambda row: [row["split"]], Split),
        ),
        "## Styles",
        _table(
            ("split, style", "originals", "composites"),
            _count_kinds(ok_rows, lambda row: [f"{row['split']}, {row['style']}"]),
        ),
        "## Shows",
        _table(
            ("split, show", "originals", "composites"),
            _count_kinds(ok_rows, lambda row: [f"{row['split']}, {row['show']}"]),
        ),
        "## Characters",
        "Samples whose caption names the character.",
        _table(
            ("split, character", "originals", "composites"),
            _count_kinds(
                ok_rows, lambda row: [f"{row['split']}, {name}" for name in row["characters"]]
            ),
        ),
        "## Pasted characters",
        _table(
            ("character and its style, into", "originals", "composites"),
            _count_kinds(
                [row for row in ok_rows if row["kind"] == "composite"],
                lambda row: [f"{row['pasted']} ({row['pasted_style']}), {row['style']}"],
            ),
        ),
        "## Rejected rows",
        _rejected_table(rows),
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


def _count_kinds(
    rows: Iterable[Row], names_of_row: Callable[[Row], Iterable[str]], first: Iterable[str] = ()
) -> list[tuple[str, int, int]]:
    """Count originals and composites per name, sorted by name, those in ``first`` at the top."""
    counts = Counter((name, row["kind"]) for row in rows for name in names_of_row(row))
    order = [*first, *sorted({name for name, _ in counts} - set(first))]
    return [(str(name), counts[name, "original"], counts[name, "composite"]) for name in order]


def _table(head: Sequence[str], lines: Iterable[tuple[str, int, int]]) -> str:
    return "\n".join(
        [f"| {' | '.join(head)} |", "| --- | ---: | ---: |"]
        + [
            f"| {escape_markdown(name)} | {originals} | {composites} |"
            for name, originals, composites in lines
        ]
    )


def _rejected_table(rows: Iterable[Row]) -> str:
    counts = Counter((row["kind"], row["reason"]) for row in rows if row["reason"] is not None)
    if not counts:
        return "None."
    return "\n".join(
        ["| kind, reason | samples |", "| --- | ---: |"]
        + [
            f"| {escape_markdown(f'{kind}, {reason}')} | {count} |"
            for (kind, reason), count in sorted(counts.items())
        ]
    )
