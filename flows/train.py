"""From the dataset to a LoRA."""

from dataclasses import dataclass

from prefect import flow

from flows.augment import Augmented, augment_stages
from flows.curate import Curated, curate_stages
from flows.session import session
from mimix_core.engine.artifacts import TableRef
from mimix_core.settings import Config
from tasks.base import Run
from tasks.dataset_approval import review
from tasks.run_summary import Summary
from tasks.training import Backbone, backbone, embeddings, latents, lora


@dataclass(frozen=True)
class Trained:
    """``latents`` and ``embeddings``: those of the episodes, the composites' last."""

    backbone: Backbone
    latents: list[TableRef]
    embeddings: list[TableRef]
    lora: TableRef


def train_stages(run: Run, curated: Curated, augmented: Augmented) -> Trained:
    review(run, augmented.dataset)
    captions = [*curated.captions, augmented.recaptions]
    model = backbone(run, captions)
    latent_tables = latents(run, [*curated.clips, augmented.composites], model)
    embedding_tables = embeddings(run, captions, model)
    adapter = lora(run, augmented.dataset, latent_tables, embedding_tables, model)
    return Trained(model, latent_tables, embedding_tables, adapter)


@flow(name="train")
def train(config: Config) -> Summary:
    """Curation and augmentation, then latents, embeddings and the LoRA."""
    with session(config, "train") as run:
        curated = curate_stages(run)
        train_stages(run, curated, augment_stages(run, curated))
        return run.summary()
