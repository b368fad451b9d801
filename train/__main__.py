"""Run a command of this package by its name: ``mps-ams-train COMMAND`` and ``python -m train COMMAND`` are ``python -m
train.COMMAND``.
"""

from __future__ import annotations

import ast
import difflib
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path


def commands() -> dict[str, str]:
    """Return the first line of the docstring of each command of this package, by name. Nothing is imported."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        source = path.read_text(encoding="utf-8")
        if path != Path(__file__) and '\nif __name__ == "__main__":\n' in source:
            found[path.stem] = (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command named first with the arguments after it; list the commands without one."""
    name, *rest = (sys.argv[1:] if argv is None else list(argv)) or ["--help"]
    known = commands()
    if name in ("-h", "--help"):
        width = max(map(len, known))
        print("usage: mps-ams-train COMMAND [OPTIONS]; COMMAND --help lists the options\n")
        print("\n".join(f"  {command:{width}}  {line}" for command, line in known.items()))
        return
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}?" if near else f"allowed are {', '.join(known)}"
        sys.exit(f"mps-ams-train: no command {name!r}; {hint}")
    sys.argv = [f"train.{name}", *rest]
    runpy.run_module(f"train.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
