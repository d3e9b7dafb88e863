"""The small random Wan as if it were published: its folder is checked, never built."""

from dataclasses import replace

from mimix_core.wan.model_registry import TINY

BACKBONE = replace(TINY, name="tests.wan.published_tiny", hub_id="tests/published-tiny")
