"""The study: adapters trained with different shares of composites, and what they generate.

``prompts``: what is asked for. ``arms``: the settings files, one for each arm and seed. ``run``:
MiMix with each of them. ``scoring``: the judge on the generated videos. ``statistics``: shares
with their intervals.
"""
