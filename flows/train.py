"""Flow ``train``: from the dataset to a LoRA."""

from dataclasses import dataclass

from prefect import flow

from flows.augment import AugmentedTables, augment_stages
from flows.curate import CuratedTables, curate_stages
from flows.session import flow_session
from mimix_core.engine.artifacts import TableRef
from mimix_core.settings import Config
from tasks.base import Run
from tasks.dataset_approval import require_approval
from tasks.evaluation import LayoutSources
from tasks.run_summary import RunSummary
from tasks.training import (
    PreparedBackbone,
    embed_captions,
    encode_latents,
    find_regions,
    prepare_backbone,
    train_lora,
)


@dataclass(frozen=True)
class TrainedTables:
    """Tables of training; ``latents`` and ``embeddings``: of episodes first, composites last.

    ``lora``: one table, or one of each expert that was trained.
    ``layout_sources``: what videos that start from cutouts are laid out with.
    """

    backbone: PreparedBackbone
    latents: list[TableRef]
    embeddings: list[TableRef]
    lora: tuple[TableRef, ...]
    layout_sources: LayoutSources


def train_stages(run: Run, curated: CuratedTables, augmented: AugmentedTables) -> TrainedTables:
    """Wait for approval if required, then run all stages of training."""
    require_approval(run, augmented.dataset)
    captions = [*curated.captions, augmented.recaptions]
    model = prepare_backbone(run)
    latents = encode_latents(run, [*curated.clips, augmented.composites], model)
    embedding_tables = embed_captions(run, captions, model)
    region_tables = find_regions(
        run, curated.clips, augmented.composites, augmented.cutouts, latents.videos
    )
    adapters = train_lora(
        run,
        augmented.dataset,
        latents.videos,
        embedding_tables,
        model,
        region_tables,
        latents.images,
    )
    sources = LayoutSources(curated.clips, augmented.cutouts, augmented.dataset)
    return TrainedTables(model, latents.videos, embedding_tables, adapters, sources)


@flow(name="train")
def train(config: Config) -> RunSummary:
    """Run curation and augmentation, then latents, embeddings and LoRA training."""
    with flow_session(config, "train") as run:
        curated = curate_stages(run)
        train_stages(run, curated, augment_stages(run, curated))
        return run.summary()
