"""Parsers of command lines whose errors are one sentence, with the option that may have been meant."""

from __future__ import annotations

import argparse
import difflib
import itertools
import re
from collections.abc import Sequence
from typing import Any, NoReturn

KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "tuple": 'a list such as ["a", "b"]',
}


class SentenceErrors:
    """Mixed into a parser: an error is one sentence, with the option that may have been meant, and no usage."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:  # type: ignore[misc]
        """End the program with exit code 2 and the message."""
        message = describe_error(message, option_names(self))  # type: ignore[arg-type]
        self.exit(2, f"{self.prog}: {message} (--help lists all options)\n")  # type: ignore[attr-defined]


class Parser(SentenceErrors, argparse.ArgumentParser):
    """The parser of a command with few options of its own: ``Parser(prog=..., description=__doc__)``."""

    def __init__(self, **about: Any) -> None:
        defaults: dict[str, Any] = {"allow_abbrev": False, "formatter_class": argparse.RawDescriptionHelpFormatter}
        super().__init__(**defaults | about)


def option_names(parser: argparse.ArgumentParser) -> list[str]:
    """Return the names of a parser's options without dashes, those of its subcommands included."""
    found: list[str] = []
    for action in parser._actions:
        found += [name.lstrip("-") for name in action.option_strings if name.startswith("--")]
        if isinstance(action, argparse._SubParsersAction):
            found += itertools.chain.from_iterable(map(option_names, action.choices.values()))
    return found


def describe_error(message: str, names: Sequence[str]) -> str:
    """Return a parser's message as a sentence on the option that it is about; names: the options that there are."""
    if unknown := re.match(r"unrecognized arguments: (.*)", message):
        words = unknown[1].split()
        options = [word.lstrip("-").partition("=")[0] for word in words if word.startswith("--")]
        return (
            "; ".join(unknown_option(name, names, "--") for name in options) or f"unexpected argument {' '.join(words)}"
        )
    if unknown := re.match(r"Group '(.*)' does not accept option '(.*)'", message):
        return unknown_option(f"{unknown[1]}.{unknown[2]}", names)
    if unknown := re.match(r"Option '(.*)' is not accepted", message):
        return unknown_option(unknown[1], names)
    if wrong := re.match(r'Parser key "(.*)":\s+Expected a <class \'(\w+)\'>\. Got value: (.*)', message):
        return f"{wrong[1]} is {wrong[3]!r}; expected {KINDS.get(wrong[2], wrong[2])}"
    if missing := re.match(r"the following arguments are required: (.*)", message):
        return ", ".join(f"--{name}" if name in names else name for name in missing[1].split(", ")) + " is missing"
    if wrong := re.match(r"argument (\S+): invalid choice: '?(.*?)'? \(choose from (.*)\)", message):
        choices = [choice.strip("'") for choice in wrong[3].split(", ")]
        near = difflib.get_close_matches(wrong[2], choices, 1)
        meant = f"; did you mean {near[0]}?" if near else ""
        what = "" if "|" in wrong[1] else f"{wrong[1]} "  # the commands are named by themselves
        return f"{what}{wrong[2]!r} is none of {', '.join(choices)}{meant}"
    if empty := re.match(r"argument (.*): expected one argument", message):
        return f"{empty[1]} needs a value"
    return message


def unknown_option(name: str, names: Sequence[str], dashes: str = "") -> str:
    """Return a sentence on an option that there is none of, with the one that may have been meant."""
    end = name.rpartition(".")[2]
    alike = [known for known in names if difflib.SequenceMatcher(None, end, known.rpartition(".")[2]).ratio() >= 0.65]
    near = difflib.get_close_matches(name, alike, 1, 0.0)
    return f"unknown option {dashes}{name}" + (f"; did you mean {dashes}{near[0]}?" if near else "")
