"""A Wan block's layers and attentions on this package's operators, in place.

Modules change their class, not their place: parameters keep their names, so that what is exported
is the same file as without, and peft and DeepSpeed find what they look for.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.transformers.transformer_wan import WanAttention
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import nn

from mimix_core.errors import BadInput
from mimix_core.wan.fast import custom_ops, fp8
from mimix_core.wan.fast.attention import Kernel, attention, for_text

ADAPTER = "default"


class FrozenLinear(nn.Linear):
    """A frozen layer without an adapter, on ``ops.linear`` or, once ``shrink``-ed, in fp8."""

    place: str
    weight_scale: torch.Tensor | None

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        x_NI = input.flatten(0, -2)
        out_NO: torch.Tensor
        if self.weight_scale is None:
            out_NO = custom_ops.linear(self.place, x_NI, self.weight, self.bias)
        else:
            x8_NI, scale_N1 = fp8.rounded(x_NI.detach())
            out_NO = fp8.linear_fp8(
                self.place, x_NI, x8_NI, scale_N1, self.weight, self.weight_scale, self.bias
            )
        return out_NO.view(*input.shape[:-1], -1)


class AdaptedLinear(LoraLinear):  # type: ignore[misc]
    """peft's layer with its adapter, computed by ``ops.adapted_linear`` or its fp8 twin."""

    place: str
    base_layer: FrozenLinear

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if self.disable_adapters:
            return self.base_layer.forward(x)
        frozen = self.base_layer
        a_RI, b_OR = self.lora_A[ADAPTER].weight, self.lora_B[ADAPTER].weight
        scale = self.scaling[ADAPTER]
        x_NI = x.flatten(0, -2)
        out_NO: torch.Tensor
        down_NR = custom_ops.adapter_down(x_NI.detach(), a_RI.detach())
        if frozen.weight_scale is None:
            out_NO = custom_ops.adapted_linear(
                self.place, x_NI, frozen.weight, frozen.bias, down_NR, a_RI, b_OR, scale
            )
        else:
            x8_NI, scale_N1 = fp8.rounded(x_NI.detach())
            out_NO = fp8.adapted_linear_fp8(
                self.place,
                x_NI,
                x8_NI,
                scale_N1,
                frozen.weight,
                frozen.weight_scale,
                frozen.bias,
                down_NR,
                a_RI,
                b_OR,
                scale,
            )
        return out_NO.view(*x.shape[:-1], -1)


class Processor:
    """diffusers' ``WanAttnProcessor`` for text-to-video, on ``attention.attention``."""

    def __init__(self, place: str, kernel: Kernel) -> None:
        self.place = place
        self.kernel = kernel

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        source = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        q = attn.norm_q(attn.to_q(hidden_states)).unflatten(2, (attn.heads, -1))
        k = attn.norm_k(attn.to_k(source)).unflatten(2, (attn.heads, -1))
        v = attn.to_v(source).unflatten(2, (attn.heads, -1))
        if rotary_emb is not None:
            q, k = _rotated(q, *rotary_emb), _rotated(k, *rotary_emb)
        out_BLHD, _ = attention(self.place, self.kernel, q, k, v)
        out: torch.Tensor = attn.to_out[0](out_BLHD.flatten(2, 3))
        return out


def _rotated(x_BLHD: torch.Tensor, cos_1L1D: torch.Tensor, sin_1L1D: torch.Tensor) -> torch.Tensor:
    """Rotary position: neighbouring channels turned as pairs, in fp32 as diffusers does."""
    first, second = x_BLHD.view(*x_BLHD.shape[:-1], -1, 2).unbind(-1)
    cos, sin = cos_1L1D[..., 0::2], sin_1L1D[..., 1::2]
    turned = torch.stack((first * cos - second * sin, first * sin + second * cos), dim=-1)
    return turned.flatten(-2).type_as(x_BLHD)


def swap(block: nn.Module, kernel: Kernel | None, in_fp8: bool) -> None:
    """Put a block's layers and, given a kernel, attentions on this package's operators.

    Raises BadInput for an adapter of another kind than ``lora.attach`` makes.
    """
    adapted = {name: layer for name, layer in block.named_modules() if type(layer) is LoraLinear}
    for name, layer in adapted.items():
        _check(name, layer)
        layer.__class__ = AdaptedLinear
        layer.place = name
    for name, layer in list(block.named_modules()):
        if type(layer) is nn.Linear and ".lora_" not in name:
            layer.__class__ = FrozenLinear
            layer.place = name.removesuffix(".base_layer")
            layer.register_buffer("weight_scale", None, persistent=False)
            if in_fp8:
                _shrink(layer)
        elif isinstance(layer, WanAttention):
            if layer.add_k_proj is not None:
                raise BadInput(
                    "this transformer is conditioned on images",
                    where="settings, key backbone.path",
                    fix="Use a text-to-video model.",
                )
            if kernel is not None:
                own = for_text(kernel) if layer.is_cross_attention else kernel
                layer.set_processor(Processor(f"{name}.attention", own))


def _check(name: str, layer: Any) -> None:
    dropout = dict(layer.lora_dropout.items()).get(ADAPTER)
    if list(layer.active_adapters) != [ADAPTER] or not isinstance(dropout, nn.Identity):
        raise BadInput(
            f"layer {name} has adapters {list(layer.active_adapters)}, dropout {dropout}",
            where="training",
            fix="Attach one adapter, without dropout (lora.attach).",
        )


@torch.no_grad()
def _shrink(layer: Any) -> None:
    """The layer's weights as e4m3 with one scale an output; the wide ones are gone."""
    weight_OI, scale_O1 = fp8.rounded(layer.weight)
    layer.weight = nn.Parameter(weight_OI, requires_grad=False)
    layer.weight_scale = scale_O1.t().contiguous()
