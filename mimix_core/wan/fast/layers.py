"""Replace a Wan block's linear layers and attention by this package's operators, in place.

Modules get another class but stay in the module tree. Parameter names do not change, so exported
files are the same, and peft and DeepSpeed find their parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from diffusers.models.transformers.transformer_wan import WanAttention
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import nn

from mimix_core.errors import BadInput
from mimix_core.wan.fast import custom_ops, fp8
from mimix_core.wan.fast.all_to_all import gather_tokens, scatter_tokens
from mimix_core.wan.fast.attention import AttentionKernel, attention, cross_attention_kernel
from mimix_core.wan.fast.attention_inputs import attention_inputs
from mimix_core.wan.fast.elementwise import rotary_norm
from mimix_core.wan.fast.fused_block import FusedBlock

ADAPTER_NAME = "default"


class FrozenLinear(nn.Linear):
    """A frozen layer without an adapter, by ``custom_ops.linear`` or quantized in fp8."""

    layer_name: str
    weight_scale: torch.Tensor | None

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        x_NI = input.flatten(0, -2)
        out_NO: torch.Tensor
        if self.weight_scale is None:
            out_NO = custom_ops.linear(self.layer_name, x_NI, self.weight, self.bias)
        else:
            x8_NI, scale_N1 = fp8.quantize_rows(x_NI.detach())
            out_NO = fp8.linear_fp8(
                self.layer_name, x_NI, x8_NI, scale_N1, self.weight, self.weight_scale, self.bias
            )
        return out_NO.view(*input.shape[:-1], -1)


class AdaptedLinear(LoraLinear):  # type: ignore[misc]
    """peft's layer with its adapter, by ``custom_ops.adapted_linear`` or its fp8 version."""

    layer_name: str
    base_layer: FrozenLinear

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if self.disable_adapters:
            return self.base_layer.forward(x)
        frozen = self.base_layer
        a_RI, b_OR = self.lora_A[ADAPTER_NAME].weight, self.lora_B[ADAPTER_NAME].weight
        scale = self.scaling[ADAPTER_NAME]
        x_NI = x.flatten(0, -2)
        out_NO: torch.Tensor
        down_NR = custom_ops.adapter_down(x_NI.detach(), a_RI.detach())
        if frozen.weight_scale is None:
            out_NO = custom_ops.adapted_linear(
                self.layer_name, x_NI, frozen.weight, frozen.bias, down_NR, a_RI, b_OR, scale
            )
        else:
            x8_NI, scale_N1 = fp8.quantize_rows(x_NI.detach())
            out_NO = fp8.adapted_linear_fp8(
                self.layer_name,
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


@dataclass(frozen=True)
class SequenceShards:
    """The processes that have a part of the tokens each: their group's name, and how many."""

    group_name: str
    processes: int


class AttentionProcessor:
    """diffusers' ``WanAttnProcessor`` for text-to-video, by ``attention.attention``.

    ``shards``: of the tokens, if this process has only a part of them
    (``generation.sequence_parallel``).
    """

    shards: SequenceShards | None = None

    def __init__(self, layer_name: str, kernel: AttentionKernel) -> None:
        self.layer_name = layer_name
        self.kernel = kernel

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        if encoder_hidden_states is None:
            q, k, v = _attention_inputs(attn, ("q", "k", "v"), hidden_states, rotary_emb)
        else:
            (q,) = _attention_inputs(attn, ("q",), hidden_states, None)
            k, v = _attention_inputs(attn, ("k", "v"), encoder_hidden_states, None)
        if self.shards is not None:
            name, count = self.shards.group_name, self.shards.processes
            q, k, v = (gather_tokens(x, name, count) for x in (q, k, v))
        out_BLHD, _ = attention(self.layer_name, self.kernel, q, k, v)
        if self.shards is not None:
            out_BLHD = scatter_tokens(out_BLHD, name, count)
        out: torch.Tensor = attn.to_out[0](out_BLHD.flatten(2, 3))
        return out


def _attention_inputs(
    attn: WanAttention,
    names: Sequence[Literal["q", "k", "v"]],
    x_BLD: torch.Tensor,
    rotary: tuple[torch.Tensor, torch.Tensor] | None,
) -> list[torch.Tensor]:
    """Compute queries, keys or values of one input, [B, L, heads, H]; the first two normalized.

    ``rotary``: the tables of position embeddings to apply to them, [B or 1, L, 1, H].
    """
    layers = [getattr(attn, f"to_{name}") for name in names]
    norms = [getattr(attn, f"norm_{name}") for name in names if name != "v"]
    tables = (None, None) if rotary is None else tuple(x.flatten(0, 2) for x in rotary)
    eps = attn.norm_q.eps
    x_NI = x_BLD.flatten(0, 1)
    if all(map(_has_plain_adapter, layers)):
        a_RI = [layer.lora_A[ADAPTER_NAME].weight for layer in layers]
        outs_NO = attention_inputs(
            layers[0].layer_name,
            x_NI,
            [layer.base_layer.weight for layer in layers],
            [layer.base_layer.bias for layer in layers],
            custom_ops.adapter_down(x_NI.detach(), torch.cat(a_RI).detach()),
            a_RI,
            [layer.lora_B[ADAPTER_NAME].weight for layer in layers],
            layers[0].scaling[ADAPTER_NAME],
            [norm.weight for norm in norms],
            *tables,
            eps,
        )
    else:
        outs_NO = [layer(x_NI) for layer in layers]
        for index, norm in enumerate(norms):
            outs_NO[index] = rotary_norm(outs_NO[index], norm.weight, *tables, eps)[0]
    split = (*x_BLD.shape[:2], attn.heads, -1)
    return [out_NO.view(split) for out_NO in outs_NO[: len(layers)]]


def _has_plain_adapter(layer: nn.Module) -> bool:
    """Return whether a layer computes in its weights' own format, with its adapter."""
    return (
        isinstance(layer, AdaptedLinear)
        and not layer.disable_adapters
        and layer.base_layer.weight_scale is None
    )


def replace_layers(block: nn.Module, kernel: AttentionKernel | None, use_fp8: bool) -> None:
    """Replace a block's linear layers, what is between them and, given a kernel, its attention.

    Raises BadInput for an adapter that ``lora.attach_adapter`` did not attach.
    """
    # peft computes DoRA's layers itself, from the same parameters.
    adapted = {
        name: layer
        for name, layer in block.named_modules()
        if type(layer) is LoraLinear and ADAPTER_NAME not in layer.lora_variant
    }
    block.__class__ = FusedBlock
    for name, layer in adapted.items():
        _check_adapter(name, layer)
        layer.__class__ = AdaptedLinear
        layer.layer_name = _JOINT_NAMES.get(name, name)
    for name, layer in list(block.named_modules()):
        if type(layer) is nn.Linear and ".lora_" not in name:
            layer.__class__ = FrozenLinear
            own_name = name.removesuffix(".base_layer")
            layer.layer_name = _JOINT_NAMES.get(own_name, own_name)
            layer.register_buffer("weight_scale", None, persistent=False)
            if use_fp8:
                _quantize(layer)
        elif isinstance(layer, WanAttention):
            if layer.add_k_proj is not None:
                raise BadInput(
                    "this transformer is conditioned on images",
                    where="settings, key backbone.path",
                    fix="Use a text-to-video model.",
                )
            if kernel is not None:
                layer_kernel = (
                    cross_attention_kernel(kernel) if layer.is_cross_attention else kernel
                )
                layer.set_processor(AttentionProcessor(f"{name}.attention", layer_kernel))


_JOINT_NAMES = {
    **dict.fromkeys(("attn1.to_q", "attn1.to_k", "attn1.to_v"), "attn1.to_qkv"),
    **dict.fromkeys(("attn2.to_k", "attn2.to_v"), "attn2.to_kv"),
}
"""Layers that compute together, and their name in the activation plan."""


def _check_adapter(name: str, layer: Any) -> None:
    dropout = dict(layer.lora_dropout.items()).get(ADAPTER_NAME)
    if list(layer.active_adapters) != [ADAPTER_NAME] or not isinstance(dropout, nn.Identity):
        raise BadInput(
            f"layer {name} has adapters {list(layer.active_adapters)}, dropout {dropout}",
            where="training",
            fix="Attach a single adapter without dropout (lora.attach_adapter).",
        )


@torch.no_grad()
def _quantize(layer: Any) -> None:
    """Replace the layer's weights by e4m3 weights with one scale per output."""
    weight_OI, scale_O1 = fp8.quantize_rows(layer.weight)
    layer.weight = nn.Parameter(weight_OI, requires_grad=False)
    layer.weight_scale = scale_O1.t().contiguous()
