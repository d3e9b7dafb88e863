"""Domain models: shows, characters, prompts, captions, exact time and ids."""
