"""Tokens that skip the middle blocks: which ones, and the same result as a plain loop's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mimix_core.errors import BadInput
from mimix_core.settings import LoraSettings
from mimix_core.wan import fast, lora
from mimix_core.wan.fast import activation_checkpoint
from mimix_core.wan.fast.activation_budget import BlockGroup, block_activations, plan_block_groups
from mimix_core.wan.fast.offload_plan import OffloadPlan
from mimix_core.wan.token_routing import (
    TokenRoute,
    check_token_routing,
    count_processed_tokens,
    middle_blocks,
)
from tests.wan.test_activation_budget import WAN_14B
from tests.wan.test_fast import ALPHA, RANK, TARGETS, apart, loss_of, step
from tests.wan.test_offload import accelerated, equal

BLOCKS = 5
MIDDLE = (1, 2, 3)
TOKENS = 48
"""Of ``loss_of``'s two samples."""


def test_the_ends_are_the_papers_and_shallow_models_have_their_share() -> None:
    # The authors' route from block 2 to 8 of 12, both included, and their rule for more blocks.
    assert middle_blocks(12) == range(2, 9)
    assert middle_blocks(28) == range(2, 25)
    assert middle_blocks(40) == range(2, 37)
    assert middle_blocks(8) == range(1, 6), "the miniature's"
    assert [len(middle_blocks(blocks)) for blocks in (0, 1, 2, 3, 4, 5)] == [0, 0, 0, 1, 2, 3]
    for blocks in range(3, 60):
        middle = middle_blocks(blocks)
        assert 1 <= middle[0] <= blocks - 1 - middle[-1] <= 3


@given(
    st.floats(0, 0.9),
    st.tuples(st.integers(1, 9), st.integers(1, 7), st.integers(1, 7)),
    st.sampled_from([(1, 1, 1), (1, 2, 2)]),
)
def test_the_share_is_exact(
    share: float, tokens: tuple[int, int, int], patch: tuple[int, int, int]
) -> None:
    count = tokens[0] * tokens[1] * tokens[2]
    shape = (16, *(side * length for side, length in zip(tokens, patch, strict=True)))
    drawn = TokenRoute(share, patch).draw(0, 1, "clip", shape)
    assert (
        len(drawn) == count_processed_tokens(count, share) == max(1, count - round(share * count))
    )
    assert drawn.tolist() == sorted(set(drawn.tolist()))
    assert 0 <= drawn[0] <= drawn[-1] < count


def test_tokens_are_drawn_uniformly_by_seed_epoch_and_occurrence() -> None:
    route, shape = TokenRoute(0.5, (1, 2, 2)), (16, 3, 8, 8)
    assert torch.equal(route.draw(3, 1, "clip", shape), route.draw(3, 1, "clip", shape))
    draws = [(3, 1, "clip"), (4, 1, "clip"), (3, 2, "clip"), (3, 1, "clip\0001"), (3, 1, "other")]
    found = {tuple(route.draw(*key, shape).tolist()) for key in draws}
    assert len(found) == len(draws)
    times = torch.zeros(TOKENS)
    for epoch in range(2000):
        times[route.draw(0, epoch, "clip", shape)] += 1
    # Each token in half of 2,000 draws: five standard deviations are 112.
    assert (times - 1000).abs().max() < 112


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from diffusers import WanTransformer3DModel

    folder = tmp_path_factory.mktemp("routed") / "transformer"
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


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def draw(share: float) -> torch.Tensor:
    route = TokenRoute(share, (1, 2, 2))
    return torch.stack([route.draw(0, 0, name, (16, 3, 8, 8)) for name in ("one", "two")])


def routed(folder: Path, share: float, plan: OffloadPlan | None = None, **asked: Any) -> Any:
    return accelerated(folder, plan or OffloadPlan(), routed_tokens=share, **asked)


def routed_step(model: Any, share: float) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    with fast.routed_pass(model, draw(share)):
        loss = loss_of(model)
    loss.backward()
    return loss.detach(), {name: weight.grad for name, weight in lora.adapter_parameters(model)}


class PlainLoop(torch.nn.Module):
    """A transformer whose blocks are looped over one sample at a time, with ``index_select``."""

    def __init__(self, model: Any, processed_BK: torch.Tensor) -> None:
        super().__init__()
        self.model, self.processed_BK = model, processed_BK

    def forward(
        self, hidden_states: Any, timestep: Any, encoder_hidden_states: Any, return_dict: bool
    ) -> tuple[torch.Tensor]:
        parts = zip(
            hidden_states.split(1),
            timestep.split(1),
            encoder_hidden_states.split(1),
            self.processed_BK,
            strict=True,
        )
        return (torch.cat([self.one(*part) for part in parts]),)

    def one(self, latents: Any, timestep: Any, text: Any, processed_K: Any) -> torch.Tensor:
        model = self.model
        cos, sin = model.rope(latents)
        hidden = model.patch_embedding(latents).flatten(2).transpose(1, 2)
        temb, modulation, text, _ = model.condition_embedder(timestep, text, None)
        modulation = modulation.unflatten(1, (6, -1))
        some_cos, some_sin = (x.index_select(1, processed_K) for x in (cos, sin))
        for block in model.blocks[: MIDDLE[0]]:
            hidden = block(hidden, text, modulation, (cos, sin))
        some = hidden.index_select(1, processed_K)
        for index in MIDDLE:
            some = model.blocks[index](some, text, modulation, (some_cos, some_sin))
        hidden = hidden.index_copy(1, processed_K, some)
        for block in model.blocks[MIDDLE[-1] + 1 :]:
            hidden = block(hidden, text, modulation, (cos, sin))
        shift, scale = (model.scale_shift_table + temb.unsqueeze(1)).chunk(2, dim=1)
        out = model.proj_out(model.norm_out(hidden) * (1 + scale) + shift)
        frames, rows, columns = (n // p for n, p in zip(latents.shape[2:], (1, 2, 2), strict=True))
        out = out.reshape(1, frames, rows, columns, 1, 2, 2, 16).permute(0, 7, 1, 4, 2, 5, 3, 6)
        return out.reshape(latents.shape)


def plain_step(folder: Path, share: float) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The same adapter in peft's and diffusers' own layers."""
    model = lora.load_transformer(folder, torch.float32)
    lora.attach_adapter(model, RANK, ALPHA, TARGETS, 0)
    with torch.no_grad():
        for index, (_, weight) in enumerate(lora.adapter_parameters(model)):
            numbers = torch.Generator().manual_seed(index)
            weight.copy_(torch.randn(weight.shape, generator=numbers) * 0.1)
    loss = loss_of(PlainLoop(model, draw(share)))
    loss.backward()
    return loss.detach(), {name: weight.grad for name, weight in lora.adapter_parameters(model)}


@pytest.mark.slow
@pytest.mark.parametrize("budget_gb", [None, 0.0, 0.0005])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_loss_and_gradients_are_those_of_a_plain_loop(
    folder: Path, share: float, budget_gb: float | None
) -> None:
    wanted_loss, wanted = plain_step(folder, share)
    model = routed(folder, share, activation_budget_gb=budget_gb)
    loss, grads = routed_step(model, share)
    assert loss.item() == pytest.approx(wanted_loss.item(), rel=1e-6)
    assert apart(grads, wanted) < 1e-5
    full_loss, _ = step(accelerated(folder, OffloadPlan()))
    assert abs(loss - full_loss) > 1e-4
    for index in range(BLOCKS):
        in_block = [grad for name, grad in grads.items() if name.startswith(f"blocks.{index}.")]
        assert len(in_block) == 14
        assert all(grad.norm() > 0 for grad in in_block)


@pytest.mark.slow
@pytest.mark.parametrize("zero_stage", [1, 3])
def test_middle_blocks_process_the_drawn_tokens_and_passes_without_gradients_all(
    folder: Path, zero_stage: int
) -> None:
    model = routed(folder, 0.75, zero_stage=zero_stage)
    seen: list[int] = []
    for block in model.blocks:
        block.attn1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    with fast.routed_pass(model, draw(0.75)):
        loss = loss_of(model)
    assert seen == [TOKENS, 12, 12, 12, TOKENS]
    assert loss.requires_grad
    seen.clear()
    with torch.no_grad(), fast.routed_pass(model, draw(0.75)):
        without = loss_of(model)
    assert seen == [TOKENS] * BLOCKS
    with torch.no_grad():
        assert torch.equal(
            without, loss_of(accelerated(folder, OffloadPlan(), zero_stage=zero_stage))
        )
    with pytest.raises(AssertionError, match="without its processed tokens"):
        loss_of(model)


@pytest.mark.e2e
def test_blocks_are_compiled_once_for_each_number_of_tokens(folder: Path) -> None:
    _, wanted = routed_step(routed(folder, 0.5, activation_budget_gb=0.0), 0.5)
    model = routed(folder, 0.5, activation_budget_gb=0.0)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    # The tracer alone, without the C++ compiler behind it.
    compiled = torch.compile(
        activation_checkpoint.checkpointed_block(frozenset(), compiled=False),
        backend="aot_eager_decomp_partition",
        dynamic=False,
    )
    model._gradient_checkpointing_func.run_block._block_functions[frozenset()] = compiled
    _, grads = routed_step(model, 0.5)
    # One more for the first block, whose input needs no gradient.
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 3
    assert not torch._dynamo.utils.counters["graph_break"]
    assert apart(grads, wanted) < 1e-5


@pytest.mark.slow
def test_a_share_of_no_token_changes_no_bit(folder: Path) -> None:
    loss, grads = step(accelerated(folder, OffloadPlan()))
    none, none_grads = routed_step(routed(folder, 0.001), 0.001)
    assert torch.equal(none, loss)
    assert equal(list(none_grads.values()), list(grads.values()))


@pytest.mark.slow
@pytest.mark.parametrize(
    "asked", [{}, {"activation_budget_gb": 0.0}, {"fp8": True}, {"use_dora": True},
              {"frozen_weights": "int8"}]
)  # fmt: skip
def test_offload_changes_no_bit(folder: Path, asked: dict[str, Any]) -> None:
    found = []
    for plan in (OffloadPlan(), OffloadPlan(3, inputs=True)):
        model = routed(folder, 0.5, plan, **asked)
        for _ in range(2):
            with torch.no_grad():
                found.append([loss_of(model)])
            loss, grads = routed_step(model, 0.5)
            found[-1] += [loss, *(grad.clone() for grad in grads.values())]
    assert equal(found[0], found[2])
    assert equal(found[1], found[3])


@given(st.integers(0, 10**12), st.floats(0.05, 0.9))
def test_activations_of_both_kinds_of_blocks_fit_the_budget(budget: int, share: float) -> None:
    part = replace(WAN_14B, tokens=count_processed_tokens(WAN_14B.tokens, share))
    groups = [
        BlockGroup([0, 1, 37, 38, 39], block_activations(WAN_14B)),
        BlockGroup(middle_blocks(40), block_activations(part)),
    ]
    plan = plan_block_groups(groups, budget)
    assert len(plan.saved) == 40
    assert len(set(plan.saved)) <= 3, "each kind is compiled"
    sizes = {
        (block, item.name): item.num_bytes
        for group in groups
        for item in group.activations
        for block in group.blocks
    }
    spent = sum(sizes[block, name] for block, names in enumerate(plan.saved) for name in names)
    assert spent == plan.num_bytes <= budget
    more = plan_block_groups(groups, 2 * budget)
    assert more.seconds_saved >= plan.seconds_saved


def test_what_cannot_be_routed_is_refused() -> None:
    on = LoraSettings(routed_tokens=0.5)
    with pytest.raises(BadInput, match="not implemented for LTXVideoTransformer3DModel"):
        check_token_routing(on, "LTXVideoTransformer3DModel", {"num_layers": 28})
    with pytest.raises(BadInput, match="a transformer of 2 blocks has no middle ones"):
        check_token_routing(on, "WanTransformer3DModel", {"num_layers": 2})
    check_token_routing(on, "WanTransformer3DModel", {"num_layers": 3})
    check_token_routing(LoraSettings(), "LTXVideoTransformer3DModel", {})
    for share in (-0.1, 0.95):
        with pytest.raises(ValueError, match="routed_tokens"):
            LoraSettings(routed_tokens=share)
