"""Load micro batches in a background thread while previous ones are computed."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from mimix_core.settings import LoraSettings
from mimix_core.training import sample_schedule
from mimix_core.training.sample_schedule import BatchItem
from mimix_core.training.worker_messages import TrainingSample
from mimix_core.wan import flow_matching, latent_regions, tensor_shards
from mimix_core.wan.model_registry import FULL_RANGE, NoiseRange
from mimix_core.wan.token_routing import TokenRoute

PREFETCH = 2
"""Maximum of micro batches loaded ahead."""

_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class MicroBatch:
    """Inputs of one forward pass, fp32; ``weight_B`` is each sample's share of the step's loss.

    ``processed_BK``: the tokens of each sample that the middle blocks process, int64; None if they
    process all. ``cell_weight_BTHW`` and ``inside_BTHW``: the weight of each latent cell, of mean 1
    in every sample, and 1 where a character is, else 0; None if the loss does not depend on
    regions. A sample without masks has the weights 1 and is all inside.
    """

    latents_BCTHW: torch.Tensor
    text_BLD: torch.Tensor
    noise_BCTHW: torch.Tensor
    sigma_B: torch.Tensor
    weight_B: torch.Tensor
    processed_BK: torch.Tensor | None = None
    cell_weight_BTHW: torch.Tensor | None = None
    inside_BTHW: torch.Tensor | None = None

    def to(self, device: torch.device) -> MicroBatch:
        """Copy to ``device``, asynchronously from pinned memory."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> MicroBatch:
        """Copy to pinned memory."""
        return self._map(torch.Tensor.pin_memory)

    def _map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> MicroBatch:
        tensors = {name: value for name, value in vars(self).items() if value is not None}
        return replace(self, **{name: change(tensor) for name, tensor in tensors.items()})


def noise_levels(
    settings: LoraSettings, levels: NoiseRange = FULL_RANGE
) -> flow_matching.NoiseLevelDistribution:
    """Return the distribution of noise levels in the settings, truncated to ``levels``."""
    return flow_matching.NoiseLevelDistribution(
        settings.timestep_sampling, settings.shift, settings.logit_mean, settings.logit_std, levels
    )


def load_micro_batch(
    items: Sequence[BatchItem],
    settings: LoraSettings,
    levels: NoiseRange = FULL_RANGE,
    route: TokenRoute | None = None,
) -> MicroBatch:
    """Load the items' samples, which have one shape, and draw their noise and tokens, on the CPU.

    ``levels``: range of the noise levels. ``route``: how tokens skip the middle blocks, if they do.
    Raises BadInput when a sample cannot be read.
    """
    distribution = noise_levels(settings, levels)
    latents, texts = zip(*(sample_schedule.load_sample(item.sample) for item in items), strict=True)
    noise = [
        flow_matching.draw_training_noise(settings.seed, item.epoch, item.occurrence, clean.shape)
        for item, clean in zip(items, latents, strict=True)
    ]
    sigmas = [distribution.sigma_at(item.quantile) for item in items]
    weights = [
        item.weight * flow_matching.loss_weight(sigma, settings.loss_weighting, distribution)
        for item, sigma in zip(items, sigmas, strict=True)
    ]
    return MicroBatch(
        latents_BCTHW=torch.stack(latents),
        text_BLD=flow_matching.pad_embeddings(list(texts)),
        noise_BCTHW=torch.stack(noise),
        sigma_B=torch.tensor(sigmas),
        weight_B=torch.tensor(weights),
        processed_BK=None if route is None else _draw_tokens(items, settings.seed, route),
        **(_load_regions(items, settings) if settings.uses_regions else {}),
    )


def _draw_tokens(items: Sequence[BatchItem], seed: int, route: TokenRoute) -> torch.Tensor:
    """Draw the tokens of each item that the middle blocks process, for each item alone."""
    return torch.stack(
        [route.draw(seed, item.epoch, item.occurrence, item.sample.shape) for item in items]
    )


def _load_regions(items: Sequence[BatchItem], settings: LoraSettings) -> dict[str, torch.Tensor]:
    """Load the items' regions as the tensors of a ``MicroBatch``, computed for each item alone."""
    weights, inside = [], []
    for item in items:
        shape = item.sample.shape[1:]
        if item.sample.regions is None:
            weights.append(torch.ones(shape))
            inside.append(torch.ones(shape))
            continue
        regions_KTHW = tensor_shards.read_regions(item.sample.regions)
        weights.append(
            torch.from_numpy(
                latent_regions.cell_weights(
                    regions_KTHW.numpy(), settings.region_weight, settings.region_weight_limit
                )
            )
        )
        inside.append(regions_KTHW.any(dim=0).float())
    return {"cell_weight_BTHW": torch.stack(weights), "inside_BTHW": torch.stack(inside)}


class PrefetchLoader:
    """Load micro batches in a background thread, in the order of a schedule."""

    def __init__(
        self,
        schedule: Iterable[Sequence[BatchItem]],
        settings: LoraSettings,
        device: torch.device,
        levels: NoiseRange = FULL_RANGE,
        route: TokenRoute | None = None,
    ) -> None:
        self._schedule = iter(schedule)
        self._settings = settings
        self._levels = levels
        self._route = route
        self._pin = device.type == "cuda"
        self._queue: queue.Queue[tuple[Sequence[BatchItem], MicroBatch] | BaseException] = (
            queue.Queue(PREFETCH)
        )
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._load_all, daemon=True)
        self._thread.start()

    def next_batch(self, items: Sequence[BatchItem]) -> MicroBatch:
        """Return the micro batch of ``items``, which must be the next in the schedule.

        Raises what loading it raised.
        """
        loaded = self._queue.get()
        if isinstance(loaded, BaseException):
            raise loaded
        scheduled, batch = loaded
        assert scheduled == items, "micro batches are requested in another order than scheduled"
        return batch

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    def _load_all(self) -> None:
        try:
            for items in self._schedule:
                batch = load_micro_batch(items, self._settings, self._levels, self._route)
                if not self._put((items, batch.pinned() if self._pin else batch)):
                    return
            self._put(LookupError("more micro batches were requested than scheduled"))
        except BaseException as error:
            self._put(error)

    def _put(self, loaded: tuple[Sequence[BatchItem], MicroBatch] | BaseException) -> bool:
        """Queue a micro batch or an exception; return False if the loader was closed meanwhile."""
        while not self._closed.is_set():
            try:
                self._queue.put(loaded, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False


def micro_batch_schedule(
    samples: Sequence[TrainingSample], steps: range, settings: LoraSettings, rank: int
) -> Iterator[list[BatchItem]]:
    """Yield this process's micro batches of the optimizer steps, in order."""
    for step in steps:
        items = sample_schedule.plan_global_batch(
            samples,
            step,
            epochs=settings.epochs,
            batch_size=settings.global_batch_size,
            seed=settings.seed,
            show_repeats=settings.show_repeats,
            image_ratio=settings.image_ratio,
        )
        yield from sample_schedule.split_micro_batches(
            items, settings.num_processes, settings.micro_batch_size
        )[rank]
