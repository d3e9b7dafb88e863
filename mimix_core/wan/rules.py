"""Wan's rules for latents, embeddings and velocities; the same for all its sizes."""

from __future__ import annotations

from mimix_core.wan import lora, text, vae
from mimix_core.wan.backbones import Rules

RULES = Rules(
    load_vae=vae.load_vae,
    encode=vae.encode,
    load_tokenizer=text.load_tokenizer,
    tokens=text.token_ids,
    load_text_encoder=text.load_encoder,
    embed=text.embed_all,
    load_transformer=lora.load_transformer,
)
