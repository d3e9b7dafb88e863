"""Define the tables of the backbone, its latents and embeddings, and its LoRA."""

from __future__ import annotations

from mimix_core.tables.rows import BaseRow, table


class BackboneRow(BaseRow):
    """One row of the table ``backbone``."""

    component: str  # transformer | vae | text_encoder | tokenizer | scheduler
    backbone: str  # its name; a stand-in never has the real model's name
    folder: str
    sha256: str
    parameters: int


BACKBONE = table("backbone", 1, BackboneRow, id="component")


class LatentRow(BaseRow):
    """One row of the table ``latents``."""

    sample_id: str
    backbone: str
    file: str  # a shard: safetensors with normalized VAE means of many samples
    key: str  # name of this sample's tensor in the file
    shape: list[int]  # channels, frames, height, width
    sha256: str  # of the tensor's stored bytes


LATENTS = table("latents", 2, LatentRow, id="sample_id", parent="sample_id")


class RegionRow(BaseRow):
    """One row of the table ``regions``."""

    sample_id: str
    backbone: str
    characters: list[str]  # with at least one cell, in the order of the tensor
    areas: list[float]  # share of the sample's cells that each takes up
    file: str  # a shard: safetensors of many samples
    key: str  # name of this sample's tensor in the file
    shape: list[int]  # characters, frames, rows, columns of the latents; 1: the character is there
    sha256: str  # of the tensor's stored bytes


REGIONS = table("regions", 1, RegionRow, id="sample_id", parent="sample_id")


class EmbeddingRow(BaseRow):
    """One row of the table ``embeddings``."""

    sample_id: str
    backbone: str
    caption: str  # as in the dataset
    variant: str  # which of its tags are included in ``text``
    text: str  # the embedded text
    tokens: int
    tokens_cut: int  # tokens beyond the limit, left out
    file: str  # a shard: safetensors of many texts, each without padding
    key: str  # name of its tensor in the file; equal texts share one
    shape: list[int]  # tokens, width
    sha256: str  # of the tensor's stored bytes


EMBEDDINGS = table("embeddings", 2, EmbeddingRow, id="sample_id", parent="sample_id")


class LayoutRow(BaseRow):
    """One row of the table ``layouts``."""

    prompt_id: str
    backbone: str
    characters: list[str]  # from left to right
    cutouts: list[str]  # the cutout of each
    places: list[list[float]]  # scale, x, y of each one's clip in the frame
    file: str  # a shard: safetensors of many layouts
    key: str  # name of this layout's latents in the file
    shape: list[int]  # channels, frames, height, width
    sha256: str  # of the tensor's stored bytes


LAYOUTS = table("layouts", 1, LayoutRow, id="prompt_id")


class LoraRow(BaseRow):
    """One row of the table ``lora``."""

    sample_id: str  # every dataset row: trained on, held out, or the reason for neither
    split: str
    seen: int  # how often it was used in training


LORA = table("lora", 1, LoraRow, id="sample_id", parent="sample_id")
