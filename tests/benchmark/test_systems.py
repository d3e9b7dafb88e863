"""A system is a name and a folder; videos are matched with prompts by file name."""

from __future__ import annotations

from pathlib import Path

import pytest

from mimix_core.benchmark import systems
from mimix_core.benchmark.promptsets import MIXING_100
from mimix_core.domain.prompts import read_prompt_file
from mimix_core.errors import BadInput

PROMPTS = read_prompt_file(MIXING_100).prompts


def test_videos_are_matched_by_prompt_id_and_others_are_missing(tmp_path: Path) -> None:
    for name in (
        f"{PROMPTS[3].id}.mp4",
        f"{PROMPTS[1].id}.MKV",
        "other.mp4",
        f"{PROMPTS[0].id}.txt",
    ):
        (tmp_path / name).touch()
    (tmp_path / f"{PROMPTS[2].id}.mp4").mkdir()
    system = systems.parse_system(f"a model={tmp_path}")
    assert system.name == "a model"
    assert list(systems.find_videos(system, PROMPTS)) == [PROMPTS[1].id, PROMPTS[3].id]
    assert len(systems.missing_prompts(system, PROMPTS)) == 98
    assert PROMPTS[0].id in systems.missing_prompts(system, PROMPTS)


def test_two_videos_of_one_prompt_are_rejected(tmp_path: Path) -> None:
    for suffix in (".mp4", ".webm"):
        (tmp_path / f"{PROMPTS[0].id}{suffix}").touch()
    with pytest.raises(BadInput, match=r"both .*\.mp4 and .*\.webm"):
        systems.find_videos(systems.parse_system(f"x={tmp_path}"), PROMPTS)


def test_a_folder_without_matching_videos_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "other.mp4").touch()
    with pytest.raises(BadInput, match=rf"no video of x.*{PROMPTS[0].id}\.mp4"):
        systems.find_videos(systems.parse_system(f"x={tmp_path}"), PROMPTS)


@pytest.mark.parametrize("text", ["", "ours", "=here", "ours=", "a/b=.", "a <b>=.", "a =."])
def test_an_invalid_system_is_rejected(text: str) -> None:
    with pytest.raises(BadInput, match="is not NAME=PATH"):
        systems.parse_system(text)


def test_system_names_are_unique(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="two systems are named 'a'"):
        systems.parse_systems([f"A={tmp_path}", f"a={tmp_path}"])
    with pytest.raises(BadInput, match="no such folder"):
        systems.parse_systems([f"a={tmp_path / 'gone'}"])
    with pytest.raises(BadInput, match="no systems given"):
        systems.parse_systems([])
