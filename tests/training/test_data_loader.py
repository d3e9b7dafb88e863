"""Micro batches made ahead: the same as made on the spot, in their order, or the reason why not."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from mimix_core.errors import BadInput
from mimix_core.training import data_loader, sample_schedule
from mimix_core.training.sample_schedule import Slot
from mimix_core.training.worker_messages import Sample
from tests.training import made

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sample, ...]:
    return made.write_samples(tmp_path_factory.mktemp("samples"), [made.WIDE, made.TALL] * 3)


def micros(samples: tuple[Sample, ...], rank: int = 0) -> list[list[Slot]]:
    settings = made.SETTINGS.model_copy(update={"epochs": 2})
    return list(data_loader.announced(samples, range(3), settings, rank))


def test_what_is_made_ahead_is_what_is_made_on_the_spot(samples: tuple[Sample, ...]) -> None:
    coming = micros(samples)
    assert len(coming) == 12
    ahead = data_loader.Loader(coming, made.SETTINGS, CPU)
    for slots in coming:
        taken, fresh = ahead.take(slots), data_loader.make(slots, made.SETTINGS)
        for name, tensor in vars(taken).items():
            assert torch.equal(tensor, getattr(fresh, name)), name
            assert tensor.dtype == torch.float32
        assert taken.latents_BCTHW.shape[1:] == slots[0].sample.shape
        assert taken.text_BLD.shape == (1, 512, 32)
    ahead.close()


def test_the_weights_of_a_step_add_up_to_about_one(samples: tuple[Sample, ...]) -> None:
    # Exactly one without a bell; the bell's mean over a batch's strata is near one.
    slots = sample_schedule.global_batch(samples, 0, epochs=60, batch=200, seed=0)
    for weighting, tolerance in (("none", 1e-6), ("bell", 0.02)):
        settings = made.SETTINGS.model_copy(update={"weighting": weighting})
        total = sum(float(data_loader.make([slot], settings).weight_B.sum()) for slot in slots)
        assert total == pytest.approx(1, abs=tolerance)


def test_a_sample_that_cannot_be_read_is_told_when_its_turn_comes(
    samples: tuple[Sample, ...],
) -> None:
    gone = samples[0].latents.model_copy(update={"file": Path("gone")})
    missing = samples[0].model_copy(update={"latents": gone})
    coming = [[Slot(samples[1], 0, 1.0, 0.5)], [Slot(missing, 0, 1.0, 0.5)]]
    ahead = data_loader.Loader(coming, made.SETTINGS, CPU)
    ahead.take(coming[0])
    with pytest.raises(BadInput, match="gone"):
        ahead.take(coming[1])
    ahead.close()


def test_another_order_than_announced_is_a_bug_and_one_too_many_too(
    samples: tuple[Sample, ...],
) -> None:
    coming = micros(samples)[:2]
    ahead = data_loader.Loader(coming, made.SETTINGS, CPU)
    with pytest.raises(AssertionError, match="in another order"):
        ahead.take(coming[1])
    ahead.take(coming[1])
    with pytest.raises(LookupError):
        ahead.take(coming[1])
    ahead.close()


def test_it_makes_only_so_many_ahead_and_can_be_closed_at_any_time(
    samples: tuple[Sample, ...],
) -> None:
    begun: list[int] = []

    def coming():
        for number, slots in enumerate(micros(samples)):
            begun.append(number)
            yield slots

    ahead = data_loader.Loader(coming(), made.SETTINGS, CPU)
    deadline = time.monotonic() + 10
    while len(begun) < data_loader.AHEAD + 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert begun == list(range(data_loader.AHEAD + 1))
    ahead.close()
