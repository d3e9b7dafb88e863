"""Accidents that a run of the demo must survive, each at a random moment.

An accident gets a demo that has something to compute, and leaves it as the accident leaves it.
Afterwards the same command is run again, and the tables must be those of an undisturbed run.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from mimix_core.engine.store import Store
from tests.e2e.demo import Demo

LONGEST_SECONDS = 900.0
"""A run that takes longer hangs."""
SHIM_SOURCE = Path(__file__).resolve().parent / "faulty_disk.c"


@dataclass(frozen=True)
class Scene:
    """Where an accident happens. ``seconds``: an undisturbed run of the same work takes so long."""

    demo: Demo
    chance: random.Random
    seconds: float
    shim: Path | None

    def moment(self) -> float:
        """Choose a moment of the run."""
        return self.chance.uniform(0.05, 0.95) * self.seconds


@dataclass(frozen=True)
class Accident:
    """One kind. ``needs``: what not every machine has; ``happen`` returns what it did, in words."""

    name: str
    happen: Callable[[Scene], str]
    needs: str = ""


def start(demo: Demo, **environment: str) -> subprocess.Popen[bytes]:
    """Start a run in its own process group, with its output in ``run.log`` of the demo."""
    with (demo.folder / "run.log").open("ab") as log:
        return subprocess.Popen(
            demo.words(),
            cwd=demo.settings.parent,
            env={**demo.environment(), **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def wait(process: subprocess.Popen[bytes]) -> int:
    """Wait for the end of a run. Raises AssertionError for one that hangs."""
    try:
        return process.wait(LONGEST_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise AssertionError(f"the run has not ended after {LONGEST_SECONDS:.0f} s") from None


def descendants(pid: int) -> list[int]:
    """Return the processes that a process has started, and theirs."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, task.read_text().split()):
                found += [child, *descendants(child)]
    return found


# Processes


def _kill_run(scene: Scene) -> str:
    process, moment = start(scene.demo), scene.moment()
    time.sleep(moment)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return f"SIGKILL after {moment:.1f} s"


def _kill_all(scene: Scene) -> str:
    process, moment = start(scene.demo), scene.moment()
    time.sleep(moment)
    for pid in (*descendants(process.pid), process.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    return f"SIGKILL of everything after {moment:.1f} s"


def _terminate(scene: Scene) -> str:
    process, moment = start(scene.demo), scene.moment()
    time.sleep(moment)
    process.terminate()
    wait(process)
    return f"SIGTERM after {moment:.1f} s"


def _one_of(scene: Scene, process: subprocess.Popen[bytes]) -> int | None:
    time.sleep(scene.moment())
    children = descendants(process.pid)
    return scene.chance.choice(children) if children else None


def _kill_child(scene: Scene) -> str:
    process = start(scene.demo)
    child = _one_of(scene, process)
    if child is not None:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    return f"SIGKILL of a process of the run, which ended with {wait(process)}"


def _pause(scene: Scene) -> str:
    process = start(scene.demo)
    stopped = _one_of(scene, process) or process.pid
    seconds = scene.chance.choice((5.0, 20.0, 60.0))
    with suppress(ProcessLookupError):
        os.kill(stopped, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(stopped, signal.SIGCONT)
    return f"SIGSTOP for {seconds:.0f} s of one process; the run ended with {wait(process)}"


def _two_runs(scene: Scene) -> str:
    first = start(scene.demo)
    time.sleep(scene.chance.uniform(0, 0.5) * scene.seconds)
    second = start(scene.demo)
    if scene.chance.random() < 0.5:
        time.sleep(scene.moment())
        os.kill(first.pid, signal.SIGKILL)
    ends = [wait(first), wait(second)]
    assert ends[1] == 0, f"the run beside another one ended with {ends[1]}"
    return f"two runs at once, which ended with {ends}"


# The disk


def _failing_call(scene: Scene) -> str:
    assert scene.shim is not None
    call = scene.chance.choice(("write", "fsync", "rename", "open", "mkdir"))
    number = scene.chance.choice((errno.EIO, errno.ENOSPC, errno.EDQUOT))
    flag = scene.demo.folder / "fail-now"
    process = start(
        scene.demo,
        LD_PRELOAD=str(scene.shim),
        FAULTY_FOLDER=str(scene.demo.workspace),
        FAULTY_CALL=call,
        FAULTY_ERRNO=str(number),
        FAULTY_FLAG=str(flag),
    )
    time.sleep(scene.moment())
    flag.touch()
    end = wait(process)
    happened = not flag.exists()
    flag.unlink(missing_ok=True)
    what = f"{errno.errorcode[number]} of one {call}" if happened else f"no {call} was left to fail"
    return f"{what}; the run ended with {end}"


def _full_disk(scene: Scene) -> str:
    with_spare = _on_tmpfs(scene, scene.chance.uniform(0.02, 1.0))
    end = wait(start(scene.demo))
    _mount(with_spare, "remount,size=4g")
    return f"a full disk; the run ended with {end}"


def _read_only(scene: Scene) -> str:
    disk = _on_tmpfs(scene, 4000)
    process = start(scene.demo)
    time.sleep(scene.moment())
    _mount(disk, "remount,ro", lazily=True)
    end = wait(process)
    _mount(disk, "remount,rw")
    return f"a disk that became read-only; the run ended with {end}"


def _on_tmpfs(scene: Scene, spare_megabytes: float) -> Path:
    """Move the workspace to a file system of its own with so much space left."""
    workspace = scene.demo.workspace
    size = sum(-(-file.lstat().st_size // 4096) * 4096 for file in workspace.rglob("*"))
    aside = workspace.with_name("aside")
    workspace.rename(aside)
    workspace.mkdir()
    _mount(workspace, f"size={size + int(spare_megabytes * 1e6)}", fresh=True)
    shutil.copytree(aside, workspace, symlinks=True, dirs_exist_ok=True)
    shutil.rmtree(aside)
    return workspace


def _mount(folder: Path, options: str, *, fresh: bool = False, lazily: bool = False) -> None:
    kind = ["-t", "tmpfs", "tmpfs"] if fresh else []
    # A file system that is being written to refuses to become read-only: ask until it does.
    for _ in range(200 if lazily else 1):
        done = subprocess.run(
            ["mount", "-o", options, *kind, str(folder)], capture_output=True, check=False
        )
        if done.returncode == 0:
            return
        time.sleep(0.02)
    assert lazily, done.stderr


def unmount(folder: Path) -> None:
    """Remove the file system of an accident, if it has one."""
    if os.path.ismount(folder):
        subprocess.run(["umount", "-l", str(folder)], check=True)


# Results and the place


def _damage(scene: Scene) -> str:
    """Damage results of a finished run."""
    assert wait(start(scene.demo)) == 0
    done = []
    for _ in range(scene.chance.randint(1, 3)):
        files = sorted(p for p in scene.demo.store.root.glob("[!.]*/*/**/*") if p.is_file())
        path = scene.chance.choice(files)
        done.append(f"{_damage_file(path, scene.chance)} {path.parent.parent.name}/{path.name}")
    return ", ".join(done)


def _damage_file(path: Path, chance: random.Random) -> str:
    content = bytearray(path.read_bytes())
    kinds: Sequence[str] = ("missing", "empty", "cut", "flipped")
    kind = chance.choice(kinds if content else kinds[:1])
    if kind == "missing":
        path.unlink()
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "cut":
        path.write_bytes(content[: chance.randrange(len(content))])
    else:
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
    return kind


def _move(scene: Scene) -> str:
    """Kill a run and move its workspace, as somebody does whose disk is full."""
    _kill_all(scene)
    moved = scene.demo.folder.with_name(f"{scene.demo.folder.name}-moved")
    shutil.move(scene.demo.workspace, moved)
    shutil.move(moved, scene.demo.folder / "elsewhere")
    (scene.demo.folder / "workspace").symlink_to("elsewhere")
    return "a killed run, and the workspace moved behind a link"


def _clock(scene: Scene) -> str:
    """Run with a clock that is wrong, kill it, and go on with the right one."""
    assert scene.shim is not None
    hours = scene.chance.choice((-24 * 400, -3, 3, 24 * 400))
    process = start(scene.demo, LD_PRELOAD=str(scene.shim), FAULTY_CLOCK_SECONDS=str(3600 * hours))
    time.sleep(scene.moment())
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    wait(process)
    return f"a clock {hours} hours off until a kill"


COMPILER, ROOT_RIGHTS = "a C compiler", "the right to mount"
ACCIDENTS = (
    Accident("killed run", _kill_run),
    Accident("killed with all its processes", _kill_all),
    Accident("terminated run", _terminate),
    Accident("killed process of a run", _kill_child),
    Accident("stopped process", _pause),
    Accident("two runs", _two_runs),
    Accident("failing call", _failing_call, COMPILER),
    Accident("full disk", _full_disk, ROOT_RIGHTS),
    Accident("read-only disk", _read_only, ROOT_RIGHTS),
    Accident("damaged results", _damage),
    Accident("moved workspace", _move),
    Accident("wrong clock", _clock, COMPILER),
)


def compile_shim(folder: Path) -> Path | None:
    """Compile the library that lets calls fail; None without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    shim = folder / "faulty_disk.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(shim), str(SHIM_SOURCE), "-ldl"]
    subprocess.run(command, check=True)
    return shim


def possible_accidents(shim: Path | None) -> list[Accident]:
    """Return the accidents that can be made on this machine."""
    missing = set()
    if shim is None:
        missing.add(COMPILER)
    if os.geteuid() != 0:
        missing.add(ROOT_RIGHTS)
    return [one for one in ACCIDENTS if one.needs not in missing]


@dataclass(frozen=True)
class Outcome:
    """What came of an accident. ``problems`` is empty if nothing was lost."""

    accident: str
    seed: int
    what: str
    problems: tuple[str, ...]


def drill(
    finished: Demo,
    expected: dict[tuple[str, str], str],
    folder: Path,
    seed: int,
    shim: Path | None,
    stages: Sequence[str],
    seconds: float,
) -> Outcome:
    """Let one accident happen to a copy of a finished demo that lacks some results.

    ``stages``: those that a drill may have to compute again; ``seconds``: an undisturbed run of
    all of them.
    """
    chance = random.Random(seed)
    accident = chance.choice(possible_accidents(shim))
    lacking = chance.sample(stages, chance.randint(1, min(4, len(stages))))
    demo = replace(finished.copy(folder), server="")
    try:
        for name in lacking:
            shutil.rmtree(demo.store.root / name)
        share = max(0.3, len(lacking) / len(stages))
        what = accident.happen(Scene(demo, chance, seconds * share, shim))
        problems = _problems(demo, expected)
    except AssertionError as error:
        what, problems = f"without {', '.join(lacking)}", [str(error)]
    finally:
        unmount(folder / "workspace")
    return Outcome(accident.name, seed, f"{what} (without {', '.join(lacking)})", tuple(problems))


def _problems(demo: Demo, expected: dict[tuple[str, str], str]) -> list[str]:
    """Run again and compare with an undisturbed run."""
    for _ in range(2):
        end = wait(start(demo))
        if end == 0:
            break
    problems = [] if end == 0 else [f"the second run after it ended with {end}"]
    found = demo.digests()
    problems += [f"{key} is lost" for key in expected if key not in found]
    problems += [f"{key} is one too many" for key in found if key not in expected]
    problems += [
        f"{key} has another table" for key in found if found[key] != expected.get(key, found[key])
    ]
    staging = demo.store.root / ".staging"
    left = [path.name for path in staging.glob("*") if path.is_dir()]
    problems += [f"{name} is left in .staging" for name in left]
    problems += _damaged(demo.store)
    return problems


def _damaged(store: Store) -> list[str]:
    from mimix_core.engine.store_check import find_damaged_results

    return [f"{one.file} {one.problem}" for one in find_damaged_results(store)]
