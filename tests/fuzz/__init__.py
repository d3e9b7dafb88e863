"""Fuzzing of everything that comes from strangers: see ``tests/fuzz/target.py``."""
