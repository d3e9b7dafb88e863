"""The page on which systems are compared: tables, charts, and their videos side by side."""
