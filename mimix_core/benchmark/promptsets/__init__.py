"""The benchmark's own prompts, and a generator of such sets for any library."""

from __future__ import annotations

from pathlib import Path

MIXING_100 = Path(__file__).with_name("mixing-100-v1.yaml")
"""50 prompts of one character and 50 of two or three, for the paper's ten characters."""
