"""From a LoRA to videos and scores."""

from dataclasses import dataclass

from prefect import flow

from flows.augment import augment_stages
from flows.curate import Curated, curate_stages
from flows.session import session
from flows.train import Trained, train_stages
from mimix_core.engine.artifacts import TableRef
from mimix_core.settings import Config
from tasks.base import Run
from tasks.evaluation import samples, scores
from tasks.judgements import judgements
from tasks.run_summary import Summary
from tasks.tables_artifact import show_tables


@dataclass(frozen=True)
class Benchmarked:
    """``judgements``: None where the settings name no model that judges."""

    samples: TableRef
    scores: TableRef
    judgements: TableRef | None


def benchmark_stages(run: Run, curated: Curated, trained: Trained) -> Benchmarked:
    sample_table = samples(run, trained.backbone, trained.lora)
    score_table = scores(run, sample_table, curated.clips)
    judgement_table = judgements(run, sample_table)
    show_tables(run, sample_table, score_table, judgement_table)
    return Benchmarked(sample_table, score_table, judgement_table)


@flow(name="generate")
def generate(config: Config) -> Summary:
    """All that a LoRA needs, then the videos of the prompts."""
    with session(config, "generate") as run:
        curated = curate_stages(run)
        trained = train_stages(run, curated, augment_stages(run, curated))
        samples(run, trained.backbone, trained.lora)
        return run.summary()


@flow(name="benchmark")
def benchmark(config: Config) -> Summary:
    """All that a LoRA needs, then the videos of the prompts, their scores and ratings."""
    with session(config, "benchmark") as run:
        curated = curate_stages(run)
        trained = train_stages(run, curated, augment_stages(run, curated))
        benchmark_stages(run, curated, trained)
        return run.summary()
