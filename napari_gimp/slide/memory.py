"""How much memory this process may use: the machine's, or its container's share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

GROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
LIMIT_NAMES = {"": "memory.max", "memory": "memory.limit_in_bytes"}
"""File with the limit in control groups of version 2, and of version 1."""


def usable_bytes() -> int:
    """Return the memory that this process may fill, bytes.

    On Linux a container or batch job often has less than the machine; the least
    limit of its control group and those above it counts.
    """
    import psutil

    total: int = psutil.virtual_memory().total
    return min([total, *_limits()])


def _limits() -> Iterator[int]:
    """Yield the limits of this process's control groups, bytes."""
    try:
        lines = OWN_GROUPS.read_text().splitlines()
    except OSError:  # no Linux, or a locked one
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for controller, name in LIMIT_NAMES.items():
            if controller in controllers.split(","):
                yield from _limits_upwards(GROUPS / controller, path, name)


def _limits_upwards(root: Path, path: str, name: str) -> Iterator[int]:
    """Yield the limits of a group and of all above; inside a container of the root."""
    group = PurePosixPath(path.lstrip("/"))
    for place in (group, *group.parents):
        try:
            limit = (root / place / name).read_text().strip()
        except OSError:  # the root has none, and a container does not see its host's
            continue
        if limit.isdecimal():  # else "max"
            yield int(limit)
