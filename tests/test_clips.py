"""Clips: each of the 81 frames is the right one, and no frame of another scene enters."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimix_core import clips, ids, media, overlays, scenes, tables
from mimix_core.errors import BadInput
from mimix_core.library import Style
from mimix_core.refs import digest_file, file_ref
from mimix_core.settings import ClipSettings, OverlaySettings, SceneSettings
from mimix_core.stage import StageReport, run_stage
from mimix_core.store import Store
from mimix_core.timeline import grid, nearest_previous
from tests.media_factory import Shot, Truth, committed, read_counter, write_video
from tests.test_scenes import vfr

SMALL = {"width": 160, "height": 96, "preset": "ultrafast", "crf": 10}
EPISODE = "demo-0000000000"


def scene_rows(truth: Truth, **changes: Any) -> list[tables.Row]:
    return [
        tables.ok(
            scene_id=ids.scene_id(EPISODE, start),
            episode_id=EPISODE,
            show="demo",
            style="cartoon",
            origin_pts=truth.pts[0],
            start_pts=start,
            end_pts=end,
            time_base_num=truth.time_base.numerator,
            time_base_den=truth.time_base.denominator,
            frames=0,
            width=320,
            height=192,
            motion=0.0,
            sharpness=0.0,
            black_share=0.0,
            frozen_share=0.0,
        )
        | changes
        for start, end in truth.spans()
    ]


def overlay_row(**changes: Any) -> tables.Row:
    return (
        tables.ok(
            episode_id=EPISODE,
            backend="none",
            width=320,
            height=192,
            sampled_pts=[],
            boxes=[],
            crop_x=0,
            crop_y=0,
            crop_width=320,
            crop_height=192,
            frame_file="",
        )
        | changes
    )


@dataclass(frozen=True)
class Bench:
    """Runs the clips stage on hand-made scenes of a generated video."""

    folder: Path

    def run(
        self,
        truth: Truth,
        *,
        scene: dict[str, Any] | None = None,
        overlay: tables.Row | None = None,
        out: str = "out",
        **settings: Any,
    ) -> StageReport:
        inputs = clips.ClipInputs(
            unit="v",
            video=file_ref(truth.path),
            scenes=committed(
                self.folder / "scenes", tables.SCENES, scene_rows(truth, **(scene or {}))
            ),
            overlays=committed(
                self.folder / "overlays", tables.OVERLAYS, [overlay or overlay_row()]
            ),
        )
        (self.folder / out).mkdir()
        report = clips.run(inputs, ClipSettings(**{**SMALL, **settings}), self.folder / out)
        tables.validate(tables.CLIPS, report.rows)
        assert report.rows_in == len(report.rows)
        return report


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


CASES: dict[str, dict[str, Any]] = {
    "24.mp4": {},
    "23.976.mp4": {"rate": Fraction(24000, 1001), "b_frames": 3},
    "23.976-ms.mkv": {"rate": Fraction(24000, 1001)},
    "25-late-start.ts": {"rate": Fraction(25)},
    "30.mp4": {"rate": Fraction(30)},
    "10.mp4": {"rate": Fraction(10)},
    "vfr-late-start.mp4": {"pts": vfr(325), "time_base": Fraction(1, 1000)},
    "rotated.mp4": {"rotation": 270},
    "mpeg4.avi": {"codec": "mpeg4", "b_frames": 0},
}


@pytest.mark.parametrize("margin", ["0", "0.05"])
@pytest.mark.parametrize("name", CASES)
def test_every_frame_is_the_last_at_or_before_its_grid_point(
    bench: Bench, name: str, margin: str
) -> None:
    truth = write_video(bench.folder / name, [Shot(165), Shot(160)], **CASES[name])
    report = bench.run(truth, margin=margin)
    made = [row for row in report.rows if row["status"] == "ok"]
    assert len(made) >= 2
    assert {row["scene_id"] for row in report.rows} == {
        ids.scene_id(EPISODE, start) for start, _ in truth.spans()
    }
    for row in made:
        (start, end) = next(
            span for span in truth.spans() if ids.scene_id(EPISODE, span[0]) == row["scene_id"]
        )
        # The clips of a scene follow one another without a gap from its start + margin on.
        first = start * truth.time_base + Fraction(margin)
        same = [r["clip_id"] for r in made if r["scene_id"] == row["scene_id"]]
        first += sorted(same).index(row["clip_id"]) * Fraction(81, 16)
        wanted = nearest_previous(truth.pts, truth.time_base, grid(first))
        assert row["source_pts"] == [truth.pts[number] for number in wanted]
        assert row["clip_id"] == ids.clip_id(EPISODE, truth.pts[wanted[0]])
        assert all(start <= pts < end for pts in row["source_pts"])
        path = bench.folder / "out" / row["file"]
        assert row["sha256"] == digest_file(path)
        media.prove_clip(path, 160, 96)
        images = media.read_rgb(path)
        assert [read_counter(image, row["crop"]) for image in images] == wanted


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=60),
    st.lists(st.integers(0, 300), min_size=1, max_size=60),
)
def test_the_feed_is_nearest_previous(gaps: list[int], ticks: list[int]) -> None:
    pts = [sum(gaps[:k]) for k in range(len(gaps))]

    @dataclass
    class Frame:
        pts: int

    feed = clips.FrameFeed(Frame(p) for p in pts)
    wanted = nearest_previous(pts, Fraction(1), [Fraction(tick) for tick in sorted(ticks)])
    assert [feed.at(tick).pts for tick in sorted(ticks)] == [pts[number] for number in wanted]


def test_overlapping_clips_come_from_one_decode(bench: Bench) -> None:
    truth = write_video(bench.folder / "v.mp4", [Shot(200)])
    report = bench.run(truth, stride=Decimal("0.5"), margin="0")
    # (200/24 - 81/16) / 0.5 = 6.5: starts at 0, 0.5 ... 3.0
    assert [row["source_pts"][0] for row in report.rows] == [12 * 512 * k for k in range(7)]
    for row in report.rows:
        first = Fraction(row["source_pts"][0]) * truth.time_base
        wanted = nearest_previous(truth.pts, truth.time_base, grid(first))
        images = media.read_rgb(bench.folder / "out" / row["file"])
        assert [read_counter(image, row["crop"]) for image in images] == wanted


def test_a_stride_below_a_frame_is_refused(bench: Bench) -> None:
    truth = write_video(bench.folder / "v.mp4", [Shot(60)], rate=Fraction(10))
    with pytest.raises(BadInput, match="stride"):
        bench.run(truth, stride=Decimal("0.05"))


def test_the_shortest_scene_that_holds_a_clip(bench: Bench) -> None:
    # 81/16 s are 81 frames at 16/s: the 81 frames of the first shot hold one, the 80 none.
    truth = write_video(bench.folder / "v.mp4", [Shot(81), Shot(80)], rate=Fraction(16))
    rows = bench.run(truth, margin="0").rows
    assert sorted((row["status"], row["reason"]) for row in rows) == [
        ("ok", None),
        ("rejected", "scene_too_short"),
    ]
    short = next(row for row in rows if row["status"] == "rejected")
    assert short["clip_id"] == ids.clip_id(EPISODE, truth.spans()[1][0])
    assert "5.000 s" in short["detail"] and short["file"] == ""


def test_the_crop_leaves_the_overlay_out(bench: Bench) -> None:
    def subtitle(image: Any, number: int) -> None:
        image[150:] = (0, 255, 0)

    truth = write_video(bench.folder / "v.mp4", [Shot(130)], draw=subtitle)
    (row,) = bench.run(truth, overlay=overlay_row(crop_height=148)).rows
    assert row["crop"] == [36, 0, 246, 148]
    assert (row["source_width"], row["source_height"]) == (320, 192)
    image = media.read_rgb(bench.folder / "out" / row["file"])[40].astype(int)
    green = (image[..., 1] > 200) & (image[..., 0] < 60) & (image[..., 2] < 60)
    assert not green.any()


@pytest.mark.parametrize(
    ("overlay", "status", "reason"),
    [
        (tables.rejected(tables.Reason.CROP_TOO_DEEP, "too deep"), "rejected", "crop_too_deep"),
        (tables.failed(tables.Reason.DETECTOR_FAILED, "broke"), "failed", "upstream_failed"),
    ],
)
def test_without_a_rectangle_each_scene_has_a_row_that_says_so(
    bench: Bench, overlay: tables.Row, status: str, reason: str
) -> None:
    truth = write_video(bench.folder / "v.mp4", [Shot(130), Shot(30)])
    rows = bench.run(truth, overlay=overlay_row(**overlay)).rows
    assert [(row["status"], row["reason"]) for row in rows] == [(status, reason)] * 2
    assert all(overlay["detail"] in row["detail"] for row in rows)


def test_scenes_that_are_not_ok_are_not_taken_up(bench: Bench) -> None:
    truth = write_video(bench.folder / "v.mp4", [Shot(130)])
    report = bench.run(truth, scene=tables.rejected(tables.Reason.SCENE_BLACK, "black"))
    assert report.rows_in == 0 and not list((bench.folder / "out").iterdir())


def test_a_clip_that_fails_fails_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = write_video(bench.folder / "v.mp4", [Shot(130), Shot(130), Shot(130)])
    write, prove = media.ClipWriter.write, media.prove_clip
    first, second, third = (ids.clip_id(EPISODE, start) for start, _ in truth.spans())

    def failing_write(self: media.ClipWriter, frame: Any) -> None:
        if self.path.stem == first and self.frames == 50:
            raise media.EncodeFailed("disk on fire")
        write(self, frame)

    def failing_proof(path: Path, *size: int) -> None:
        if path.stem == second:
            raise media.ProofFailed("80 frames read back")
        prove(path, *size)

    monkeypatch.setattr(media.ClipWriter, "write", failing_write)
    monkeypatch.setattr(clips, "prove_clip", failing_proof)
    rows = {row["clip_id"]: row for row in bench.run(truth, margin="0").rows}
    assert [(rows[name]["reason"], rows[name]["detail"]) for name in (first, second, third)] == [
        ("encode_failed", "disk on fire"),
        ("proof_failed", "80 frames read back"),
        (None, None),
    ]
    assert [path.stem for path in (bench.folder / "out" / "clips").iterdir()] == [third]


def test_a_stream_that_breaks_off_fails_only_what_follows(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = write_video(bench.folder / "v.mp4", [Shot(130), Shot(130)])
    frames = media.Video.frames

    def breaking(self: media.Video) -> Any:
        for number, frame in enumerate(frames(self)):
            if number == 200:
                raise media.UnreadableVideo("the video cannot be decoded")
            yield frame

    monkeypatch.setattr(media.Video, "frames", breaking)
    rows = sorted(bench.run(truth).rows, key=lambda row: row["clip_id"])
    assert [row["reason"] for row in rows] == [None, "unreadable_video"]
    assert [path.stem for path in (bench.folder / "out" / "clips").iterdir()] == [
        rows[0]["clip_id"]
    ]


def test_scenes_that_do_not_match_the_video_fail_the_clip(bench: Bench) -> None:
    truth = write_video(bench.folder / "v.mp4", [Shot(200)])
    between = [truth.pts[10] + 100, truth.pts[-1]]
    (row,) = bench.run(truth, scene={"start_pts": between[0]}, margin="0").rows
    assert (row["status"], row["reason"]) == ("failed", "proof_failed")
    assert "another scene" in row["detail"]


def test_the_same_inputs_give_the_same_bytes(bench: Bench) -> None:
    truth = write_video(bench.folder / "v.mp4", [Shot(130), Shot(130)])
    reports = [bench.run(truth, out=f"out{k}", encoders=k, preset="fast").rows for k in (1, 2)]
    assert sorted(map(str, reports[0])) == sorted(map(str, reports[1]))


def test_from_the_episode_to_its_clips(tmp_path: Path, store: Store) -> None:
    truth = write_video(
        tmp_path / "episode.mp4",
        [Shot(150), Shot(20), Shot(30, "black"), Shot(290)],
        rate=Fraction(24000, 1001),
    )
    video = file_ref(truth.path)
    found = run_stage(
        store,
        scenes.STAGE,
        scenes.SceneInputs(unit="e", show="demo", style=Style.CARTOON, video=video),
        SceneSettings(),
    ).ref
    overlay = run_stage(
        store,
        overlays.STAGE,
        overlays.OverlayInputs(unit="e", show="demo", video=video),
        OverlaySettings(backend="none"),
    ).ref
    made = run_stage(
        store,
        clips.STAGE,
        clips.ClipInputs(unit="e", video=video, scenes=found, overlays=overlay),
        ClipSettings(**SMALL),
    ).ref
    rows = tables.read(made.path, tables.CLIPS)
    assert [row["reason"] for row in rows] == [None, "scene_too_short", None, None]
    for row in tables.usable(rows):
        images = media.read_rgb(made.folder / row["file"])
        counters = [read_counter(image, row["crop"]) for image in images]
        assert [truth.pts[number] for number in counters] == row["source_pts"]
        opened = [max(n for n in truth.opens if n <= number) for number in counters]
        assert len(set(opened)) == 1
