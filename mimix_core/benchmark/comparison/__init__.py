"""The page that compares systems: tables, charts, and their videos next to each other."""
