"""Read captions of composites for ``mimix captions``, and check those that a person edited."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mimix_core import tables
from mimix_core.domain.caption_grammar import parse_caption, render_caption, resolve_aliases
from mimix_core.domain.character_names import alias_map
from mimix_core.stages.captions.caption_validation import find_caption_problems
from mimix_core.stages.captions.recaption import composite_rules
from mimix_core.stages.captions.token_count import load_token_counter
from mimix_core.tables import CaptionRow, CompositeRow

if TYPE_CHECKING:
    from tasks.cached_run import ReadOnlyRun


@dataclass(frozen=True)
class CompositeCaptions:
    """Composites with their captions and the paths of their videos, by composite id."""

    captions: Mapping[str, CaptionRow]
    composites: Mapping[str, CompositeRow]
    videos: Mapping[str, Path]


def load_composite_captions(run: ReadOnlyRun) -> CompositeCaptions:
    """Load the captions of composites; empty when there are none.

    After an import, and before a run with it, these are the ones of the results before.
    """
    from flows.augment import augment_stages
    from flows.curate import curate_stages
    from tasks.cached_run import MissingResult

    try:
        made = augment_stages(run, curate_stages(run))
        composite_paths, caption_paths = [made.composites.path], [made.recaptions.path]
    except MissingResult:
        composite_paths = _stored_tables(run, "composites")
        caption_paths = _stored_tables(run, "recaptions")
    captions: dict[str, CaptionRow] = {}
    composites: dict[str, CompositeRow] = {}
    videos: dict[str, Path] = {}
    for path in composite_paths:
        for row in tables.usable(tables.read(path, tables.COMPOSITES)):
            composites[row["composite_id"]] = row
            videos[row["composite_id"]] = path.parent / row["file"]
    for path in caption_paths:
        for caption in tables.read(path, tables.CAPTIONS):
            if caption["clip_id"] in composites:
                captions[caption["clip_id"]] = caption
    return CompositeCaptions(captions, composites, videos)


def _stored_tables(run: ReadOnlyRun, stage: str) -> list[Path]:
    """Return the tables of all results of a stage, the newest last."""
    found = (run.workspace.store.root / stage).glob("*/table.parquet")
    return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path))


def resolve_composite_aliases(
    edited: Mapping[str, str], known: CompositeCaptions, run: ReadOnlyRun
) -> dict[str, str]:
    """Write the characters' names in place of aliases in the tags of edited captions."""
    return {
        name: render_caption(
            resolve_aliases(parse_caption(text), _names(known.composites[name], run))
        )
        if text
        else ""
        for name, text in edited.items()
    }


def _names(composite: CompositeRow, run: ReadOnlyRun) -> dict[str, str]:
    shows = {show.id: show for show in run.workspace.library.shows}
    show, character = shows[composite["show"]], composite["character"]
    return {**alias_map(show.roster(), show.aliases()), character.casefold(): character}


def find_composite_problems(
    edited: Mapping[str, str], known: CompositeCaptions, run: ReadOnlyRun
) -> Iterator[str]:
    """List the problems of edited captions that the stage would fail."""
    from tasks.captions import tokenizer_file

    settings = run.workspace.config.captions
    tokenizer = tokenizer_file(run.workspace)
    count_tokens = load_token_counter(tokenizer.path) if tokenizer is not None else None
    for name, text in edited.items():
        if text:
            composite = known.composites[name]
            roster = tuple(dict.fromkeys(_names(composite, run).values()))
            rules = composite_rules(composite, roster, settings, count_tokens)
            problems = find_caption_problems(parse_caption(text), rules)
            yield from (f"{name}: {problem}" for problem in problems)
