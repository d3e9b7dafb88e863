"""After a crash at any point a reader sees the old or the new state, and all that was promised."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.faults.crash_points import find_strace, try_scenario
from tests.faults.crash_states import MARK, replay
from tests.faults.disk import Disk
from tests.faults.scenarios import SCENARIOS
from tests.faults.syscalls import Call

HERE = Path(__file__).resolve().parent


@pytest.mark.drill
@pytest.mark.parametrize("name", SCENARIOS)
def test_every_crash_leaves_the_old_or_the_new_state(name: str, tmp_path: Path) -> None:
    if not find_strace():
        pytest.skip("needs strace (apt install strace)")
    found = try_scenario(SCENARIOS[name], tmp_path)
    assert found.points > 3
    assert found.states > found.points
    assert found.model_is_exact, "the recorded calls do not explain the files"
    assert not found.bad, Counter(found.bad).most_common(5)


def test_a_rename_before_its_bytes_are_synchronized_may_leave_an_empty_file() -> None:
    root = Path("/root-of-the-test")
    states = _states_at_the_end(
        root,
        [
            _open("part", 5),
            _call("write", "5", b"new bytes", result=9),
            _call("rename", _path(root, "part"), _path(root, "file")),
        ],
    )
    assert {"file": b"new bytes"} in states, "all of it"
    assert {} in states, "nothing"
    assert {"file": b""} in states, "the name alone"
    assert {"file": bytes(9)} in states
    assert {"file": b"new "} in states


def test_what_was_synchronized_is_in_every_state() -> None:
    root = Path("/root-of-the-test")
    states = _states_at_the_end(
        root,
        [
            _open("part", 5),
            _call("write", "5", b"new bytes", result=9),
            _call("fsync", "5"),
            _call("rename", _path(root, "part"), _path(root, "file")),
            _call("openat", "AT_FDCWD", str(root).encode(), "O_RDONLY", result=6),
            _call("fsync", "6"),
        ],
    )
    assert states == [{"file": b"new bytes"}]


def test_names_are_lost_one_by_one_and_with_what_needs_them() -> None:
    root = Path("/root-of-the-test")
    states = _states_at_the_end(
        root,
        [
            _call("mkdir", _path(root, "a"), "0777"),
            _call("mkdir", _path(root, "b"), "0777"),
            _call("rename", _path(root, "a"), _path(root, "b/a")),
        ],
    )
    assert {"b": None, "b/a": None} in states
    assert {"b": None} in states, "a and with it the rename"
    assert {"a": None, "b": None} in states, "the rename"


def _states_at_the_end(root: Path, calls: list[Call]) -> list[dict[str, bytes | str | None]]:
    begin = _call("write", "1", f"{MARK}0\n".encode())
    *_, last = replay(Disk(root), [begin, *calls])
    return [state.files for state in last.states]


def _path(root: Path, name: str) -> bytes:
    return f"{root}/{name}".encode()


def _open(name: str, number: int) -> Call:
    path = _path(Path("/root-of-the-test"), name)
    return _call("openat", "AT_FDCWD", path, "O_WRONLY|O_CREAT", result=number)


def _call(name: str, *arguments: str | bytes, result: int = 0) -> Call:
    return Call(name, arguments, result)
