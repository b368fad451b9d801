"""Checks that a message is plain: no traceback, no path."""

from __future__ import annotations

from tests.support.made_hostile import SECRET


def plain(sentence: str) -> bool:
    """True if a refusal is short, printable, complete, and names nothing of the file."""
    harmless = (
        SECRET not in sentence
        and "/tmp" not in sentence
        and "Traceback" not in sentence
        and "object at" not in sentence
    )
    return (
        harmless
        and sentence.isprintable()
        and len(sentence) < 400
        and sentence.rstrip().endswith((".", "?"))
        and " " in sentence
    )
