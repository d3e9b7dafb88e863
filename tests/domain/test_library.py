"""library.yaml and the settings file: one clear message about all problems, before any work."""

from __future__ import annotations

import textwrap
import time
import unicodedata
from fnmatch import fnmatch
from pathlib import Path

import pytest

from mimix_core.domain import language_codes
from mimix_core.domain.episode_files import find_episode_files
from mimix_core.domain.library import Style, load_library
from mimix_core.domain.subtitle_files import find_sidecar_subtitles, parse_subtitle_language
from mimix_core.errors import BadInput
from mimix_core.project.workspace import open_workspace
from mimix_core.settings import load_config

GOOD = """\
shows:
  - id: tom-and-jerry
    title: Tom and Jerry
    style: cartoon
    characters:
      - name: Tom
        aliases: [Thomas]
        references: [tom.png]
      - name: Jerry
    episodes:
      - path: episodes/*.mp4
        plot: A chase.
  - id: mr-bean
    title: Mr. Bean
    style: realistic
    characters:
      - {name: Mr. Bean, description: A man in tweed.}
    episodes:
      - {path: bean.mp4, subtitles: bean.srt}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "episodes").mkdir()
    for name in ("tom.png", "episodes/b.mp4", "episodes/a.mp4", "bean.mp4", "bean.srt"):
        (tmp_path / name).write_text(name)
    return tmp_path


def write(folder: Path, text: str) -> Path:
    path = folder / "library.yaml"
    path.write_text(text)
    return path


def test_a_good_library(folder: Path) -> None:
    library = load_library(write(folder, GOOD))
    cartoon, live = library.shows
    assert [episode.path.name for episode in cartoon.episodes] == ["a.mp4", "b.mp4"]
    assert all(episode.path.is_absolute() for episode in cartoon.episodes)
    assert cartoon.roster() == ("Tom", "Jerry")
    assert cartoon.aliases() == {"Thomas": "Tom"}
    assert live.style is Style.REALISTIC
    assert live.episodes[0].subtitles == folder / "bean.srt"


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("title: Mr. Bean", "titel: Mr. Bean", 14, "unknown key"),
        ("title: Mr. Bean", "titel: Mr. Bean", 13, "title: this key is missing"),
        ("style: cartoon", "style: claymation", 4, "'cartoon' or 'realistic'"),
        ("name: Mr. Bean,", "name: Jerry,", None, "'Jerry' belongs to both Jerry of tom-and-jerry"),
        ("name: Mr. Bean,", "name: thomas,", None, "'thomas' belongs to both"),
        ("references: [tom.png]", "references: [tim.png]", 8, "tim.png"),
        ("path: bean.mp4", "path: been.mp4", 19, "been.mp4"),
        ("subtitles: bean.srt", "subtitles: none.srt", 19, "none.srt"),
        ("episodes/*.mp4", "nowhere/*.mp4", 11, "nowhere"),
        ("id: mr-bean", "id: tom-and-jerry", None, "two shows have the id"),
        ("id: mr-bean", "id: Mr Bean", 13, "id"),
        ("id: mr-bean", f"id: {41 * 'm'}", 13, "at most 40 characters"),
        ("name: Mr. Bean,", f"name: {61 * 'm'},", 17, "at most 60 characters"),
        ("name: Mr. Bean,", "name: 'Bean], runs',", 17, "is not allowed in a [Character: ...] tag"),
        ("title: Mr. Bean", "title: A\n    title: B", 14, "duplicate key 'title'"),
        ("shows:", "shows: [", None, "not readable as YAML"),
        (
            "path: bean.mp4",
            "path: 'episodes/a.mp4'}\n      - {path: 'episodes/a.mp4'",
            None,
            "twice",
        ),
    ],
)
def test_one_clear_message(folder: Path, old: str, new: str, line: int | None, words: str) -> None:
    path = write(folder, GOOD.replace(old, new))
    with pytest.raises(BadInput) as caught:
        load_library(path)
    message = str(caught.value)
    assert "library.yaml" in message
    assert words in message
    if line is not None:
        assert f"line {line}," in message or f"line {line}:" in message


def test_all_problems_at_once(folder: Path) -> None:
    text = GOOD.replace("style: cartoon", "style: clay").replace("title: Mr. Bean", "name: x")
    with pytest.raises(BadInput) as caught:
        load_library(write(folder, text))
    assert all(word in str(caught.value) for word in ("style", "unknown key", "title"))


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
    path = write(folder, GOOD)
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
        library = load_library(write(tmp_path, text.replace("PATH", path)))
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
    library = load_library(write(folder, GOOD.replace("subtitles: bean.srt", "script: tom.png")))
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
    episodes = load_library(write(folder, GOOD)).shows[0].episodes
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


@pytest.mark.parametrize("name", ["No. 5", "Ed. X", "Who?", "Yahoo!", "A\tB", "A;"])
def test_a_name_that_no_caption_can_hold_is_refused(folder: Path, name: str) -> None:
    reasons = "(caption|Character: |control character)"
    with pytest.raises(BadInput, match=rf"library\.yaml, line 17.*{reasons}"):
        load_library(write(folder, GOOD.replace("name: Mr. Bean,", f'name: "{name}",')))


def test_declared_subtitles_win_over_sidecars(folder: Path) -> None:
    (folder / "bean.srt").rename(folder / "dialogue.srt")
    (folder / "bean.en.srt").write_text("1")
    path = write(folder, GOOD.replace("subtitles: bean.srt", "subtitles: dialogue.srt"))
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


def test_no_file_and_empty_file(folder: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        load_library(folder / "nothing.yaml")
    with pytest.raises(BadInput, match=r"library\.yaml"):
        load_library(write(folder, ""))


def test_a_video_listed_twice_is_rejected(folder: Path) -> None:
    (folder / "bean.mp4").write_text("episodes/a.mp4")  # the bytes of the other one
    write(folder, GOOD)
    (folder / "mimix.yaml").write_text("library: library.yaml\n")
    with pytest.raises(BadInput, match="are the same video"):
        open_workspace(load_config(folder / "mimix.yaml"))


def test_settings_name_file_line_and_key(folder: Path) -> None:
    write(folder, GOOD)
    path = folder / "mimix.yaml"
    path.write_text(
        textwrap.dedent(
            """\
            library: library.yaml
            lora:
              rank: 0
              rnak: 8
            """
        )
    )
    with pytest.raises(BadInput) as caught:
        load_config(path)
    message = str(caught.value)
    assert "line 3, key lora.rank" in message
    assert "line 4, key lora.rnak: unknown key" in message


def test_settings_paths_are_relative_to_the_file(folder: Path) -> None:
    write(folder, GOOD)
    path = folder / "mimix.yaml"
    path.write_text("library: library.yaml\nworkspace: work\nbackbone: {path: wan}\n")
    config = load_config(path)
    assert config.workspace == folder / "work"
    assert config.backbone.path == folder / "wan"
    path.write_text("library: elsewhere.yaml\n")
    with pytest.raises(BadInput, match="line 1, key library"):
        load_config(path)


def test_a_show_without_videos_yet_does_not_stop_the_others(folder: Path) -> None:
    (folder / "soon").mkdir()
    show = GOOD.replace("{path: bean.mp4, subtitles: bean.srt}", "path: soon/*.mp4")
    write(folder, show)
    (folder / "mimix.yaml").write_text("library: library.yaml\n")
    work = open_workspace(load_config(folder / "mimix.yaml"))
    assert {episode.show.id for episode in work.episodes} == {"tom-and-jerry"}
    assert work.notices == ("show mr-bean: no file matches soon/*.mp4: left out",)
    # For a folder that does not exist, and without any episode at all, it is an error.
    write(folder, show.replace("soon", "sooon"))
    with pytest.raises(BadInput, match=r"no file .*sooon"):
        open_workspace(load_config(folder / "mimix.yaml"))
    for video in (folder / "episodes").iterdir():
        video.unlink()
    with pytest.raises(BadInput, match=r"no file .*soon"):
        load_library(write(folder, show))


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("name: Jerry", r'name: "Jerry\x1b[2J"', 9),
        ("name: Jerry", r'name: "Jerry\r"', 9),
        ("name: Jerry", r'name: "Jerry\u202e"', 9),
        ("aliases: [Thomas]", r'aliases: [Thomas, "T\x07m"]', 7),
        ("title: Mr. Bean", r'title: "Mr.\nBean"', 14),
        ("A man in tweed.", r'"A man \x9b31m in tweed."', 17),
        ("plot: A chase.", r'plot: "A chase.\0"', 12),
    ],
)
def test_names_and_texts_have_no_control_characters(
    folder: Path, old: str, new: str, line: int
) -> None:
    with pytest.raises(BadInput, match=f"line {line}, .*contains the control character U"):
        load_library(write(folder, GOOD.replace(old, new)))


def test_texts_may_have_several_lines_and_names_any_script(folder: Path) -> None:
    text = GOOD.replace("plot: A chase.", r'plot: "A chase.\n\tThen a nap."')
    text = text.replace("name: Jerry", r'name: "می\u200cخواهم"')
    assert load_library(write(folder, text)).shows[0].roster()[1] == "می\u200cخواهم"


def long_library(folder: Path, episodes: int, stored: str = "e", named: str = "e") -> Path:
    """Write a library of episodes with names of two spellings, and their files."""
    (folder / "long").mkdir(parents=True)
    lines = ["shows:", "  - id: long", "    title: Long", "    style: cartoon"]
    lines += ["    characters: [{name: Tom}]", "    episodes:"]
    for number in range(episodes):
        (folder / "long" / f"{stored}{number}.mp4").touch()
        (folder / "long" / f"{stored}{number}.en.srt").touch()
        lines += [f"      - path: long/{named}{number}.mp4", "        plot: Tom runs."]
    return write(folder, "\n".join(lines))


@pytest.mark.e2e
@pytest.mark.parametrize(("stored", "named"), [("e", "e"), ("e\u0301", "\u00e9")])
def test_the_time_of_a_library_grows_with_its_episodes_and_not_with_their_square(
    tmp_path: Path, stored: str, named: str
) -> None:
    seconds = []
    for episodes in (500, 4000):
        path = long_library(tmp_path / str(episodes), episodes, stored, named)
        times = []
        for _ in range(3):
            start = time.process_time()
            library = load_library(path)
            times.append(time.process_time() - start)
        seconds.append(min(times))
        assert len(library.shows[0].episodes) == episodes
        assert all(e.subtitles for e in library.shows[0].episodes)
    # Linear: 8 times as long. Quadratic: 64 times.
    assert seconds[1] < 20 * seconds[0], seconds


CROSSOVER = """\
  - id: the-meeting
    title: The Meeting
    style: cartoon
    guests: [Tom, Mr. Bean]
    episodes:
      - path: meeting.mp4
"""


def test_a_guest_is_in_the_roster_and_stays_a_character_of_its_own_show(folder: Path) -> None:
    (folder / "meeting.mp4").write_text("meeting")
    library = load_library(write(folder, GOOD + CROSSOVER))
    meeting = library.with_guests(library.get_show("the-meeting"))
    assert meeting.roster() == ("Tom", "Mr. Bean")
    assert meeting.aliases() == {"Thomas": "Tom"}
    assert meeting.characters[0].references == (folder / "tom.png",)
    assert library.with_guests(library.shows[0]) is library.shows[0]
    assert [c.name for c in library.characters()] == ["Tom", "Jerry", "Mr. Bean"]


@pytest.mark.parametrize(
    ("guests", "words"),
    [
        ("[Tom, Mr. Been]", "the guest 'Mr. Been' of the-meeting is no character of another show"),
        ("[tom]", "the guest 'tom' of the-meeting"),
        ("[]", "name at least one of characters and guests"),
    ],
)
def test_a_guest_must_be_a_character_of_another_show(folder: Path, guests: str, words: str) -> None:
    with pytest.raises(BadInput) as caught:
        load_library(write(folder, GOOD + CROSSOVER.replace("[Tom, Mr. Bean]", guests)))
    assert words in str(caught.value)
