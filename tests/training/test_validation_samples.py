"""The samples of a validation: at most as many as the setting says, the shows in turn."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from mimix_core.settings import LoraSettings
from mimix_core.training.stage import select_validation_samples
from mimix_core.training.worker_messages import TrainingSample
from mimix_core.wan.tensor_shards import TensorRef


def samples(show: str, count: int) -> list[TrainingSample]:
    ref = TensorRef(file=Path(), key="", shape=(1,))
    return [
        TrainingSample(
            sample_id=f"{show}-{number}",
            show=show,
            style="cartoon",
            characters=(),
            latents=ref,
            text=ref,
        )
        for number in range(count)
    ]


def test_a_validation_is_limited_by_default_and_shows_take_turns() -> None:
    held_out = [*samples("large", 2600), *samples("small", 20)]
    limit = LoraSettings().validation_samples
    assert limit == 64
    chosen = select_validation_samples(held_out, limit, seed=0)
    assert Counter(sample.show for sample in chosen) == {"large": 44, "small": 20}
    assert chosen == [sample for sample in held_out if sample in chosen]
    smaller = select_validation_samples(held_out, 10, seed=0)
    assert {s.sample_id for s in smaller} < {s.sample_id for s in chosen}
    assert Counter(sample.show for sample in smaller) == {"large": 5, "small": 5}
    assert select_validation_samples(held_out, 10, seed=1) != smaller


def test_few_samples_and_no_limit_select_all() -> None:
    held_out = samples("show", 12)
    assert select_validation_samples(held_out, 12, seed=0) == held_out
    assert select_validation_samples(held_out, None, seed=0) == held_out
