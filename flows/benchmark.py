"""Flows ``generate`` and ``benchmark``: from a LoRA to videos, scores and ratings."""

from dataclasses import dataclass

from prefect import flow

from flows.augment import augment_stages
from flows.curate import CuratedTables, curate_stages
from flows.session import flow_session
from flows.train import TrainedTables, train_stages
from mimix_core.engine.artifacts import TableRef
from mimix_core.settings import Config
from tasks.base import Run
from tasks.character_scores import score_characters_of_samples
from tasks.evaluation import generate_samples, score_samples
from tasks.judgements import judge_samples
from tasks.run_summary import RunSummary
from tasks.tables_artifact import publish_paper_tables


@dataclass(frozen=True)
class BenchmarkTables:
    """Tables of the benchmark.

    ``character_scores`` and ``judgements``: None if the settings ask for none.
    """

    samples: TableRef
    scores: TableRef
    character_scores: TableRef | None
    judgements: TableRef | None


def benchmark_stages(run: Run, curated: CuratedTables, trained: TrainedTables) -> BenchmarkTables:
    """Generate samples, score and judge them, and publish the paper's tables."""
    sample_table = generate_samples(run, trained.backbone, trained.lora, trained.layout_sources)
    score_table = score_samples(run, sample_table, curated.clips)
    character_table = score_characters_of_samples(run, sample_table, trained.layout_sources)
    judgement_table = judge_samples(run, sample_table)
    publish_paper_tables(run, sample_table, score_table, judgement_table)
    return BenchmarkTables(sample_table, score_table, character_table, judgement_table)


@flow(name="generate")
def generate(config: Config) -> RunSummary:
    """Run everything up to the LoRA, then generate the videos of the prompts."""
    with flow_session(config, "generate") as run:
        curated = curate_stages(run)
        trained = train_stages(run, curated, augment_stages(run, curated))
        generate_samples(run, trained.backbone, trained.lora, trained.layout_sources)
        return run.summary()


@flow(name="benchmark")
def benchmark(config: Config) -> RunSummary:
    """Run everything up to the LoRA, then generate videos, score them and rate them."""
    with flow_session(config, "benchmark") as run:
        curated = curate_stages(run)
        trained = train_stages(run, curated, augment_stages(run, curated))
        benchmark_stages(run, curated, trained)
        return run.summary()
