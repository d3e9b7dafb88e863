"""Files of an episode are found by their names: its video, and what lies beside it."""

from __future__ import annotations

import unicodedata
from fnmatch import fnmatch
from pathlib import Path

import pytest

from mimix_core.domain import language_codes
from mimix_core.domain.episode_files import find_episode_files
from mimix_core.domain.library import load_library
from mimix_core.domain.subtitle_files import find_sidecar_subtitles, parse_subtitle_language
from tests.domain.library_factory import GOOD_LIBRARY, write_library


@pytest.mark.parametrize(
    ("files", "preferred", "expected", "language"),
    [
        (["a.srt"], "", "a.srt", ""),
        (["a.SRT"], "", "a.SRT", ""),
        (["a.en.srt", "a.de.srt", "a.srt"], "", "a.srt", ""),
        (["a.en.srt", "a.de.srt", "a.srt"], "de", "a.de.srt", "de"),
        (["a.en.srt", "a.ger.srt"], "de-AT", "a.ger.srt", "de"),
        (["a.en.srt", "a.de.srt"], "fr", "a.de.srt", "de"),
        (["a.en.ass", "a.en.vtt", "a.en.srt"], "en", "a.en.srt", "en"),
        (["a.en.sdh.srt", "a.en.vtt"], "en", "a.en.vtt", "en"),
        (["a.en.sdh.srt"], "", "a.en.sdh.srt", "en"),
        (["a.en.forced.srt"], "en", None, ""),
        (["a.pt-BR.srt"], "", "a.pt-BR.srt", "pt"),
        (["a.part2.srt", "ab.srt", "a.txt"], "", None, ""),
        (["a_en.srt"], "en", "a_en.srt", "en"),
        (["a-en.srt"], "en", "a-en.srt", "en"),
        (["a.English.srt"], "en", "a.English.srt", "en"),
        (["a (Deutsch).srt"], "", "a (Deutsch).srt", "de"),
        (["A.EN.SRT"], "en", "A.EN.SRT", "en"),
        (["Subs/a.en.srt"], "en", "a.en.srt", "en"),
        (["subs/a/2_English.srt", "subs/a/3_German.srt"], "de", "3_German.srt", "de"),
        (["a.en.hi.srt", "a.de.srt"], "hi", "a.de.srt", "de"),
        (["a.en.hi.srt", "a.en.vtt"], "en", "a.en.vtt", "en"),
        (["a.hi.srt"], "hi", "a.hi.srt", "hi"),
        (["a.zh-Hans.srt"], "zh", "a.zh-Hans.srt", "zh"),
        (["a.mp4.en.srt"], "", "a.mp4.en.srt", "en"),
        (["a.signs.srt", "a.en.commentary.srt", "a_English_forced.srt"], "", None, ""),
        (["a-two.srt", "a the.srt"], "", None, ""),
    ],
)
def test_sidecar_subtitles_are_found_by_name(
    folder: Path, files: list[str], preferred: str, expected: str | None, language: str
) -> None:
    for name in files:
        (folder / "episodes" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "episodes" / name).write_text("1")
    path = write_library(folder, GOOD_LIBRARY)
    episode = load_library(path, language=preferred).shows[0].episodes[0]
    assert (episode.subtitles and episode.subtitles.name) == expected
    assert episode.path.name == "a.mp4"
    if episode.subtitles is not None:
        assert parse_subtitle_language(episode.subtitles, episode.path) == language


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_accents_are_the_same_in_either_spelling(tmp_path: Path, forms: tuple[str, str]) -> None:
    on_disk, in_library = (unicodedata.normalize(form, "Amélie") for form in forms)
    (tmp_path / on_disk).mkdir()
    for name in (f"{on_disk}.mp4", f"{in_library}.fr.srt", f"{on_disk}.yaml", f"{on_disk}.png"):
        (tmp_path / on_disk / name).write_text("x")
    text = (
        "shows:\n  - id: a\n    title: A\n    style: cartoon\n"
        "    characters: [{name: Tom, references: [X/X.png]}]\n    episodes: [{path: PATH}]\n"
    ).replace("X", in_library)
    for path in (f"{in_library}/{in_library}.mp4", f"{in_library}/{in_library[:2]}*.mp4"):
        library = load_library(write_library(tmp_path, text.replace("PATH", path)))
        (episode,) = library.shows[0].episodes
        assert episode.path == tmp_path / on_disk / f"{on_disk}.mp4"
        assert episode.subtitles == tmp_path / on_disk / f"{in_library}.fr.srt"
        assert episode.script == tmp_path / on_disk / f"{on_disk}.yaml"


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("Show [1080p]/*.mkv", ["e01.mkv", "e02.mkv", "e03 [x].mkv"]),
        ("Show [1080p]/e0[13]*.mkv", ["e01.mkv", "e03 [x].mkv"]),
        ("Show [1080p]/e0[12].mkv", ["e01.mkv", "e02.mkv"]),
        ("Show [1080p]/e03 [x].mkv", ["e03 [x].mkv"]),
        ("Show [1080p]/* [x].mkv", ["e03 [x].mkv"]),
        ("**/e01.mkv", ["e01.mkv"]),
        ("*/*", ["e01.mkv", "e02.mkv", "e03 [x].mkv"]),
        ("Show/*.mkv", []),
    ],
)
def test_brackets_in_patterns(tmp_path: Path, pattern: str, expected: list[str]) -> None:
    (tmp_path / "Show [1080p]").mkdir()
    for name in ("e01.mkv", "e02.mkv", "e03 [x].mkv", ".hidden.mkv", "e01.srt", "e01.yaml"):
        (tmp_path / "Show [1080p]" / name).write_text("x")
    assert [path.name for path in find_episode_files(tmp_path, Path(pattern))] == expected


def test_scripts_boxes_and_masks_are_found_as_subtitles_are(folder: Path) -> None:
    for name in ("a.yaml", "a.boxes.yaml", "B.script.yml", "c.boxes.yaml", "A.masks.zip"):
        (folder / "episodes" / name).write_text("x")
    (folder / "bean.yaml").write_text("x")
    library = load_library(
        write_library(folder, GOOD_LIBRARY.replace("subtitles: bean.srt", "script: tom.png"))
    )
    first, second = library.shows[0].episodes
    assert (first.script, first.boxes, first.masks) == (
        folder / "episodes" / "a.yaml",
        folder / "episodes" / "a.boxes.yaml",
        folder / "episodes" / "A.masks.zip",
    )
    assert (second.script, second.boxes) == (folder / "episodes" / "B.script.yml", None)
    assert second.masks is None
    assert library.shows[1].episodes[0].script == folder / "tom.png", "declared files come first"


def test_subtitles_of_a_video_with_a_longer_name_are_not_taken(folder: Path) -> None:
    (folder / "episodes" / "a.en.mp4").write_text("another film")
    (folder / "episodes" / "a.en.srt").write_text("1")
    episodes = load_library(write_library(folder, GOOD_LIBRARY)).shows[0].episodes
    assert {e.path.name: e.subtitles and e.subtitles.name for e in episodes} == {
        "a.mp4": None,
        "a.en.mp4": "a.en.srt",
        "b.mp4": None,
    }


@pytest.mark.parametrize(
    ("videos", "files", "expected", "language"),
    [
        (["Show.S01E01.1080p.mkv"], ["Show.S01E01.srt"], "Show.S01E01.srt", ""),
        (["Show.S01E01.1080p.WEB-DL.x264-GRP.mkv"], ["Show.S01E01.en.srt"], "*.en.srt", "en"),
        (["Show.S01E01.mkv"], ["show.s01e01.720p.HDTV.x264-LOL.srt"], "show.s01e01*", ""),
        (
            ["Show.S01E01.Pilot.1080p.mkv"],
            ["Show.S01E01.720p.HDTV.de.srt", "Show.S01E01.720p.HDTV.en.srt"],
            "*.en.srt",
            "en",
        ),
        (["Show S01E01 (1080p).mkv"], ["Show.S01E01.srt"], "Show.S01E01.srt", ""),
        (["Show 1x01 HDTV.mkv"], ["Show - S01E01.English.srt"], "*English.srt", "en"),
        (["Show.S01.E01.1080p.mkv"], ["Subs/Show.S01E01.srt"], "Show.S01E01.srt", ""),
        (["S.S01E01.1080p.mkv"], ["Subs/S.S01E01/2_English.srt"], "2_English.srt", "en"),
        (["S.S01E01.1080p.mkv"], ["Subs/S.S01E02/2_English.srt"], None, ""),
        (["It.S01E01.1080p.mkv"], ["It.S01E01.srt"], "It.S01E01.srt", ""),
        (["Show.S01E01.1080p.mkv"], ["Show.S01E01.French.Kiss.srt"], "*Kiss.srt", ""),
        (["Pilot.1080p.mkv"], ["Pilot.en.srt"], "Pilot.en.srt", "en"),
        (["Show - 01 [1080p].mkv"], ["Show - 01.srt"], "Show - 01.srt", ""),
        # What has the whole name comes first, then what has the fewest other words.
        (["S.S01E01.1080p.mkv"], ["S.S01E01.srt", "S.S01E01.1080p.srt"], "*1080p.srt", ""),
        (["S.S01E01.1080p.mkv"], ["S.S01E01.HDTV.srt", "S.S01E01.srt"], "S.S01E01.srt", ""),
        # Other episodes, two versions, two episodes in one, and what is not the dialogue.
        (["Show.S01E01.1080p.mkv"], ["Show.S01E02.srt", "Show.srt", "Show.S01.srt"], None, ""),
        (["Show.S01E01.1080p.mkv", "Show.S01E01.720p.mkv"], ["Show.S01E01.srt"], None, ""),
        (["Show.S01E01.1080p.mkv"], ["Show.S01E01E02.srt", "Show.S01E01-E02.srt"], None, ""),
        (["Show.S01E01-02.1080p.mkv"], ["Show.S01E01.srt"], None, ""),
        (["Show.S01E01-E02.1080p.mkv"], ["Show.S01E01E02.srt"], "Show.S01E01E02.srt", ""),
        (["Show.S01E01.1080p.mkv"], ["Show.S01E01.forced.srt"], None, ""),
        (["Pilot.1080p.mkv"], ["Pilot.Two.srt", "Pilotfish.srt"], None, ""),
        (["Pilot.1080p.mkv", "Pilot.en.mkv"], ["Pilot.en.srt"], None, ""),
    ],
)
def test_sidecars_may_have_other_release_tags(
    tmp_path: Path, videos: list[str], files: list[str], expected: str | None, language: str
) -> None:
    for name in (*videos, *files):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    video = tmp_path / videos[0]
    found = find_sidecar_subtitles(video, "en")
    if expected is None:
        assert found is None
    else:
        assert found is not None
        assert fnmatch(found.name, expected)
        assert parse_subtitle_language(found, video) == language


def test_declared_subtitles_win_over_sidecars(folder: Path) -> None:
    (folder / "bean.srt").rename(folder / "dialogue.srt")
    (folder / "bean.en.srt").write_text("1")
    path = write_library(
        folder, GOOD_LIBRARY.replace("subtitles: bean.srt", "subtitles: dialogue.srt")
    )
    (episode,) = load_library(path, language="en").shows[1].episodes
    assert episode.subtitles == folder / "dialogue.srt"
    assert parse_subtitle_language(folder / "dialogue.srt") == ""


@pytest.mark.parametrize(
    ("code", "short"),
    [
        ("eng", "en"),
        ("EN_us", "en"),
        ("deu", "de"),
        ("ger", "de"),
        ("und", ""),
        ("x", ""),
        ("", ""),
    ],
)
def test_language_codes_are_normalized(code: str, short: str) -> None:
    assert language_codes.normalize_language_code(code) == short
