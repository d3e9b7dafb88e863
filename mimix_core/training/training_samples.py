"""Join the dataset's rows with their precomputed tensors as the samples of a training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from mimix_core import tables
from mimix_core.engine.artifacts import TableRef
from mimix_core.errors import BadInput
from mimix_core.tables import (
    DatasetRow,
    EmbeddingRow,
    LatentRow,
    Reason,
    RegionRow,
    Row,
    Table,
)
from mimix_core.training.worker_messages import TrainingSample
from mimix_core.wan.tensor_shards import tensor_ref

TensorRow = TypeVar("TensorRow", LatentRow, EmbeddingRow, RegionRow)


def rows_by_sample(
    refs: tuple[TableRef, ...], table: Table[TensorRow], backbone: str
) -> dict[str, tuple[TableRef, TensorRow]]:
    """Read the usable rows of several tables by sample, each with its table.

    Raises BadInput for tensors that were made with another backbone.
    """
    rows = {}
    for ref in refs:
        for row in tables.usable(tables.read(ref.path, table)):
            if row["backbone"] != backbone:
                raise BadInput(
                    f"{row['sample_id']} was made with {row['backbone']}, not {backbone}",
                    where=str(ref.path),
                    fix="Use the same backbone for latents, embeddings and LoRA.",
                )
            rows[row["sample_id"]] = (ref, row)
    return rows


def build_sample(
    row: DatasetRow,
    latents: dict[str, tuple[TableRef, LatentRow]],
    embeddings: dict[str, tuple[TableRef, EmbeddingRow]],
    regions: dict[str, tuple[TableRef, RegionRow]],
) -> TrainingSample | Row:
    """Return the sample of a dataset row, or a failed row if latents or embedding are missing."""
    sample_id = row["sample_id"]
    unused: Row = {"sample_id": sample_id, "split": row["split"], "seen": 0}
    if sample_id not in latents:
        return tables.failed(Reason.NO_LATENT, "there is no latent of this sample", **unused)
    if sample_id not in embeddings:
        return tables.failed(Reason.NO_CAPTION, "there is no embedding of its caption", **unused)
    latent_table, latent = latents[sample_id]
    embedding_table, embedding = embeddings[sample_id]
    if embedding["caption"] != row["caption"]:
        return tables.failed(Reason.NO_CAPTION, "the embedding is of another caption", **unused)
    return TrainingSample(
        sample_id=sample_id,
        show=row["show"],
        style=row["style"],
        characters=tuple(row["characters"]),
        latents=tensor_ref(latent_table, latent),
        text=tensor_ref(embedding_table, embedding),
        regions=tensor_ref(*regions[sample_id]) if sample_id in regions else None,
        composite=row["kind"] == "composite",
    )


def find_images(
    videos: Sequence[TrainingSample], latents: dict[str, tuple[TableRef, LatentRow]], where: str
) -> list[TrainingSample]:
    """Return the images to mix in: the middle frame of each video that has a latent of it.

    ``latents``: of the frames, by video. An image has the embedding of its video. Raises BadInput
    when there is none.
    """
    images = [
        video.model_copy(
            update={
                "sample_id": f"{video.sample_id}/image",
                "latents": tensor_ref(*latents[video.sample_id]),
                "regions": None,
                "image": True,
            }
        )
        for video in videos
        if video.sample_id in latents
    ]
    if not images:
        raise BadInput(
            "images shall be mixed in, but none has a latent",
            where=where,
            fix="Set lora.image_ratio to 0, or check the reasons in the tables of latents.",
        )
    return images
