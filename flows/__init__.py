"""Prefect flows, each a list of stages in order, and the command line."""
