"""Tables of what a judge says: ratings of single videos, and comparisons of two systems."""

from __future__ import annotations

from mimix_core.tables.rows import BaseRow, table


class AnswerRow(BaseRow):
    """What an answer of the judge cost and when it was given; kept with the answer."""

    analysis: str
    model: str  # as the provider names it; empty without an answer
    asked_on: str  # YYYY-MM-DD of the answer, UTC; empty without one
    rubric_version: str
    attempts: int
    input_tokens: int
    output_tokens: int
    cost_usd: float | None  # null: no price of the model is known


class JudgementRow(AnswerRow):
    """One row of the table ``judgements``."""

    judgement_id: str  # system/prompt[~control]/mode/aspect/sample
    system: str
    video_id: str  # system/prompt[~control]
    prompt_id: str
    category: str
    control: str  # empty, or which negative control of the video this is
    mode: str  # paper | strict
    aspect: str  # identity | motion | style | interaction
    sample: int
    value: float | None  # 1..10; null without an answer


JUDGEMENTS = table("judgements", 1, JudgementRow, id="judgement_id", parent="video_id")


class PairwiseRow(AnswerRow):
    """One row of the table ``duels``."""

    duel_id: str  # prompt/left~right/aspect/sample
    prompt_id: str
    category: str
    aspect: str
    left_system: str
    right_system: str
    first: str  # left | right: whose video was shown first
    sample: int  # 2j and 2j+1 are one comparison in its two orders
    winner: str | None  # left | right | tie; null without an answer


DUELS = table("duels", 1, PairwiseRow, id="duel_id")
