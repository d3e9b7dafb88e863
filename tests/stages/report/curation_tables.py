"""Tables from scenes to captions of a made-up run."""

from __future__ import annotations

import hashlib

from PIL import Image

from mimix_core import tables
from mimix_core.domain import ids
from mimix_core.tables import Reason, Row, failed, ok, rejected
from tests.factories import UNASKED
from tests.stages.report.fake_run import BASE, EPISODES, STYLE, FakeRun
from tests.stages.report.fake_videos import FRAMES, encode


def add_curation(run: FakeRun, caption: str = "") -> None:
    """Add tables from scenes to captions. ``caption`` replaces the first clip's."""
    number = 0
    for show, name in EPISODES:
        episode = ids.episode_id(show, hashlib.sha256(name.encode()).hexdigest())
        plan = [("taken", 6)] * run.clips_per_episode + [("short", 2), ("black", 1)]
        plan += [("frozen", 3), ("transition", 1), ("twin", 6), ("deep", 6), ("short", 1)]
        plan += [("credits", 9)]
        scenes, overlays, clips, captions, transcripts = [], [], [], [], []
        at = 1001
        for kind, length in plan:
            end = at + length * BASE
            scene = _scene(run, show, episode, at, end, kind)
            scenes.append(scene)
            if scene["status"] == "ok":
                overlays.append(_overlay(run, show, name, scene, kind))
                clip = _clip(run, show, name, scene, kind, number)
                clips.append(clip)
                if clip["status"] == "ok":
                    text = caption if caption and not number else ""
                    captions.append(_caption(run, show, clip, number, text))
                    transcripts.append(_transcript(clip, number))
                    number += 1
            at = end
        run.commit("scenes", name, tables.SCENES, scenes)
        run.commit("overlays", name, tables.OVERLAYS, overlays)
        run.commit("clips", name, tables.CLIPS, clips)
        run.commit("transcripts", name, tables.TRANSCRIPTS, transcripts)
        run.commit("captions", name, tables.CAPTIONS, captions)
    run.commit(
        "scenes",
        "broken",
        tables.SCENES,
        [
            failed(
                Reason.UNREADABLE_VIDEO,
                "moov atom not found",
                **_scene_values("meadow", "meadow-0000000000", 0, 0) | {"time_base_den": 0},
            )
        ],
    )


def _scene(run: FakeRun, show: str, episode: str, at: int, end: int, kind: str) -> Row:
    values = _scene_values(show, episode, at, end)
    reason = {
        "black": Reason.SCENE_BLACK,
        "frozen": Reason.SCENE_FROZEN,
        "transition": Reason.SCENE_TRANSITION,
    }.get(kind)
    return ok(**values) if reason is None else rejected(reason, f"it is {kind}", **values)


def _overlay(run: FakeRun, show: str, name: str, scene: Row, kind: str) -> Row:
    """A subtitle in two of three frames per scene of the first episode; credits have an image."""
    frame = run.paint(show, 0)[0]
    height, width = frame.shape[:2]
    start = scene["start_pts"]
    file = f"frame-{start}.png" if start == 1001 or kind == "credits" else ""
    if file:
        Image.fromarray(frame).save(run.folder("overlays", name) / file)
    subtitled = name == "meadow-one"
    box = [width // 4, int(height * 0.85), width * 3 // 4, int(height * 0.95)]
    values: Row = {
        "scene_id": scene["scene_id"],
        "episode_id": scene["episode_id"],
        "backend": "rapidocr",
        "width": width,
        "height": height,
        "sampled_pts": [start + k for k in range(3)],
        "boxes": [{"pts": start + k, "box": box} for k in range(2 * subtitled)],
        "crop_x": 0,
        "crop_y": 0,
        "crop_width": width,
        "crop_height": int(height * 0.83) if subtitled else height,
        "remaining_boxes": [],
        "text_remains": "",
        "frame_file": file,
    }
    if kind == "credits":
        return rejected(Reason.SCENE_CREDITS, "4 or more rows of text in 3 of 3 frames", **values)
    if kind == "deep":
        return rejected(Reason.CROP_TOO_DEEP, "half of the height is text", **values)
    return ok(**values)


def _clip(run: FakeRun, show: str, name: str, scene: Row, kind: str, number: int) -> Row:
    start = scene["start_pts"]
    clip = ids.clip_id(scene["episode_id"], start)
    values: Row = {
        **{key: scene[key] for key in ("scene_id", "episode_id", "show", "style", "origin_pts")},
        "clip_id": clip,
        "time_base_num": 1,
        "time_base_den": BASE,
        "source_pts": [],
        "crop": [],
        "width": 0,
        "height": 0,
        "frames": 0,
        "rate_num": 16,
        "rate_den": 1,
        "lost_audio_ms": 0,
        "file": "",
        "sha256": "",
    }
    if kind == "short":
        return rejected(Reason.SCENE_TOO_SHORT, "a clip needs 5.1625 s", **values)
    if kind == "deep":
        return rejected(Reason.CROP_TOO_DEEP, "half of the height is text", **values)
    if kind == "credits":
        return rejected(Reason.SCENE_CREDITS, "4 or more rows of text in 3 of 3 frames", **values)
    values["source_pts"] = [start + k * BASE // 16 for k in range(FRAMES)]
    if kind == "twin":
        return rejected(Reason.NEAR_DUPLICATE, "0.99 like the opening", **values)
    frames = run.paint(show, number)
    height, width = frames[0].shape[:2]
    sha256 = encode(run.folder("clips", name) / f"{clip}.mp4", frames)
    values |= {
        "crop": [0, 0, width, height],
        "width": width,
        "height": height,
        "frames": FRAMES,
        "file": f"{clip}.mp4",
        "sha256": sha256,
    }
    return ok(**values)


def _caption(run: FakeRun, show: str, clip: Row, number: int, text: str) -> Row:
    name = "Anna" if show == "portraits" else ("Rinky", "Bunny")[number % 2]
    other = "" if show == "portraits" else " [Character: Bunny], looks on."
    style = STYLE[show]
    caption = text or f"[Character: {name}], walks by.{other} [scene-style:{style}]"
    values: Row = {
        "clip_id": clip["clip_id"],
        "backend": "script",
        "caption": caption,
        "actions": [{"name": name, "action": "walks by"}],
        "context": "",
        "style": style,
        **UNASKED,
    }
    if number == 3:
        empty = {"caption": "", "actions": []}
        return rejected(Reason.NO_ACTION_IN_SCRIPT, "the script is silent", **values | empty)
    return ok(**values)


def _scene_values(show: str, episode: str, at: int, end: int) -> Row:
    return {
        "scene_id": ids.scene_id(episode, at),
        "episode_id": episode,
        "show": show,
        "style": STYLE[show],
        "origin_pts": 1001,
        "start_pts": at,
        "end_pts": end,
        "time_base_num": 1,
        "time_base_den": BASE,
        "frames": (end - at) * 24 // BASE,
        "seekable": True,
        "width": 1280,
        "height": 720,
        "motion": 0.1,
        "sharpness": 0.2,
        "black_share": 0.0,
        "frozen_share": 0.0,
    }


def _transcript(clip: Row, number: int) -> Row:
    text = "Hello there." if number % 2 == 0 else ""
    lines = [{"start_ms": 0, "end_ms": 900, "text": text}] if text else []
    return ok(clip_id=clip["clip_id"], backend="subtitles/sidecar", text=text, lines=lines)
