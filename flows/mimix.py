"""Flow ``mimix``: the complete pipeline, from episodes to scores and a report."""

from pathlib import Path

from prefect import flow

from flows.augment import augment_stages
from flows.benchmark import benchmark_stages
from flows.curate import curate_stages
from flows.session import flow_session
from flows.train import train_stages
from mimix_core.settings import Config
from tasks.base import Run
from tasks.report import write_report
from tasks.run_summary import RunSummary


def mimix_stages(run: Run) -> Path:
    """Run every stage in order and return the path of the report."""
    curated = curate_stages(run)
    augmented = augment_stages(run, curated)
    trained = train_stages(run, curated, augmented)
    benchmarked = benchmark_stages(run, curated, trained)
    return write_report(
        run,
        scenes=curated.scenes,
        overlays=curated.overlays,
        clips=curated.clips,
        transcripts=curated.transcripts,
        captions=curated.captions,
        cutouts=augmented.cutouts,
        composites=augmented.composites,
        recaptions=augmented.recaptions,
        dataset=augmented.dataset,
        backbone=trained.backbone.table,
        latents=trained.latents,
        embeddings=trained.embeddings,
        lora=trained.lora[0],
        other_lora=trained.lora[1:],
        samples=benchmarked.samples,
        scores=benchmarked.scores,
    )


@flow(name="mimix")
def mimix(config: Config) -> RunSummary:
    """Run the complete pipeline: curate, augment, train, benchmark, report."""
    with flow_session(config, "mimix") as run:
        mimix_stages(run)
        return run.summary()
