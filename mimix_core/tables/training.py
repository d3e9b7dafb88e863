"""Tables of the backbone, what is precomputed for it, and its LoRA."""

from __future__ import annotations

import pyarrow as pa

from mimix_core.tables.rows import INT, TEXT, Table, columns

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
    1,
    columns(
        ("sample_id", TEXT),
        ("backbone", TEXT),
        ("file", TEXT),  # safetensors with `latents_CTHW`, normalised VAE means
        ("shape", pa.list_(INT)),
        ("sha256", TEXT),
    ),
    id="sample_id",
    parent="sample_id",
)

EMBEDDINGS = Table(
    "embeddings",
    1,
    columns(
        ("sample_id", TEXT),
        ("backbone", TEXT),
        ("caption", TEXT),
        ("tokens", INT),
        ("file", TEXT),  # safetensors with `text_LD`, cut to its true length
        ("sha256", TEXT),
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
