"""Run stages and keep their results: cache keys, store, locks, workers and devices."""
