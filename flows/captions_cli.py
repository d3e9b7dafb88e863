"""``mimix captions``: estimate costs, check, export and import captions, and ask again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import av
import typer
from rich.markup import escape
from rich.table import Table

from flows.caption_check_output import print_caption_review
from flows.caption_edits import find_edited, replace_aliases
from flows.caption_results import (
    caption_rows,
    caption_tables,
    clip_videos,
    curated_tables,
    open_caption_run,
    require_overrides_file,
    rows_before_import,
)
from flows.composite_captions import (
    find_composite_problems,
    load_composite_captions,
    resolve_composite_aliases,
)
from flows.console import (
    FAILED,
    SettingsArgument,
    WorkspaceOption,
    console,
    user_errors,
)
from flows.new_files import write_new_folder
from mimix_core import tables
from mimix_core.domain.caption_grammar import CaptionVariant, parse_caption
from mimix_core.engine.artifacts import TableRef
from mimix_core.engine.folder_export import check_not_mounted
from mimix_core.errors import BadInput
from mimix_core.media import open_container
from mimix_core.project.workspace import SourceEpisode
from mimix_core.stages.captions import import_export
from mimix_core.stages.captions.caption_inputs import load_dialogues
from mimix_core.stages.captions.caption_review import (
    find_row_problems,
    located_characters,
    review_captions,
)
from mimix_core.stages.captions.caption_rows import edited_caption_row
from mimix_core.stages.captions.clip_context import ClipContext, EpisodeTables
from mimix_core.stages.captions.cost_estimate import (
    ShowCostEstimate,
    estimate_show_cost,
    max_clip_count,
)
from mimix_core.stages.captions.overrides import read_overrides, write_overrides
from mimix_core.stages.captions.prompt_template import load_prompt_template
from mimix_core.tables import CaptionRow
from tasks.safe_console import SafeConsole

if TYPE_CHECKING:
    from tasks.cached_run import ReadOnlyRun

app = typer.Typer(
    name="captions",
    help="Estimate, check, export, import, veto and retry captions.",
    no_args_is_help=True,
)


@app.command()
def check(
    settings: SettingsArgument,
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Caption tables (.parquet) or exported files (.jsonl). "
            "Default: the workspace's tables."
        ),
    ] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Run all checks on captions, from any captioner or edited by hand."""
    with user_errors():
        run = open_caption_run(settings, workspace)
        context = _load_clip_context(run)
        config = run.workspace.config.captions
        # One table of the workspace at a time: a library may have millions of captions.
        sources: Iterable[tuple[str, list[CaptionRow]]] = (
            [(str(path), _read_rows(path)) for path in files]
            if files
            else ((ref.unit, tables.read(ref.path, tables.CAPTIONS)) for ref in caption_tables(run))
        )
        checked = problems = 0
        for name, rows in sources:
            review = review_captions(
                rows,
                context.rules,
                identical_caption_warning_count=config.identical_caption_warning_count,
            )
            print_caption_review(name, review, rows)
            checked += review.checked
            problems += len(review.problems)
    if not checked:
        _print("[red]There is no caption to check[/red]: nothing can be trained on these clips.")
    if not checked or problems:
        raise typer.Exit(FAILED)


def _print(text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True)


@app.command()
def export(
    settings: SettingsArgument,
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    variant: Annotated[
        CaptionVariant,
        typer.Option(help="The tags in the captions: an arm of the paper's Table 2."),
    ] = CaptionVariant.BOTH,
    format: Annotated[
        str,
        typer.Option(help="jsonl: one file. txt: videos, each with a text file of its caption."),
    ] = "jsonl",
    copy: Annotated[
        bool, typer.Option(help="With txt: copy the videos instead of linking them.")
    ] = False,
    composites: Annotated[
        bool, typer.Option("--composites", help="Captions of composites instead of clips.")
    ] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Export captions to files for editing or for trainers."""
    with user_errors():
        if format not in ("jsonl", "txt"):
            raise BadInput(f"unknown format {format}", fix="Use jsonl or txt")
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            # Existing files may have been edited.
            raise BadInput("not an empty folder", where=str(folder), fix="Name a new one")
        check_not_mounted(folder)
        run = open_caption_run(settings, workspace)
        if composites:
            known = load_composite_captions(run)
            if not known.captions:
                raise BadInput("there are no captions of composites", fix="Run mimix augment first")
            rows, videos = known.captions, known.videos
        else:
            rows, videos = caption_rows(run), clip_videos(run)
        captions = [
            import_export.export_row(row, videos[clip_id], variant) for clip_id, row in rows.items()
        ]
        if format == "txt":
            count = write_new_folder(
                folder.resolve(),
                lambda part: import_export.write_caption_sidecars(part, captions, copy=copy),
            )
            message = f"{count} videos with captions in {folder}"
        else:
            path = import_export.write_captions_jsonl(folder, captions)
            message = f"{len(captions)} {'composites' if composites else 'clips'} in {path}"
    _print(message)


@app.command("import")
def import_(
    settings: SettingsArgument,
    source: Annotated[
        Path, typer.Argument(help="captions.jsonl, or the folder of an export in either format.")
    ],
    workspace: WorkspaceOption = None,
) -> None:
    """Import edited captions into the file that `captions.overrides` names."""
    with user_errors():
        if not source.exists():
            raise BadInput(
                "no such file or folder",
                where=str(source),
                fix=f"Give {import_export.JSONL_NAME}, or the folder of an export.",
            )
        run = open_caption_run(settings, workspace)
        overrides = require_overrides_file(run, settings)
        known = load_composite_captions(run)
        found = find_edited(source, {**rows_before_import(run), **known.captions})
        pasted = {name: text for name, text in found.items() if name in known.captions}
        pasted = resolve_composite_aliases(pasted, known, run)
        clips = {name: text for name, text in found.items() if name not in pasted}
        clips = replace_aliases(clips, run.workspace.episodes)
        _reject_problems(clips, run, find_composite_problems(pasted, known, run))
        edited = clips | pasted
        if edited or not overrides.is_file():
            existing = read_overrides(overrides) if overrides.is_file() else {}
            write_overrides(overrides, existing | edited)
    _print(f"{len(edited)} captions edited; all captions written by hand are in {overrides}")


def _reject_problems(
    edited: Mapping[str, str], run: ReadOnlyRun, others: Iterable[str] = ()
) -> None:
    """Raise BadInput for captions that the captions stage would fail, and for ``others``."""
    context = _load_clip_context(run)
    problems = list(others)
    for clip_id, text in edited.items():
        if text:
            caption = parse_caption(text)
            row = edited_caption_row(
                clip_id, "hand", text, caption.actions, caption.context, caption.style.value
            )
            row_problems = find_row_problems(row, context.rules(row))
            problems += [f"{clip_id}: {problem}" for problem in row_problems]
    if problems:
        raise BadInput("\n".join(problems), fix="Correct the captions; nothing was imported")


@app.command()
def estimate(settings: SettingsArgument, workspace: WorkspaceOption = None) -> None:
    """Estimate clips, tokens and dollars of captioning, before anything is sent."""
    with user_errors():
        run = open_caption_run(settings, workspace)
        captions = run.workspace.config.captions
        if captions.backend != "vlm":
            raise BadInput("captions.backend is script: that costs nothing", where=str(settings))
        costs = _estimate_costs(run)
    vlm = captions.vlm
    table = Table(title=f"{vlm.model} by {vlm.backend}, {vlm.mode}")
    table.add_column("show", overflow="fold")
    for name in ("clips", "input tokens", "output tokens", "dollars", "at most"):
        table.add_column(name, justify="right")
    for cost in costs:
        table.add_row(
            cost.show,
            f"{cost.clips:,}" if cost.exact_clip_count else f"up to {cost.clips:,}",
            f"{cost.estimate.input_tokens:,}",
            f"{cost.estimate.output_tokens:,}",
            _format_dollars(cost.estimate.cost_usd),
            _format_dollars(cost.estimate.max_usd),
        )
    table.add_section()
    table.add_row(
        "all",
        f"{sum(cost.clips for cost in costs):,}",
        f"{sum(cost.estimate.input_tokens for cost in costs):,}",
        f"{sum(cost.estimate.output_tokens for cost in costs):,}",
        _format_dollars(_sum_known(cost.estimate.cost_usd for cost in costs)),
        _format_dollars(_sum_known(cost.estimate.max_usd for cost in costs)),
    )
    console.print(table)
    _print(_estimate_notes(costs))


def _sum_known(amounts: Iterable[Decimal | None]) -> Decimal | None:
    """Return the sum, or None if any amount is unknown."""
    total = Decimal(0)
    for amount in amounts:
        if amount is None:
            return None
        total += amount
    return total


def _format_dollars(amount: Decimal | None) -> str:
    return "?" if amount is None else f"{amount:,.2f}"


def _estimate_notes(costs: Sequence[ShowCostEstimate]) -> str:
    notes = (
        "One request per clip, all input at its full price. Requests for corrections are extra, "
        "and so are composites, which are captioned too."
    )
    if not all(cost.exact_clip_count for cost in costs):
        notes += " For clips that are not cut yet, the episodes' durations give an upper bound."
    if any(cost.estimate.cost_usd is None for cost in costs):
        notes += " The model's price is unknown: set captions.vlm.price."
    return notes


def _estimate_costs(run: ReadOnlyRun) -> list[ShowCostEstimate]:
    from tasks.captions import build_show_profile, find_prompt_file

    workspace = run.workspace
    config = workspace.config
    template = load_prompt_template(find_prompt_file(workspace).path)
    costs = []
    for show in map(workspace.library.with_guests, workspace.library.shows):
        counts = [_clip_count(run, e) for e in workspace.episodes if e.show.id == show.id]
        costs.append(
            estimate_show_cost(
                build_show_profile(workspace.store, show),
                sum(clips for clips, _ in counts),
                exact_clip_count=all(exact for _, exact in counts),
                template=template,
                settings=config.captions,
                clip_settings=config.clips,
            )
        )
    return costs


def _clip_count(run: ReadOnlyRun, episode: SourceEpisode) -> tuple[int, bool]:
    """Return the number of an episode's clips and True, or an upper bound and False."""
    from dataclasses import replace

    from tasks.cached_run import MissingResult, ReadOnlyRun
    from tasks.clips import cut_clips
    from tasks.overlays import detect_overlays
    from tasks.scenes import detect_scenes

    episode_run = ReadOnlyRun(replace(run.workspace, episodes=(episode,), notices=()))
    try:
        scenes = detect_scenes(episode_run)
        (table,) = cut_clips(episode_run, scenes, detect_overlays(episode_run, scenes))
    except MissingResult:
        with open_container(episode.video.path) as container:
            seconds = Fraction(container.duration or 0, av.time_base)
        clips = run.workspace.config.clips
        return max_clip_count(seconds, clips), False
    return table.counts.ok, True


def _load_clip_context(run: ReadOnlyRun) -> ClipContext:
    """Load what is known about the workspace's clips; print a note about missing tables."""
    from tasks.cutouts import cut_out_characters

    workspace = run.workspace
    ids = {episode.name: episode.id for episode in workspace.episodes}
    transcripts: dict[str, TableRef] = {}
    cutouts: dict[str, TableRef] = {}
    try:
        curated = curated_tables(run)
        transcripts = {ids[ref.unit]: ref for ref in curated.transcripts}
        cutouts = {
            ids[ref.unit]: ref for ref in cut_out_characters(run, curated.clips, curated.captions)
        }
    except BadInput as missing:
        # The tables to check may be of another workspace, and cutouts are made later.
        note = f"Checked without missing tables: {missing.what}"
        SafeConsole(stderr=True).print(escape(note), highlight=False, soft_wrap=True)
    return ClipContext(
        {episode.id: episode for episode in workspace.episodes},
        EpisodeTables(transcripts, load_dialogues),
        EpisodeTables(cutouts, _load_located_characters),
        workspace.config.captions,
        tuple(character.name for character in workspace.library.characters()),
    )


def _load_located_characters(ref: TableRef) -> dict[str, set[str]]:
    return located_characters([tables.read(ref.path, tables.CUTOUTS)])


def _read_rows(path: Path) -> list[CaptionRow]:
    """Read the captions in a table or in an exported file."""
    if path.suffix != ".jsonl":
        return tables.read(path, tables.CAPTIONS)
    return [
        edited_caption_row(
            caption.clip_id,
            caption.backend,
            caption.caption,
            caption.actions,
            caption.context,
            caption.style,
            status=caption.status,
            reason=caption.reason,
            detail=caption.detail,
        )
        for caption in import_export.read_captions_jsonl(path)
    ]
