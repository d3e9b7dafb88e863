"""Videos by the backbone with an adapter: memory, guidance, sampling, and what a file says of it.

``mimix_core.wan.videos_stage`` is the stage that uses these; docs/generation.md says what is chosen
when, docs/decisions/0024-how-videos-are-generated.md why.
"""
