"""Caption clips and composites with who does what (paper, section 3.1)."""
