"""Neural networks that several packages run."""
