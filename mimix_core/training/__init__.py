"""LoRA training: a stage that starts DeepSpeed in child processes, and the code they run."""
