"""A vision-language model as the judge of generated videos, and how far it can be trusted."""
