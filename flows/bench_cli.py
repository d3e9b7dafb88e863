"""``mimix bench``: scores of videos, whoever made them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape
from rich.table import Table

from flows import (
    bench_card_cli,
    bench_characters_cli,
    bench_judge_cli,
    bench_judge_retry_cli,
    bench_metrics_cli,
    bench_prompts_cli,
    bench_rate_cli,
    bench_report_cli,
)
from flows.console import console, user_errors
from mimix_core.engine import progress
from mimix_core.errors import BadInput

app = typer.Typer(name="bench", help="Score videos and compare systems.", no_args_is_help=True)


@app.command()
def vbench(
    weights_dir: Annotated[
        Path,
        typer.Option(help="Folder of VBench's weights, laid out as its cache (~/.cache/vbench)."),
    ],
    videos: Annotated[Path, typer.Option(help="A folder of mp4 files, or one file.")],
    out: Annotated[Path, typer.Option(help="Table of scores to write (Parquet).")],
    prompts: Annotated[
        Path | None,
        typer.Option(help="File with the prompt of each video: JSON, YAML, CSV or text."),
    ] = None,
    dimensions: Annotated[
        str,
        typer.Option(help="Dimensions, separated by commas. Without it: VBench's seven."),
    ] = "",
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="Device to run networks on.")
    ] = "auto",
) -> None:
    """Score videos in VBench's dimensions, with VBench's values; see docs/vbench.md.

    An interrupted run resumes when it is started again.
    """
    from mimix_core.benchmark.vbench import evaluate, video_jobs
    from mimix_core.benchmark.vbench.dimensions import select_dimensions
    from mimix_core.engine.torch_runtime import select_device

    with user_errors():
        names = [name for name in dimensions.replace(" ", "").split(",") if name]
        selected = select_dimensions(names)
        reading_prompts = [d.name for d in selected if d.reads_prompt]
        if reading_prompts and prompts is None:
            raise BadInput(
                f"{reading_prompts[0]} needs the prompt of each video",
                where="--prompts",
                fix="Pass a prompts file, or leave that dimension out of --dimensions.",
            )
        prompt_by_video = None if prompts is None else video_jobs.read_video_prompts(prompts)
        jobs = video_jobs.plan_video_jobs(videos, prompt_by_video)
        with console.status("Scoring") as status:

            def on_progress(done: int, total: int, note: str) -> None:
                status.update(f"Scoring {escape(note) or 'done'} ({done} of {total})")

            with progress.progress_listener(on_progress):
                summary = evaluate.evaluate_videos(
                    jobs,
                    selected,
                    weights_dir,
                    out,
                    select_device(device),
                    lambda line: console.print(escape(line), style="yellow", highlight=False),
                )
    table = Table("dimension", "seconds per video")
    for metric, seconds in summary.seconds.items():
        table.add_row(metric, f"{seconds / summary.videos[metric]:.2f}")
    if summary.seconds:
        console.print(table)
    console.print(
        f"{summary.scored} scored, {summary.cached} cached, {summary.failed} failed: "
        f"{escape(str(out))}",
        highlight=False,
        soft_wrap=True,
    )


bench_metrics_cli.register(app)
bench_characters_cli.register(app)
bench_card_cli.register(app)
bench_judge_cli.register(app)
bench_judge_retry_cli.register(app)
bench_prompts_cli.register(app)
bench_report_cli.register(app)
bench_rate_cli.register(app)
