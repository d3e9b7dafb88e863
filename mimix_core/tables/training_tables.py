"""Tables of the backbone, what is precomputed for it, and its LoRA."""

from __future__ import annotations

from mimix_core.tables.rows import BaseRow, table


class BackboneRow(BaseRow):
    """One row of the table ``backbone``."""

    component: str  # transformer | vae | text_encoder | tokenizer | scheduler
    backbone: str  # its own name; a stand-in never carries the real one's
    folder: str
    sha256: str
    parameters: int


BACKBONE = table("backbone", 1, BackboneRow, id="component")


class LatentRow(BaseRow):
    """One row of the table ``latents``."""

    sample_id: str
    backbone: str
    file: str  # a shard: safetensors of many samples' normalised VAE means
    key: str  # the name of this one's in there
    shape: list[int]  # channels, frames, height, width
    sha256: str  # of its numbers as they are stored


LATENTS = table("latents", 2, LatentRow, id="sample_id", parent="sample_id")


class EmbeddingRow(BaseRow):
    """One row of the table ``embeddings``."""

    sample_id: str
    backbone: str
    caption: str  # as the dataset has it
    variant: str  # which of its tags were embedded
    text: str  # what was embedded
    tokens: int
    tokens_cut: int  # how many it was too long by
    file: str  # a shard: safetensors of many texts, each cut to its true length
    key: str  # the name of this one's in there; equal texts share one
    shape: list[int]  # tokens, width
    sha256: str  # of its numbers as they are stored


EMBEDDINGS = table("embeddings", 2, EmbeddingRow, id="sample_id", parent="sample_id")


class LoraRow(BaseRow):
    """One row of the table ``lora``."""

    sample_id: str  # each dataset row: trained on, held out, or why neither
    split: str
    seen: int  # how often it was trained on


LORA = table("lora", 1, LoraRow, id="sample_id", parent="sample_id")
