"""``mimix bench card``: the mixing report card of a system's videos."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from flows.console import SettingsArgument, WorkspaceOption, console, print_line, user_errors
from mimix_core.errors import BadInput

if TYPE_CHECKING:
    from flows.cached_results import CachedResults
    from mimix_core.benchmark.report_card.card_inputs import CardInputs, Resemblances
    from mimix_core.domain.prompts import VideoPrompt
    from mimix_core.engine.artifacts import TableRef


def card(
    settings: SettingsArgument,
    out: Annotated[Path, typer.Option(help="Folder of the report card to write.")],
    system: Annotated[
        str | None,
        typer.Option(
            help="Another system as NAME=FOLDER with its videos <prompt id>.mp4, together with "
            "--prompts and --scores. Default: the videos of the settings' own run."
        ),
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="Prompt file (YAML) of the other system's videos.")
    ] = None,
    scores: Annotated[
        Path | None,
        typer.Option(help="Scores of the other system's videos, by `mimix bench characters`."),
    ] = None,
    look_alikes: Annotated[
        Path | None,
        typer.Option(
            help="Pairs by `mimix characters look-alikes --csv`: how alike two characters are "
            "is shown beside their videos."
        ),
    ] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Show what became of every pair of characters, and likely sources of it.

    Reads scores of characters and the project's dataset; runs no model. See docs/report-card.md.
    """
    with user_errors():
        from flows.cached_results import collect_cached_results
        from mimix_core.benchmark.report_card.card_inputs import read_resemblances
        from mimix_core.benchmark.report_card.card_page import write_report_card
        from mimix_core.engine import progress

        given = [option for option in (system, prompts, scores) if option is not None]
        if given and len(given) < 3:
            raise BadInput(
                "another system needs its videos, their prompts and their scores",
                where="--system, --prompts, --scores",
                fix="Give all three of them, or none for the videos of the settings' own run.",
            )
        resemblances = {} if look_alikes is None else read_resemblances(look_alikes)
        results = collect_cached_results(settings, workspace)
        if system is None or prompts is None or scores is None:
            inputs = _own_inputs(results, settings, resemblances)
        else:
            inputs = _inputs_of_system(results, settings, system, prompts, scores, resemblances)
        with console.status("Writing the report card") as status:

            def on_progress(done: int, total: int, note: str) -> None:
                status.update(f"Writing {escape(note)} ({done} of {total})")

            with progress.progress_listener(on_progress):
                written = write_report_card(inputs, out)
    videos = "1 video" if written.videos == 1 else f"{written.videos} videos"
    print_line(
        f"{videos} with several characters, {written.cells - written.empty_cells} "
        f"of {written.cells} cells with videos: {escape(str(written.page))}"
    )


def register(app: typer.Typer) -> None:
    """Add the command to ``mimix bench``."""
    app.command()(card)


def _own_inputs(results: CachedResults, settings: Path, resemblances: Resemblances) -> CardInputs:
    """Load the videos of the settings' own run and their scores."""
    from mimix_core.domain.prompts import load_prompts
    from tasks.judgements import collect_sample_videos

    config = results.run.workspace.config
    if config.character_scores.backend == "none":
        raise BadInput(
            "character_scores.backend is none, so the videos have no scores",
            where=str(settings),
            fix="Set it to efficientnet-lite0, or to dinov2 with weights, and run mimix run again.",
        )
    scores = _require(results, "character_scores", f"Run it first: mimix run {settings}")
    if config.samples.prompts is None:
        raise BadInput("no prompts", where=f"{settings}, key samples.prompts")
    roster = [character.name for character in results.run.workspace.library.characters()]
    videos = collect_sample_videos(results.run.refs["samples"][0])
    return _load(
        results,
        settings,
        videos.name,
        {prompt_id: ref.path for prompt_id, ref in videos.videos.items()},
        load_prompts(config.samples.prompts, roster),
        scores.path,
        resemblances,
    )


def _inputs_of_system(
    results: CachedResults,
    settings: Path,
    system: str,
    prompts: Path,
    scores: Path,
    resemblances: Resemblances,
) -> CardInputs:
    """Load the videos and scores of any system."""
    from mimix_core.benchmark.systems import find_videos, parse_system
    from mimix_core.domain.prompts import load_prompts

    parsed = parse_system(system)
    roster = [character.name for character in results.run.workspace.library.characters()]
    asked = load_prompts(prompts, roster)
    return _load(
        results, settings, parsed.name, find_videos(parsed, asked), asked, scores, resemblances
    )


def _load(
    results: CachedResults,
    settings: Path,
    system: str,
    videos: dict[str, Path],
    prompts: tuple[VideoPrompt, ...],
    scores: Path,
    resemblances: Resemblances,
) -> CardInputs:
    from mimix_core.benchmark.report_card.card_inputs import load_card_inputs
    from mimix_core.domain.prompts import character_origins

    fix = f"Run it first: mimix augment {settings}"
    workspace = results.run.workspace
    return load_card_inputs(
        system,
        videos,
        prompts,
        character_origins(workspace.library),
        scores,
        _require(results, "dataset", fix),
        _require(results, "composites", fix),
        workspace.store.root,
        resemblances,
    )


def _require(results: CachedResults, stage: str, fix: str) -> TableRef:
    refs = results.run.refs.get(stage)
    if not refs:
        why = f": {results.stopped_at.what}" if results.stopped_at is not None else ""
        raise BadInput(f"there is no {stage} table with these settings{why}", fix=fix)
    return refs[0]
