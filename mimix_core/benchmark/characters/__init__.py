"""Score each asked-for character of generated videos: who it is, in whose style, how it moves."""
