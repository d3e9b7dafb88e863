"""Neural networks shared by several packages."""
