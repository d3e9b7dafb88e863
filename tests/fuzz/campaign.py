"""Run a target on many inputs, and make the inputs of its findings small."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.target import Target, spoilt_inputs
from tests.fuzz.watch import Verdict, Watch


@dataclass
class Campaign:
    """The outcome: number of inputs by kind of verdict, and the first input of each finding."""

    kinds: Counter[str] = field(default_factory=Counter)
    findings: dict[str, tuple[bytes, Verdict]] = field(default_factory=dict)

    @property
    def inputs(self) -> int:
        return self.kinds.total()


def run_campaign(
    watch: Watch,
    target: Target,
    *,
    first_seed: int,
    inputs: int,
    go_on: Callable[[], bool] = lambda: True,
) -> Campaign:
    """Read up to ``inputs`` spoilt inputs, the same for the same seed."""
    campaign = Campaign()

    @seed(first_seed)
    @settings(
        max_examples=inputs,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(spoilt_inputs(target))
    def read(data: bytes) -> None:
        if not go_on():
            return
        verdict = watch.read(target.name, data)
        campaign.kinds[verdict.kind] += 1
        if verdict.is_finding:
            known = campaign.findings.get(verdict.place)
            if known is None or len(data) < len(known[0]):
                campaign.findings[verdict.place] = (data, verdict)

    read()
    return campaign


def minimize(watch: Watch, target: Target, data: bytes, place: str, *, seconds: float) -> bytes:
    """Remove what a finding does not need, for at most that many seconds."""
    deadline = time.monotonic() + seconds
    size = len(data) // 2
    while size and time.monotonic() < deadline:
        start, smaller = 0, False
        while start < len(data) and time.monotonic() < deadline:
            shorter = data[:start] + data[start + size :]
            if watch.read(target.name, shorter).place == place:
                data, smaller = shorter, True
            else:
                start += size
        size = size if smaller and size < len(data) else size // 2
    return data
