"""The stage key changes when, and only when, something changes that the result depends on."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from mimix_core.engine.artifacts import Counts, FileRef, FrozenModel, TableRef
from mimix_core.engine.cache_key import ExcludeFromKey, OmitDefault, canonical_json, stage_key

digests = st.text("0123456789abcdef", min_size=64, max_size=64)
paths = st.text("abcxyz", min_size=1, max_size=8).map(lambda name: Path("/somewhere", name))
files = st.builds(FileRef, path=paths, sha256=digests, size=st.integers(0, 10**12))
tables = st.builds(
    TableRef,
    stage=st.sampled_from(["scenes", "clips"]),
    unit=st.text(max_size=5),
    key=digests,
    sha256=digests,
    path=paths,
    counts=st.just(Counts(rows_in=1, ok=1, rejected=0, failed=0)),
)


class Inputs(FrozenModel):
    unit: Annotated[str, ExcludeFromKey()]
    show: str
    video: FileRef
    clips: tuple[TableRef, ...]
    model: FileRef | None


class Settings(FrozenModel):
    threshold: float
    stride: Decimal
    names: tuple[str, ...]
    limits: dict[str, int]
    workers: Annotated[int, ExcludeFromKey()] = 1


inputs_models = st.builds(
    Inputs,
    unit=st.text(max_size=5),
    show=st.text(max_size=5),
    video=files,
    clips=st.lists(tables, max_size=3).map(tuple),
    model=st.none() | files,
)
settings_models = st.builds(
    Settings,
    threshold=st.floats(allow_nan=False, allow_infinity=False),
    stride=st.decimals(0, 100, places=3),
    names=st.lists(st.text(max_size=4), max_size=3).map(tuple),
    limits=st.dictionaries(st.text(max_size=3), st.integers(), max_size=3),
    workers=st.integers(1, 64),
)


def matters(inputs: Inputs, settings: Settings) -> tuple[object, ...]:
    """What a result may depend on, spelled out by hand and apart from the code under test."""
    return (
        inputs.show,
        inputs.video.sha256,
        tuple(table.sha256 for table in inputs.clips),
        inputs.model.sha256 if inputs.model else None,
        repr(settings.threshold),
        Fraction(settings.stride),
        settings.names,
        tuple(sorted(settings.limits.items())),
    )


@given(inputs_models, settings_models, inputs_models, settings_models)
def test_equal_keys_exactly_for_equal_content(
    inputs: Inputs, settings: Settings, other_inputs: Inputs, other_settings: Settings
) -> None:
    same = matters(inputs, settings) == matters(other_inputs, other_settings)
    first = stage_key("s", 1, inputs, settings)
    second = stage_key("s", 1, other_inputs, other_settings)
    assert (first == second) is same


@given(inputs_models, settings_models, st.data())
def test_one_change_at_a_time(inputs: Inputs, settings: Settings, data: st.DataObject) -> None:
    """Random pairs hardly ever agree, so change exactly one field of one model."""
    key = stage_key("s", 1, inputs, settings)
    assert stage_key("t", 1, inputs, settings) != key
    assert stage_key("s", 2, inputs, settings) != key
    name = data.draw(st.sampled_from(sorted(Inputs.model_fields)))
    changed = inputs.model_copy(update={name: getattr(data.draw(inputs_models), name)})
    same = matters(changed, settings) == matters(inputs, settings)
    assert (stage_key("s", 1, changed, settings) == key) is same
    name = data.draw(st.sampled_from(sorted(Settings.model_fields)))
    altered = settings.model_copy(update={name: getattr(data.draw(settings_models), name)})
    same = matters(inputs, altered) == matters(inputs, settings)
    assert (stage_key("s", 1, inputs, altered) == key) is same


@given(inputs_models, settings_models)
def test_the_key_survives_the_way_to_another_process(inputs: Inputs, settings: Settings) -> None:
    there = Inputs.model_validate(inputs.model_dump(mode="json"))
    with_settings = Settings.model_validate_json(settings.model_dump_json())
    assert stage_key("s", 1, there, with_settings) == stage_key("s", 1, inputs, settings)


def test_an_input_that_was_added_later_leaves_earlier_keys_as_they_were() -> None:
    class Before(FrozenModel):
        show: str

    class Now(Before):
        vetoes: Annotated[dict[str, str], OmitDefault()] = Field(default_factory=dict)
        wanted: Annotated[tuple[str, ...], OmitDefault()] = ()

    before = stage_key("s", 1, Before(show="a"), Before(show="b"))
    assert stage_key("s", 1, Now(show="a"), Before(show="b")) == before
    for changed in (Now(show="a", vetoes={"one": ""}), Now(show="a", wanted=("one",))):
        assert stage_key("s", 1, changed, Before(show="b")) != before


@given(files, paths, st.integers(0, 10**6))
def test_a_moved_file_keeps_its_identity(file: FileRef, path: Path, size: int) -> None:
    assert canonical_json(file) == canonical_json(
        file.model_copy(update={"path": path, "size": size})
    )


def test_a_bare_path_is_refused() -> None:
    with pytest.raises(TypeError, match="use a FileRef"):
        canonical_json({"video": Path("episode.mp4")})


def test_values_that_read_alike_differ() -> None:
    alike = [1, 1.0, "1", True, [1], None, "None", {"float": 1}, Fraction(1)]
    keys = [repr(canonical_json(value)) for value in alike]
    assert len(set(keys)) == len(alike)


def test_changed_parts_are_named_with_plain_values_only() -> None:
    from mimix_core.engine.cache_key import changed_parts, key_parts

    class Inner(FrozenModel):
        width: int = 832
        share: float = 0.5
        prompt: str = "a long text"

    class Outer(FrozenModel):
        inner: Inner = Inner()
        names: tuple[str, ...] = ("Tom",)
        workers: Annotated[int, ExcludeFromKey()] = 2

    before = key_parts(Outer(), Outer())
    assert changed_parts(before, key_parts(Outer(workers=9), Outer())) == []
    other = Outer(inner=Inner(width=640, share=0.25, prompt="another"), names=("Tom", "Jerry"))
    assert changed_parts(before, key_parts(Outer(), other)) == [
        "settings.inner.prompt changed",
        "settings.inner.share 0.5 -> 0.25",
        "settings.inner.width 832 -> 640",
        "settings.names changed",
    ]
    assert "a long text" not in str(before), "texts are in the record as digests only"
