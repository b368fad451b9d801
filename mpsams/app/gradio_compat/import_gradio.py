"""Imports gradio without writing stub files for editors, which gradio otherwise does at every import; that takes two
fifths of the import's time. ``mpsams.app`` imports this before anything else imports gradio.
"""

import inspect
from unittest import mock

_getfile = inspect.getfile


def _find_file(thing: object) -> str:
    """Return ``inspect.getfile``; OSError for a component of gradio, which then writes no stub (6.31)."""
    if isinstance(thing, type) and thing.__module__.startswith("gradio."):
        raise OSError("no stub file is wanted")
    return _getfile(thing)  # type: ignore[arg-type]


with mock.patch("inspect.getfile", _find_file):
    from gradio import blocks_events

blocks_events.create_or_modify_pyi = lambda *_: None  # type: ignore[attr-defined]  # nor for a class of Blocks
