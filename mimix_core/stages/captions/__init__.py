"""Captions that name who does what (paper, section 3.1)."""
