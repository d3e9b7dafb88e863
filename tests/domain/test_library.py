"""library.yaml: one clear message about all problems, before any work."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from mimix_core.domain.library import Style, load_library
from mimix_core.errors import BadInput
from mimix_core.project.workspace import open_workspace
from mimix_core.settings import load_config
from tests.domain.library_factory import GOOD_LIBRARY, write_library


def test_a_good_library(folder: Path) -> None:
    library = load_library(write_library(folder, GOOD_LIBRARY))
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
    path = write_library(folder, GOOD_LIBRARY.replace(old, new))
    with pytest.raises(BadInput) as caught:
        load_library(path)
    message = str(caught.value)
    assert "library.yaml" in message
    assert words in message
    if line is not None:
        assert f"line {line}," in message or f"line {line}:" in message


def test_all_problems_at_once(folder: Path) -> None:
    text = GOOD_LIBRARY.replace("style: cartoon", "style: clay").replace(
        "title: Mr. Bean", "name: x"
    )
    with pytest.raises(BadInput) as caught:
        load_library(write_library(folder, text))
    assert all(word in str(caught.value) for word in ("style", "unknown key", "title"))


@pytest.mark.parametrize("name", ["No. 5", "Ed. X", "Who?", "Yahoo!", "A\tB", "A;"])
def test_a_name_that_no_caption_can_hold_is_refused(folder: Path, name: str) -> None:
    reasons = "(caption|Character: |control character)"
    with pytest.raises(BadInput, match=rf"library\.yaml, line 17.*{reasons}"):
        load_library(
            write_library(folder, GOOD_LIBRARY.replace("name: Mr. Bean,", f'name: "{name}",'))
        )


def test_no_file_and_empty_file(folder: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        load_library(folder / "nothing.yaml")
    with pytest.raises(BadInput, match=r"library\.yaml"):
        load_library(write_library(folder, ""))


def test_a_video_listed_twice_is_rejected(folder: Path) -> None:
    (folder / "bean.mp4").write_text("episodes/a.mp4")  # the bytes of the other one
    write_library(folder, GOOD_LIBRARY)
    (folder / "mimix.yaml").write_text("library: library.yaml\n")
    with pytest.raises(BadInput, match="are the same video"):
        open_workspace(load_config(folder / "mimix.yaml"))


def test_a_show_without_videos_yet_does_not_stop_the_others(folder: Path) -> None:
    (folder / "soon").mkdir()
    show = GOOD_LIBRARY.replace("{path: bean.mp4, subtitles: bean.srt}", "path: soon/*.mp4")
    write_library(folder, show)
    (folder / "mimix.yaml").write_text("library: library.yaml\n")
    work = open_workspace(load_config(folder / "mimix.yaml"))
    assert {episode.show.id for episode in work.episodes} == {"tom-and-jerry"}
    assert work.notices == ("show mr-bean: no file matches soon/*.mp4: left out",)
    # For a folder that does not exist, and without any episode at all, it is an error.
    write_library(folder, show.replace("soon", "sooon"))
    with pytest.raises(BadInput, match=r"no file .*sooon"):
        open_workspace(load_config(folder / "mimix.yaml"))
    for video in (folder / "episodes").iterdir():
        video.unlink()
    with pytest.raises(BadInput, match=r"no file .*soon"):
        load_library(write_library(folder, show))


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
        load_library(write_library(folder, GOOD_LIBRARY.replace(old, new)))


def test_texts_may_have_several_lines_and_names_any_script(folder: Path) -> None:
    text = GOOD_LIBRARY.replace("plot: A chase.", r'plot: "A chase.\n\tThen a nap."')
    text = text.replace("name: Jerry", r'name: "می\u200cخواهم"')
    assert load_library(write_library(folder, text)).shows[0].roster()[1] == "می\u200cخواهم"


def long_library(folder: Path, episodes: int, stored: str = "e", named: str = "e") -> Path:
    """Write a library of episodes with names of two spellings, and their files."""
    (folder / "long").mkdir(parents=True)
    lines = ["shows:", "  - id: long", "    title: Long", "    style: cartoon"]
    lines += ["    characters: [{name: Tom}]", "    episodes:"]
    for number in range(episodes):
        (folder / "long" / f"{stored}{number}.mp4").touch()
        (folder / "long" / f"{stored}{number}.en.srt").touch()
        lines += [f"      - path: long/{named}{number}.mp4", "        plot: Tom runs."]
    return write_library(folder, "\n".join(lines))


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
    library = load_library(write_library(folder, GOOD_LIBRARY + CROSSOVER))
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
        load_library(
            write_library(folder, GOOD_LIBRARY + CROSSOVER.replace("[Tom, Mr. Bean]", guests))
        )
    assert words in str(caught.value)
