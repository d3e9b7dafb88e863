"""A value that is over its limit, but rounds to it, is shown with decimals that differ."""

from __future__ import annotations

from fractions import Fraction

import pytest

from mimix_core.engine.limit_text import format_beside_limit


@pytest.mark.parametrize(
    ("value", "limit", "spec", "texts"),
    [
        (0.63, 0.5, ".2f", ("0.63", "0.50")),
        (0.5012, 0.5, ".2f", ("0.501", "0.50")),
        (0.499999, 0.5, ".2f", ("0.499999", "0.50")),
        (0.6249, 0.625, ".2f", ("0.62", "0.625")),
        (0.626, 0.625, ".2f", ("0.63", "0.625")),
        (0.5, 0.5, ".2f", ("0.50", "0.50")),
        (0.30000000000000004, 0.3, ".2f", ("0.30000000000000004", "0.30")),
        (0.668, 2 / 3, ".2f", ("0.668", "0.667")),
        (0.4521234567, 0.4483456789, ".2f", ("0.452", "0.448")),
        (0.1203, 0.12, ".0%", ("12.03%", "12%")),
        (0.796, 0.8, ".0%", ("79.6%", "80%")),
        (0.0704, 0.07, ".0%", ("7.04%", "7%")),
        (0.0499, 0.05, "+.2f", ("+0.0499", "+0.05")),
        (Fraction(41299, 8000), Fraction(413, 80), ".3f", ("5.162", "5.1625")),
        (1e-9, 0.0, ".0%", ("0.0000001%", "0%")),
    ],
)
def test_a_value_and_its_limit_differ_as_texts_as_they_do_as_numbers(
    value: float, limit: float, spec: str, texts: tuple[str, str]
) -> None:
    assert format_beside_limit(value, limit, spec) == texts


def test_another_format_is_refused() -> None:
    with pytest.raises(ValueError, match="not a format"):
        format_beside_limit(1, 2, "d")
