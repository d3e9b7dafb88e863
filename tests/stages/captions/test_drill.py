"""Two thousand clips with a provider that fails for a tenth of them; the unit is killed twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.engine.worker import build_request
from mimix_core.stages.captions.stage import STAGE
from tests.stages.captions.test_vlm_captioner import named, rows, settings
from tests.vlm.fake_provider import FakeProvider
from tests.vlm.killed_unit import run_and_kill

CLIPS = 2000
KILLED_AT = (0.25, 0.6)
# What the provider does for a clip, and what its row says in the end.
FAULTS = [
    (["500", "503", "right"], None),
    (["429:0.2", "right"], None),
    (["cut", "right"], None),
    (["cut_mid", "right"], None),
    (["garbage", "right"], None),
    (["slow:1"], None),
    (["truncated"], "caption_truncated"),
    (["refused"], "caption_refused"),
    (["filtered"], "caption_refused"),
    (["400"], "caption_rejected"),
    (["invented"], "caption_check_failed"),
    (["not_json"], "caption_invalid"),
    (["wrong_schema"], "caption_invalid"),
    (["empty"], "caption_invalid"),
]


@pytest.mark.e2e
def test_every_clip_ends_captioned_or_failed_and_none_is_paid_twice(
    server: FakeProvider, tmp_path: Path
) -> None:
    names = [f"c{n:04d}" for n in range(CLIPS)]
    faults = {name: FAULTS[k % len(FAULTS)] for k, name in enumerate(names[::10])}
    script = {name: how for name, (how, _) in faults.items()}
    server.control(script=script, latency=0.02, keep_bodies=False)
    given, how = named(tmp_path, *names), settings(server, max_attempts=3)
    store = Store(tmp_path / "store")
    for share in KILLED_AT:
        request = build_request(STAGE, store, given, how, tmp_path / "log")
        run_and_kill(request, share * CLIPS, server)
    made = rows(run_stage(store, STAGE, given, how))
    assert len(made) == CLIPS
    assert {name: row["reason"] for name, row in made.items()} == {
        name: faults[name][1] if name in faults else None for name in names
    }
    right = server.counts()["right"]
    assert Counter(right.values()) == {1: sum(row["status"] == "ok" for row in made.values())}
