"""The GPU's kernels compute what PyTorch does: by Triton's interpreter (conftest), in fp32."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton", reason="there is no Triton for this system")

from mimix_core.wan.fast import custom_ops, elementwise
from mimix_core.wan.fast import triton_launch as launch

# Tokens, channels, channels of a head, sets of values: a head that divides what is loaded at once
# and one that does not, one set for all tokens, for each of two samples, and for each token.
SHAPES = [(8, 1536, 128, 1), (6, 192, 24, 6), (4, 5120, 128, 2)]
EPS = 1e-6


def randn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) + 0.3


def tables(positions: int, head: int) -> tuple[torch.Tensor, torch.Tensor]:
    angle = randn(positions, head // 2, seed=9).repeat_interleave(2, 1)
    return angle.cos(), angle.sin()


def assert_close(found: torch.Tensor | None, wanted: torch.Tensor | None) -> None:
    if wanted is None or wanted.numel() == 0:
        assert found is None or found.numel() == 0
        return
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("tokens", "width", "head", "sets"), SHAPES)
@pytest.mark.parametrize("gated", [True, False])
def test_sums_and_norms(tokens: int, width: int, head: int, sets: int, gated: bool) -> None:
    x, added, grad, grad_sum = (randn(tokens, width, seed=seed) for seed in range(4))
    factor, offset, gate = (randn(sets, width, seed=seed) for seed in range(4, 7))
    gate_or_none = gate if gated else None
    assert_close(
        launch.norm(x, None, None, factor, offset, EPS)[1],
        elementwise.modulated_norm(x, factor, offset, EPS),
    )
    assert_close(
        launch.norm_grad(grad, x, factor, None, None, EPS)[0],
        elementwise.modulated_norm_grad(grad, x, factor, EPS),
    )
    wanted = elementwise.add_norm(x, added, gate_or_none, factor, offset, EPS)
    for one, other in zip(
        launch.norm(x, added, gate_or_none, factor, offset, EPS), wanted, strict=True
    ):
        assert_close(one, other)
    wanted = elementwise.add_norm_grad(grad_sum, grad, x, gate_or_none, factor, EPS)
    for one, other in zip(
        launch.norm_grad(grad, x, factor, grad_sum, gate_or_none, EPS), wanted, strict=True
    ):
        assert_close(one, other)


@pytest.mark.parametrize(("tokens", "width", "head", "sets"), SHAPES)
@pytest.mark.parametrize("turned", [True, False])
def test_normalized_heads(tokens: int, width: int, head: int, sets: int, turned: bool) -> None:
    x, grad = (randn(tokens, width, seed=seed) for seed in range(2))
    weight = randn(width, seed=2)
    weight[:3] = 0
    cos, sin = tables(tokens // 2, head) if turned else (None, None)
    out, root = elementwise.normalize_heads(x, weight, cos, sin, EPS)
    own_out, own_root = launch.normalize_heads(x, weight, cos, sin, EPS)
    assert_close(own_out, out)
    assert_close(own_root, root)
    assert_close(
        launch.normalize_heads_grad(grad, out, root, weight, cos, sin),
        elementwise.normalize_heads_grad(grad, out, root, weight, cos, sin),
    )


@pytest.mark.filterwarnings("ignore:overflow encountered in exp2")
def test_gelu() -> None:
    x, grad = randn(3, 1040, seed=0) * 4, randn(3, 1040, seed=1)
    x[0, :3] = torch.tensor([-60.0, 60.0, 0.0])
    assert_close(launch.gelu(x), elementwise.gelu(x))
    assert_close(launch.gelu(x, grad), elementwise.gelu_grad(grad, x))


@pytest.mark.parametrize("biased", [True, False])
def test_an_adapters_outer_product_of_any_size(biased: bool) -> None:
    tokens, outputs, rank = 70, 200, 16
    downs, b = randn(tokens, 3 * rank, seed=0), randn(outputs, rank, seed=1)
    bias = randn(outputs, seed=2) if biased else None
    down = downs[:, rank : 2 * rank]
    assert_close(launch.adapter_up(bias, down, b, 0.5), custom_ops.adapter_up(bias, down, b, 0.5))
