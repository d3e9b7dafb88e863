"""MiMix: the domain. Plain functions over tables; knows nothing of the orchestrator."""

__version__ = "0.1.0"
