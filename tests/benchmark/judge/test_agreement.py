from __future__ import annotations

from pathlib import Path

import pytest

from mimix_core.benchmark.judge.agreement import compute_agreement, load_human_ratings
from mimix_core.errors import BadInput
from tests.benchmark.judge.test_judge_results import rated

HEAD = "system,prompt_id,rater,aspect,rating\n"


def csv(folder: Path, *lines: str) -> Path:
    path = folder / "human.csv"
    path.write_text(HEAD + "".join(f"{line}\n" for line in lines))
    return path


def test_agreement_of_judge_and_people_by_aspect(tmp_path: Path) -> None:
    rows = [rated(value, prompt_id=f"p{n}") for n, value in enumerate([2, 5, 8, None])]
    rows += [rated(value, prompt_id=f"p{n}", aspect="motion") for n, value in enumerate([2, 5, 8])]
    human = load_human_ratings(
        csv(
            tmp_path,
            *(f"a,p{n},ann,identity,{value}" for n, value in enumerate([1, 5, 8, 9])),
            "a,p0,bob,identity,3",
            *(f"a,p{n},ann,motion,{value}" for n, value in enumerate([8, 5, 2])),
        )
    )
    identity, motion, style, _ = compute_agreement(rows, human, "paper")
    # Ann's 1 and Bob's 3 average to 2.
    assert (identity.videos, identity.unjudged) == (3, 1)
    assert identity.kappa == identity.spearman == pytest.approx(1)
    assert motion.spearman == pytest.approx(-1)
    assert motion.kappa == pytest.approx(-1)
    assert (style.videos, style.kappa, style.spearman) == (0, None, None)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a,p0,ann,beauty,3", "line 2: unknown aspect 'beauty'"),
        ("a,p0,ann,motion,many", "line 2: 'many' is not a number"),
        ("a,p0,ann,motion,11", "line 2: 11 is not between 1 and 10"),
        ("a,p0,ann,motion", "line 2: '' is not a number"),
    ],
)
def test_an_invalid_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        load_human_ratings(csv(tmp_path, line))


def test_a_file_without_the_columns_or_without_ratings(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("system,score\na,3\n")
    with pytest.raises(BadInput, match="has no column prompt_id, aspect, rating"):
        load_human_ratings(tmp_path / "x.csv")
    with pytest.raises(BadInput, match="contains no ratings"):
        load_human_ratings(csv(tmp_path))
    with pytest.raises(BadInput, match="not a readable CSV"):
        load_human_ratings(tmp_path / "none.csv")


def test_ratings_of_videos_that_were_not_judged_are_an_error(tmp_path: Path) -> None:
    human = load_human_ratings(csv(tmp_path, "z,p0,ann,identity,3"))
    with pytest.raises(BadInput, match="people rated z / p0 / identity"):
        compute_agreement([rated(3, prompt_id="p0")], human, "paper")
