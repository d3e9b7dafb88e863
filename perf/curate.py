"""What curation costs on a whole film, beside its floor and beside what a user would pick instead.

``python perf/curate.py [PART...]`` measures on this machine, a part after the other:

- the floor: FFmpeg's null decode of the film, and FFmpeg encoding the very clips MiMix made;
- MiMix's stages scenes and clips, each in a process of its own, the proof of every clip included;
- ``klippbok ingest`` and ``scenedetect split-video``, at MiMix's size and the same x264 settings;
- 1, 2 and 4 copies of the film (distinct by a re-mux), for growth.

The peers go into a virtual environment of their own, ``perf/.peers``.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mimix_core import tables
from mimix_core.domain.library import Style
from mimix_core.engine.artifacts import TableRef
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.media import find_ffmpeg
from mimix_core.settings import ClipSettings, OverlaySettings, SceneSettings
from mimix_core.stages import clips, overlays, scenes
from mimix_core.tables import ClipRow
from perf.record import RESULTS, ROOT, record
from tasks.subprocess_runner import ENVIRONMENT

FILM = ROOT / "demo" / "footage" / "sources" / "bbb.mp4"
PEERS = ROOT / "perf" / ".peers"
KLIPPBOK, SCENEDETECT = "klippbok[video]==0.1.0", "scenedetect[opencv]==0.7.2"
FFPROBE = "@ffprobe-installer/linux-x64@5.2.0"
# klippbok's x264 settings are fixed in its code: MiMix is run with the same beside it.
KLIPPBOK_X264 = {"crf": 18, "preset": "medium"}


@dataclass(frozen=True)
class Cost:
    """Seconds of wall and of processor, of a command and all its children."""

    wall: float
    cpu: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.wall + other.wall, self.cpu + other.cpu)


@dataclass(frozen=True)
class Made:
    """MiMix's clips (their rows and files) and what they cost."""

    scenes: Cost
    clips: Cost
    peak_rss_gb: float
    files: Sequence[tuple[ClipRow, Path]]

    @property
    def rows(self) -> list[ClipRow]:
        return [row for row, _ in self.files]

    @property
    def cost(self) -> Cost:
        return self.scenes + self.clips


UNITS = {
    "ratio_to_floor": "x wall (bar 1.5)",
    "ratio_to_floor_cpu": "x CPU seconds (bar 1.5)",
    "floor_seconds": "s wall: null decode of the film + encoding the same clips",
    "floor_cpu_seconds": "CPU s",
    "scenes_seconds": "s wall, process start included",
    "scenes_cpu_seconds": "CPU s",
    "clips_seconds": "s wall, process start and proof included",
    "clips_cpu_seconds": "CPU s",
    "clips": "clips made",
    "times_faster_than_klippbok": "x wall (bar 4): its detection + exactly the same clips",
    "times_faster_than_klippbok_as_run": "x wall: its own ingest of the whole film",
    "times_faster_than_scenedetect": "x wall (bar 2): detect-adaptive split-video, all scenes",
    "floor_times_faster_than_klippbok": "x wall: the most that any tool could reach",
    "floor_times_faster_than_scenedetect": "x wall: the most that any tool could reach",
    "times_less_cpu_than_klippbok": "x CPU seconds",
    "times_less_cpu_than_scenedetect": "x CPU seconds",
    "peak_rss_gb": "GB resident, largest process, 4 copies one after the other (bar 1.5)",
    "peak_rss_gb_1_copy": "GB resident, largest process",
    "seconds_2_copies_over_1": "x wall (linear: 2)",
    "seconds_4_copies_over_1": "x wall (linear: 4)",
    "frames_per_second_per_core": "source frames / CPU s",
    "hours_for_81_hours_on_this_machine": "h wall for scenes + clips",
}


def main(parts: Sequence[str]) -> None:
    """Run the parts, all by default; figures of the others stay as they were in the file."""
    subprocess.run([sys.executable, "demo/footage.py", "demo/footage"], cwd=ROOT, check=True)
    result = RESULTS / "curate.json"
    figures = json.loads(result.read_text())["figures"] if result.exists() else {}
    with tempfile.TemporaryDirectory(prefix="mimix-perf-") as name:
        for part in parts or PARTS:
            found = PARTS[part](Path(name, part))
            figures |= {key: round(value, 3) for key, value in found.items()}
    path = record(
        "curate",
        {key: figures[key] for key in UNITS if key in figures},
        {key: unit for key, unit in UNITS.items() if key in figures},
        "The whole film, 596 s at 1280x720. Units one after the other. Ratios are of one run each; "
        "the parts (floor, klippbok, scenedetect, growth) may be of different runs.",
    )
    print(path.read_text())


def floor(folder: Path) -> dict[str, float]:
    """MiMix beside the floor."""
    made = _mimix([FILM], folder / "made", ClipSettings())
    least = _floor(made, folder / "floor", ClipSettings())
    hours = made.cost.wall * 81 * 3600 / _seconds(FILM) / 3600
    return {
        "ratio_to_floor": made.cost.wall / least.wall,
        "ratio_to_floor_cpu": made.cost.cpu / least.cpu,
        "floor_seconds": least.wall,
        "floor_cpu_seconds": least.cpu,
        "scenes_seconds": made.scenes.wall,
        "scenes_cpu_seconds": made.scenes.cpu,
        "clips_seconds": made.clips.wall,
        "clips_cpu_seconds": made.clips.cpu,
        "clips": len(made.files),
        "frames_per_second_per_core": _frame_count(FILM) / made.cost.cpu,
        "hours_for_81_hours_on_this_machine": hours,
    }


def klippbok(folder: Path) -> dict[str, float]:
    """MiMix beside klippbok, with klippbok's x264 settings."""
    environment = _peers()
    like = ClipSettings.model_validate(KLIPPBOK_X264)
    made = _mimix([FILM], folder / "made", like)
    least = _floor(made, folder / "floor", like)
    same = _klippbok(environment, folder / "klippbok", made.rows)
    as_run = _klippbok(environment, folder / "klippbok-as-run", None)
    return {
        "times_faster_than_klippbok": same.wall / made.cost.wall,
        "times_faster_than_klippbok_as_run": as_run.wall / made.cost.wall,
        "floor_times_faster_than_klippbok": same.wall / least.wall,
        "times_less_cpu_than_klippbok": same.cpu / made.cost.cpu,
    }


def scenedetect(folder: Path) -> dict[str, float]:
    """MiMix beside PySceneDetect's command, with MiMix's x264 settings."""
    environment = _peers()
    made = _mimix([FILM], folder / "made", ClipSettings())
    least = _floor(made, folder / "floor", ClipSettings())
    split = _scenedetect(environment, folder / "split", ClipSettings())
    return {
        "times_faster_than_scenedetect": split.wall / made.cost.wall,
        "floor_times_faster_than_scenedetect": split.wall / least.wall,
        "times_less_cpu_than_scenedetect": split.cpu / made.cost.cpu,
    }


def growth(folder: Path) -> dict[str, float]:
    """1, 2 and 4 copies of the film, one after the other in one process a stage; ultrafast."""
    made = {count: _copies(folder / str(count), count) for count in (1, 2, 4)}
    return {
        "peak_rss_gb": made[4].peak_rss_gb,
        "peak_rss_gb_1_copy": made[1].peak_rss_gb,
        "seconds_2_copies_over_1": made[2].cost.wall / made[1].cost.wall,
        "seconds_4_copies_over_1": made[4].cost.wall / made[1].cost.wall,
    }


PARTS: Mapping[str, Callable[[Path], dict[str, float]]] = {
    "floor": floor,
    "klippbok": klippbok,
    "scenedetect": scenedetect,
    "growth": growth,
}


def _mimix(videos: Sequence[Path], folder: Path, settings: ClipSettings) -> Made:
    """All scenes in one fresh process, all clips in another; overlays keep the whole picture."""
    folder.mkdir(parents=True)
    answer = folder / "answer.json"
    costs = []
    peaks = []
    # What overlays costs (a few frames, to look for black borders) is not what is compared.
    for stage in ("scenes", "overlays", "clips"):
        asked = [stage, str(folder), settings.model_dump_json(), *map(str, videos)]
        costs.append(
            _timed([sys.executable, __file__, "units", *asked], {**ENVIRONMENT, **os.environ})
        )
        answered = json.loads(answer.read_text())
        peaks.append(answered["peak_rss_gb"])
    refs = [TableRef.model_validate(ref) for ref in answered["refs"]]
    files = [
        (row, ref.folder / row["file"])
        for ref in refs
        for row in tables.usable(tables.read(ref.path, tables.CLIPS))
    ]
    return Made(costs[0], costs[2], max(peaks), files)


def _units(stage: str, folder: str, settings: str, *videos: str) -> None:
    """What ``_mimix`` runs in a process of its own, episode after episode, as a unit process."""
    store = Store(Path(folder, "store"))
    store.root.mkdir(exist_ok=True)
    refs = []
    for video in map(Path, videos):
        source = store.source_ref(video)
        about = {"unit": video.stem, "show": "film", "video": source}
        seen = scenes.SceneInputs(style=Style.CARTOON, **about)
        found = run_stage(store, scenes.STAGE, seen, SceneSettings()).ref
        if stage != "scenes":
            looked = overlays.OverlayInputs(scenes=found, **about)
            whole = run_stage(store, overlays.STAGE, looked, OverlaySettings(backend="none")).ref
        if stage == "clips":
            asked = clips.ClipInputs(unit=video.stem, video=source, scenes=found, overlays=whole)
            chosen = ClipSettings.model_validate_json(settings)
            found = run_stage(store, clips.STAGE, asked, chosen).ref
        refs.append(found.model_dump(mode="json"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    answer = {"refs": refs, "peak_rss_gb": round(peak, 3)}
    Path(folder, "answer.json").write_text(json.dumps(answer))


def _floor(made: Made, folder: Path, settings: ClipSettings) -> Cost:
    """Decode the film to nothing; encode all frames of the clips in one go."""
    folder.mkdir(parents=True)
    exe = [find_ffmpeg(), "-v", "error", "-y"]
    listed = folder / "clips.txt"
    listed.write_text("".join(f"file '{path}'\n" for _, path in made.files), encoding="utf-8")
    raw = folder / "clips.yuv"
    size = f"{settings.width}x{settings.height}"
    plain = ["-f", "rawvideo", "-pix_fmt", "yuv420p"]
    subprocess.run(
        [*exe, "-f", "concat", "-safe", "0", "-i", str(listed), *plain, str(raw)], check=True
    )
    decode = _timed([*exe, "-i", str(FILM), "-map", "0:v:0", "-f", "null", "-"])
    x264 = ["-c:v", "libx264", "-crf", str(settings.crf), "-preset", settings.preset]
    encode = _timed(
        [*exe, *plain, "-s", size, "-r", "16", "-i", str(raw), *x264, str(folder / "floor.mp4")]
    )
    raw.unlink()
    return decode + encode


def _klippbok(peers: Mapping[str, str], folder: Path, rows: Sequence[ClipRow] | None) -> Cost:
    """Its ingest of the whole film; or, given rows, its scene detection and exactly these clips."""
    folder.mkdir(parents=True)
    config = folder / "klippbok_data.yaml"
    config.write_text(
        "video:\n  fps: 16\n  resolution: 480\n  max_frames: 81\ndatasets:\n  - path: .\n"
    )
    python = str(PEERS / "venv" / "bin" / "python")
    ingest = [python, "-m", "klippbok.video", "ingest", str(FILM), "-o", str(folder / "clips")]
    ingest += ["--config", str(config)]
    if rows is None:
        return _timed(ingest, peers)
    detect = _timed(
        [python, "-c", "import sys; from klippbok.video.scene import detect_scenes as d; "
         "d(sys.argv[1])", str(FILM)],
        peers,
    )  # fmt: skip
    starts = [Fraction(row["start_num"], row["start_den"]) for row in rows]
    segments = [
        # A tenth of a frame more than 81 frames last: it counts with int(seconds * 16).
        {"start_time": float(s), "end_time": float(s + Fraction(811, 160)), "include": True}
        for s in starts
    ]
    manifest = folder / "manifest.json"
    manifest.write_text(
        json.dumps({"triage_mode": "scene", "videos": [{"path": str(FILM), "scenes": segments}]})
    )
    split = _timed([*ingest, "--max-frames", "0", "--triage", str(manifest)], peers)
    written = len(list((folder / "clips").glob("*.mp4")))
    if written != len(rows):
        raise RuntimeError(f"klippbok wrote {written} clips, {len(rows)} were asked for")
    return detect + split


def _scenedetect(peers: Mapping[str, str], folder: Path, settings: ClipSettings) -> Cost:
    """PySceneDetect's own command: it cuts the whole film into scenes, and can cut no clips."""
    size = f"scale={settings.width}:{settings.height}:flags=bicubic"
    x264 = f"-vf {size} -r 16 -c:v libx264 -crf {settings.crf} -preset {settings.preset} -an"
    return _timed(
        [str(PEERS / "venv" / "bin" / "scenedetect"), "-q", "-i", str(FILM), "-o", str(folder),
         "detect-adaptive", "split-video", "-a", f"-map 0:v:0 {x264}"],
        peers,
    )  # fmt: skip


def _copies(folder: Path, count: int) -> Made:
    folder.mkdir(parents=True)
    copies = [folder / f"film-{number}.mkv" for number in range(count)]
    for copy in copies:
        title = ["-metadata", f"title={copy.stem}"]
        subprocess.run(
            [find_ffmpeg(), "-v", "error", "-i", str(FILM), "-c", "copy", *title, str(copy)],
            check=True,
        )
    return _mimix(copies, folder / "made", ClipSettings(preset="ultrafast"))


def _timed(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Cost:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    subprocess.run(
        command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wall = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def _peers() -> Mapping[str, str]:
    """Install the peers once; gives the environment they run in."""
    tools = PEERS / "bin"
    if not (tools / "ffprobe").exists():
        shutil.rmtree(PEERS, ignore_errors=True)
        venv.create(PEERS / "venv", with_pip=True)
        pip = [str(PEERS / "venv" / "bin" / "pip"), "install", "-qq"]
        subprocess.run([*pip, KLIPPBOK, SCENEDETECT], check=True)
        subprocess.run(
            ["npm", "install", "--silent", "--prefix", str(PEERS / "npm"), FFPROBE], check=True
        )
        tools.mkdir()
        probe = PEERS / "npm" / "node_modules" / FFPROBE.rsplit("@", 1)[0] / "ffprobe"
        probe.chmod(0o755)
        (tools / "ffmpeg").symlink_to(find_ffmpeg())
        (tools / "ffprobe").symlink_to(probe)
    return {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}


def _frame_count(video: Path) -> int:
    import av

    with av.open(str(video)) as container:
        return int(container.streams.video[0].frames)


def _seconds(video: Path) -> float:
    import av

    with av.open(str(video)) as container:
        return float(container.duration / av.time_base)


if __name__ == "__main__":
    if sys.argv[1:2] == ["units"]:
        _units(*sys.argv[2:])
    else:
        main(sys.argv[1:])
