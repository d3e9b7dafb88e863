"""Define the tables of the judge: ratings of single videos, and comparisons of two systems."""

from __future__ import annotations

from mimix_core.tables.rows import BaseRow, table


class AnswerRow(BaseRow):
    """Columns of every response of the judge: its analysis, date and cost."""

    analysis: str
    model: str  # the provider's name of it; empty without a response
    asked_on: str  # date of the response, YYYY-MM-DD, UTC; empty without one
    rubric_version: str
    attempts: int
    input_tokens: int
    output_tokens: int
    cost_usd: float | None  # null: the model's price is unknown


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
    value: float | None  # 1..10; null without a response


JUDGEMENTS = table("judgements", 1, JudgementRow, id="judgement_id", parent="video_id")


class PairwiseRow(AnswerRow):
    """One row of the table ``duels``."""

    duel_id: str  # prompt/left~right/aspect/sample
    prompt_id: str
    category: str
    aspect: str
    left_system: str
    right_system: str
    first: str  # left | right: the system shown first
    sample: int  # 2j and 2j+1 are one comparison in its two orders
    winner: str | None  # left | right | tie; null without a response


DUELS = table("duels", 1, PairwiseRow, id="duel_id")
