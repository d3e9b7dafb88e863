"""Which composites people must look at before training, and what their verdicts say of the rest."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from mimix_core.project.item_decisions import DecisionAction, DecisionLedger, ItemKind

CONFIDENCE = 0.95


@dataclass(frozen=True)
class CompositeReview:
    """How far the review of composites has come.

    ``missing``: drawn composites that nobody has looked at, or whose video is another one since.
    ``approved`` and ``rejected``: numbers of drawn composites with these verdicts.
    """

    missing: tuple[str, ...]
    approved: int
    rejected: int

    @property
    def bound(self) -> float:
        """Return the upper bound of the share that people would reject, see ``upper_bound``."""
        return upper_bound(self.rejected, self.approved + self.rejected)


def review_composites(
    videos: Mapping[str, str], ledger: DecisionLedger, share: Decimal
) -> CompositeReview:
    """Compare the composites of a dataset with what people decided.

    ``videos``: the digest of the video of each composite. Rejected composites are in no dataset any
    more; those that were drawn count all the same.
    """
    rejected = ledger.rejections(ItemKind.COMPOSITE)
    drawn = drawn_composites([*videos, *rejected], share)
    missing, approved = [], 0
    for name in drawn:
        if name in rejected or name not in videos:
            continue
        verdict = ledger.state(ItemKind.COMPOSITE, name).verdict
        looked_at = verdict is not None and verdict.action is DecisionAction.APPROVE
        if looked_at and verdict is not None and verdict.seen == videos[name]:
            approved += 1
        else:
            missing.append(name)
    return CompositeReview(tuple(missing), approved, sum(name in rejected for name in drawn))


def drawn_composites(names: Iterable[str], share: Decimal) -> list[str]:
    """Draw a share of composites at random: at least one, unless the share is 0; sorted.

    Whether one is drawn depends on its id alone, so that the others may come and go.
    """
    ranks = {name: int(hashlib.sha256(name.encode()).hexdigest(), 16) for name in names}
    if not ranks or share == 0:
        return []
    limit = int(share * 2**256)
    first = min(ranks, key=lambda name: ranks[name])
    return sorted(name for name, rank in ranks.items() if rank < limit or name == first)


def upper_bound(rejected: int, total: int, confidence: float = CONFIDENCE) -> float:
    """Return the one-sided Clopper-Pearson bound of a share, of which ``rejected`` were seen.

    With 0 of n it is about 3/n. 1 without any observation.
    """
    if rejected >= total:
        return 1.0
    low, high = rejected / total, 1.0 - 1e-12
    for _ in range(60):
        share = (low + high) / 2
        at_most = sum(_binomial(k, total, share) for k in range(rejected + 1))
        low, high = (share, high) if at_most > 1 - confidence else (low, share)
    return high


def _binomial(k: int, total: int, share: float) -> float:
    """Return the probability of ``k`` of ``total``; in logarithms, for the factors are extreme."""
    ways = math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1)
    return math.exp(ways + k * math.log(share) + (total - k) * math.log1p(-share))
