"""Generate videos with an adapted backbone: memory planning, guidance, sampling and provenance.

``mimix_core.wan.videos_stage`` is the stage that uses these. docs/generation.md describes the
automatic choices, docs/decisions/0024-how-videos-are-generated.md the reasons.
"""
