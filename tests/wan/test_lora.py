"""Adapters: no effect at initialization, and the only trained parameters."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mimix_core.errors import BadInput
from mimix_core.wan import flow_matching, lora

pytestmark = pytest.mark.slow

TARGETS = ("to_q", "ffn.net.2", "proj_out")


def adapted(folder: Path, *, rank: int = 4, alpha: int = 4, targets=TARGETS, seed: int = 0):
    transformer = lora.load_transformer(folder / "transformer", torch.float32)
    lora.attach_adapter(transformer, rank, alpha, targets, seed)
    return transformer


def trained(transformer) -> None:
    """Some adapter other than the silent one."""
    with torch.no_grad():
        for index, (_, weight) in enumerate(lora.adapter_parameters(transformer)):
            numbers = torch.Generator().manual_seed(index)
            weight.copy_(torch.randn(weight.shape, generator=numbers) * 0.2)


def answer(transformer) -> torch.Tensor:
    numbers = torch.Generator().manual_seed(7)
    with torch.no_grad():
        return transformer(
            hidden_states=torch.randn(1, 16, 2, 4, 4, generator=numbers),
            timestep=torch.tensor([500.0]),
            encoder_hidden_states=torch.randn(1, 512, 32, generator=numbers),
            return_dict=False,
        )[0]


def test_a_new_adapter_changes_nothing_and_a_trained_one_does(pipeline_folder: Path) -> None:
    base = lora.load_transformer(pipeline_folder / "transformer", torch.float32)
    transformer = adapted(pipeline_folder)
    assert torch.equal(answer(transformer), answer(base))
    trained(transformer)
    assert (answer(transformer) - answer(base)).abs().max() > 0.01


def test_only_adapters_are_trained_in_fp32_even_on_a_bf16_base(pipeline_folder: Path) -> None:
    transformer = lora.load_transformer(pipeline_folder / "transformer", torch.bfloat16)
    lora.attach_adapter(transformer, 4, 4, TARGETS, 0)
    names = dict(lora.adapter_parameters(transformer))
    assert names
    assert all("lora_" in name for name in names)
    assert {p.dtype for p in names.values()} == {torch.float32}
    # 2 blocks of 2 attentions and 1 feed-forward, and the output layer; A and B each
    assert len(names) == 2 * (2 * (2 + 1) + 1)
    sigma, zeros = torch.tensor([0.5]), torch.zeros(1, 16, 2, 4, 4)
    text = torch.zeros(1, 512, 32)
    losses = flow_matching.velocity_losses(
        transformer, zeros, text, sigma, zeros + 1, torch.bfloat16
    )
    losses.sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in names.values())


def test_the_initialization_depends_on_the_seed_alone(pipeline_folder: Path) -> None:
    torch.manual_seed(1)
    first = dict(lora.adapter_parameters(adapted(pipeline_folder)))
    torch.manual_seed(2)
    again = dict(lora.adapter_parameters(adapted(pipeline_folder)))
    other = dict(lora.adapter_parameters(adapted(pipeline_folder, seed=1)))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert all(not torch.equal(first[n], other[n]) for n in first if "lora_A" in n)


def test_a_target_without_a_layer_is_rejected(pipeline_folder: Path) -> None:
    with pytest.raises(BadInput, match="no layer to_qkv"):
        adapted(pipeline_folder, targets=("to_q", "to_qkv"))
