"""``mimix captions``: what captioning will cost, checks over any table, files to edit and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import av
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows import prefect_environment
from flows.console import FAILED, Settings, Workspace, console, load_settings, user_errors
from mimix_core import tables
from mimix_core.domain.caption_grammar import Variant, parse
from mimix_core.domain.library import Style
from mimix_core.engine.artifacts import TableRef
from mimix_core.errors import BadInput
from mimix_core.media import open_container
from mimix_core.project.workspace import SourceEpisode, open_workspace
from mimix_core.stages.captions import import_export
from mimix_core.stages.captions.caption_inputs import Dialogue, dialogues
from mimix_core.stages.captions.caption_review import Review, review, row_problems, seen_in
from mimix_core.stages.captions.caption_rows import columns
from mimix_core.stages.captions.clip_context import Known
from mimix_core.stages.captions.cost_estimate import ShowCost, clips_at_most, show_cost
from mimix_core.stages.captions.overrides import read_overrides, write_overrides
from mimix_core.stages.captions.prompt_template import read_prompt
from mimix_core.tables import Row

if TYPE_CHECKING:
    from flows.curate import CuratedTables
    from tasks.cached_run import ReadOnlyRun

app = typer.Typer(
    name="captions", help="Estimate, check, export and import captions.", no_args_is_help=True
)


@app.command()
def check(
    settings: Settings,
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Tables of captions (.parquet) or exported files (.jsonl); "
            "none: those of the workspace."
        ),
    ] = None,
    workspace: Workspace = None,
) -> None:
    """Run all checks over captions, whoever wrote or edited them."""
    with user_errors():
        found = _found(settings, workspace)
        known = _known(found)
        alarm = found.workspace.config.captions.same_caption_alarm
        sources = (
            [(str(path), _rows_in(path)) for path in files]
            if files
            else [(ref.unit, tables.read(ref.path, tables.CAPTIONS)) for ref in _captions(found)]
        )
        reviews = {
            name: review(rows, known.rules, same_caption_alarm=alarm) for name, rows in sources
        }
    for name, one in reviews.items():
        _print_review(name, one)
    if any(one.problems for one in reviews.values()):
        raise typer.Exit(FAILED)


def _print_review(name: str, one: Review) -> None:
    state = f"[red]{len(one.problems)} with problems[/red]" if one.problems else "all well"
    console.print(
        f"{escape(name)}: {one.checked} captions, {state}; {one.without} clips without",
        highlight=False,
        soft_wrap=True,
    )
    for clip_id, wrong in one.problems.items():
        console.print(
            f"  {escape(clip_id)}: {escape('; '.join(wrong))}", highlight=False, soft_wrap=True
        )
    if one.alarm:
        console.print(
            f"  [yellow]warning[/yellow] {escape(one.alarm)}", highlight=False, soft_wrap=True
        )


@app.command()
def export(
    settings: Settings,
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    variant: Annotated[
        Variant, typer.Option(help="Which tags the captions have; an arm of the paper's Table 2.")
    ] = Variant.BOTH,
    format: Annotated[
        str, typer.Option(help="jsonl: one file; txt: videos with their captions beside them.")
    ] = "jsonl",
    copy: Annotated[bool, typer.Option(help="txt: copies of the videos, not links.")] = False,
    workspace: Workspace = None,
) -> None:
    """Write captions to files that can be edited, and that trainers read."""
    with user_errors():
        if format not in ("jsonl", "txt"):
            raise BadInput(f"no format {format}", fix="jsonl or txt")
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            # What is there may have been edited.
            raise BadInput("is not an empty folder", where=str(folder), fix="Name a new one")
        found = _found(settings, workspace)
        videos = _videos(found)
        lines = [
            import_export.line_of(row, videos[row["clip_id"]], variant)
            for ref in _captions(found)
            for row in tables.read(ref.path, tables.CAPTIONS)
        ]
        if format == "txt":
            written = import_export.write_sidecars(folder, lines, copy=copy)
            message = f"{written} videos with captions in {folder}"
        else:
            message = f"{len(lines)} clips in {import_export.write_jsonl(folder, lines)}"
    console.print(message, highlight=False, soft_wrap=True)


@app.command("import")
def import_(
    settings: Settings,
    source: Annotated[
        Path, typer.Argument(help="captions.jsonl, or the folder of either kind of export.")
    ],
    workspace: Workspace = None,
) -> None:
    """Take edited captions over into the file that `captions.overrides` names."""
    with user_errors():
        found = _found(settings, workspace)
        overrides = found.workspace.config.captions.overrides
        if overrides is None:
            raise BadInput(
                "there is no file to keep captions by hand in",
                where=f"{settings}, key captions.overrides",
                fix="Set it, e.g. to captions.jsonl",
            )
        edited = _edited(source, _current(found))
        _refuse_problems(edited, found)
        if edited or not overrides.is_file():
            before = read_overrides(overrides) if overrides.is_file() else {}
            write_overrides(overrides, before | edited)
    console.print(
        f"{len(edited)} captions edited; those by hand are in {overrides}",
        highlight=False,
        soft_wrap=True,
    )


def _edited(source: Path, current: dict[str, Row]) -> dict[str, str]:
    """What was edited in an exported file or folder. Raises BadInput when there is neither."""
    lines = source / import_export.JSONL if source.is_dir() else source
    sidecars = import_export.read_sidecars(source) if source.is_dir() else {}
    if lines.is_file() and sidecars:
        raise BadInput(
            f"holds both {import_export.JSONL} and .txt files",
            where=str(source),
            fix=f"Name {import_export.JSONL} itself, or take it out of the folder",
        )
    if lines.is_file():
        return import_export.edited_lines(current, import_export.read_jsonl(lines))
    if sidecars:
        return import_export.edited_sidecars(current, sidecars)
    raise BadInput("holds no exported captions", where=str(source))


def _refuse_problems(edited: dict[str, str], found: ReadOnlyRun) -> None:
    """Raises BadInput for what the captions stage would fail."""
    known = _known(found)
    wrong = []
    for clip_id, text in edited.items():
        if text:
            caption = parse(text)
            row = tables.ok(**columns(clip_id, "hand", caption, caption.style))
            wrong += [f"{clip_id}: {one}" for one in row_problems(row, known.rules(row))]
    if wrong:
        raise BadInput("\n".join(wrong), fix="Correct the captions; nothing was imported")


@app.command()
def estimate(settings: Settings, workspace: Workspace = None) -> None:
    """Clips, requests, tokens and dollars of captioning, before anything is sent."""
    with user_errors():
        found = _found(settings, workspace)
        captions = found.workspace.config.captions
        if captions.backend != "vlm":
            raise BadInput("captions.backend is script: that costs nothing", where=str(settings))
        costs = _costs(found)
    vlm = captions.vlm
    table = Table(title=f"{vlm.model} by {vlm.backend}, {vlm.mode}")
    table.add_column("show", overflow="fold")
    for name in ("clips", "input tokens", "output tokens", "dollars", "at most"):
        table.add_column(name, justify="right")
    for one in costs:
        table.add_row(
            one.show,
            f"{one.clips:,}" if one.exact else f"up to {one.clips:,}",
            f"{one.takes.input_tokens:,}",
            f"{one.takes.output_tokens:,}",
            _dollars(one.takes.cost_usd),
            _dollars(one.takes.most_usd),
        )
    table.add_section()
    table.add_row(
        "all",
        f"{sum(one.clips for one in costs):,}",
        f"{sum(one.takes.input_tokens for one in costs):,}",
        f"{sum(one.takes.output_tokens for one in costs):,}",
        _dollars(_sum(one.takes.cost_usd for one in costs)),
        _dollars(_sum(one.takes.most_usd for one in costs)),
    )
    console.print(table)
    console.print(_small_print(costs), highlight=False, soft_wrap=True)


def _sum(amounts: Iterable[Decimal | None]) -> Decimal | None:
    known = list(amounts)
    return None if None in known else sum((one for one in known if one is not None), Decimal(0))


def _dollars(amount: Decimal | None) -> str:
    return "?" if amount is None else f"{amount:,.2f}"


def _small_print(costs: Sequence[ShowCost]) -> str:
    said = (
        "One request a clip, all input at its full price. What is asked again comes on top, and so "
        "do the composites: they are captioned too."
    )
    if not all(one.exact for one in costs):
        said += " Clips that are not cut yet are bounded by the length of their episodes."
    if any(one.takes.cost_usd is None for one in costs):
        said += " No price of the model is known: set captions.vlm.price."
    return said


def _costs(found: ReadOnlyRun) -> list[ShowCost]:
    from tasks.captions import prompt_file, show_facts

    workspace = found.workspace
    config = workspace.config
    prompt = read_prompt(prompt_file(workspace).path)
    costs = []
    for show in workspace.library.shows:
        counted = [_clips_of(found, e) for e in workspace.episodes if e.show.id == show.id]
        costs.append(
            show_cost(
                show_facts(workspace.store, show),
                sum(clips for clips, _ in counted),
                exact=all(exact for _, exact in counted),
                prompt=prompt,
                settings=config.captions,
                size=(config.clips.width, config.clips.height),
            )
        )
    return costs


def _clips_of(found: ReadOnlyRun, episode: SourceEpisode) -> tuple[int, bool]:
    """How many clips an episode has, or at most can have; and which of the two it is."""
    from dataclasses import replace

    from tasks.cached_run import MissingResult, ReadOnlyRun
    from tasks.clips import clips
    from tasks.overlays import overlays
    from tasks.scenes import scenes

    one = ReadOnlyRun(replace(found.workspace, episodes=(episode,), notices=()))
    try:
        made = scenes(one)
        (table,) = clips(one, made, overlays(one, made))
    except MissingResult:
        with open_container(episode.video.path) as container:
            seconds = Fraction(container.duration or 0, av.time_base)
        return clips_at_most(seconds, found.workspace.config.clips.stride), False
    return table.counts.ok, True


def _known(found: ReadOnlyRun) -> Known:
    from tasks.cutouts import cutouts

    said: dict[str, Dialogue] = {}
    seen: dict[str, set[str]] = {}
    try:
        curated = _curated(found)
        for ref in curated.transcripts:
            said |= dialogues(ref)
        seen = seen_in(
            tables.read(ref.path, tables.CUTOUTS)
            for ref in cutouts(found, curated.clips, curated.captions)
        )
    except BadInput as missing:
        # A table to be checked may be of another workspace, and cut-outs are made later.
        note = f"Checked without what is not there: {missing.what}"
        Console(stderr=True).print(escape(note), highlight=False, soft_wrap=True)
    workspace = found.workspace
    return Known(
        {episode.id: episode for episode in workspace.episodes},
        said,
        seen,
        workspace.config.captions,
        tuple(character.name for character in workspace.library.characters()),
    )


def _rows_in(path: Path) -> list[Row]:
    """The captions in a file: a table, or an exported file."""
    if path.suffix != ".jsonl":
        return tables.read(path, tables.CAPTIONS)
    rows = []
    for line in import_export.read_jsonl(path):
        values = columns(line.clip_id, line.backend, None, Style(line.style)) | {
            "caption": line.caption,
            "actions": [action.model_dump() for action in line.actions],
            "context": line.context,
        }
        rows.append(values | {"status": line.status, "reason": line.reason, "detail": line.detail})
    return rows


def _found(settings: Path, workspace: Path | None) -> ReadOnlyRun:
    prefect_environment.configure_prefect()
    config = load_settings(settings, workspace)
    from tasks.cached_run import ReadOnlyRun

    return ReadOnlyRun(open_workspace(config))


def _curated(found: ReadOnlyRun) -> CuratedTables:
    from flows.curate import curate_stages

    return curate_stages(found)


def _captions(found: ReadOnlyRun) -> list[TableRef]:
    return list(_curated(found).captions)


def _current(found: ReadOnlyRun) -> dict[str, Row]:
    return {
        row["clip_id"]: row
        for ref in _captions(found)
        for row in tables.read(ref.path, tables.CAPTIONS)
    }


def _videos(found: ReadOnlyRun) -> dict[str, Path]:
    return {
        row["clip_id"]: (ref.folder / row["file"]).resolve()
        for ref in _curated(found).clips
        for row in tables.usable(tables.read(ref.path, tables.CLIPS))
    }
