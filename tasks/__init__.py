"""Prefect tasks: one module a stage. They wrap stages of mimix_core and hold no domain logic."""
