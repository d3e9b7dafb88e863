"""Prefetched micro batches: equal to directly loaded ones, in schedule order, with errors."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from mimix_core.errors import BadInput
from mimix_core.training import data_loader, sample_schedule
from mimix_core.training.sample_schedule import BatchItem
from mimix_core.training.worker_messages import TrainingSample
from mimix_core.wan.token_routing import TokenRoute
from tests.training import factories

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingSample, ...]:
    return factories.write_samples(
        tmp_path_factory.mktemp("samples"), [factories.WIDE, factories.TALL] * 3
    )


def micros(samples: tuple[TrainingSample, ...], rank: int = 0) -> list[list[BatchItem]]:
    settings = factories.SETTINGS.model_copy(update={"epochs": 2})
    return list(data_loader.micro_batch_schedule(samples, range(3), settings, rank))


def test_prefetched_batches_equal_directly_loaded_ones(
    samples: tuple[TrainingSample, ...],
) -> None:
    coming = micros(samples)
    assert len(coming) == 12
    ahead = data_loader.PrefetchLoader(coming, factories.SETTINGS, CPU)
    for items in coming:
        taken, fresh = (
            ahead.next_batch(items),
            data_loader.load_micro_batch(items, factories.SETTINGS),
        )
        left_out = {"processed_BK", "cell_weight_BTHW", "inside_BTHW"}
        assert {name for name, tensor in vars(taken).items() if tensor is None} == left_out
        for name in vars(taken).keys() - left_out:
            tensor = getattr(taken, name)
            assert torch.equal(tensor, getattr(fresh, name)), name
            assert tensor.dtype == torch.float32
        assert taken.latents_BCTHW.shape[1:] == items[0].sample.shape
        assert taken.text_BLD.shape == (1, 512, 32)
    ahead.close()


def test_prefetched_batches_have_the_tokens_that_are_drawn_for_them(
    samples: tuple[TrainingSample, ...],
) -> None:
    coming, route = micros(samples)[:3], TokenRoute(0.5, (1, 2, 2))
    ahead = data_loader.PrefetchLoader(coming, factories.SETTINGS, CPU, route=route)
    for items in coming:
        tokens_BK = ahead.next_batch(items).processed_BK
        assert tokens_BK is not None
        drawn = [route.draw(0, i.epoch, i.occurrence, i.sample.shape) for i in items]
        assert torch.equal(tokens_BK, torch.stack(drawn))
    ahead.close()


def test_the_weights_of_a_step_sum_to_about_one(samples: tuple[TrainingSample, ...]) -> None:
    # Exactly one without a bell; the bell's mean over a batch's strata is near one.
    items = sample_schedule.plan_global_batch(samples, 0, epochs=60, batch_size=200, seed=0)
    for weighting, tolerance in (("none", 1e-6), ("gaussian", 0.02)):
        settings = factories.SETTINGS.model_copy(update={"loss_weighting": weighting})
        total = sum(
            float(data_loader.load_micro_batch([item], settings).weight_B.sum()) for item in items
        )
        assert total == pytest.approx(1, abs=tolerance)


def test_an_unreadable_sample_raises_when_it_is_requested(
    samples: tuple[TrainingSample, ...],
) -> None:
    gone = samples[0].latents.model_copy(update={"file": Path("gone")})
    missing = samples[0].model_copy(update={"latents": gone})
    coming = [[BatchItem(samples[1], 0, 1.0, 0.5)], [BatchItem(missing, 0, 1.0, 0.5)]]
    ahead = data_loader.PrefetchLoader(coming, factories.SETTINGS, CPU)
    ahead.next_batch(coming[0])
    with pytest.raises(BadInput, match="gone"):
        ahead.next_batch(coming[1])
    ahead.close()


def test_requests_outside_the_schedule_raise(
    samples: tuple[TrainingSample, ...],
) -> None:
    coming = micros(samples)[:2]
    ahead = data_loader.PrefetchLoader(coming, factories.SETTINGS, CPU)
    with pytest.raises(AssertionError, match="in another order"):
        ahead.next_batch(coming[1])
    ahead.next_batch(coming[1])
    with pytest.raises(LookupError):
        ahead.next_batch(coming[1])
    ahead.close()


def test_prefetching_is_bounded_and_can_be_closed_at_any_time(
    samples: tuple[TrainingSample, ...],
) -> None:
    begun: list[int] = []

    def coming():
        for number, items in enumerate(micros(samples)):
            begun.append(number)
            yield items

    ahead = data_loader.PrefetchLoader(coming(), factories.SETTINGS, CPU)
    deadline = time.monotonic() + 10
    while len(begun) < data_loader.PREFETCH + 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert begun == list(range(data_loader.PREFETCH + 1))
    ahead.close()
