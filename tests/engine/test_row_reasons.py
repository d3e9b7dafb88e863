"""Reasons are summed up with the range of the figures that the rows' details state."""

from __future__ import annotations

from mimix_core.engine.row_reasons import ReasonTally


def tally(*rows: tuple[str, str, str]) -> list[tuple[int, str]]:
    counted = ReasonTally()
    for row in rows:
        counted.add(*row)
    return [(one.rows, one.describe()) for one in counted.summaries()]


def test_figures_that_differ_become_a_range_and_the_common_reason_comes_first() -> None:
    rows = [
        ("rejected", "mask_area", "0.5% of the frame, at least 1% wanted"),
        *(
            ("rejected", "not_located", f"located in {share}% of the frames, at least 80% wanted")
            for share in (0, 23, 9, 0)
        ),
    ]
    assert tally(*rows) == [
        (4, "not_located: located in 0 to 23% of the frames, at least 80% wanted"),
        (1, "mask_area: 0.5% of the frame, at least 1% wanted"),
    ]


def test_figures_are_ordered_as_numbers_and_not_as_text() -> None:
    rows = [("rejected", "scene_too_short", f"{s} s long") for s in ("10.5", "9.25", "-1")]
    assert tally(*rows) == [(3, "scene_too_short: -1 to 10.5 s long")]


def test_digits_of_ids_are_no_figures_and_other_wordings_are_counted() -> None:
    rows = [
        ("rejected", "near_duplicate", "the footage of bunny-3f2a-0004, +1.50 s"),
        ("rejected", "near_duplicate", "the footage of bunny-3f2a-0007, +2.50 s"),
        ("rejected", "near_duplicate", "the footage of bunny-3f2a-0004, +2.00 s"),
    ]
    assert tally(*rows) == [
        (
            3,
            "near_duplicate: the footage of bunny-3f2a-0004, +1.50 to 2.00 s "
            "(and 1 with other details)",
        )
    ]


def test_a_row_without_detail_and_thousands_of_wordings_are_counted() -> None:
    rows = [("failed", "decoder_crashed", ""), ("failed", "decoder_crashed", "")]
    rows += [("failed", "no_place", f"name{'x' * n} hides") for n in range(1000)]
    found = {text.split(":")[0]: rows for rows, text in tally(*rows)}
    assert found == {"decoder_crashed": 2, "no_place": 1000}
