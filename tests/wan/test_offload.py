"""Offloaded frozen weights and inputs: no bit changes, and the GPU holds no more than planned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from mimix_core.errors import StageFailed
from mimix_core.settings import LoraSettings
from mimix_core.wan import fast, lora
from mimix_core.wan.fast import (
    activation_checkpoint,
    block_placement,
    host_memory,
    offload,
    offloaded_activations,
    weight_storage,
)
from mimix_core.wan.fast.offload_plan import OffloadPlan
from tests.wan.test_fast import ALPHA, RANK, TARGETS, apart, loss_of, step

pytestmark = pytest.mark.slow

BLOCKS = 5


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def deep_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from diffusers import WanTransformer3DModel

    folder = tmp_path_factory.mktemp("deep") / "transformer"
    torch.manual_seed(0)
    WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        ffn_dim=64,
        text_dim=32,
        freq_dim=32,
        num_layers=BLOCKS,
        rope_max_seq_len=64,
    ).save_pretrained(folder)
    return folder


def accelerated(
    folder: Path,
    plan: OffloadPlan,
    *,
    use_dora: bool = False,
    log: Callable[[str], None] | None = None,
    **asked: Any,
) -> Any:
    """A Wan of five blocks whose adapter matters, with this plan whatever the free memory."""
    model = lora.load_transformer(folder, torch.float32)
    lora.attach_adapter(model, RANK, ALPHA, TARGETS, 0, use_dora=use_dora)
    with torch.no_grad():
        for index, (name, weight) in enumerate(lora.adapter_parameters(model)):
            if lora.MAGNITUDE not in name:
                numbers = torch.Generator().manual_seed(index)
                weight.copy_(torch.randn(weight.shape, generator=numbers) * 0.1)
    settings = LoraSettings(rank=RANK, alpha=ALPHA, use_dora=use_dora, **asked)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(block_placement, "plan_training", lambda *_: plan)
        fast.accelerate_training(model.train(), settings, log=log)
    return model


def several_steps(model: Any) -> list[torch.Tensor]:
    """Losses and gradients of two steps, with passes without gradients before each."""
    found: list[torch.Tensor] = []
    for _ in range(2):
        with torch.no_grad(), lora.without_adapter(model):
            found.append(loss_of(model))
        loss, grads = step(model)
        found += [loss, *grads.values()]
        for _, weight in lora.adapter_parameters(model):
            weight.grad = None
            weight.data.mul_(0.9)
    return found


def equal(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


@pytest.fixture(scope="module")
def wanted(deep_folder: Path) -> list[torch.Tensor]:
    torch.set_num_threads(1)
    return several_steps(accelerated(deep_folder, OffloadPlan(), activation_budget_gb=0.0))


class LateCopies:
    """A copy stream that copies as late as a GPU may: when it is waited for, in order."""

    def __init__(self, _device: torch.device) -> None:
        self.queued: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.done = 0

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> int:
        self.queued.append((target, source))
        return len(self.queued)

    def wait(self, copied: int | None) -> None:
        for target, source in self.queued[self.done : copied or 0]:
            target.copy_(source)
        self.done = max(self.done, copied or 0)


@pytest.fixture(params=[host_memory.CopyStream, LateCopies])
def stream(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copy at once, and as late as a GPU may."""
    for module in (offload, host_memory):
        monkeypatch.setattr(module, "CopyStream", request.param)


@pytest.mark.usefixtures("stream")
@pytest.mark.parametrize("inputs", [False, True])
@pytest.mark.parametrize("blocks", [0, 1, 3, BLOCKS])
def test_offload_changes_no_bit(
    deep_folder: Path, wanted: list[torch.Tensor], blocks: int, inputs: bool
) -> None:
    model = accelerated(deep_folder, OffloadPlan(blocks, inputs), activation_budget_gb=0.0)
    assert equal(several_steps(model), wanted)


@pytest.mark.parametrize("asked", [{"fp8": True}, {"use_dora": True}, {"frozen_weights": "int8"}])
def test_offload_changes_no_bit_of_other_ways_to_train(
    deep_folder: Path, asked: dict[str, Any]
) -> None:
    here = several_steps(accelerated(deep_folder, OffloadPlan(), **asked))
    away = several_steps(accelerated(deep_folder, OffloadPlan(3, inputs=True), **asked))
    assert equal(away, here)


def test_two_blocks_weights_are_on_the_device_and_each_is_copied_ahead(
    deep_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies: Counter[str] = Counter()
    copy = offload.BlockWeights._copy

    def counted(self: offload.BlockWeights, index: int, slot: int) -> None:
        copies["all"] += 1
        copy(self, index, slot)

    def prefetched(method: Callable[..., None]) -> Callable[..., None]:
        def prefetch(self: offload.BlockWeights, after: int, step: int) -> None:
            before = copies["all"]
            method(self, after, step)
            copies["ahead"] += copies["all"] - before

        return prefetch

    monkeypatch.setattr(offload.BlockWeights, "_copy", counted)
    monkeypatch.setattr(offload.BlockWeights, "prefetch", prefetched(offload.BlockWeights.prefetch))
    model = accelerated(deep_folder, OffloadPlan(BLOCKS), activation_budget_gb=0.0)
    step(model)
    # Forward each block; backward those that are not in one of the two slots any more.
    assert copies == {"all": BLOCKS + BLOCKS - 2, "ahead": BLOCKS + BLOCKS - 2 - 1}
    step(model)
    assert copies["all"] - copies["ahead"] == 1, "the second step finds its first blocks"
    weights = [
        layer.weight.untyped_storage().data_ptr()
        for layer in model.blocks.modules()
        if isinstance(layer, fast.layers.FrozenLinear)
    ]
    assert len(weights) == BLOCKS * 10
    assert len(set(weights)) == 2


def test_inputs_are_freed_until_the_backward_pass(deep_folder: Path) -> None:
    model = accelerated(deep_folder, OffloadPlan(0, inputs=True), activation_budget_gb=0.0)
    loss = loss_of(model)
    waiting = model._gradient_checkpointing_func._streamed._inputs
    # The backward pass begins with the last two at once.
    assert list(waiting._waiting) == list(range(BLOCKS - 2))
    inputs = [one for (one,) in waiting._waiting.values()]
    assert [one.storage.nbytes() for one in inputs] == [0] * (BLOCKS - 2)
    loss.backward()
    assert not waiting._waiting
    assert all(one.storage.nbytes() == one.num_bytes for one in inputs)


def test_main_memory_that_cannot_be_pinned_names_the_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: Any, **__: Any) -> torch.Tensor:
        raise RuntimeError("CUDA error: out of memory")

    cpu = torch.device("cpu")
    waiting = offloaded_activations.OffloadedActivations(cpu, 1e9)._host
    monkeypatch.setattr(host_memory, "_CHUNK", 2**30)
    monkeypatch.setattr(host_memory.torch, "empty", refuse)
    waiting._chunks = [torch.zeros(1)] * 6
    waiting._used = 6 * 2**30
    said = r"^8 GB of main memory for offloaded activations .* Lower lora.offload_activations_gb$"
    with pytest.raises(StageFailed, match=said):
        waiting.save(0, torch.zeros(1))


@pytest.mark.parametrize(("storage", "share"), [("int8", 1 / 4), ("nf4", 0.5625 / 4)])
def test_stored_weights_take_their_share_and_compute_nearly_the_same(
    deep_folder: Path, wanted: list[torch.Tensor], storage: str, share: float
) -> None:
    if storage == "nf4":
        pytest.importorskip("bitsandbytes", reason="installed with an extra of MiMix")
    model = accelerated(deep_folder, OffloadPlan(), frozen_weights=storage)
    stored = model._gradient_checkpointing_func._streamed._weights._stored
    parameters = sum(
        layer.weight.numel()
        for layer in model.blocks[0].modules()
        if isinstance(layer, fast.layers.FrozenLinear)
    )
    assert [x.nbytes for x in stored] == pytest.approx([4 * parameters * share] * BLOCKS, rel=0.3)
    # (Each tensor begins at a multiple of 256 bytes, which counts in so small a model.)
    # One block's weights are expanded at a time.
    homes = {layer.attn1.to_k.weight.untyped_storage().data_ptr() for layer in model.blocks}
    assert len(homes) == 1
    found = several_steps(model)
    bound = {"int8": 0.002, "nf4": 0.05}[storage]
    for index in (0, 1):
        assert found[index].item() == pytest.approx(wanted[index].item(), rel=bound)
        assert found[index] != wanted[index]


def test_int8_rounds_each_row_by_its_own_scale() -> None:
    weight = torch.randn(16, 64, generator=torch.Generator().manual_seed(0))
    weight[3] *= 1e4
    weight[5] = 0.0
    for dtype in (torch.float32, torch.bfloat16):
        given = weight.to(dtype)
        stored = weight_storage.pack_weight(given, "int8")
        assert [x.dtype for x in stored] == [torch.int8, torch.float32]
        back = torch.empty_like(given)
        weight_storage.expand_weight(stored, "int8", back)
        assert torch.equal(back[5], given[5])
        rounding = given.abs().float() / 256 if dtype == torch.bfloat16 else 1e-6
        assert ((back - given).abs() <= stored[1] / 2 + rounding).all()


def test_nf4_is_that_of_the_paper() -> None:
    """The 16 levels are quantiles of a normal distribution, with exact 0, 1 and -1."""
    pytest.importorskip("bitsandbytes", reason="installed with an extra of MiMix")
    weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    back = torch.empty_like(weight)
    weight_storage.expand_weight(weight_storage.pack_weight(weight, "nf4"), "nf4", back)
    scale = weight.abs().amax(dim=1, keepdim=True)
    levels = (back / scale).unique()
    assert len({round(x, 4) for x in levels.tolist()}) <= 16
    assert {-1.0, 0.0, 1.0} & {round(x, 4) for x in levels.tolist()} >= {0.0}
    assert torch.equal(back.abs().amax(dim=1, keepdim=True), scale)
    assert 0.05 < ((back - weight).norm() / weight.norm()).item() < 0.12


@pytest.mark.e2e
def test_streamed_blocks_share_a_graph(deep_folder: Path, wanted: list[torch.Tensor]) -> None:
    model = accelerated(deep_folder, OffloadPlan(3, inputs=True), activation_budget_gb=0.0)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled = torch.compile(
        activation_checkpoint.checkpointed_block(frozenset(), compiled=False),
        backend="aot_eager_decomp_partition",
        dynamic=False,
    )
    model._gradient_checkpointing_func._block_functions[frozenset()] = compiled
    plain = accelerated(deep_folder, OffloadPlan(), activation_budget_gb=0.0)
    _, grads = step(plain)
    _, own = step(model)
    # One more for the first block, whose input needs no gradient.
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2
    assert not torch._dynamo.utils.counters["graph_break"]
    assert apart(own, grads) < 1e-5
