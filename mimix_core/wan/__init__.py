"""The video backbone (Wan2.1): model folder, latents, embeddings, objective, LoRA, generation."""
