"""Stage ``lora``: train the adapter on the dataset's precomputed latents and embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from mimix_core import progress, tables
from mimix_core.errors import BadInput
from mimix_core.keys import Immaterial
from mimix_core.refs import FileRef, Frozen, TableRef
from mimix_core.settings import LoraSettings
from mimix_core.stage import Stage, StageReport
from mimix_core.tables import DATASET, EMBEDDINGS, LATENTS, LORA, Reason, Row, Table
from mimix_core.training.job import Job, Sample
from mimix_core.training.launch import run_job

TRAINING_LOG = "train.log"


class LoraInputs(Frozen):
    """The manifest, what was precomputed for it, and the transformer to adapt."""

    unit: Annotated[str, Immaterial()]
    dataset: TableRef
    latents: tuple[TableRef, ...]
    embeddings: tuple[TableRef, ...]
    backbone_name: str
    transformer: FileRef


def run(inputs: LoraInputs, settings: LoraSettings, out: Path) -> StageReport:
    """Train; a sample without latents or embedding fails alone, and the others are trained on.

    Raises BadInput when nothing is left to train on or the parts are of different backbones.
    """
    latents = _by_sample(inputs.latents, LATENTS, inputs.backbone_name)
    embeddings = _by_sample(inputs.embeddings, EMBEDDINGS, inputs.backbone_name)
    samples: dict[str, list[Sample]] = {"train": [], "val": [], "test": []}
    rows: list[Row] = []
    for row in tables.usable(tables.read(inputs.dataset.path, DATASET)):
        found = _sample(row, latents, embeddings)
        if isinstance(found, Sample):
            samples[row["split"]].append(found)
            seen = settings.epochs if row["split"] == "train" else 0
            rows.append(tables.ok(sample_id=row["sample_id"], split=row["split"], seen=seen))
        else:
            rows.append(found)
    if not samples["train"]:
        raise BadInput(
            f"none of {len(rows)} samples can be trained on",
            where=f"stage lora ({inputs.unit})",
            fix="See the reasons in the dataset, latents and embeddings tables.",
        )
    job = Job(
        settings=settings,
        transformer=inputs.transformer.path,
        train=tuple(samples["train"]),
        val=tuple(samples["val"]),
        out=out,
    )
    finished = run_job(job, out / TRAINING_LOG, progress.advance)
    return StageReport(rows=rows, rows_in=len(rows), notes=finished.notes)


def _by_sample(
    refs: tuple[TableRef, ...], table: Table, backbone: str
) -> dict[str, tuple[TableRef, Row]]:
    found = {}
    for ref in refs:
        for row in tables.usable(tables.read(ref.path, table)):
            if row["backbone"] != backbone:
                raise BadInput(
                    f"{row['sample_id']} was made with {row['backbone']}, not {backbone}",
                    where=str(ref.path),
                    fix="Make latents, embeddings and LoRA with the same backbone.",
                )
            found[row["sample_id"]] = (ref, row)
    return found


def _sample(
    row: Row,
    latents: dict[str, tuple[TableRef, Row]],
    embeddings: dict[str, tuple[TableRef, Row]],
) -> Sample | Row:
    """The sample of a dataset row, or the failed row that says what it lacks."""
    sample_id = row["sample_id"]
    bare: Row = {"sample_id": sample_id, "split": row["split"], "seen": 0}
    if sample_id not in latents:
        return tables.failed(Reason.NO_LATENT, "there is no latent of this sample", **bare)
    if sample_id not in embeddings:
        return tables.failed(Reason.NO_CAPTION, "there is no embedding of its caption", **bare)
    (video, latent), (text, embedding) = latents[sample_id], embeddings[sample_id]
    if embedding["caption"] != row["caption"]:
        return tables.failed(Reason.NO_CAPTION, "the embedding is of another caption", **bare)
    return Sample(
        sample_id=sample_id,
        latents=video.folder / latent["file"],
        text=text.folder / embedding["file"],
    )


STAGE = Stage(
    name="lora",
    version=1,
    inputs=LoraInputs,
    settings=LoraSettings,
    table=LORA,
    run=run,
)
