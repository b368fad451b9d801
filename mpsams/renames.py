"""Names of options and of records' columns in earlier versions, which are still read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

OPTIONS = {  # earlier dotted name -> name now
    "data.every": "data.slice_stride",
    "recipe.average": "recipe.ema_decay",
    "method.reading": "method.selector",
}
SELECTORS = {"descent": "geodesic"}  # values of method.selector


def update_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's configuration, as nested tables, with the names of this version."""
    return _rename(config, OPTIONS, SELECTORS)


def restore_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Undo ``update_config``: return the names of the first version, over which the hashes of runs are computed."""
    return _rename(config, _inverse(OPTIONS), _inverse(SELECTORS))


def update_option(name: str, value: Any) -> tuple[str, Any]:
    """Return dotted name and value of an option with the names of this version."""
    return _rename_option(name, value, OPTIONS, SELECTORS)


def restore_option(name: str, value: Any) -> tuple[str, Any]:
    """Undo ``update_option``."""
    return _rename_option(name, value, _inverse(OPTIONS), _inverse(SELECTORS))


def update_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checkpoint's metadata with the names of this version in its configuration."""
    config = metadata.get("config")
    return dict(metadata) | ({"config": update_config(config)} if isinstance(config, Mapping) else {})


def _inverse(names: Mapping[str, str]) -> dict[str, str]:
    return {new: old for old, new in names.items()}


def _rename(config: Mapping[str, Any], options: Mapping[str, str], selectors: Mapping[str, str]) -> dict[str, Any]:
    """Rename the options in the sections of a configuration; everything else stays, in its order."""
    result = {}
    for section, values in config.items():
        if isinstance(values, Mapping):
            renamed = (_rename_option(f"{section}.{key}", value, options, selectors) for key, value in values.items())
            values = {name.removeprefix(f"{section}."): value for name, value in renamed}
        result[section] = values
    return result


def _rename_option(name: str, value: Any, options: Mapping[str, str], selectors: Mapping[str, str]) -> tuple[str, Any]:
    if name in ("method.reading", "method.selector") and isinstance(value, str):
        value = selectors.get(value, value)
    return options.get(name, name), value
