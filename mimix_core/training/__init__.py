"""LoRA training: a stage that starts DeepSpeed in child processes, and what runs in them."""
