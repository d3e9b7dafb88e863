"""``mimix bench``: scores of videos, whoever made them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

from flows import bench_judge_cli, bench_metrics_cli, bench_prompts_cli, bench_report_cli
from flows.console import console, user_errors
from mimix_core.engine import progress
from mimix_core.errors import BadInput

app = typer.Typer(name="bench", help="Score videos and compare systems.", no_args_is_help=True)


@app.command()
def vbench(
    weights_dir: Annotated[
        Path, typer.Option(help="VBench's weights, laid out as its cache (~/.cache/vbench).")
    ],
    videos: Annotated[Path, typer.Option(help="A folder of mp4 files, or one file.")],
    out: Annotated[Path, typer.Option(help="The table of scores, a new Parquet file.")],
    prompts: Annotated[
        Path | None,
        typer.Option(help="Which prompt each video shows: JSON, YAML, CSV or text."),
    ] = None,
    dimensions: Annotated[
        str, typer.Option(help="Separated by commas. Without it: VBench's seven.")
    ] = "",
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where.")] = "auto",
) -> None:
    """VBench's dimensions of each video, as VBench computes them; see docs/vbench.md.

    A run that was stopped goes on where it was when it is started again.
    """
    from mimix_core.benchmark.vbench import dimensions as known
    from mimix_core.benchmark.vbench import evaluate, video_jobs
    from mimix_core.engine.torch_runtime import select_device

    with user_errors():
        wanted = known.select_dimensions([name for name in dimensions.replace(" ", "").split(",") if name])
        asking = [d.name for d in wanted if d.reads_prompt]
        if asking and prompts is None:
            raise BadInput(
                f"{asking[0]} needs to know what each video should show",
                where="--prompts",
                fix="Give a file of prompts, or leave that dimension out of --dimensions.",
            )
        known_prompts = None if prompts is None else video_jobs.read_video_prompts(prompts)
        plan = video_jobs.plan_video_jobs(videos, known_prompts)
        with console.status("Scoring") as status:

            def told(done: int, total: int, note: str) -> None:
                status.update(f"Scoring {note or 'done'} ({done} of {total})")

            with progress.progress_listener(told):
                tally = evaluate.evaluate_videos(
                    plan,
                    wanted,
                    weights_dir,
                    out,
                    select_device(device),
                    lambda line: console.print(line, style="yellow", highlight=False),
                )
    table = Table("dimension", "seconds a video")
    for metric, seconds in tally.seconds.items():
        table.add_row(metric, f"{seconds / tally.videos[metric]:.2f}")
    if tally.seconds:
        console.print(table)
    console.print(
        f"{tally.scored} scored, {tally.cached} known from before, {tally.failed} failed: {out}",
        highlight=False,
        soft_wrap=True,
    )


bench_metrics_cli.register(app)
bench_judge_cli.register(app)
bench_prompts_cli.register(app)
bench_report_cli.register(app)
