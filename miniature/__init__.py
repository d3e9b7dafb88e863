"""The miniature: a made world of two shows whose truth is known, and its small backbone."""
