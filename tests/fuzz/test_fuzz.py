"""A fixed number of spoilt inputs for each target; ``python perf/fuzz.py`` reads many more."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fuzz.campaign import run_campaign
from tests.fuzz.findings import found
from tests.fuzz.targets import TARGET_NAMES, get_target
from tests.fuzz.watch import Watch

INPUTS = 25


@pytest.fixture(scope="module")
def watch() -> Iterator[Watch]:
    with Watch() as started:
        yield started


@pytest.mark.parametrize("name", TARGET_NAMES)
def test_seeds_are_accepted_and_spoilt_inputs_accepted_or_refused(watch: Watch, name: str) -> None:
    target = get_target(name)
    for data in target.seeds:
        assert watch.read(name, data).kind == "accepted", data[:200]
    campaign = run_campaign(watch, target, first_seed=1, inputs=INPUTS)
    assert {place: verdict.text for place, (_, verdict) in campaign.findings.items()} == {}
    assert campaign.inputs >= INPUTS // 2


@pytest.mark.parametrize("name", TARGET_NAMES)
def test_what_was_found_is_accepted_or_refused(watch: Watch, name: str) -> None:
    for data in found(name):
        verdict = watch.read(name, data)
        assert not verdict.is_finding, (data[:200], verdict.place, verdict.text)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ("fine", "accepted"),
        ("loop", "hang"),
        ("memory", "memory"),
        ("error", "error"),
        ("exit", "died"),
    ],
)
def test_the_watch_notices(data: str, kind: str) -> None:
    with Watch(max_seconds=2) as watch:
        assert watch.read("misbehaving", data.encode()).kind == kind
