"""Assigning prompts to videos, in every format of a prompts file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mimix_core.benchmark.vbench import video_jobs
from mimix_core.errors import BadInput

WANTED = {"a.mp4": "a cat", "b.mp4": "a dog: it runs, fast"}
FORMATS = {
    "p.json": json.dumps(WANTED),
    "vbench.json": json.dumps(
        [
            {"prompt_en": "a cat", "dimension": ["scene"], "video_list": ["a.mp4"]},
            {"prompt_en": "a dog: it runs, fast", "video_list": "b.mp4"},
            {"prompt_en": "not sampled", "dimension": ["scene"]},
        ]
    ),
    "p.yaml": 'a.mp4: a cat\nb.mp4: "a dog: it runs, fast"\n',
    "p.csv": 'prompt,video\na cat,a.mp4\n"a dog: it runs, fast",b.mp4\n',
    "p.txt": "a.mp4\ta cat\n\nb.mp4\ta dog: it runs, fast\n",
}


@pytest.mark.parametrize("name", FORMATS)
def test_all_formats_are_equivalent(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(FORMATS[name])
    assert video_jobs.read_video_prompts(tmp_path / name) == WANTED


def test_mimix_prompts_are_rendered_as_for_generation(tmp_path: Path) -> None:
    (tmp_path / "prompts.yaml").write_text(
        "prompts:\n- id: tom-1\n  category: single\n  characters: [Tom]\n"
        "  actions: [{name: Tom, action: runs}]\n  style: cartoon\n"
    )
    found = video_jobs.read_video_prompts(tmp_path / "prompts.yaml")
    assert list(found) == ["tom-1"]
    assert "[Character: Tom]" in found["tom-1"]
    assert "runs" in found["tom-1"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.json", "{"),
        ("p.json", "[]"),
        ("p.json", '"text"'),
        ("p.json", '{"a.mp4": ""}'),
        ("p.json", '{"a.mp4": 3}'),
        ("p.csv", "file,prompt\na,b\n"),
        ("p.txt", "a.mp4 a cat\n"),
        ("p.txt", "a.mp4\tone\na.mp4\ttwo\n"),
        ("p.xml", "<a/>"),
    ],
)
def test_a_file_without_valid_prompts_is_bad_input(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(BadInput, match="p"):
        video_jobs.read_video_prompts(tmp_path / name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.mp4", "sub/b.MP4", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    "prompts",
    [
        {"a.mp4": "A", "sub/b.MP4": "B"},
        {"a": "A", "b": "B"},
        {"/elsewhere/a.mp4": "A", "/elsewhere/b.MP4": "B"},
    ],
)
def test_a_prompt_is_found_by_name_stem_or_path(folder: Path, prompts: dict[str, str]) -> None:
    found = video_jobs.plan_video_jobs(folder, prompts)
    assert [(job.name, job.prompt) for job in found] == [("a.mp4", "A"), ("sub/b.MP4", "B")]
    assert all(job.path.is_file() for job in found)


def test_a_prompt_without_a_video_is_a_job_that_will_fail(folder: Path) -> None:
    found = video_jobs.plan_video_jobs(folder, {"a": "A", "b": "B", "gone": "C", "c/left.mp4": "D"})
    missing = [job for job in found if not job.path.exists()]
    assert [(job.name, job.prompt) for job in missing] == [("gone.mp4", "C"), ("left.mp4", "D")]
    assert video_jobs.plan_video_jobs(folder / "a.mp4", {"a": "A", "gone": "C"}) == (
        video_jobs.VideoJob("a.mp4", folder / "a.mp4", "A"),
    )


def test_videos_without_a_prompt_are_bad_input(folder: Path) -> None:
    with pytest.raises(BadInput, match=r"1 videos have no prompt: sub/b\.MP4"):
        video_jobs.plan_video_jobs(folder, {"a": "A"})
    assert [job.prompt for job in video_jobs.plan_video_jobs(folder, None)] == ["", ""]


def test_nothing_to_score_is_bad_input(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(BadInput):
            video_jobs.plan_video_jobs(path, None)
