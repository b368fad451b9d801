"""How the C library hands out memory, which on a CPU decides much of a training's speed."""

from __future__ import annotations

import ctypes

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
    return all([mallopt(name, value) for name, value in settings.items()])
