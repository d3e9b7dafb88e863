"""Micro batches read from disk while the previous ones are computed on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

from mimix_core.settings import LoraSettings
from mimix_core.training import sample_schedule
from mimix_core.training.sample_schedule import BatchItem
from mimix_core.training.worker_messages import TrainingSample
from mimix_core.wan import flow_matching

PREFETCH = 2
"""Micro batches that wait, made, to be computed on."""

_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class MicroBatch:
    """What one forward pass needs, fp32; ``weight_B`` is each sample's share of the step's loss."""

    latents_BCTHW: torch.Tensor
    text_BLD: torch.Tensor
    noise_BCTHW: torch.Tensor
    sigma_B: torch.Tensor
    weight_B: torch.Tensor

    def to(self, device: torch.device) -> MicroBatch:
        """On ``device``; from pinned memory without waiting for it."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> MicroBatch:
        """In memory that a GPU reads by itself."""
        return self._map(torch.Tensor.pin_memory)

    def _map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> MicroBatch:
        return MicroBatch(*(change(tensor) for tensor in vars(self).values()))


def noise_levels(settings: LoraSettings) -> flow_matching.NoiseLevelDistribution:
    """The distribution of noise levels that the settings name."""
    return flow_matching.NoiseLevelDistribution(
        settings.timestep_sampling, settings.shift, settings.logit_mean, settings.logit_std
    )


def load_micro_batch(slots: Sequence[BatchItem], settings: LoraSettings) -> MicroBatch:
    """Read and draw what these slots, of one shape, stand for; on the CPU.

    Raises BadInput when a sample cannot be read.
    """
    levels = noise_levels(settings)
    latents, texts = zip(*(sample_schedule.load_sample(slot.sample) for slot in slots), strict=True)
    noise = [
        flow_matching.draw_training_noise(
            settings.seed, slot.epoch, slot.sample.sample_id, clean.shape
        )
        for slot, clean in zip(slots, latents, strict=True)
    ]
    sigmas = [levels.sigma_at(slot.quantile) for slot in slots]
    weights = [
        slot.weight * flow_matching.loss_weight(sigma, settings.loss_weighting, levels)
        for slot, sigma in zip(slots, sigmas, strict=True)
    ]
    return MicroBatch(
        latents_BCTHW=torch.stack(latents),
        text_BLD=flow_matching.pad_embeddings(list(texts)),
        noise_BCTHW=torch.stack(noise),
        sigma_B=torch.tensor(sigmas),
        weight_B=torch.tensor(weights),
    )


class PrefetchLoader:
    """Makes micro batches in a thread of its own, in the order in which they will be taken."""

    def __init__(
        self, coming: Iterable[Sequence[BatchItem]], settings: LoraSettings, device: torch.device
    ) -> None:
        self._coming = iter(coming)
        self._settings = settings
        self._pin = device.type == "cuda"
        self._made: queue.Queue[tuple[Sequence[BatchItem], MicroBatch] | BaseException] = (
            queue.Queue(PREFETCH)
        )
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._make, daemon=True)
        self._thread.start()

    def next_batch(self, slots: Sequence[BatchItem]) -> MicroBatch:
        """The micro batch of ``slots``, which must be those whose turn it is.

        Raises what making it raised.
        """
        made = self._made.get()
        if isinstance(made, BaseException):
            raise made
        theirs, batch = made
        assert theirs == slots, "micro batches are taken in another order than they were announced"
        return batch

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    def _make(self) -> None:
        try:
            for slots in self._coming:
                batch = load_micro_batch(slots, self._settings)
                if not self._put((slots, batch.pinned() if self._pin else batch)):
                    return
            self._put(LookupError("a micro batch more was asked for than announced"))
        except BaseException as error:
            self._put(error)

    def _put(self, made: tuple[Sequence[BatchItem], MicroBatch] | BaseException) -> bool:
        """Hand over what was made; False when nobody wants it any more."""
        while not self._closed.is_set():
            try:
                self._made.put(made, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False


def micro_batch_schedule(
    samples: Sequence[TrainingSample], steps: range, settings: LoraSettings, rank: int
) -> Iterator[list[BatchItem]]:
    """This process's micro batches of those optimizer steps, in their order."""
    for step in steps:
        slots = sample_schedule.plan_global_batch(
            samples,
            step,
            epochs=settings.epochs,
            batch=settings.global_batch_size,
            seed=settings.seed,
        )
        yield from sample_schedule.split_micro_batches(
            slots, settings.num_processes, settings.micro_batch_size
        )[rank]
