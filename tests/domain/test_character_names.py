from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from mimix_core.domain.character_names import names_of, slug


def test_plain_names_have_plain_slugs() -> None:
    assert slug("Ice Bear") == "ice-bear"
    assert slug("Bunny") == "bunny"


@given(st.text(min_size=1, max_size=12), st.text(min_size=1, max_size=12))
def test_names_that_differ_in_more_than_case_have_other_slugs(one: str, two: str) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", slug(one))
    if one.casefold() != two.casefold():
        assert slug(one) != slug(two)
    else:
        assert slug(one) == slug(two)


def test_look_alikes_are_kept_apart() -> None:
    names = ["Mr. Bean", "Mr Bean", "Mr-Bean", "Mr  Bean", "熊", "猫"]
    assert len({slug(name) for name in names}) == len(names)


def test_a_name_beats_an_alias() -> None:
    found = names_of(["Tom", "Jerry"], {"the Cat": "Tom", "TOM": "Jerry"})
    assert found == {"tom": "Tom", "jerry": "Jerry", "the cat": "Tom"}
