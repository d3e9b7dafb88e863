"""What was spent so far, by all processes and over all restarts: one line a paid request."""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass
from decimal import Decimal

from mimix_core.engine.artifacts import Frozen
from mimix_core.errors import BadInput
from mimix_core.vlm.protocol import BudgetSpent, Usage
from mimix_core.vlm.response_cache import Answers, Turn, locked


class Line(Frozen):
    """A paid request; ``total_usd`` is the sum up to and with it."""

    digest: str
    kind: str
    model: str
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    usd: Decimal | None
    total_usd: Decimal
    at: datetime.datetime


LONGEST_LINE = 4096


@dataclass(frozen=True)
class Ledger:
    """``ledger.jsonl`` in the folder of answers. Lines are only ever added."""

    answers: Answers
    budget_usd: Decimal | None

    def spent_usd(self) -> Decimal:
        """All that was ever paid for answers of this folder, of any model."""
        with locked(self.answers.root / "ledger.jsonl") as descriptor:
            return _total(descriptor)

    def add(self, digest: str, kind: str, model: str, usage: Usage, usd: Decimal | None) -> Decimal:
        """Note a request that was paid; gives the new total."""
        with locked(self.answers.root / "ledger.jsonl") as descriptor:
            total = _total(descriptor) + (usd or 0)
            line = Line(
                digest=digest,
                kind=kind,
                model=model[:200],
                input_tokens=usage.input_tokens,
                cached_tokens=usage.cached_tokens,
                output_tokens=usage.output_tokens,
                usd=usd,
                total_usd=total,
                at=datetime.datetime.now(datetime.UTC),
            )
            # A process that died in the middle of a line left no newline: end it here.
            size = os.fstat(descriptor).st_size
            broken = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            start = b"\n" if broken else b""
            os.pwrite(descriptor, start + line.model_dump_json().encode() + b"\n", size)
        return total

    def start(self, turn: Turn, most_usd: Decimal | None) -> bool:
        """Set aside what the next request may cost at most. False: wait for those under way.

        Raises BudgetSpent when what is left is not enough, and no request under way can change it.
        """
        if most_usd is None:
            return True
        if self.budget_usd is None:
            turn.risk(most_usd)
            return True
        with locked(self.answers.root / "budget.lock"):
            at_risk = self.answers.at_risk_usd()
            if self.spent_usd() + at_risk + most_usd <= self.budget_usd:
                turn.risk(most_usd)
                return True
        if not at_risk:
            raise self.spent()
        return False

    def sweep(self) -> None:
        """Count requests whose process died as paid: nobody can tell that they were not."""
        for digest, usd in self.answers.lost():
            self.add(digest, "lost", "", Usage(), usd)

    def spent(self) -> BudgetSpent:
        """The error of a budget that has no room for the next request."""
        assert self.budget_usd is not None
        spent = self.spent_usd()
        return BudgetSpent(
            f"{spent:.4f} of the {self.budget_usd} US dollars of the budget are spent, and the "
            "next request may cost more than what is left",
            fix="raise budget_usd: all answers so far are kept and will not be paid again",
            spent_usd=spent,
            budget_usd=self.budget_usd,
        )


def _total(descriptor: int) -> Decimal:
    """The total of the last whole line. Raises BadInput when no line can be read."""
    size = os.fstat(descriptor).st_size
    start = max(0, size - LONGEST_LINE)
    lines = os.pread(descriptor, size - start, start).split(b"\n")
    whole = [line for line in lines[:-1] if line]
    for line in reversed(whole):
        if line.startswith(b'{"digest"') and line.endswith(b"}"):
            return Line.model_validate_json(line).total_usd
    if whole:
        raise BadInput(
            "the ledger of what was spent cannot be read", where="ledger.jsonl", fix="repair it"
        )
    return Decimal(0)
