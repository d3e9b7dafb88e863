"""Feed scenes to training: drawn and tokenized in other processes, rendered on the device."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from miniature import captions, judge, scenes
from miniature.scenes import SceneTensors
from miniature.text_encoder import MiniatureTokenizer, build_vocabulary

Kind = Literal["generic", "judged"]
TOKENS = 72
"""The longest caption; a test checks that none is longer."""
_DESCRIBED = 0.85


@dataclass(frozen=True)
class SceneBatch:
    """Scenes with their captions' ids_BL (padded with 0) and each figure's index of its name."""

    tensors: SceneTensors
    ids_BL: torch.Tensor
    name_BF: torch.Tensor

    def pin_memory(self) -> SceneBatch:
        pinned = SceneTensors(**{k: v.pin_memory() for k, v in vars(self.tensors).items()})
        return SceneBatch(pinned, self.ids_BL.pin_memory(), self.name_BF.pin_memory())


class _Scenes(IterableDataset[SceneBatch]):
    def __init__(self, kind: Kind, batch: int, seed: str) -> None:
        self.kind, self.batch, self.seed = kind, batch, seed

    def __iter__(self) -> Iterator[SceneBatch]:
        info = get_worker_info()
        if info is not None:
            torch.set_num_threads(1)
        rng = random.Random(f"{self.seed} {self.kind} {info.id if info else 0}")
        tokenizer = MiniatureTokenizer(build_vocabulary())
        while True:
            yield draw_batch(rng, tokenizer, self.kind, self.batch)


def draw_batch(
    rng: random.Random, tokenizer: MiniatureTokenizer, kind: Kind, count: int
) -> SceneBatch:
    """Draw a batch of scenes for the base (``generic``) or for the judge (``judged``)."""
    draw = scenes.draw_generic_scene if kind == "generic" else judge.draw_judged_scene
    drawn = [draw(rng) for _ in range(count)]
    texts = [
        captions.caption(scene, [rng.random() < _DESCRIBED for _ in scene.cast]) for scene in drawn
    ]
    ids = torch.zeros(count, TOKENS, dtype=torch.long)
    for row, tokens in enumerate(tokenizer(texts).input_ids):
        ids[row, : len(tokens)] = torch.tensor(tokens)
    names = torch.zeros(count, scenes.FIGURES, dtype=torch.long)
    for row, scene in enumerate(drawn):
        for place, figure in enumerate(scene.cast):
            names[row, place] = judge.name_index(figure)
    return SceneBatch(scenes.to_tensors(drawn), ids, names)


def stream(kind: Kind, batch: int, seed: str, workers: int) -> Iterator[SceneBatch]:
    """Yield batches without end; ``workers`` processes draw them (0: this process)."""
    loader = DataLoader(
        _Scenes(kind, batch, seed),
        batch_size=None,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        prefetch_factor=4 if workers else None,
    )
    return iter(loader)
