"""Tables of what a judge says: ratings of single videos, and comparisons of two systems."""

from __future__ import annotations

import pyarrow as pa

from mimix_core.tables.columns import FLOAT, INT, TEXT, Table, columns

# What an answer cost and when it was given; all of it is kept with the answer.
_ANSWER = (
    ("analysis", TEXT),
    ("model", TEXT),  # as the provider names it; empty without an answer
    ("asked_on", TEXT),  # YYYY-MM-DD of the answer, UTC; empty without one
    ("rubric_version", TEXT),
    ("attempts", INT),
    ("input_tokens", INT),
    ("output_tokens", INT),
    ("cost_usd", FLOAT),
)


def _missing(schema: pa.Schema, name: str) -> pa.Schema:
    """The schema with null allowed in one column: no answer is no number."""
    index = schema.get_field_index(name)
    return schema.set(index, schema.field(index).with_nullable(True))


JUDGEMENTS = Table(
    "judgements",
    1,
    _missing(
        columns(
            ("judgement_id", TEXT),  # system/prompt[~control]/mode/aspect/sample
            ("system", TEXT),
            ("video_id", TEXT),  # system/prompt[~control]
            ("prompt_id", TEXT),
            ("category", TEXT),
            ("control", TEXT),  # empty, or which negative control of the video this is
            ("mode", TEXT),  # paper | strict
            ("aspect", TEXT),  # identity | motion | style | interaction
            ("sample", INT),
            ("value", FLOAT),  # 1..10; null without an answer
            *_ANSWER,
        ),
        "value",
    ),
    id="judgement_id",
    parent="video_id",
)

DUELS = Table(
    "duels",
    1,
    _missing(
        columns(
            ("duel_id", TEXT),  # prompt/left~right/aspect/sample
            ("prompt_id", TEXT),
            ("category", TEXT),
            ("aspect", TEXT),
            ("left_system", TEXT),
            ("right_system", TEXT),
            ("first", TEXT),  # left | right: whose video was shown first
            ("sample", INT),  # 2j and 2j+1 are one comparison in its two orders
            ("winner", TEXT),  # left | right | tie; null without an answer
            *_ANSWER,
        ),
        "winner",
    ),
    id="duel_id",
)
