"""A character is added: all of its samples, and a stratified share of the others."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mimix_core import tables
from mimix_core.domain.splits import Split, assign_splits
from mimix_core.engine.stage import StageRun, run_stage
from mimix_core.engine.store import Store
from mimix_core.errors import BadInput
from mimix_core.settings import DatasetSettings
from mimix_core.stages.dataset.replay import ReplaySample, select_replay
from mimix_core.stages.dataset.stage import STAGE, DatasetInputs, describe_shortfall
from mimix_core.tables import Row
from tests.factories import caption, clip, table_ref
from tests.stages.captions.test_recaption import composite

SHOWS = {"toons": ("Tom", "Jerry"), "street": ("Bean", "Eve")}
PER_CHARACTER = {"Tom": 24, "Jerry": 6, "Bean": 18, "Eve": 8}
PAIRS = 4


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> DatasetInputs:
    """Each show has two equal episodes; the rarest of the street is to be added."""
    folder = tmp_path_factory.mktemp("inputs")
    clips, captions = [], []
    names: dict[str, tuple[str, ...]] = {}
    for show, (first, second) in SHOWS.items():
        for number in range(2):
            episode = f"{show}-{number}"
            casts = [(first,)] * PER_CHARACTER[first] + [(second,)] * PER_CHARACTER[second]
            casts += [(first, second)] * PAIRS
            own = {f"{episode}-{index:02}": cast for index, cast in enumerate(casts)}
            rows = [clip(name, show=show, episode_id=episode, sha256=name) for name in own]
            clips.append(table_ref(folder / episode / "clips", tables.CLIPS, rows))
            texts = [caption(name, text_of(cast)) for name, cast in own.items()]
            captions.append(table_ref(folder / episode / "captions", tables.CAPTIONS, texts))
            names |= own
    [toons], [street] = (
        [f"{show}-{n}" for n in range(2) if split_of(f"{show}-{n}", show) is Split.TRAIN]
        for show in SHOWS
    )
    casts = [("Tom", "Bean"), ("Jerry", "Bean"), ("Tom", "Eve"), ("Jerry", "Eve")] * 5
    made = [
        composite(
            f"x{rank:02}",
            rank=rank,
            show="street",
            character=cast[0],
            source_episode_id=toons,
            background_episode_id=street,
        )
        for rank, cast in enumerate(casts)
    ]
    texts = [caption(f"x{rank:02}", text_of(cast)) for rank, cast in enumerate(casts)]
    return DatasetInputs(
        unit="all",
        clips=tuple(clips),
        captions=tuple(captions),
        composites=table_ref(folder / "composites", tables.COMPOSITES, made),
        recaptions=table_ref(folder / "recaptions", tables.CAPTIONS, texts),
    )


def text_of(cast: tuple[str, ...]) -> str:
    return " ".join(f"[Character: {name}], runs." for name in cast) + " [scene-style:cartoon]"


def split_of(episode: str, show: str) -> Split:
    settings = DatasetSettings()
    return assign_splits(
        {show: [f"{show}-0", f"{show}-1"]},
        seed=settings.seed,
        val_share=settings.val_share,
        test_share=settings.test_share,
    )[episode]


def dataset(store: Store, inputs: DatasetInputs, **settings: Any) -> tuple[StageRun, list[Row]]:
    run = run_stage(store, STAGE, inputs, DatasetSettings.model_validate(settings))
    return run, list(tables.read(run.ref.path, tables.DATASET))


def trained(rows: list[Row]) -> dict[str, Row]:
    return {row["sample_id"]: row for row in rows if row["split"] == Split.TRAIN}


def test_all_samples_of_the_new_character_are_used_and_a_share_of_the_others(
    store: Store, inputs: DatasetInputs
) -> None:
    ratio = {"ratio": "0.2"}
    _, everything = dataset(store, inputs, **ratio)
    run, rows = dataset(store, inputs, **ratio, new_characters=["Eve"], replay_share="0.25")
    every, used = trained(everything), trained(rows)
    new = {name for name, row in every.items() if "Eve" in row["characters"]}
    assert new < set(used) < set(every)
    assert {used[name]["kind"] for name in new} == {"original", "composite"}
    for kind in ("original", "composite"):
        old = {name for name, row in every.items() if row["kind"] == kind} - new
        replayed = {name for name, row in used.items() if row["kind"] == kind} - new
        assert abs(len(replayed) - len(old) / 4) <= 0.5
    held_out = [row for row in everything if row["split"] == "val"]
    assert held_out
    assert [row for row in rows if row["split"] == "val"] == held_out, "measured as before"
    left_out = [row for row in rows if row["reason"] == "not_replayed"]
    assert {row["sample_id"] for row in left_out} == set(every) - set(used)
    assert {row["split"] for row in left_out} == {""}
    notes = store.record(run.ref).notes
    assert notes["samples_with_new_characters"] == len(new)
    assert notes["samples_replayed"] == len(used) - len(new)
    assert describe_shortfall(notes, DatasetSettings(**ratio).ratio or 0) == ""  # type: ignore[arg-type]
    card = (run.ref.folder / "README.md").read_text()
    assert f"{len(new)} of them show Eve, to be added to an adapter" in card
    assert "There are not enough" not in card


def test_shows_and_old_characters_are_replayed_as_equally_often_as_they_can_be(
    store: Store, inputs: DatasetInputs
) -> None:
    _, rows = dataset(store, inputs, ratio="0", new_characters=["Eve"], replay_share="0.5")
    replayed = [row for row in trained(rows).values() if "Eve" not in row["characters"]]
    shows = Counter(row["show"] for row in replayed)
    assert shows == {"toons": 13, "street": 13}  # of 34 and of 18
    names = Counter(
        name for row in replayed if row["show"] == "toons" for name in row["characters"]
    )
    assert abs(names["Tom"] - names["Jerry"]) <= 1, "though Tom has four times as many clips"


def test_a_smaller_share_is_part_of_a_larger_one(store: Store, inputs: DatasetInputs) -> None:
    sets = [
        set(trained(dataset(store, inputs, new_characters=["Eve"], replay_share=share)[1]))
        for share in ("0", "0.1", "0.3", "1")
    ]
    for small, large in pairwise(sets):
        assert small < large
    assert sets[-1] == set(trained(dataset(store, inputs)[1]))
    other, _ = dataset(store, inputs, new_characters=["Eve"], replay_share="0.1", seed=1)
    assert other.computed


def test_an_excluded_character_is_in_no_split(store: Store, inputs: DatasetInputs) -> None:
    _, everything = dataset(store, inputs, ratio="0.1")
    run, rows = dataset(store, inputs, ratio="0.1", excluded_characters=["Eve"])
    usable = [row for row in rows if row["status"] == "ok"]
    assert not any("Eve" in row["characters"] for row in usable)
    assert {row["reason"] for row in rows if "Eve" in row["characters"]} == {"excluded_character"}
    before = {row["sample_id"]: row["split"] for row in everything if row["kind"] == "original"}
    assert all(
        row["split"] == before[row["sample_id"]] for row in usable if row["kind"] == "original"
    )
    originals = sum(row["kind"] == "original" and row["split"] == "train" for row in usable)
    composites = sum(row["kind"] == "composite" for row in usable)
    assert abs(Fraction(composites, originals + composites) - Fraction(1, 10)) < Fraction(1, 60)
    assert "Left out: all samples that show Eve." in (run.ref.folder / "README.md").read_text()


def test_keys_are_those_of_before_while_nothing_is_added(inputs: DatasetInputs) -> None:
    plain = STAGE.key(inputs, DatasetSettings())
    same = DatasetSettings.model_validate(
        {"excluded_characters": [], "new_characters": [], "replay_share": "1.0"}
    )
    assert STAGE.key(inputs, same) == plain
    assert STAGE.key(inputs, DatasetSettings(new_characters=("Eve",))) != plain
    assert STAGE.key(inputs, DatasetSettings(excluded_characters=("Eve",))) != plain


def test_a_character_without_samples_cannot_be_added(store: Store, inputs: DatasetInputs) -> None:
    with pytest.raises(BadInput, match="no sample of the training split shows Adam"):
        dataset(store, inputs, new_characters=["Eve", "Adam"], replay_share="0.25")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"replay_share": "0.2"}, "new_characters names no character"),
        ({"new_characters": ["Eve"], "replay_share": "1.2"}, "less than or equal to 1"),
        ({"new_characters": ["Eve"], "excluded_characters": ["Eve"]}, "Eve is in new_characters"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        DatasetSettings.model_validate(settings)


@st.composite
def pools(draw: st.DrawFn) -> list[ReplaySample]:
    casts = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["a", "b"]),
                st.sets(st.sampled_from("ABCD"), max_size=2),
                st.booleans(),
            ),
            max_size=30,
        )
    )
    return [
        ReplaySample(f"s{number}", show, tuple(sorted(cast)), pasted)
        for number, (show, cast, pasted) in enumerate(casts)
    ]


@given(pools(), st.fractions(0, 1), st.fractions(0, 1), st.integers(0, 3))
def test_selections_are_nested_exact_and_independent_of_the_order(
    pool: list[ReplaySample], one: Fraction, two: Fraction, seed: int
) -> None:
    small, large = sorted((one, two))
    selected = select_replay(pool, {"A"}, large, seed)
    assert select_replay(pool, {"A"}, small, seed) <= selected
    assert select_replay(pool[::-1], {"A"}, large, seed) == selected
    for pasted in (False, True):
        old = {s.sample_id for s in pool if "A" not in s.characters and s.composite is pasted}
        assert abs(len(selected & old) - len(old) * large) <= Fraction(1, 2)
    assert not any("A" in s.characters for s in pool if s.sample_id in selected)
