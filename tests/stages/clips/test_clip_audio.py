"""The audio of clips: the right samples, the right track, and what a broken one costs."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

from mimix_core import media
from mimix_core.engine.artifacts import digest_file
from mimix_core.settings import ClipSettings
from mimix_core.stages import clips
from tests.media.test_audio import (
    click_track,
    corrupt_audio_packet,
    write_audio,
    write_languages,
    write_switching_broadcast,
)
from tests.media_factory import (
    Shot,
    read_ground_truth,
    write_sound,
    write_video,
)
from tests.stages.clips.clips_runner import (
    SMALL,
    ClipsRunner,
    write_with_sound,
)


def test_the_audio_of_a_clip_is_written_next_to_it(runner: ClipsRunner) -> None:
    path = write_sound(runner.folder / "v.mkv", 12, beep_at=6.0, video=True)
    shots = [Shot(96)]
    seen = read_ground_truth(path, shots)
    whole = [{"crop_width": 64, "crop_height": 64}]
    rows = runner.run(
        seen, overlays=whole, scene_margin_seconds="0.5", min_source_width=0, min_source_height=0
    ).rows
    rows = sorted(rows, key=lambda row: row["clip_id"])
    assert [row["status"] for row in rows] == ["ok", "ok"]
    for row in rows:
        sound = runner.folder / "out" / row["audio_file"]
        assert row["audio_sha256"] == digest_file(sound)
        with av.open(str(sound)) as container:
            samples = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
        assert len(samples) == 48_000 * 81 // 16
        begin = Fraction(row["start_num"], row["start_den"])
        beep = np.flatnonzero(np.abs(samples.astype(int)) > 3000)
        if row is rows[0]:
            # 0.5 s .. 5.5625 s
            assert len(beep) == 0
        else:
            assert beep[0] / 48_000 == pytest.approx(float(6 - begin), abs=0.001)
    without = runner.run(
        seen, overlays=whole, out="silent", audio="none", min_source_width=0, min_source_height=0
    ).rows
    assert [row["audio_file"] for row in without] == ["", ""]


def test_a_bad_audio_packet_costs_its_own_length(runner: ClipsRunner) -> None:
    sound = write_audio(runner.folder / "s.mp4", click_track(11), "aac")
    truth = write_with_sound(runner, sound, "v.mp4")
    broken = corrupt_audio_packet(truth.path, 100)
    rows = runner.run(replace(truth, path=broken)).rows
    rows = sorted(rows, key=lambda row: Fraction(row["start_num"], row["start_den"]))
    assert [row["status"] for row in rows] == ["ok", "ok"]
    # 1024 samples at 48 kHz, 2.1 s into the video.
    assert [row["lost_audio_ms"] for row in rows] == [21, 0]
    assert all(row["audio_file"] for row in rows)


def test_a_clip_without_most_of_its_audio_fails_with_a_reason(runner: ClipsRunner) -> None:
    sound = write_audio(runner.folder / "s.mp4", click_track(11), "aac")
    truth = write_with_sound(runner, sound, "v.mp4")
    with av.open(str(truth.path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(audio=0) if p.size]
    data = bytearray(truth.path.read_bytes())
    for place, size in packets[300:]:
        data[place : place + size] = b"\xff" * size
    truth.path.write_bytes(data)
    rows = runner.run(truth).rows
    rows = sorted(rows, key=lambda row: Fraction(row["start_num"], row["start_den"]))
    assert [row["status"] for row in rows] == ["ok", "failed"]
    assert rows[1]["reason"] == "unreadable_video" and rows[1]["file"] == ""
    assert "cannot be decoded" in rows[1]["detail"] and "clips.audio: none" in rows[1]["detail"]
    made = {path.name for path in (runner.folder / "out" / "clips").iterdir()}
    assert made == {f"{rows[0]['clip_id']}.mp4", f"{rows[0]['clip_id']}.flac"}


def test_a_change_of_the_sample_rate_fails_the_later_clips(runner: ClipsRunner) -> None:
    sound = write_switching_broadcast(runner.folder / "s.ts", rate=44_100)
    rows = runner.run(write_with_sound(runner, sound, "v.ts")).rows
    assert {row["reason"] for row in rows} <= {None, "unreadable_video"}
    failed = [row for row in rows if row["status"] == "failed"]
    assert failed and all("from 48000 to 44100 Hz" in row["detail"] for row in failed)


def test_the_audio_track_is_that_in_the_language(runner: ClipsRunner) -> None:
    sound = write_languages(runner.folder / "s.mkv", "ger", "eng", disposition=["default"])
    shots = [Shot(132)]
    silent = write_video(runner.folder / "silent.mp4", shots).path
    path = runner.folder / "v.mkv"
    command = [media.find_ffmpeg(), "-v", "error", "-i", str(silent), "-i", str(sound)]
    subprocess.run([*command, "-map", "0:v", "-map", "1:a", "-c", "copy", str(path)], check=True)
    inputs = runner.inputs(read_ground_truth(path, shots))
    for language, level in (("en", 2000), ("de", 1000), ("", 1000)):
        out = runner.folder / f"out-{level}-{language}"
        out.mkdir()
        asked = inputs.model_copy(update={"language": language})
        (row,) = clips.run(asked, ClipSettings(**SMALL), out).rows
        with av.open(str(out / row["audio_file"])) as container:
            samples = next(container.decode(audio=0)).to_ndarray()
        assert np.median(samples) == level
