"""What identifies a character: exemplars, how alike they are, and limits calibrated from them."""
