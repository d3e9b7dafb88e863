"""MiMix Studio: a local web page to look at all results, and to decide on them."""
