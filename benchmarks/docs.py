"""The tables of README.md and docs/, written from the records of benchmarks/, results/ and weights/ and from the
commands' parsers.

  python -m benchmarks.docs            write the tables
  python -m benchmarks.docs --check    exit with 1 if a page is out of date
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from functools import partial

from benchmarks import command_reference
from benchmarks.doc_results import (
    assistants,
    comparison_table,
    longer,
    low_labels,
    orders,
    prompt_starts,
    prompts,
    prompts_unseen,
    prompts_volumes,
    results,
    rivals,
    summary,
)
from benchmarks.doc_selectors import (
    SETS,
    mask_uncertainty,
    ranking,
    ranking_table,
    selector_parameters,
    shared_information,
)
from benchmarks.doc_speed import annotated_in_browser, clients, gestures, hall, learning_table, packing, speed
from benchmarks.doc_tables import ROOT, table

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))


def modules() -> str:
    """Return a table of the modules and packages of the code with the first line of their docstrings."""
    rows = []
    for folder in ("mpsams", "train"):
        paths = sorted((ROOT / folder).glob("*.py")) + sorted(
            path.parent for path in (ROOT / folder).glob("*/__init__.py")
        )
        for path in sorted(paths, key=lambda path: path.name):
            text = (path / "__init__.py" if path.is_dir() else path).read_text(encoding="utf-8")
            about = (
                (ast.get_docstring(ast.parse(text)) or "").partition("\n\n")[0].replace("\n", " ").replace("|", "\\|")
            )
            if path.name != "__init__.py":
                rows.append([f"`{folder}/{path.name}{'/' if path.is_dir() else ''}`", about])
    return table(["module", "content"], rows)


TABLES = {
    "rivals": rivals,
    "ranking": ranking,
    "results_busi": partial(results, "busi"),
    "results_volumes": partial(results, "hecktor", "brats"),
    "packing": packing,
    "speed": speed,
    "table1": partial(comparison_table, "table1"),
    "table2": partial(comparison_table, "table2"),
}
TABLES |= {"short": partial(comparison_table, "table1", "busi-cpu-short", "short"), "longer": longer}
TABLES |= {
    "undecided": mask_uncertainty,
    "shared": shared_information,
    **{f"ranked_{name}": partial(ranking_table, name) for name in SETS},
}
TABLES |= {
    "orders": orders,
    "gestures": gestures,
    "annotated_in_browser": annotated_in_browser,
    "learnt": learning_table,
    "clients": clients,
    "hall": hall,
    "commands": command_reference.commands_page,
    "summary": summary,
    "modules": modules,
    "selector_parameters": selector_parameters,
    "prompts": prompts,
    "prompt_starts": prompt_starts,
    "prompts_unseen": prompts_unseen,
    "prompts_volumes": prompts_volumes,
    "assistants": assistants,
    "low_labels": low_labels,
}


def rewrite(text: str) -> str:
    """Return the page with new contents between every "<!-- table: NAME -->" and "<!-- end -->"."""

    def between(found: re.Match) -> str:
        return f"<!-- table: {found[1]} -->\n{TABLES[found[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- table: (\w+) -->\n.*?<!-- end -->", between, text, flags=re.DOTALL)


def write() -> None:
    """Write the tables into the pages."""
    for path in PAGES:
        before = path.read_text(encoding="utf-8")
        after = rewrite(before)
        if before != after:
            path.write_text(after, encoding="utf-8")


def main() -> None:
    """Write the tables into the pages, or with --check compare them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit with 1 if a page is out of date, and write nothing")
    if not parser.parse_args().check:
        write()
        return
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        if text != rewrite(text):
            sys.exit(f"the tables of {path.relative_to(ROOT)} are out of date; run python -m benchmarks.docs")


if __name__ == "__main__":
    main()
