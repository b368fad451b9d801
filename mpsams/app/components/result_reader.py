"""The records behind the Results tab, and their tables and plots as HTML, computed once."""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mpsams import tables
from mpsams.app.components import result_report
from mpsams.app.components.result_report import Choice
from mpsams.inference.registry import ModelRegistry
from mpsams.tables import AVERAGED, Results

KEPT = 32  # answers that are kept for whoever asks next


@dataclass(frozen=True)
class RecordFiles:
    """The records: plans with their files, and what is wrong with unreadable files. key: their ``records_version``."""

    key: str
    plans: Mapping[str, tuple[Path, ...]]
    wrong: tuple[str, ...]


def find_records(registry: ModelRegistry) -> RecordFiles:
    """Find the records in the results folder, and what is wrong with files that cannot be read."""
    files, wrong = registry.records(), []
    plans: dict[str, tuple[Path, ...]] = {}
    for file in files:
        try:
            for plan in tables.plans([file]):
                plans[plan] = (*plans.get(plan, ()), file)
        except ValueError as error:
            wrong.append(str(error).replace(str(file), file.name))
    return RecordFiles(records_version(registry), plans, tuple(wrong))


def records_version(registry: ModelRegistry) -> str:
    """Return a text that changes when a record file does."""
    return ";".join(f"{file.name} {file.stat().st_mtime_ns}" for file in registry.records()) or "none"


class Reader:
    """Results and their HTML, computed once for everyone who asks for the same; a changed file is read again."""

    def __init__(self, registry: ModelRegistry) -> None:
        self.registry = registry
        self.paper = tables.paper_numbers()
        self._lock = threading.Lock()  # matplotlib draws one figure at a time
        self.results = functools.lru_cache(KEPT)(self._results)
        self.numbers = functools.lru_cache(KEPT)(self._numbers)
        self.by_labels = functools.lru_cache(KEPT)(self._by_labels)
        self.curves = functools.lru_cache(KEPT)(self._curves)
        self.scatter = functools.lru_cache(KEPT)(self._scatter)

    def _results(self, key: str, plan: str, per: str) -> Results:
        return tables.read(find_records(self.registry).plans[plan], plan, per)

    def table(self, key: str, choice: Choice) -> tables.Table:
        """Return the table that is asked for, as HTML."""
        results = self.results(key, choice.plan, choice.per)
        return tables.table(results, choice.table, choice.recipe, choice.averaging, self.paper)

    def _numbers(self, key: str, choice: Choice) -> str:
        results, found = self.results(key, choice.plan, choice.per), self.table(key, choice)
        compared = tables.compare(
            results, choice.table, choice.recipe, choice.averaging, result_report.METHOD, choice.measure
        )
        paper = any(line.cells[choice.measure].paper is not None for line in found.rows)
        return (
            result_report.scale(results)
            + result_report.table(found, choice.measure)
            + result_report.key(paper)
            + result_report.difference_report(compared, choice)
        )

    def _by_labels(self, key: str, choice: Choice) -> str:
        results = self.results(key, choice.plan, choice.per)
        both = [
            tables.table(results, name, choice.recipe, choice.averaging) for name in tables.tables_with_runs(results)
        ]
        with self._lock:
            return result_report.against_labels(both, choice)

    def _curves(self, key: str, plan: str) -> str:
        with self._lock:
            return result_report.curves(self.results(key, plan, "image").pretrainings)

    def _scatter(self, key: str, choice: Choice, methods: tuple[str, str], labels: float) -> str:
        with self._lock:
            return result_report.scatter(self.results(key, choice.plan, choice.per), choice, methods, labels)

    def file(self, key: str, choice: Choice, form: str) -> str:
        """Return the numbers as text: "csv", "md" or "tex"."""
        if form == "md":
            return f"# {self.table(key, choice).title}\n\n{tables.markdown(self.table(key, choice))}"
        if form == "tex":
            return tables.latex(self.table(key, choice))
        results = self.results(key, choice.plan, choice.per)
        return tables.csv(
            tables.table(results, name, recipe, averaging, self.paper)
            for name in tables.tables_with_runs(results)
            for recipe in results.recipes
            for averaging in AVERAGED
        )
