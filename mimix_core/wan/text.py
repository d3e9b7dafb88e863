"""Stage ``embeddings``: each caption through UMT5, computed once.

Wan's rule: the caption is cleaned and cut to 512 tokens, UMT5 runs with its mask, the output is
cut to its true length (stored so) and later padded with zeros to 512.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from mimix_core import progress, tables
from mimix_core.keys import Immaterial
from mimix_core.refs import FileRef, Frozen, TableRef, digest_file
from mimix_core.settings import EmbeddingSettings
from mimix_core.stage import Stage, StageReport
from mimix_core.tables import CAPTIONS, EMBEDDINGS, Row

if TYPE_CHECKING:
    import torch


class EmbeddingInputs(Frozen):
    """Captions, and the two components that make embeddings of them."""

    unit: Annotated[str, Immaterial()]
    captions: TableRef
    backbone_name: str
    text_encoder: FileRef
    tokenizer: FileRef


def run(inputs: EmbeddingInputs, settings: EmbeddingSettings, out: Path) -> StageReport:
    """Embed every usable caption; equal captions give equal files."""
    from mimix_core.wan import tensors
    from mimix_core.wan.runtime import pick_device, pin_threads

    captions = list(tables.usable(tables.read(inputs.captions.path, CAPTIONS)))
    rows: list[Row] = []
    if captions:
        pin_threads(settings.threads)
        device = pick_device(settings.device)
        tokenizer, encoder = load(inputs.tokenizer.path, inputs.text_encoder.path, device)
        (out / "embeddings").mkdir()
    for number, row in enumerate(captions):
        progress.advance(number, len(captions), row["clip_id"])
        text_LD = embed(tokenizer, encoder, row["caption"], settings.max_tokens)
        name = f"embeddings/{row['clip_id']}.safetensors"
        tensors.write(out / name, {"text_LD": text_LD})
        rows.append(
            tables.ok(
                sample_id=row["clip_id"],
                backbone=inputs.backbone_name,
                caption=row["caption"],
                tokens=len(text_LD),
                file=name,
                sha256=digest_file(out / name),
            )
        )
    progress.advance(len(captions), len(captions))
    return StageReport(rows=rows, rows_in=len(captions))


def load(tokenizer: Path, text_encoder: Path, device: torch.device) -> tuple[Any, Any]:
    """The tokenizer, and the encoder (``UMT5EncoderModel``) in the type of its stored weights."""
    from transformers import AutoTokenizer, UMT5EncoderModel

    encoder = UMT5EncoderModel.from_pretrained(text_encoder, dtype="auto").eval().to(device)
    return AutoTokenizer.from_pretrained(tokenizer), encoder


def embed(tokenizer: Any, encoder: Any, caption: str, max_tokens: int) -> torch.Tensor:
    """text_LD of one caption: L true tokens, end mark included, at most ``max_tokens``.

    One caption at a time has no padding, so its values do not depend on its neighbours.
    """
    import torch
    from diffusers.pipelines.wan.pipeline_wan import prompt_clean

    tokens = tokenizer(
        prompt_clean(caption), max_length=max_tokens, truncation=True, return_tensors="pt"
    )
    with torch.no_grad():
        hidden_BLD = encoder(
            tokens.input_ids.to(encoder.device), tokens.attention_mask.to(encoder.device)
        ).last_hidden_state
    text_LD: torch.Tensor = hidden_BLD[0].cpu()
    return text_LD


STAGE = Stage(
    name="embeddings",
    version=1,
    inputs=EmbeddingInputs,
    settings=EmbeddingSettings,
    table=EMBEDDINGS,
    run=run,
)
