from __future__ import annotations

from pathlib import Path

import pytest

from mimix_core.benchmark.judge.agreement import agreement, read_ratings
from mimix_core.errors import BadInput
from tests.benchmark.judge.test_judge_results import rated

HEAD = "system,prompt_id,rater,aspect,rating\n"


def csv(folder: Path, *lines: str) -> Path:
    path = folder / "human.csv"
    path.write_text(HEAD + "".join(f"{line}\n" for line in lines))
    return path


def test_judge_and_people_by_aspect(tmp_path: Path) -> None:
    rows = [rated(value, prompt_id=f"p{n}") for n, value in enumerate([2, 5, 8, None])]
    rows += [rated(value, prompt_id=f"p{n}", aspect="motion") for n, value in enumerate([2, 5, 8])]
    human = read_ratings(
        csv(
            tmp_path,
            *(f"a,p{n},ann,identity,{value}" for n, value in enumerate([1, 5, 8, 9])),
            "a,p0,bob,identity,3",
            *(f"a,p{n},ann,motion,{value}" for n, value in enumerate([8, 5, 2])),
        )
    )
    identity, motion, style, _ = agreement(rows, human, "paper")
    # Ann's 1 and Bob's 3 are a 2.
    assert (identity.videos, identity.unjudged) == (3, 1)
    assert identity.kappa == identity.spearman == pytest.approx(1)
    assert motion.spearman == pytest.approx(-1)
    assert motion.kappa == pytest.approx(-1)
    assert (style.videos, style.kappa, style.spearman) == (0, None, None)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a,p0,ann,beauty,3", "line 2: no aspect 'beauty'"),
        ("a,p0,ann,motion,many", "line 2: 'many' is no number"),
        ("a,p0,ann,motion,11", "line 2: 11 is not within 1 to 10"),
        ("a,p0,ann,motion", "line 2: '' is no number"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        read_ratings(csv(tmp_path, line))


def test_a_file_without_the_columns_or_without_ratings(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("system,score\na,3\n")
    with pytest.raises(BadInput, match="has no column prompt_id, aspect, rating"):
        read_ratings(tmp_path / "x.csv")
    with pytest.raises(BadInput, match="holds no rating"):
        read_ratings(csv(tmp_path))
    with pytest.raises(BadInput, match="not a readable CSV"):
        read_ratings(tmp_path / "none.csv")


def test_ratings_of_what_was_not_judged_are_an_error(tmp_path: Path) -> None:
    human = read_ratings(csv(tmp_path, "z,p0,ann,identity,3"))
    with pytest.raises(BadInput, match="people rated z / p0 / identity"):
        agreement([rated(3, prompt_id="p0")], human, "paper")
