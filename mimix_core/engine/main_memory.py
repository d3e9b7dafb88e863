"""How much main memory is available: of the machine, and of the container around the process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_KILOBYTE = 1024
# Of control groups, version 1: limit, use, and the key of what the kernel gives up when asked.
_VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_VERSION_2 = ("memory.max", "memory.current", "inactive_file")


def available_main_memory(root: Path = Path("/")) -> int:
    """Return the bytes that can be allocated without swapping or reaching a container's limit.

    0 where the system does not say (anything but Linux). ``root``: the folder of proc and sys.
    """
    meminfo = root / "proc/meminfo"
    if not meminfo.is_file():
        return 0
    lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    machine = int(lines["MemAvailable"].split()[0]) * _KILOBYTE
    return max(0, min([machine, *_left_in_groups(root)]))


def _left_in_groups(root: Path) -> Iterator[int]:
    """Yield what is left of the limit of each control group that this process is in."""
    groups = root / "proc/self/cgroup"
    if not groups.is_file():
        return
    for line in groups.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            folder, names = root / "sys/fs/cgroup", _VERSION_2
        elif "memory" in controllers.split(","):
            folder, names = root / "sys/fs/cgroup/memory", _VERSION_1
        else:
            continue
        group = Path(path.lstrip("/"))
        # In a container the path may be the host's; its own group is then at the top.
        for inside in (group, *group.parents):
            left = _left_in_group(folder / inside, *names)
            if left is not None:
                yield left


def _left_in_group(folder: Path, limit: str, used: str, freeable: str) -> int | None:
    """Return what is left of a control group's limit in bytes; None: it has none, or is absent."""
    if not (folder / limit).is_file():
        return None
    most = (folder / limit).read_text().strip()
    if most == "max":
        return None
    counts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    return int(most) - int((folder / used).read_text()) + int(counts[freeable])
