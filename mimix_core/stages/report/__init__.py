"""The page that shows a person what a run of MiMix did, stage by stage, with pictures."""
