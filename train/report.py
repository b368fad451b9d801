"""Records of train.reproduce -> Table 1 and Table 2 beside the paper's numbers, comparisons, and figures.

Each plan in the records gets a folder with report.md, all numbers as CSV, each table as LaTeX, and plots as PNG and
PDF. Every number and every sentence comes from the records; what has no run yet is a dash and is listed.

  python -m train.report                                          all of results/*.jsonl
  python -m train.report runs/busi-cpu/records.jsonl --out report
  python -m train.report shard-1.jsonl shard-2.jsonl              several machines, one plan: one report
  python -m train.report --against mae                            compares the others with MAE instead of MPS-AMS
"""

# Over 250 lines because each section of the report is a function here.

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mpsams import checkpoint, jsonl, methods, plots, splits, tables
from mpsams.arguments import Parser
from mpsams.tables import TABLES, TITLES, Results
from train import plan
from train.command_line import run
from train.options import one_of
from train.report_comparisons import numbers

RESULTS = Path("results")


def main(argv: Sequence[str] | None = None) -> list[Path]:
    """Parse the options, read the records, write a report per plan and print the tables; return the reports."""
    parser = Parser(prog="python -m train.report", description=__doc__)
    parser.add_argument("records", nargs="*", type=Path, help=f"files of train.reproduce (default: {RESULTS}/*.jsonl)")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/report"),
        help="folder of the reports, which are written anew each time (default: runs/report)",
    )
    parser.add_argument(
        "--against",
        default="mps_ams",
        metavar="METHOD",
        help="the method that all others are compared with (default: mps_ams)",
    )
    options = parser.parse_args(argv)
    one_of("against", options.against, tables.METHODS)
    files = options.records or sorted(RESULTS.glob("*.jsonl"))
    if not files:
        raise ValueError(f"no records in {RESULTS}/; name the records.jsonl of a run of train.reproduce")
    written = []
    for name, paths in tables.plans(files).items():
        results = tables.read(paths, name)
        written.append(write(results, paths, options.out / name, options.against))
        print(
            f"{name}\n\n{short_summary(results)}\nwrote {written[-1]}, and beside it tables (CSV, LaTeX) and plots"
            " (PNG, PDF)\n"
        )
    return written


def write(results: Results, paths: Sequence[Path], folder: Path, against: str) -> Path:
    """Write everything of one plan into a folder; return the path of report.md."""
    folder.mkdir(parents=True, exist_ok=True)
    paper = tables.paper_numbers()
    (name,) = results.plans
    text = [
        f"# {name}: {results.data}",
        "",
        *scale(results),
        *leaks(paths, name),
        *missing_runs(results, name),
        *reading(results, paper),
    ]
    kinds = [results, *([tables.read(paths, name, "volume")] if results.volumes else [])]
    for measured in kinds:
        text += numbers(measured, paper, folder, against)
    text += ["", "## Plots", "", *(f"![{words}]({path})" for words, path in draw(results, folder, against))]
    report = folder / "report.md"
    checkpoint.write(report, ("\n".join(text) + "\n").encode())
    return report


# --- what was run


def scale(results: Results) -> list[str]:
    """Return a table of the runs' sizes and durations."""
    about = results.runs[0].about
    hours = [
        sum(row["seconds"] for row in rows) / 3600
        for rows in (results.pretrainings, [run.about for run in results.runs])
    ]
    lesions = int((results.runs[0].scores_nk[:, 5] > 0).sum())
    patients = f" of {len(set(results.groups))} patients" if results.unit == "patients" else ""
    kept = {
        True: ", near-duplicates and patients kept in one part",
        False: ", near-duplicates not kept in one part",
    }.get(about.get("grouped"), "")  # type: ignore[arg-type]
    lines = [
        f"U-Net of width {about['width']} at {about['size']} × {about['size']} pixels. Measured on {len(results.cases)}"
        f" test {results.per}s{patients}, {lesions} of them with a lesion; split `{results.split[:16]}`{kept}."
        f" {len(results.pretrainings)} pretrainings took {hours[0]:.1f} hours and {len(results.runs)} fine-tunings"
        f" {hours[1]:.1f} hours, each run's time added up."
    ]
    lines += (
        [f"{results.repeats} runs were recorded more than once; the first record counts."] if results.repeats else []
    )
    methods = list(dict.fromkeys(row["method"] for row in results.pretrainings))
    before = [
        [
            TITLES.get(m, m),
            *describe_values(
                [r for r in results.pretrainings if r["method"] == m], ("seed", "epochs", "steps", "images")
            ),
        ]
        for m in methods
    ]
    after = [
        [f"{100 * labels:g}%", recipe, *describe_values(rows, ("labelled", "epochs", "steps", "draw")), str(len(rows))]
        for labels in results.labels
        for recipe in results.recipes
        if (rows := [run.about for run in results.runs if (run.labels, run.recipe) == (labels, recipe)])
    ]
    if before:
        lines += ["", *table(["Pretraining", "Seeds", "Epochs", "Steps", "Images"], before)]
    return [
        *lines,
        "",
        *table(["Labels", "Recipe", "Labelled images", "Epochs", "Steps", "Draws", "Fine-tunings"], after),
    ]


def leaks(paths: Sequence[Path], name: str) -> list[str]:
    """Return a sentence on the test images with a near-duplicate in training, with our split and with the paper's;
    nothing if it is not recorded.
    """
    found = [row for path in paths for row in jsonl.read(path, "leakage") if row["plan"] == name]
    if not found:
        return []
    ours, plain = found[0]["grouped"], found[0]["random"]
    return [
        "",
        (
            f"Leakage: {ours['pairs']} pairs of images are near-duplicates (thumbnails correlate above"
            f" {splits.ALIKE:g}). A split that keeps them together leaves {ours['test_leaked']:.1%} of the test images"
            " with a twin in training; the paper's plain random split, on these images and with the same seed,"
            f" {plain['test_leaked']:.1%}."
        ),
    ]


def describe_values(rows: Sequence[Mapping], keys: Iterable[str]) -> list[str]:
    """Return the values of these rows under each key: "60", "0, 1, 2", "20 to 100", or a dash."""
    texts = []
    for key in keys:
        values = sorted({row[key] for row in rows if row.get(key) is not None})
        listed = ", ".join(map(str, values)) if len(values) <= 6 else f"{values[0]} to {values[-1]}"
        texts.append(listed or tables.DASH)
    return texts


def missing_runs(results: Results, name: str) -> list[str]:
    """List the runs of the plan without a record; of a plan that is not ours, the runs that other methods have."""
    lines = ["", "## Missing", ""]
    if name in plan.available():
        planned = plan.read(name)
        jobs = {
            job.name: job
            for part in TABLES
            if planned.parts.get(part)
            for job in planned.jobs(part)
            if job.kind == "finetune"
        }
        done = {run.key for run in results.runs}
        lacking = [
            key
            for job in jobs.values()
            if (key := (job.method, job.seed, job.draw, job.labels, job.recipe)) not in done
        ]
        lines.append(f"Of the {len(jobs)} fine-tunings of the plan `{name}` {len(jobs) - len(lacking)} are recorded.")
    else:
        lacking = list(
            dict.fromkeys(
                (method, seed, draw, labels, recipe)
                for part in tables.tables_with_runs(results)
                for recipe in results.recipes
                for labels, method, seed, draw in tables.table(results, part, recipe).missing
            )
        )
        lines.append(
            f"{len(lacking) or 'No'} runs are missing whose seed and draw other methods of the same table have."
        )
    return [*lines, *([""] if lacking else []), *list_keys(lacking)]  # type: ignore[arg-type]


def list_keys(keys: Iterable[tuple[str, int | None, int, float, str]]) -> list[str]:
    """List runs in words: recipe “strong” first, label shares rising, methods that lack the same runs in a line."""
    draws_of: dict[tuple, dict[int | None, list[int]]] = {}
    for method, seed, draw, labels, recipe in keys:
        draws_of.setdefault((recipe, labels, method), {}).setdefault(seed, []).append(draw)
    alike: dict[tuple, list[str]] = {}
    for (recipe, labels, method), draws in draws_of.items():
        runs = "; ".join(
            f"{'' if seed is None else f'seed {seed} with '}draw {', '.join(map(str, sorted(each)))}"
            for seed, each in draws.items()
        )
        alike.setdefault((recipe, labels, runs), []).append(TITLES.get(method, method))
    rows = sorted(alike.items(), key=lambda row: (row[0][0] != "strong", *row[0][:2]))
    return [
        f"- {100 * labels:g}% labels, recipe “{recipe}”, {', '.join(names)}: {runs}"
        for (recipe, labels, runs), names in rows
    ]


def reading(results: Results, paper: Mapping) -> list[str]:
    """Return notes on reading the numbers."""
    lines = [
        "",
        "## How to read this",
        "",
        (
            "A run is one fine-tuning: a draw of the labelled images, after the pretraining of one seed. Truth and"
            " prediction both empty count 1, only one of them empty counts 0. “Pooled” sums pixels over all images"
            " first. False alarms: the share of images without lesion in which one is outlined. Bold: the best of a"
            " column."
        ),
        "",
        (
            "Means are over draws, seeds averaged within each. Their 95% intervals are for other draws of labels,"
            f" other pretrainings and other {results.unit}: a random-effects model in which draws and pretraining seeds"
            f" cross, plus the bootstrap variance over the test {results.unit}. They are conservative: in simulations"
            " they hold the truth in 95% of experiments or more. The variance between pretrainings is pooled over the"
            " methods that were pretrained more than once, or the method's own where that is larger. Where no method"
            " was, it is unknown, and the interval is marked as one for these pretrainings only."
        ),
        "",
        (
            "Differences are in DSC, on the draws of labels that both methods have, by the same model: draws are"
            " shared, pretrainings are not. Their interval and the p over runs are for other draws and pretrainings,"
            f" on these test {results.unit}. The p over {results.unit} (Wilcoxon's signed ranks) is for these trained"
            " networks only. Both p are corrected after Holm over all comparisons of their table. A difference is"
            f" called shown when both are below {tables.LEVEL:g}; where the interval is for these pretrainings only, so"
            f" is the verdict. What is detectable at {tables.POWER:.0%} power is before correction. The standard error"
            " is itself known from few runs: how many draws and pretrainings would be needed is given for its 80%"
            " interval, with both increased in proportion."
        ),
    ]
    deviations = methods.deviations()
    if here := [name for name in deviations if name in results.methods]:
        lines += [
            "",
            f"The rivals here are not quite those of their papers. All: {deviations['all']}",
            "",
            *(f"- {TITLES[name]}: {deviations[name]}" for name in here),
        ]
    if results.data in paper:
        lines += [
            "",
            (
                f"“paper”: {paper['source']}. It does not say over which images it averages nor how many runs it made,"
                " and its split is another."
            ),
        ]
    return lines


# --- the tables


def short_summary(results: Results) -> str:
    """Return the DSC over images with a lesion and over all, for a terminal."""
    lines = []
    for name in tables.tables_with_runs(results):
        for recipe in results.recipes:
            means = [
                {
                    (line.method, line.labels): line.cells["dsc"].mean
                    for line in tables.table(results, name, recipe, averaging).rows
                }
                for averaging in ("lesion", "all")
            ]
            shares = sorted({labels for _, labels in means[0]})
            if not shares:
                continue
            lines += [
                f"{tables.NAMED[name]}, recipe “{recipe}”: DSC over images with a lesion | over all",
                " " * 12 + "".join(f"{100 * s:>15g}%" for s in shares),
            ]
            for method in TABLES[name]:
                both = [" | ".join(tables.number(mean.get((method, share))) for mean in means) for share in shares]
                lines.append(f"{TITLES[method]:12}" + "".join(f"{cell:>16}" for cell in both))
            lines.append("")
    return "\n".join(lines)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a table as lines of Markdown."""
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


# --- the plots


def draw(results: Results, folder: Path, against: str) -> list[tuple[str, str]]:
    """Write all plots as PNG and PDF; return what each shows and the name of its PNG."""
    figures = {}
    if any(row["loss"] for row in results.pretrainings):
        figures["curves"] = "Losses of the pretrainings", plots.curves(results.pretrainings, TITLES)
    for recipe in results.recipes:
        both = [line for name in tables.tables_with_runs(results) for line in tables.table(results, name, recipe).rows]
        cells = {(line.method, line.labels): line.cells["dsc"] for line in both}.values()
        if any(cell.mean is not None for cell in cells):
            words = (
                f"DSC over images with a lesion against the share of labels, recipe “{recipe}”,"
                f" {tables.intervals(cells)}"
            )
            figures[f"labels-{recipe}"] = words, plots.against_labels(cells, TITLES, "DSC, images with a lesion")  # type: ignore[arg-type]
        for labels in results.labels:
            strongest = tables.strongest(
                tables.compare(results, tables.tables_with_runs(results)[0], recipe, method=against), labels
            )
            x, y = (
                tables.per_image(results, m, labels, recipe) for m in (strongest.rival if strongest else "", against)
            )
            if x and y:
                titles = [TITLES.get(m, m) for m in (strongest.rival, against)]  # type: ignore[union-attr]
                words = (
                    f"{titles[1]} against {titles[0]}, its strongest rival with {100 * labels:g}% of the labels, recipe"
                    f" “{recipe}”"
                )
                figures[f"scatter-{recipe}-{100 * labels:g}"] = words, plots.scatter(x, y, *titles)
    for name, (_, figure) in figures.items():
        for suffix in ("png", "pdf"):
            checkpoint.write(folder / f"{name}.{suffix}", plots.as_bytes(figure, suffix))
    return [(words, f"{name}.png") for name, (words, _) in figures.items()]


if __name__ == "__main__":
    run(main, "train.report")
