"""Aliases and slugs of character names."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from mimix_core.domain.character_names import alias_map, slugify


def test_plain_names_have_plain_slugs() -> None:
    assert slugify("Ice Bear") == "ice-bear"
    assert slugify("Bunny") == "bunny"


@given(st.text(min_size=1, max_size=12), st.text(min_size=1, max_size=12))
def test_names_that_differ_in_more_than_case_have_other_slugs(one: str, two: str) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", slugify(one))
    if one.casefold() != two.casefold():
        assert slugify(one) != slugify(two)
    else:
        assert slugify(one) == slugify(two)


def test_similar_names_have_different_slugs() -> None:
    names = ["Mr. Bean", "Mr Bean", "Mr-Bean", "Mr  Bean", "熊", "猫"]
    assert len({slugify(name) for name in names}) == len(names)


def test_a_name_beats_an_alias() -> None:
    names = alias_map(["Tom", "Jerry"], {"the Cat": "Tom", "TOM": "Jerry"})
    assert names == {"tom": "Tom", "jerry": "Jerry", "the cat": "Tom"}
