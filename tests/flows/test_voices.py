"""Who speaks, from an episode with subtitles to ``mimix characters voices`` and ``name-line``."""

from __future__ import annotations

import csv
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner, Result

from flows.cli import app
from flows.curate import curate_stages
from mimix_core import media
from mimix_core.characters.wespeaker_download import WESPEAKER_DOWNLOAD
from mimix_core.diagnostics.model_requirements import required_models
from mimix_core.diagnostics.preflight import find_problems
from mimix_core.project.item_decisions import ItemKind, read_item_decisions
from mimix_core.project.workspace import open_workspace
from mimix_core.settings import load_config
from tests.flows.small_project import SHOT_SECONDS, Counting, Project
from tests.media.test_audio import write_audio
from tests.voice_factory import HIGH, LOW, Voice, music, silence, speak, write_wave

LINES = ("Two.", "Five.", "La la la.")
"""A line in each clip, at its second 1 to 4: by Teddy, by Ann, and music."""


def write_project(folder: Path) -> Project:
    """One cartoon of three clips with a line each, and recordings of two voices."""
    project = Project(folder)
    project.add_show("toons", "cartoon", "Teddy", acts=True, seed=1, clips=len(LINES))
    parts = []
    for number, voice in enumerate((LOW, HIGH, None)):
        sound = music(3, number) if voice is None else speak(voice, 3, 30 + number)
        parts += [silence(1), sound, silence(SHOT_SECONDS - 4)]
    wide = np.repeat(np.concatenate(parts), 3)  # 48 kHz
    sound = write_audio(folder / "sound.mkv", (wide * 32767).astype(np.int16)[None], "flac")
    episode, silent = folder / "toons.mp4", folder / "silent.mp4"
    episode.rename(silent)
    command = [media.find_ffmpeg(), "-v", "error", "-i", str(silent), "-i", str(sound)]
    subprocess.run([*command, "-c:v", "copy", "-c:a", "aac", str(episode)], check=True)
    cues = []
    for n, text in enumerate(LINES):
        start, end = (f"00:00:{SHOT_SECONDS * n + second:02d},000" for second in (1, 4))
        cues.append(f"{n + 1}\n{start} --> {end}\n{text}\n")
    (folder / "toons.srt").write_text("\n".join(cues))
    write_library(folder, {"Teddy": LOW, "Ann": HIGH})
    return project


def write_library(folder: Path, recorded: dict[str, Voice]) -> None:
    """Give characters recordings of their voices."""
    library = yaml.safe_load((folder / "library.yaml").read_text())
    library["shows"][0]["characters"] = [
        {"name": name, "voices": [f"{name}.wav"] if name in recorded else []}
        for name in ("Teddy", "Ann")
    ]
    for name, voice in recorded.items():
        write_wave(folder / f"{name}.wav", speak(voice, 10, 5))
    (folder / "library.yaml").write_text(yaml.safe_dump(library))


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments], env={"COLUMNS": "400"})


def curate(project: Project) -> set[str]:
    """Curate in this process; return the stages that computed anything."""
    run = Counting(open_workspace(load_config(project.settings)))
    curate_stages(run)
    return {ref.stage for ref in run.refs.get("computed", [])}


CAPTIONER = """
from pathlib import Path

from mimix_core.stages.captions.custom_captioner import Captioner


def caption_clip(clip):
    with Path(__file__).with_name("heard.txt").open("a") as file:
        file.write(clip.dialogue + "\\n")


CAPTIONER = Captioner("hearing_captioners.listen", lambda: caption_clip)
"""
"""A captioner that writes down what it is given, and sees no character."""


@pytest.mark.e2e
def test_lines_are_attached_listed_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = write_project(tmp_path)
    refused = call("characters", "voices", project.settings)
    assert "voices.backend: the settings do not ask who speaks" in refused.output
    assert "captions" in (plain := curate(project))
    assert not {"voices", "speakers"} & plain, "off by default"
    with project.settings.open("a") as file:
        file.write("voices: {backend: spectral-statistics}\n")
    assert "no voices of toons with these settings" in (
        call("characters", "voices", project.settings).output
    )
    assert curate(project) == {"voices", "speakers"}, "a script's captions do not depend on it"
    assert curate(project) == set(), "all of it is cached"

    listed = call("characters", "voices", project.settings, "--csv", tmp_path / "lines.csv")
    assert listed.exit_code == 0, listed.output
    assert "Teddy 4 (limit 0.9" in listed.output
    rows = {row["text"]: row for row in csv.DictReader((tmp_path / "lines.csv").open())}
    assert {text: row["speaker"] for text, row in rows.items()} == {
        "Two.": "Teddy",
        "Five.": "Ann",
        "La la la.": "",
    }

    music_line = rows["La la la."]["line_id"]
    for wrong, message in (
        ((music_line,), "say who speaks the lines"),
        ((music_line, "--as", "Tom"), "toons has no character 'Tom'"),
        (("e-c0-l00000", "--as", "Ann"), "the last run has no line e-c0-l00000"),
    ):
        refused = call("characters", "name-line", project.settings, *wrong)
        assert refused.exit_code == 2
        assert message in refused.output
    named = call("characters", "name-line", project.settings, music_line, "--as", "ann")
    assert "1 lines are spoken by Ann" in named.output
    ledger = read_item_decisions(load_config(project.settings).decisions)
    assert ledger.items() == [(ItemKind.LINE, music_line)]
    assert "Ann (person)" in call("characters", "voices", project.settings).output
    unnamed = call("characters", "voices", project.settings, "--unnamed").output
    assert "0 lines" in unnamed, "no run was needed for it"
    assert curate(project) == {"speakers"}, "no audio is encoded again"
    (tmp_path / "hearing_captioners").mkdir()
    (tmp_path / "hearing_captioners" / "listen.py").write_text(CAPTIONER)
    monkeypatch.syspath_prepend(tmp_path)
    with project.settings.open("a") as file:
        file.write("captions: {backend: hearing_captioners.listen}\n")
    assert curate(project) == {"captions"}
    heard = (tmp_path / "hearing_captioners" / "heard.txt").read_text().splitlines()
    assert sorted(heard) == ["Ann says: Five.", "Ann says: La la la.", "Teddy says: Two."]
    call("characters", "name-line", project.settings, music_line, "--no-one")
    assert curate(project) == {"speakers", "captions"}, "who speaks is part of a caption's key"
    assert "? (person)" in call("characters", "voices", project.settings).output


def test_what_voices_need_is_found_before_any_work(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.add_show("toons", "cartoon", "Teddy", acts=True, seed=1)
    write_library(tmp_path, {"Teddy": LOW})
    plain = project.settings.read_text()
    project.settings.write_text(plain + "voices: {backend: wespeaker, weights: w.onnx}\n")
    config = load_config(project.settings)
    [missing] = [one for one in required_models(config, "curate") if not one.available]
    assert missing.name == "WeSpeaker"
    assert missing.location == f"{tmp_path / 'w.onnx'} does not exist"
    assert missing.fix == WESPEAKER_DOWNLOAD
    (tmp_path / "w.onnx").write_text("<html>")
    [problem] = find_problems(config, "curate")
    assert "not a WeSpeaker model in ONNX" in str(problem)
    project.settings.write_text(plain + "voices: {backend: spectral-statistics}\n")
    (tmp_path / "Teddy.wav").write_bytes(b"RIFF" + bytes(60))
    [problem] = find_problems(load_config(project.settings), "curate")
    assert "Teddy.wav: this recording of a voice cannot be read" in str(problem)
