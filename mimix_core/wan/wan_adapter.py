"""Wan's rules for latents, embeddings and velocities; the same for all its sizes."""

from __future__ import annotations

from mimix_core.wan import lora, text_embeddings, vae
from mimix_core.wan.model_registry import Rules

RULES = Rules(
    load_vae=vae.load_vae,
    encode=vae.encode,
    load_tokenizer=text_embeddings.load_tokenizer,
    tokens=text_embeddings.token_ids,
    load_text_encoder=text_embeddings.load_encoder,
    embed=text_embeddings.embed_all,
    load_transformer=lora.load_transformer,
)
