"""Characters pasted into scenes of the opposite style (paper, section 3.2)."""
