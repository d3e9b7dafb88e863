"""A tiny dataset with its latents and embeddings, and training on it in this process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from mimix_core import tables
from mimix_core.engine.artifacts import TableRef, file_ref
from mimix_core.settings import LoraSettings
from mimix_core.tables import DATASET, EMBEDDINGS, LATENTS, ok
from mimix_core.training import stage
from mimix_core.training.worker_messages import (
    FinishedMessage,
    ProgressMessage,
    TrainingJob,
    TrainingSample,
)
from mimix_core.wan import safetensors_io
from mimix_core.wan.adapter_metadata import AdapterMetadata
from mimix_core.wan.tensor_shards import TensorRef
from tests.factories import table_ref

NAME = "tiny-random-wan"
CAPTION = "[Character: Bunny], smiles. [scene-style:cartoon]"
WIDE, TALL = (16, 3, 4, 6), (16, 3, 6, 4)

SETTINGS = LoraSettings(
    rank=8,
    alpha=8,
    target_modules=("to_q", "to_v", "ffn.net.2", "proj_out"),
    epochs=9,
    global_batch_size=4,
    learning_rate=1e-2,
    warmup_steps=2,
    precision="fp32",
    validation_interval=10,
    validation_quantiles=3,
    checkpoint_interval=5,
    threads=1,
)
"""With 9 samples 21 steps, the last one short."""


def write_latents(path: Path, number: int, shape: tuple[int, ...]) -> TensorRef:
    """Smooth pictures of one kind: there is something to learn."""
    numbers = torch.Generator().manual_seed(number)
    coarse = torch.randn(1, 16, 2, 2, 2, generator=numbers)
    clean = torch.nn.functional.interpolate(coarse, size=shape[1:], mode="trilinear")[0]
    safetensors_io.write_tensors(path, {"clip": clean})
    return TensorRef(file=path, key="clip", shape=shape)


def write_text(path: Path) -> TensorRef:
    text = torch.linspace(-1, 1, 5 * 32).reshape(5, 32)
    safetensors_io.write_tensors(path, {"clip": text})
    return TensorRef(file=path, key="clip", shape=(5, 32))


def write_samples(folder: Path, shapes: Sequence[tuple[int, ...]]) -> tuple[TrainingSample, ...]:
    """A sample of each shape."""
    folder.mkdir(parents=True, exist_ok=True)
    text = write_text(folder / "text")
    return tuple(
        TrainingSample(
            sample_id=f"clip{number:02d}",
            show="show",
            style="cartoon" if number % 2 else "realistic",
            characters=("Bunny",),
            latents=write_latents(folder / f"latents{number}", number, shape),
            text=text,
        )
        for number, shape in enumerate(shapes)
    )


CARD = AdapterMetadata(
    base=NAME,
    base_sha256="0" * 64,
    rank=SETTINGS.rank,
    alpha=SETTINGS.alpha,
    targets=SETTINGS.target_modules,
    characters=("Bunny",),
    styles=("cartoon",),
    dataset_sha256="0" * 64,
    settings={},
)


def stage_inputs(folder: Path, transformer: Path, backbone: str = NAME) -> stage.LoraInputs:
    """9 samples of two sizes to train on, 2 held out, 1 for tests, and 3 that lack something."""
    folder.mkdir(parents=True, exist_ok=True)
    splits = ["train"] * 9 + ["val"] * 2 + ["test"]
    names = [f"clip{n:02d}" for n in range(len(splits))]
    dataset = [_dataset_row(name, split) for name, split in zip(names, splits, strict=True)]
    dataset += [_dataset_row(name, "train") for name in ("no-latent", "no-text", "other-text")]
    latents, texts = [], []
    for number, name in enumerate([*names, "no-text", "other-text"]):
        ref = write_latents(folder / f"{name}.latents", number, TALL if number % 3 == 0 else WIDE)
        latents.append(
            ok(sample_id=name, backbone=backbone, sha256="", **_place(ref)),
        )
    text = write_text(folder / "text")
    for name in [*names, "no-latent", "other-text"]:
        caption = "another" if name == "other-text" else CAPTION
        texts.append(
            ok(
                sample_id=name,
                backbone=backbone,
                sha256="",
                caption=caption,
                variant="both",
                text=caption,
                tokens=5,
                tokens_cut=0,
                **_place(text),
            )
        )
    return stage.LoraInputs(
        unit="all",
        dataset=table_ref(folder / "dataset", DATASET, dataset),
        latents=(_beside(folder, "latents", LATENTS, latents),),
        embeddings=(_beside(folder, "texts", EMBEDDINGS, texts),),
        backbone_name=backbone,
        transformer=file_ref(transformer),
    )


def _place(ref: TensorRef) -> tables.Row:
    return {"file": ref.file.name, "key": ref.key, "shape": list(ref.shape)}


def _beside(folder: Path, name: str, table: tables.Table, rows: list[tables.Row]) -> TableRef:
    """A table in ``folder`` itself: its files lie there."""
    ref = table_ref(folder / name, table, rows)
    path = folder / f"{name}.parquet"
    ref.path.rename(path)
    return ref.model_copy(update={"path": path})


def _dataset_row(name: str, split: str) -> tables.Row:
    return ok(
        sample_id=name,
        kind="original",
        split=split,
        show="show",
        style="cartoon",
        characters=["Bunny"],
        caption=CAPTION,
        caption_backend="script",
        video="",
        sha256="",
        frames=9,
        rate_num=16,
        rate_den=1,
        width=48,
        height=32,
        episode_id="episode",
        source_episode_id="",
        pasted="",
        pasted_style="",
        rank=-1,
    )


@contextmanager
def alone() -> Iterator[None]:
    """This process as the only one of a training, as the launcher would have started it.

    The process group stays: DeepSpeed cannot make a second one in a process.
    """
    kept = {name: os.environ.get(name) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    threads = torch.get_num_threads()
    os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(threads)
        for name, value in kept.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def train_here(job: TrainingJob, stop_asked: Callable[[], bool] = lambda: False) -> list[int]:
    """Run a job in this process; gives the steps it told of."""
    from mimix_core.training import trainer

    told: list[int] = []

    def tell(message: ProgressMessage | FinishedMessage) -> None:
        if isinstance(message, ProgressMessage):
            told.append(message.done)

    job.out.mkdir(parents=True, exist_ok=True)
    with alone():
        trainer.train(job, tell, stop_asked)
    return told
