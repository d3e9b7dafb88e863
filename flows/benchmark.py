"""From a LoRA to videos and scores."""

from dataclasses import dataclass

from prefect import flow

from flows.augment import augment_stages
from flows.curate import Curated, curate_stages
from flows.session import session
from flows.train import Trained, train_stages
from mimix_core.refs import TableRef
from mimix_core.settings import Config
from tasks.base import Run
from tasks.benchmark import samples, scores
from tasks.summary import Summary


@dataclass(frozen=True)
class Benchmarked:
    samples: TableRef
    scores: TableRef


def benchmark_stages(run: Run, curated: Curated, trained: Trained) -> Benchmarked:
    sample_table = samples(run, trained.backbone, trained.lora)
    score_table = scores(run, sample_table, curated.clips)
    return Benchmarked(sample_table, score_table)


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
    """All that a LoRA needs, then the videos of the prompts and their scores."""
    with session(config, "benchmark") as run:
        curated = curate_stages(run)
        trained = train_stages(run, curated, augment_stages(run, curated))
        benchmark_stages(run, curated, trained)
        return run.summary()
