"""diffusers' Wan block with the operators of ``elementwise`` between its layers."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.transformers.transformer_wan import WanTransformerBlock

from mimix_core.wan.fast.elementwise import add_norm, gelu, modulated_norm


class FusedBlock(WanTransformerBlock):  # type: ignore[misc]
    """diffusers' block; the same parameters, and the same values but for rounding.

    What modulates the norms has no gradient here; a block whose modulation needs one (an adapter on
    the layers that embed the time), or that does not normalize before attention to text, runs as
    diffusers wrote it.
    """

    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        temb: torch.Tensor,
        rotary_emb: Any,
    ) -> torch.Tensor:
        if temb.requires_grad or not isinstance(self.norm2, torch.nn.LayerNorm):
            out: torch.Tensor = super().forward(
                hidden_states, encoder_hidden_states, temb, rotary_emb
            )
            return out
        x_ND = hidden_states.flatten(0, 1).contiguous()
        # [B, 6, D], or one for each token, [B, L, 6, D].
        values = (self.scale_shift_table + temb.float()).flatten(0, -3)
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = (
            value.contiguous() for value in values.unbind(1)
        )
        shape = hidden_states.shape
        normal_ND = modulated_norm(x_ND, 1 + scale, shift, self.norm1.eps)
        added = self.attn1(normal_ND.view(shape), None, None, rotary_emb)
        x_ND, normal_ND = add_norm(
            x_ND, added.flatten(0, 1), gate, self.norm2.weight.float()[None],
            self.norm2.bias.float()[None], self.norm2.eps,
        )  # fmt: skip
        added = self.attn2(normal_ND.view(shape), encoder_hidden_states, None, None)
        x_ND, normal_ND = add_norm(
            x_ND, added.flatten(0, 1), None, 1 + ffn_scale, ffn_shift, self.norm3.eps
        )
        first, dropout, last = self.ffn.net
        added = last(dropout(gelu(first.proj(normal_ND.view(shape)))))
        gate_BLD = ffn_gate.view(shape[0], -1, shape[2])
        sum_BLD: torch.Tensor = x_ND.view(shape).float() + added.float() * gate_BLD
        return sum_BLD.to(x_ND.dtype)
