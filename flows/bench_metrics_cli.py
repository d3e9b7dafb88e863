"""``mimix bench metrics``: measure a folder of videos with any metrics, without a project."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape
from rich.table import Table

from flows.console import FAILED, console, user_errors
from mimix_core.errors import BadInput
from mimix_core.tables import Status


def metrics(
    videos: Annotated[Path, typer.Argument(help="A folder of mp4 files, or one file.")],
    metric: Annotated[
        list[str],
        typer.Option(
            help="Name of a metric, dimension/backend; may be repeated. For a metric of your own "
            "the backend is the dotted name of its module (docs/extending/metric.md)."
        ),
    ],
    weights_dir: Annotated[
        Path | None, typer.Option(help="Folder of VBench's weights, for metrics that need them.")
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="Device to run networks on.")
    ] = "auto",
) -> None:
    """Measure each video with the given metrics and print the values.

    Exits with 1 when a video could not be measured.
    """
    from mimix_core.benchmark.metrics import MetricResources, select_metrics
    from mimix_core.benchmark.scores_stage import VideoToScore, score_video
    from mimix_core.engine.torch_runtime import select_device

    with user_errors():
        paths = [videos] if videos.is_file() else sorted(videos.glob("*.mp4"))
        if not paths:
            raise BadInput("no mp4 file found", where=str(videos), fix="Name a folder of videos.")
        resources = MetricResources(weights_dir, select_device(device))
        measures = {one.name: one.build(resources) for one in select_metrics(metric)}
    table = Table("video", *measures)
    failures = []
    for path in paths:
        rows = score_video(VideoToScore(path, path.stem, "video"), measures, threads=2)
        cells = [f"{r['value']:.4g}" if r["status"] == Status.OK else r["status"] for r in rows]
        failures += [f"{path.name}: {r['detail']}" for r in rows if r["status"] != Status.OK]
        table.add_row(escape(path.stem), *cells)
    console.print(table)
    for failure in failures:
        console.print(escape(failure), style="red", highlight=False, soft_wrap=True)
    if failures:
        raise typer.Exit(FAILED)


def register(app: typer.Typer) -> None:
    """Add the command to ``mimix bench``."""
    app.command()(metrics)
