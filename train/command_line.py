"""Command lines: options from a TOML file and from arguments, sentences for what is refused, and the final options as
TOML.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

import jsonargparse
import torch

from mpsams import renames
from mpsams.arguments import SentenceErrors
from train import launch

SWITCHES = {
    "resume": "continue from the state saved in the run folder",
    "overwrite": "delete and replace what is there",
    "dry_run": (
        "write nothing: measure a few steps, and print the time and memory of the whole run and the largest batch that"
        " fits"
    ),
    "peers": "measure what needs no training too",
}
Options = TypeVar("Options")


class Formatter(jsonargparse.DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Help with types and defaults, and the lines of the description as they stand."""

    def _format_usage(self, usage: str | None, actions: Sequence, groups: Sequence, prefix: str | None) -> str:  # type: ignore[override]
        return f"usage: {self._prog} [options]\n\n"


class OptionsParser(SentenceErrors, jsonargparse.ArgumentParser):
    """The parser of a command whose options are dataclasses."""


def parse(
    kind: type[Options],
    command: str,
    argv: Sequence[str] | None = None,
    groups: Mapping[str, type] = {},
    defaults: Mapping[str, Any] = {},
) -> Options:
    """Fill the frozen dataclass ``kind`` from ``--config FILE.toml`` and the command line, which wins.

    groups: classes of fields that are only known at run time, such as the options of the chosen
    method; each gets a ``.name`` beside its own options. defaults: dotted names with values that come
    before the file's. An unknown key or a value that is not allowed ends the program with a sentence.
    """
    about = sys.modules[kind.__module__].__doc__
    parser = OptionsParser(
        prog=f"python -m {command}",
        description=about,
        parser_mode="toml",
        allow_abbrev=False,
        formatter_class=Formatter,
        print_config=None,
    )
    parser.add_argument(
        "--config", action="config", help="TOML file with any of the options below; the command line takes precedence"
    )
    parser.add_argument(
        "--print-config",
        "--print_config",
        action="store_true",
        help="print all options with their values as such a file, and exit",
    )
    switches = [name for name in SWITCHES if name in {field.name for field in fields(kind)}]  # type: ignore[arg-type]
    parser.add_class_arguments(kind, skip={*switches, *groups})
    for name in switches:
        again = name == "resume" and launch.is_restart()
        parser.add_argument(
            f"--{name.replace('_', '-')}", dest=name, action="store_true", default=again, help=SWITCHES[name]
        )
    for name, group in groups.items():
        parser.add_argument(f"--{name}.name", type=str, help=f"name of the {name}, which has options of its own")
        parser.add_class_arguments(group, name)
    parser.set_defaults(dict(defaults))
    try:
        filled = parser.parse_args(update_names(config_first(sys.argv[1:] if argv is None else argv), config_of(argv)))
        names = {name: filled[name].pop("name") for name in groups}
        built = parser.instantiate(filled)
        options = kind(**{field.name: built[field.name] for field in fields(kind)})  # type: ignore[arg-type]
        if filled.get("overwrite") and filled.get("resume") and not launch.is_restart():
            raise ValueError("--resume and --overwrite: expected one of them, to go on with a run or to replace it")
    except ValueError as error:
        parser.error(str(error))
    if filled["print_config"]:
        print(as_toml(options, names, switches))
        parser.exit(0)
    return options


def config_first(argv: Sequence[str]) -> list[str]:
    """Return the arguments with ``--config`` and its value first, over whose file all others then win."""
    words = list(argv)
    for index, word in enumerate(words):
        if word == "--config" or word.startswith("--config="):
            end = index + (2 if word == "--config" else 1)
            return words[index:end] + words[:index] + words[end:]
    return words


def update_names(words: Sequence[str], table: Mapping[str, Any]) -> list[str]:
    """Return the arguments with earlier names of options made current, in the TOML file too. table: its contents."""
    words = list(words)
    updated = renames.update_config(table)
    for index, word in enumerate(words):
        if not word.startswith("--"):
            continue
        option, equals, value = word[2:].partition("=")
        after = words[index + 1] if index + 1 < len(words) else ""
        name, new_value = renames.update_option(option, value if equals else after)
        if option == "config" and updated != table:
            new_value = "\n".join(toml_lines(updated))
        words[index] = f"--{name}" + (f"={new_value}" if equals else "")
        if not equals and after and not after.startswith("--"):
            words[index + 1] = new_value
    return words


def as_toml(options: Any, names: Mapping[str, str], without: Sequence[str] = ()) -> str:
    """Return options as a TOML file that gives the same when read. names: of the groups. What is None is left out."""
    values = {key: value for key, value in asdict(options).items() if key not in without}
    values |= {group: {"name": name} | values[group] for group, name in names.items()}
    return "\n".join(toml_lines(values)).strip()


def toml_lines(values: Mapping[str, Any], table: str = "") -> Iterator[str]:
    """Yield the lines of a TOML table: its own values, then the tables in it."""
    own = {key: value for key, value in values.items() if value is not None and not isinstance(value, Mapping)}
    if table and own:
        yield f"\n[{table}]"
    yield from (f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in own.items())
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from toml_lines(value, f"{table}.{key}" if table else key)


def run(main: Callable[[], object], command: str) -> None:
    """Run a command's ``main``; what it refuses ends the program with a sentence instead of a traceback."""
    try:
        main()
    except OSError as error:
        launch.fail(f"{command}: {error.strerror or error}{f': {error.filename}' if error.filename else ''}")
    except (ValueError, FloatingPointError) as error:
        launch.fail(f"{command}: {error}")
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if (
            isinstance(error, RuntimeError)
            and not isinstance(error, torch.OutOfMemoryError)
            and "can't allocate memory" not in str(error)
        ):
            raise
        launch.fail(
            f"{command}: the memory is too small for this; a smaller batch, --data.size or --model.width needs less"
            " (--dry-run tells)"
        )


def peek_option(argv: Sequence[str] | None, option: str, default: Any) -> Any:
    """Return a dotted option's value before the others are known: from the command line (text), else its TOML file."""
    section: Any = config_of(argv)
    for key in option.split("."):
        section = section.get(key) if isinstance(section, dict) else None
    return early(argv, option) or section or default


def early(argv: Sequence[str] | None, option: str) -> str | None:
    """Return an option's value on the command line, None without one."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument(f"--{option}", dest="value")
    try:
        return parser.parse_known_args(argv)[0].value
    except argparse.ArgumentError:
        raise ValueError(f"--{option} needs a value") from None


def config_of(argv: Sequence[str] | None) -> dict:
    """Return the contents of the TOML file of --config; {} without one. ValueError says what is wrong with it."""
    name = early(argv, "config")
    if name is None:
        return {}
    path = Path(name)
    if not path.is_file():
        raise ValueError(f"--config {path} does not exist; expected a TOML file, such as train/configs/*.toml")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"--config {path} is not TOML: {error}") from None


def check_replace(path: Path, overwrite: bool) -> None:
    """Raise ValueError when there is a file of that name, unless it is empty or is to be replaced."""
    if path.exists() and not overwrite and not (path.is_file() and path.stat().st_size == 0):
        raise ValueError(f"{path} exists already; --overwrite replaces it")
