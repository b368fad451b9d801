"""Selectors: ways to choose the patches that look like lesion, one file each, found by the file's name.

A selector's file has ``split(x_bchw, patch, normalise, temperature, similarity) -> Clusters``. The selector
"my-selector" is in the file ``my_selector.py``. Names with an underscore at the start are shared code.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from mpsams import renames


def available() -> tuple[str, ...]:
    """Return the names of all selectors, sorted."""
    return tuple(
        sorted(info.name.replace("_", "-") for info in pkgutil.iter_modules(__path__) if not info.name.startswith("_"))
    )


def current_name(name: str) -> str:
    """Return the name of a selector now, given this name or one from an earlier version."""
    return renames.SELECTORS.get(name, name)


def find(name: str) -> ModuleType:
    """Return the module of a selector. ValueError names those that there are."""
    name = current_name(name)
    if name not in available():
        raise ValueError(f"unknown selector {name!r}; available: {', '.join(available())}")
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
