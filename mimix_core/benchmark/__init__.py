"""Prompts to generate from, and metrics of what was generated."""
