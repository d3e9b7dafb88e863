"""Flow ``augment``: from captioned clips to a training set with composites."""

from dataclasses import dataclass

from prefect import flow

from flows.curate import CuratedTables, curate_stages
from flows.session import flow_session
from mimix_core.engine.artifacts import TableRef
from mimix_core.settings import Config
from tasks.base import Run
from tasks.composites import caption_composites, make_composites
from tasks.cutouts import cut_out_characters
from tasks.dataset import assemble_dataset
from tasks.run_summary import RunSummary


@dataclass(frozen=True)
class AugmentedTables:
    """Tables of augmentation: ``cutouts`` one per episode, the others one over all episodes."""

    cutouts: list[TableRef]
    composites: TableRef
    recaptions: TableRef
    dataset: TableRef


def augment_stages(run: Run, curated: CuratedTables) -> AugmentedTables:
    """Run all stages of augmentation."""
    cutout_tables = cut_out_characters(run, curated.clips, curated.captions)
    composite_table = make_composites(run, curated.clips, curated.captions, cutout_tables)
    recaption_table = caption_composites(run, composite_table, curated.captions)
    manifest = assemble_dataset(
        run, curated.clips, curated.captions, composite_table, recaption_table
    )
    return AugmentedTables(cutout_tables, composite_table, recaption_table, manifest)


@flow(name="augment")
def augment(config: Config) -> RunSummary:
    """Run curation, then cutouts, composites and dataset."""
    with flow_session(config, "augment") as run:
        augment_stages(run, curate_stages(run))
        return run.summary()
