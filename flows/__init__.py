"""Prefect flows. Each reads like the list of its stages; the stages are in mimix_core."""
