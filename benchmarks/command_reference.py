"""The options of every command as Markdown tables, read from the commands' own parsers: docs/reference/commands.md."""

from __future__ import annotations

import argparse
import importlib
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout, suppress
from pathlib import Path
from unittest import mock

from mpsams import methods
from train.recipes import RECIPES

ROOT = Path(__file__).resolve().parents[1]
GROUP = "Path to a configuration file."  # what jsonargparse says of a group of options given as a file of its own
Rows = list[tuple[str, str, str]]  # option, default, help


def commands() -> dict[str, str]:
    """Return by command the module with its ``main``: the app, the packages with a ``__main__`` and the files of train/
    that are run.
    """
    found = {"app.py": "app"}
    found |= {f"-m {name}": f"{name}.__main__" for name in ("mpsams.imaging", "mpsams.annotation")}
    files = sorted((ROOT / "train").glob("[a-z]*.py"))
    return found | {
        f"-m train.{path.stem}": f"train.{path.stem}"
        for path in files
        if "\ndef main(" in path.read_text(encoding="utf-8")
    }


def parser_of(main: Callable, *argv: str) -> argparse.ArgumentParser:
    """Return the parser that answers ``main([*argv, "--help"])``."""
    found: list[argparse.ArgumentParser] = []
    with (
        mock.patch.object(argparse.ArgumentParser, "print_help", lambda self, *_: found.append(self)),
        redirect_stdout(io.StringIO()),
        suppress(SystemExit),
    ):
        main([*argv, "--help"])
    return found[0]


def options(command: str, module: str) -> set[str]:
    """Return all option strings of a command, with those of its own commands, and of every method and recipe."""
    main = importlib.import_module(module).main
    parsers = [parser for _, parser in parsers_of(main)]
    if command == "-m train.pretrain":
        parsers += [parser_of(main, "--method.name", name) for name in methods.available()]
    return {name for parser in parsers for action in parser._actions for name in action.option_strings}


def parsers_of(main: Callable) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield the parser of a command and of each of its own commands, with the name of the latter ("" for the first)."""
    parser = parser_of(main)
    yield "", parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from ((name, parser_of(main, name)) for name in action.choices)


def groups(parser: argparse.ArgumentParser) -> dict[str, Rows]:
    """Return the rows of each group of options by its title; groups without options are left out."""
    found = {}
    for group in parser._action_groups:
        rows = [row(action, parser.prog) for action in group._group_actions if not is_hidden(action)]
        if rows:
            title = " ".join((group.title or "").split()).rstrip(".")
            found.setdefault(title[:1].upper() + title[1:], []).extend(rows)
    return found


def is_hidden(action: argparse.Action) -> bool:
    """Return True if an option is left out: help, which every command has, and a group of options given as a file of
    its own.
    """
    return (
        action.help in (argparse.SUPPRESS, GROUP)
        or "--help" in action.option_strings
        or isinstance(action, argparse._SubParsersAction)
    )


def row(action: argparse.Action, program: str) -> tuple[str, str, str]:
    """Return an option's name with its allowed values, its default where the help does not state it, and its help in
    one line.
    """
    name = action.option_strings[0] if action.option_strings else (action.metavar or action.dest)
    allowed = f" {{{', '.join(map(str, action.choices))}}}" if action.choices else ""
    text = " ".join((action.help or "").split()).replace("%(prog)s", program).replace("%%", "%").replace("|", "\\|")
    return f"`{name}{allowed}`", "" if "(default:" in text else default(action), text


def default(action: argparse.Action) -> str:
    """Return the default of an option as code; empty for switches and options without one."""
    value = action.default
    if (
        value is None
        or value is argparse.SUPPRESS
        or action.nargs == 0
        or value == ""
        or isinstance(value, tuple | list)
    ):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def table(rows: Rows) -> str:
    """Return the options as a Markdown table."""
    return "\n".join(
        [
            "| option | default | |",
            "| --- | --- | --- |",
            *(f"| {name} | {value} | {text} |" for name, value, text in rows),
        ]
    )


def method_sections(main: Callable) -> Iterator[str]:
    """Yield a section for each pretraining method with the options that are its own."""
    for name in methods.available():
        own = {
            title: rows
            for title, rows in groups(parser_of(main, "--method.name", name)).items()
            if rows[0][0].startswith("`--method.") and "name" not in rows[0][0]
        }
        yield from (f"#### --method.name {name}\n\n{title}.\n\n{table(rows)}" for title, rows in own.items())


def recipe_table(main: Callable) -> str:
    """Return the options of a recipe, with the defaults of all recipes side by side."""
    defaults: dict[str, dict[str, tuple[str, str]]] = {}
    for recipe in RECIPES:
        found = groups(parser_of(main, "--recipe.name", recipe))
        rows = [
            row
            for each in found.values()
            for row in each
            if row[0].startswith("`--recipe.") and row[0] != "`--recipe.name`"
        ]
        for name, value, text in rows:
            defaults.setdefault(name, {})[recipe] = value, text
    lines = [
        f"| {name} | {' | '.join(of[recipe][0] or '–' for recipe in RECIPES)} | {of[next(iter(RECIPES))][1]} |"
        for name, of in defaults.items()
    ]
    heads = ["option", *RECIPES, ""]
    return "\n".join(["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads), *lines])


def section(command: str, module: str, shown: dict[str, str]) -> str:
    """Return Markdown of a command's purpose and options; groups that another command before it has too are only named.

    shown: those, by their table.
    """
    about = importlib.import_module(module)
    parts = [f"## python {command}"]
    for name, parser in parsers_of(about.main):
        description = (parser.description or "").strip()
        parts += [f"### {name}"] * bool(name) + ([f"```text\n{description}\n```"] if description and not name else [])
        for title, rows in groups(parser).items():
            if rows[0][0].startswith(("`--recipe.", "`--method.")) and "name" not in rows[0][0]:
                continue
            parts.append(f"**{title}**\n\n{table_or_reference(table(rows), command, shown)}")
    if command == "-m train.pretrain":
        parts += ["### The options of each method", *method_sections(about.main)]
    if command == "-m train.finetune":
        parts += ["### The options of a recipe", recipe_table(about.main)]
    return "\n\n".join(parts)


def table_or_reference(text: str, command: str, shown: dict[str, str]) -> str:
    """Return a table, or where a command before has the same one, the name of that command."""
    if text in shown and text.count("\n") > 4:
        return f"The same as for `{shown[text]}`."
    shown.setdefault(text, command)
    return text


def commands_page(known: Mapping[str, str] | None = None) -> str:
    """Return all commands, one section each."""
    shown: dict[str, str] = {}
    return "\n\n".join(section(command, module, shown) for command, module in (known or commands()).items())
