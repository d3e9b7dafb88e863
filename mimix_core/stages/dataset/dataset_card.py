"""The dataset's card: what is in it, by show, character, style and split, in Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from mimix_core.domain.splits import Split
from mimix_core.settings import DatasetSettings
from mimix_core.tables import Row, Status

CARD = "README.md"
"""Named so that tools which open the folder as a data set find it, and the manifest through it."""

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
    "show, style": "of the picture: a composite's are its background's",
    "characters": "whom the caption names, in its order",
    "caption": "what a trainer reads; ends with the style's tag",
    "caption_backend": "who wrote it; `script-composed`: put together from two scripts' captions",
    "video": "path below the store's root",
    "sha256": "of the video file",
    "frames, rate_num, rate_den, width, height": "of the video",
    "episode_id": "of the picture: a composite's is its background's",
    "source_episode_id": "of a composite's cut-out; else empty",
    "pasted, pasted_style": "the character pasted in, and the style it is of; else empty",
    "rank": "a composite's place in its plan; the first n are the plan for n. Else -1",
    "status, reason, detail": "ok, or why a trainer must leave the row out",
}


def card(
    rows: Sequence[Row], settings: DatasetSettings, notes: Mapping[str, str | int | float]
) -> str:
    """Markdown with the counts of all rows whose status is ok, and of the reasons of the others."""
    good = [row for row in rows if row["status"] == Status.OK]
    parts = [
        _HEAD,
        "# A MiMix dataset",
        _lead(notes, settings),
        "Only rows whose `status` is `ok` are meant for training. All episodes were split before "
        "composites were made; both sources of each are in train.",
        "## Splits",
        _table(("split", "originals", "composites"), _by(good, lambda row: [row["split"]], Split)),
        "## Styles",
        _table(
            ("split, style", "originals", "composites"),
            _by(good, lambda row: [f"{row['split']}, {row['style']}"]),
        ),
        "## Shows",
        _table(
            ("split, show", "originals", "composites"),
            _by(good, lambda row: [f"{row['split']}, {row['show']}"]),
        ),
        "## Characters",
        "Samples whose caption names the character.",
        _table(
            ("split, character", "originals", "composites"),
            _by(good, lambda row: [f"{row['split']}, {name}" for name in row["characters"]]),
        ),
        "## Pasted characters",
        _table(
            ("character and its style, into", "originals", "composites"),
            _by(
                [row for row in good if row["kind"] == "composite"],
                lambda row: [f"{row['pasted']} ({row['pasted_style']}), {row['style']}"],
            ),
        ),
        "## Left out",
        _left_out(rows),
        "## Columns",
        "\n".join(
            ["| column | meaning |", "| --- | --- |"]
            + [f"| {name} | {meaning} |" for name, meaning in _COLUMNS.items()]
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _lead(notes: Mapping[str, str | int | float], settings: DatasetSettings) -> str:
    composites, train = notes["composites"], notes["train"]
    told = (
        f"{train} samples to train on, {composites} of them composites "
        f"(a share of {notes['composite_share']:.4f})."
    )
    if settings.ratio is None:
        return told
    wanted = notes["composites_wanted"]
    told += f" A share of {settings.ratio} was asked for: {wanted} composites."
    if composites != wanted:
        told += " There are not enough composites with a caption for it."
    return told


def _by(
    rows: Iterable[Row], names: Callable[[Row], Iterable[str]], first: Iterable[str] = ()
) -> list[tuple[str, int, int]]:
    """Name, originals and composites, sorted by name, those in ``first`` at the top."""
    counts = Counter((name, row["kind"]) for row in rows for name in names(row))
    order = [*first, *sorted({name for name, _ in counts} - set(first))]
    return [(str(name), counts[name, "original"], counts[name, "composite"]) for name in order]


def _table(head: Sequence[str], lines: Iterable[tuple[str, int, int]]) -> str:
    return "\n".join(
        [f"| {' | '.join(head)} |", "| --- | ---: | ---: |"]
        + [f"| {name} | {originals} | {composites} |" for name, originals, composites in lines]
    )


def _left_out(rows: Iterable[Row]) -> str:
    counts = Counter((row["kind"], row["reason"]) for row in rows if row["reason"] is not None)
    if not counts:
        return "Nothing."
    return "\n".join(
        ["| kind, reason | samples |", "| --- | ---: |"]
        + [f"| {kind}, {reason} | {count} |" for (kind, reason), count in sorted(counts.items())]
    )
