"""Characters cut out of clips: located, segmented, judged (paper, section 3.2)."""
