"""The C library's allocation of memory, which affects a training's speed on a CPU; memory that is there and that was
used.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

# <malloc.h> of glibc: parameter numbers of mallopt
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8


def keep_freed() -> bool:
    """Let glibc keep freed memory instead of giving it back after every layer; False where there is no glibc.

    A training step frees and takes the same gigabytes again and again. By default glibc returns each
    large block to the kernel, which must clear its pages anew. ``benchmarks/memory.py`` measures it.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    settings = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: 2**28, M_ARENA_MAX: 1}
    return all([mallopt(name, value) for name, value in settings.items()])  # noqa: C419 - each is set, also after one failed


STATUS = Path("/proc/self/status")  # of Linux
CGROUPS, OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def peak() -> int | None:
    """Return the most bytes of memory that this process has taken; None where the system does not tell."""
    if taken := field(STATUS, "VmHWM"):
        return taken
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def available() -> int | None:
    """Return the bytes that this process may still take: free on the machine, and left to it by its control groups and
    by ``ulimit -v``.

    None where the system does not tell.
    """
    free = field(Path("/proc/meminfo"), "MemAvailable") or cached_memory()
    if free is None:
        return None
    import resource

    left = [free, *(limit - used for limit, used in control_groups())]

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        left.append(limit - (field(STATUS, "VmSize") or 0))
    return max(0, min(left))


def cached_memory() -> int | None:
    """Return the bytes of the machine's memory that this process has not taken, where no more is known (macOS); None
    where not even that is.
    """
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") - (peak() or 0)
    except (AttributeError, OSError, ValueError):  # Windows
        return None


def field(path: Path, name: str) -> int | None:
    """Return the bytes that a line "name: N kB" of a file in /proc says; None where there is no such file or line."""
    lines = path.read_text(encoding="ascii").splitlines() if path.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)


def control_groups() -> list[tuple[int, int]]:
    """Return limit and use in bytes of the control groups (version 2 or 1) of this process and of those above, where
    they have a limit.

    What the kernel would give up first, files that it keeps in memory, is not counted as used.
    """
    found = []
    for line in OWN_GROUPS.read_text(encoding="utf-8").splitlines() if OWN_GROUPS.exists() else []:
        _, controllers, below = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        top = CGROUPS / controllers
        own = top / below.lstrip("/")
        for folder in {top, own, *(above for above in own.parents if top in above.parents)}:
            found += cgroup_limits(
                folder,
                *(
                    ("memory.max", "memory.current")
                    if controllers == ""
                    else ("memory.limit_in_bytes", "memory.usage_in_bytes")
                ),
            )
    return found


def cgroup_limits(folder: Path, limit: str, used: str) -> list[tuple[int, int]]:
    """Return limit and use of one control group; an empty list when it has no limit."""
    try:
        allowed, taken = (folder / limit).read_text().strip(), int((folder / used).read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return []
    files = int(stat.get("inactive_file", stat.get("total_inactive_file", 0)))
    return [(int(allowed), max(0, taken - files))] if allowed.isdigit() and int(allowed) < 2**60 else []
