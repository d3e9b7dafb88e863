"""The mixing report card: what became of each pair of characters, and what is likely behind it."""
