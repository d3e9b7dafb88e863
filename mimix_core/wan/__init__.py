"""The video backbone (Wan2.1): its folder, latents, embeddings, objective, LoRA and generation."""
