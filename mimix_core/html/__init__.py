"""Building blocks of the HTML pages that MiMix writes."""
