"""What is left of main memory: of the machine, and of the control groups around the process."""

from __future__ import annotations

from pathlib import Path

import pytest

from mimix_core.engine.main_memory import available_main_memory

GIB = 2**30


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A system with 100 GiB available and no control group."""
    write(tmp_path, "proc/meminfo", f"MemTotal: 200 kB\nMemAvailable: {100 * GIB // 1024} kB\n")
    return tmp_path


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def group(root: Path, path: str, most: str, used: int, freeable: int) -> None:
    write(root, f"sys/fs/cgroup/{path}/memory.max", f"{most}\n")
    write(root, f"sys/fs/cgroup/{path}/memory.current", f"{used * GIB}\n")
    write(root, f"sys/fs/cgroup/{path}/memory.stat", f"anon 7\ninactive_file {freeable * GIB}\n")


def test_without_control_groups_it_is_the_machines(root: Path) -> None:
    assert available_main_memory(root) == 100 * GIB


def test_this_machine_has_some() -> None:
    assert 0 < available_main_memory() < 2**50


def test_what_a_group_can_give_up_counts_as_available(root: Path) -> None:
    write(root, "proc/self/cgroup", "0::/job\n")
    group(root, "job", str(40 * GIB), used=30, freeable=5)
    assert available_main_memory(root) == 15 * GIB


def test_the_tightest_group_around_counts(root: Path) -> None:
    write(root, "proc/self/cgroup", "0::/user/job\n")
    group(root, "user/job", "max", used=30, freeable=5)
    group(root, "user", str(20 * GIB), used=12, freeable=0)
    assert available_main_memory(root) == 8 * GIB


def test_a_containers_own_group_is_at_the_top(root: Path) -> None:
    write(root, "proc/self/cgroup", "0::/of/the/host\n")
    group(root, ".", str(20 * GIB), used=12, freeable=0)
    assert available_main_memory(root) == 8 * GIB


def test_more_use_than_the_limit_leaves_nothing(root: Path) -> None:
    write(root, "proc/self/cgroup", "0::/job\n")
    group(root, "job", str(GIB), used=2, freeable=0)
    assert available_main_memory(root) == 0


def test_control_groups_of_the_first_version(root: Path) -> None:
    write(root, "proc/self/cgroup", "5:cpu:/job\n4:memory,hugetlb:/job\n")
    folder = "sys/fs/cgroup/memory/job"
    write(root, f"{folder}/memory.limit_in_bytes", f"{10 * GIB}\n")
    write(root, f"{folder}/memory.usage_in_bytes", f"{9 * GIB}\n")
    write(root, f"{folder}/memory.stat", f"total_inactive_file {3 * GIB}\n")
    assert available_main_memory(root) == 4 * GIB


def test_a_system_that_does_not_say_has_none(tmp_path: Path) -> None:
    assert available_main_memory(tmp_path) == 0
