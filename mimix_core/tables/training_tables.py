"""Tables of the backbone, what is precomputed for it, and its LoRA."""

from __future__ import annotations

import pyarrow as pa

from mimix_core.tables.columns import INT, TEXT, Table, columns

BACKBONE = Table(
    "backbone",
    1,
    columns(
        ("component", TEXT),  # transformer | vae | text_encoder | tokenizer | scheduler
        ("backbone", TEXT),  # its own name; a stand-in never carries the real one's
        ("folder", TEXT),
        ("sha256", TEXT),
        ("parameters", INT),
    ),
    id="component",
)

LATENTS = Table(
    "latents",
    2,
    columns(
        ("sample_id", TEXT),
        ("backbone", TEXT),
        ("file", TEXT),  # a shard: safetensors of many samples' normalised VAE means
        ("key", TEXT),  # the name of this one's in there
        ("shape", pa.list_(INT)),  # channels, frames, height, width
        ("sha256", TEXT),  # of its numbers as they are stored
    ),
    id="sample_id",
    parent="sample_id",
)

EMBEDDINGS = Table(
    "embeddings",
    2,
    columns(
        ("sample_id", TEXT),
        ("backbone", TEXT),
        ("caption", TEXT),  # as the dataset has it
        ("variant", TEXT),  # which of its tags were embedded
        ("text", TEXT),  # what was embedded
        ("tokens", INT),
        ("tokens_cut", INT),  # how many it was too long by
        ("file", TEXT),  # a shard: safetensors of many texts, each cut to its true length
        ("key", TEXT),  # the name of this one's in there; equal texts share one
        ("shape", pa.list_(INT)),  # tokens, width
        ("sha256", TEXT),  # of its numbers as they are stored
    ),
    id="sample_id",
    parent="sample_id",
)

LORA = Table(
    "lora",
    1,
    columns(
        ("sample_id", TEXT),  # each dataset row: trained on, held out, or why neither
        ("split", TEXT),
        ("seen", INT),  # how often it was trained on
    ),
    id="sample_id",
    parent="sample_id",
)
