"""Video reading: local video files only, frames in order, clear errors."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from mimix_core.media import NoVideoStream, UnreadableVideo, open_video, read_audio, to_display_rgb
from tests.media_factory import Shot, read_counter, write_sound, write_video


def write_unreadable_files(folder: Path) -> dict[str, Path]:
    good = write_video(folder / "good.mp4", [Shot(24)]).path
    whole = good.read_bytes()
    contents = {
        "empty": b"",
        "text": b"once upon a time\n" * 50,
        "headless": whole[len(whole) // 2 :],
        "zeros": bytes(5000),
        "hls playlist": f"#EXTM3U\n#EXTINF:1,\n{good}\n#EXT-X-ENDLIST\n".encode(),
        "concat list": f"ffconcat version 1.0\nfile {good.name}\n".encode(),
    }
    paths = {}
    for name, content in contents.items():
        paths[name] = folder / f"{name}.mp4"
        paths[name].write_bytes(content)
    paths["missing"] = folder / "missing.mp4"
    paths["folder"] = folder
    return paths


def test_unreadable_files_are_rejected_without_naming_their_path(tmp_path: Path) -> None:
    for name, path in write_unreadable_files(tmp_path).items():
        with pytest.raises(UnreadableVideo) as caught, open_video(path):
            pytest.fail(f"{name} was opened")
        assert str(tmp_path) not in caught.value.what, name


@pytest.mark.parametrize(
    ("start", "name"), [(b".RMF\0\0\0\x12", "RealMedia"), (b"DKIF\0\0\x20\0VP80", "IVF")]
)
def test_a_format_that_is_not_supported_is_named_with_what_to_do(
    tmp_path: Path, start: bytes, name: str
) -> None:
    path = tmp_path / "v.rm"
    path.write_bytes(start + bytes(4000))
    with pytest.raises(UnreadableVideo, match=name) as caught, open_video(path):
        pytest.fail("opened")
    assert "convert the file to MKV" in caught.value.what


def test_audio_alone_is_not_a_video(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "sound.mkv", 1, beep_at=0.5)
    with pytest.raises(NoVideoStream), open_video(path):
        pytest.fail("sound was opened as video")


def test_all_frames_are_decoded_in_order(tmp_path: Path) -> None:
    truth = write_video(tmp_path / "v.mkv", [Shot(60)], b_frames=3)
    with open_video(truth.path, threads=2) as video:
        frames = list(video.frames())
        assert [frame.pts for frame in frames] == truth.pts
        assert [read_counter(to_display_rgb(f, video.info)) for f in frames] == list(range(60))


def test_a_seek_never_mislabels_a_frame(tmp_path: Path) -> None:
    """In a program stream the first frame after a seek may carry the timestamp of the next one."""
    for b_frames in (0, 2):
        truth = write_video(
            tmp_path / f"{b_frames}.mpg",
            [Shot(360)],
            rate=Fraction(25),
            codec="mpeg2video",
            b_frames=b_frames,
            gop=12,
        )
        with open_video(truth.path, threads=1) as video:
            for number in range(5, 360, 7):
                frames = video.frames_from(truth.pts[number])
                found = [frame for frame, _ in zip(frames, range(3), strict=False)]
                assert found[0].pts <= truth.pts[number]
                numbers = [truth.pts.index(frame.pts) for frame in found]
                assert [read_counter(to_display_rgb(f, video.info)) for f in found] == numbers


def test_audio_is_aligned_with_the_clock_of_the_video(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "v.mkv", 3, beep_at=1.5, video=True)
    for start, beep in ((Fraction(0), 1.5), (Fraction(1, 2), 1.0), (Fraction(-1), 2.5)):
        samples = read_audio(path, rate=16_000, start=start)
        assert samples is not None
        assert np.flatnonzero(np.abs(samples) > 0.1)[0] / 16_000 == pytest.approx(beep, abs=0.002)


def test_a_video_without_audio_returns_none(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", [Shot(8)]).path
    assert read_audio(path, rate=16_000, start=Fraction(0)) is None
