"""Exchange sequence shards for head shards between processes, around self-attention (Ulysses).

DeepSpeed-Ulysses (arXiv 2309.14509): every process has a part of the tokens. Attention needs all
tokens, but of one head at a time, so before it each process gets all tokens of a part of the heads,
and afterwards its own tokens of all heads.

Shapes: P processes, S tokens of one of them, L = P * S tokens, G heads of one of them, H = P * G.
"""

from __future__ import annotations

import torch
from torch import distributed
from torch._C._distributed_c10d import _resolve_process_group


@torch.library.custom_op("mimix::all_to_all", mutates_args=())
def all_to_all(x: torch.Tensor, group_name: str) -> torch.Tensor:
    """Send part i of the first axis to process i of the group; return what each one sent.

    One operator, so that compiled blocks contain it as it is.
    """
    received = torch.empty_like(x)
    group = _resolve_process_group(group_name)  # type: ignore[arg-type]
    distributed.all_to_all_single(received, x, group=group)
    return received


@all_to_all.register_fake
def _(x: torch.Tensor, group_name: str) -> torch.Tensor:
    return torch.empty_like(x)


def gather_tokens(x_BSHD: torch.Tensor, group_name: str, processes: int) -> torch.Tensor:
    """Return all tokens of this process's heads, [B, L, G, D], from its tokens of all heads."""
    batch, tokens, heads, width = x_BSHD.shape
    x_BSPGD = x_BSHD.reshape(batch, tokens, processes, heads // processes, width)
    x_PBSGD = x_BSPGD.permute(2, 0, 1, 3, 4).contiguous()
    received_PBSGD: torch.Tensor = all_to_all(x_PBSGD, group_name)
    return received_PBSGD.transpose(0, 1).flatten(1, 2)


def scatter_tokens(x_BLGD: torch.Tensor, group_name: str, processes: int) -> torch.Tensor:
    """Return this process's tokens of all heads, [B, S, H, D]: the inverse of ``gather_tokens``."""
    batch, tokens, heads, width = x_BLGD.shape
    x_BPSGD = x_BLGD.reshape(batch, processes, tokens // processes, heads, width)
    x_PBSGD = x_BPSGD.transpose(0, 1).contiguous()
    received_PBSGD: torch.Tensor = all_to_all(x_PBSGD, group_name)
    return received_PBSGD.permute(1, 2, 0, 3, 4).flatten(2, 3)
