"""Override tags are read as pysubs2 reads them, in time that grows with a text's length alone."""

from __future__ import annotations

import pysubs2
from hypothesis import given
from hypothesis import strategies as st

from mimix_core.stages.transcripts.override_tags import is_drawing, plain_text

PARTS = (
    "{",
    "}",
    "\\p1",
    "\\p0",
    "\\p",
    "\\r",
    "\\rDefault",
    "\\i1",
    "\\pos(1,2)",
    "\\N",
    "\\n",
    "\\h",
    "a ",
)
texts = st.lists(st.sampled_from(PARTS), max_size=12).map("".join)


@given(texts)
def test_plain_text_is_that_of_pysubs2(text: str) -> None:
    assert plain_text(text) == pysubs2.SSAEvent(text=text).plaintext


@given(texts)
def test_drawings_are_those_of_pysubs2(text: str) -> None:
    assert is_drawing(text) == pysubs2.SSAEvent(text=text).is_drawing
