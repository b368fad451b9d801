"""Plans: which pretrainings and fine-tunings a table needs, read from a TOML file that a person can read.

A plan has these parts; what stands in [data], [model], [run], [pretrain], [finetune], [methods.NAME] and
[recipes.NAME] are options of train.pretrain and train.finetune, so an unknown one is an error there.

  seeds, draws              of the pretrainings; of the labelled images and the fine-tunings
  [data] [model] [run]      options of every run
  [pretrain] [finetune]     options of every pretraining, of every fine-tuning
  [methods.NAME]            one pretraining: which method, and its options; NAME is what tables call it
  [recipes.NAME]            a recipe of train.finetune and what to change in it; at."0.5" = {…} changes more at that
                            share of labels
  [table1] [table2] [orders] [few_labels] [maps] [fig2]
                            methods, labels, recipes; scratch = true trains from nothing besides; reference = shares of
                            labels at which only that is done, for the first reference_draws draws
"""

from __future__ import annotations

import itertools
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

PLANS = Path(__file__).parent / "plans"
TABLES = ("table1", "table2", "orders", "few_labels", "maps", "fig2")
PARTS = ("seeds", "draws", "data", "model", "run", "pretrain", "finetune", "methods", "recipes", *TABLES)
TABLE = ("methods", "labels", "recipes", "scratch", "reference", "reference_draws")
SCRATCH = "scratch"


@dataclass(frozen=True)
class Job:
    """One training, with the options that make it.

    kind: "pretrain" or "finetune". method: as tables call it. seed: of the pretraining, None from scratch. draw: seed
    of the fine-tuning and of the draw of labelled images. labels: share. options: dotted name -> value.
    """

    kind: str
    method: str
    seed: int | None
    options: tuple[tuple[str, Any], ...]
    draw: int | None = None
    labels: float | None = None
    recipe: str | None = None

    @property
    def name(self) -> str:
        """The run's folder below the reproduction's."""
        seed = "" if self.seed is None else f"-{self.seed}"
        if self.kind == "pretrain":
            return f"pretrain/{self.method}{seed}"
        return f"finetune/{self.method}{seed}-{100 * self.labels:g}-{self.recipe}-{self.draw}"  # type: ignore[operator]

    @property
    def needs(self) -> str | None:
        """The name of the pretraining that must be finished before."""
        return f"pretrain/{self.method}-{self.seed}" if self.kind == "finetune" and self.seed is not None else None

    @property
    def key(self) -> dict[str, Any]:
        """Identity of this job in the records."""
        key = {"method": self.method, "seed": self.seed}
        return (
            key if self.kind == "pretrain" else key | {"draw": self.draw, "labels": self.labels, "recipe": self.recipe}
        )

    def argv(self) -> list[str]:
        """Return the options as a command line of train.pretrain or train.finetune."""
        return arguments(dict(self.options))


@dataclass(frozen=True)
class Plan:
    """A plan as read; ``parts`` are its tables as they stand in the file."""

    name: str
    seeds: tuple[int, ...]
    draws: tuple[int, ...]
    parts: Mapping[str, Mapping]

    @property
    def data(self) -> Mapping:
        """The options of the data set: at least its name and size."""
        return self.parts["data"]

    def jobs(self, table: str, labels: Sequence[float] = (), methods: Sequence[str] = ()) -> list[Job]:
        """Return the jobs of a table in the order in which they run: one draw of labels after the other, a pretraining
        when first needed.

        labels: only these shares, also such as the plan does not name. methods: only these of the table's, "scratch"
        among them. ValueError for a method that the table does not have.
        """
        found: dict[str, Job] = {}
        for job in self._finetunings(table, labels, methods):
            if job.needs and job.needs not in found:
                found[job.needs] = self._pretraining(job.method, job.seed)  # type: ignore[arg-type]
            found[job.name] = job
        return list(found.values())

    def _finetunings(self, table: str, labels: Sequence[float], only: Sequence[str]) -> Iterator[Job]:
        want = self.parts[table]
        shares = sorted(labels or want["labels"], reverse=True)
        methods = ([SCRATCH] if want.get("scratch") else []) + list(want["methods"])
        within(only, methods, f"methods of [{table}]")
        methods = [method for method in methods if method in (only or methods)]
        seeds, draws = (self.seeds[:1], self.draws[:1]) if table == "fig2" else (self.seeds, self.draws)
        for seed in seeds:
            for draw in draws:
                for recipe, share, method in itertools.product(want["recipes"], shares, methods):
                    if method != SCRATCH or seed == seeds[0]:
                        yield self._finetuning(method, None if method == SCRATCH else seed, draw, share, recipe)
                is_reference = draw in draws[: want.get("reference_draws", 1)] and seed == seeds[0]
                if is_reference and SCRATCH in methods and not labels:
                    for share, recipe in itertools.product(sorted(want.get("reference", ())), want["recipes"]):
                        yield self._finetuning(SCRATCH, None, draw, share, recipe)

    def _pretraining(self, method: str, seed: int) -> Job:
        common = {key: self.parts.get(key, {}) for key in ("data", "model", "run")}
        options = (
            flat(common)
            | flat(self.parts.get("pretrain", {}))
            | flat(self.parts["methods"][method])
            | {"run.seed": seed}
        )
        return Job("pretrain", method, seed, tuple(options.items()))

    def _finetuning(self, method: str, seed: int | None, draw: int, share: float, recipe: str) -> Job:
        common = {key: self.parts.get(key, {}) for key in ("data", "model", "run")}
        own = dict(self.parts["recipes"][recipe])
        here = own.pop("at", {}).get(f"{share:g}", {})
        options = flat(common) | flat(self.parts.get("finetune", {})) | {"recipe.name": recipe} | flat(own) | flat(here)
        options |= {"labels": share, "run.seed": draw}
        return Job("finetune", method, seed, tuple(options.items()), draw, share, recipe)


def available() -> list[str]:
    """Return the names of the plans that ship with the project."""
    return sorted(path.stem for path in PLANS.glob("*.toml"))


def read(plan: str | Path, data: Mapping[str, Any] = {}, seeds: Sequence[int] = (), draws: Sequence[int] = ()) -> Plan:
    """Read a plan by its name or its file, with other options of the data set, other seeds or draws if given.

    ValueError says what is wrong with it, and which plans there are.
    """
    path = PLANS / f"{plan}.toml" if str(plan) in available() else Path(plan)
    if not path.is_file():
        raise ValueError(f"no plan {str(plan)!r}; give a TOML file or one of: {', '.join(available())}")
    try:
        parts = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from None
    check(parts, path)
    parts["data"] |= data
    found = Plan(path.stem, tuple(parts["seeds"]), tuple(parts["draws"]), parts)
    return replace(found, seeds=tuple(seeds) or found.seeds, draws=tuple(draws) or found.draws)


def check(parts: Mapping, path: Path) -> None:
    """Raise ValueError unless every part is known and complete, and names nothing that is not there."""
    within(parts, PARTS, f"{path}")
    missing = [name for name in ("seeds", "draws", "data", "methods", "recipes") if not parts.get(name)]
    if missing or not {"name", "size"} <= parts["data"].keys():
        raise ValueError(f"{path} lacks {', '.join(missing) or 'data.name or data.size'}")
    for table in TABLES:
        want = parts.get(table, {})
        within(want, TABLE, f"{path}, [{table}]")
        within(want.get("methods", ()), parts["methods"], f"{path}, methods of [{table}]")
        within(want.get("recipes", ()), parts["recipes"], f"{path}, recipes of [{table}]")
        if want and not all(want.get(name) for name in ("methods", "labels", "recipes")):
            raise ValueError(f"{path}, [{table}] needs methods, labels and recipes")
        if any(not 0 < share <= 1 for share in (*want.get("labels", ()), *want.get("reference", ()))):
            raise ValueError(f"{path}, [{table}]: labels and reference are shares in (0, 1], 0.05 for 5%")


def within(names: Sequence[str] | Mapping, known: Sequence[str] | Mapping, where: str) -> None:
    """Raise ValueError when a name is not among the known ones."""
    unknown = [str(name) for name in names if name not in known]
    if unknown:
        raise ValueError(f"{where}: unknown {', '.join(unknown)}; expected some of: {', '.join(map(str, known))}")


def flat(options: Mapping, prefix: str = "") -> dict[str, Any]:
    """Return nested tables as dotted names: {"optim": {"lr": 1e-3}} -> {"optim.lr": 1e-3}."""
    found: dict[str, Any] = {}
    for key, value in options.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return found


def arguments(options: Mapping[str, Any]) -> list[str]:
    """Return dotted names and values as a command line: {"optim.lr": 1e-3} -> ["--optim.lr", "0.001"]."""
    return [
        word
        for name, value in options.items()
        for word in (f"--{name}", value if isinstance(value, str) else json.dumps(value))
    ]
