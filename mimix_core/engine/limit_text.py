"""Format a measured value beside the limit that it misses, so that the two texts differ."""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction

_SPEC = re.compile(r"(\+?)\.(\d+)([f%])")
_MOST_DECIMALS = 18
_MORE_OF_LIMIT = 3
"""A limit is a setting, and shown complete if that takes at most so many decimals more."""
_KEPT_ZEROS = 2
"""Decimals of a limit up to which zeros at its end are kept."""


def format_beside_limit(
    value: float | Fraction, limit: float | Fraction, spec: str = ".2f"
) -> tuple[str, str]:
    """Format a value and its limit with the decimals of ``spec``, or as many more as it takes.

    ``spec``: a format such as ``.2f``, ``+.2f`` or ``.0%``. A value above its limit has a text
    that is a larger number than the limit's text, one below it a smaller number: 0.501 beside
    0.50, never 0.50 beside 0.50. Texts of equal values are equal.
    """
    found = _SPEC.fullmatch(spec)
    if found is None:
        raise ValueError(f"not a format of a value and its limit: {spec!r}")
    sign, least, kind = found[1], int(found[2]), found[3]
    value, limit = float(value), float(limit)
    complete = next(
        (
            decimals
            for decimals in range(least, least + _MORE_OF_LIMIT + 1)
            if float(_read(f"{limit:{sign}.{decimals}{kind}}")) == limit
        ),
        None,
    )
    texts = "", ""
    for decimals in range(least, _MOST_DECIMALS + 1):
        of_limit = decimals if complete is None else complete
        texts = (
            f"{value:{sign}.{decimals}{kind}}",
            _strip_zeros(f"{limit:{sign}.{of_limit}{kind}}", min(least, _KEPT_ZEROS)),
        )
        if _compare(_read(texts[0]), _read(texts[1])) == _compare(value, limit):
            break
    return texts


def _read(text: str) -> Decimal:
    return Decimal(text[:-1]) / 100 if text.endswith("%") else Decimal(text)


def _compare(one: float | Decimal, other: float | Decimal) -> int:
    return (one > other) - (one < other)


def _strip_zeros(text: str, least: int) -> str:
    """Remove zeros at the end, but keep ``least`` decimals."""
    unit = "%" if text.endswith("%") else ""
    whole, _, decimals = text.removesuffix("%").partition(".")
    decimals = decimals[:least] + decimals[least:].rstrip("0")
    return f"{whole}.{decimals}{unit}" if decimals else f"{whole}{unit}"
