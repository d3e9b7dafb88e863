"""People rate pairs of videos: what they are shown, who can be relied on, and what they prefer."""
