"""Wan's interface to latents, embeddings and velocities, shared by all its sizes."""

from __future__ import annotations

from mimix_core.wan import lora, text_embeddings, vae
from mimix_core.wan.model_registry import BackboneInterface

INTERFACE = BackboneInterface(
    load_vae=vae.load_vae,
    encode_frames=vae.encode_frames,
    load_tokenizer=text_embeddings.load_tokenizer,
    tokenize=text_embeddings.tokenize_captions,
    load_text_encoder=text_embeddings.load_text_encoder,
    embed_tokens=text_embeddings.embed_tokens,
    load_transformer=lora.load_transformer,
)
