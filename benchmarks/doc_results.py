"""Tables of segmentation results."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np

from benchmarks.doc_selectors import SETS
from benchmarks.doc_tables import RESULTS, ROOT, record, table
from mpsams import methods, tables

METHODS = {"mps_ams": "MPS-AMS", "scratch": "from scratch"}


def results(*sets: str) -> str:
    """Return the included segmentation networks on the test images or patients of these data sets."""
    rows = []
    for name, words in ((name, SETS[name]) for name in sets):
        for method, pretraining in METHODS.items():
            path = ROOT / "weights" / f"{name}-{method}-seg-10.json"
            means = record(path)
            parts = [("image" if "per_volume" not in means else "slice", means)]
            parts += [("volume", means["per_volume"])] if "per_volume" in means else []
            for unit, values in parts:
                numbers = (values[key] for key in ("dsc", "ppv", "sen", "dsc_lesion", "dsc_pooled"))
                rows.append([words, pretraining, f"{values['images']} {unit}s", *(f"{value:.3f}" for value in numbers)])
    return table(["", "pretraining", "mean over", "DSC", "PPV", "Sen", "DSC, with lesion", "DSC, pooled"], rows)


def assistants() -> str:
    """Return the overlap and false lesions of the shipped assistants per image or slice and per volume, on the test
    part and on the validation part.
    """
    rows = []
    for name, words in SETS.items():
        for part, suffix in (("test", ""), ("validation", "-val")):
            means = record(ROOT / "weights" / f"{name}-assist{suffix}.json")
            volumes = tables.DASH
            if "per_volume" in means:
                each = [volume["dsc"] for volume in means["volumes"].values()]
                volumes = f"{means['per_volume']['dsc']:.3f} ({len(each)}: {min(each):.2f} to {max(each):.2f})"
            images = f"{means['images']} ({means['lesions']} with lesion)"
            overlaps = [f"{means[key]:.3f}" for key in ("dsc_lesion", "dsc_pooled")]
            rows.append([words, part, images, *overlaps, volumes, f"{means['false_alarms']:.0%}"])
    return table(
        ["", "part", "images or slices", "DSC, with lesion", "DSC, pooled", "DSC per volume", "false lesions"], rows
    )


def prompts() -> str:
    """Return the results of one box and some clicks with the shipped prompt network, and with methods that need no
    training.
    """
    rows = []
    for name, words in SETS.items():
        result = record(ROOT / "weights" / f"prompt-{name}.json")
        rows += [prompt_row(words, "**prompt network**", result["images"], result)]
        for peer, values in result.get("peers", {}).items():
            rows += [prompt_row(words, peer, values["images"], values)]
    return table(["", "", "objects", "box", "1 click", "3 clicks", "5 clicks", "clicks to 0.90", "ms (p95)"], rows)


def prompt_row(words: str, title: str, images: int, result: dict) -> list[str]:
    """Return a row of ``prompts``."""
    overlaps = (
        f"{each['dsc']:.3f} ({each['at_least_90']:.0%})" for each in (result["box"], *result["clicks"].values())
    )
    needed = result["clicks_to_90"]
    median = "over 10" if needed["median"] is None else f"{needed['median']:g}"
    return [words, title, str(images), *overlaps, f"{median} ({needed['reached']:.0%})", f"{result['ms_p95']:.0f}"]


def prompt_starts() -> str:
    """Return the DSC of prompt networks of one short training by their initial weights, on the validation parts."""
    return _prompt_networks("starts", "initial weights", {})


def prompts_unseen() -> str:
    """Return the DSC of prompt networks on the test part of the data set that they were trained without, and of the
    shipped network, which has seen it.
    """
    return _prompt_networks("unseen", "network", {"seen": "the shipped network", "unseen": "trained without it"})


def _prompt_networks(part: str, head: str, titles: dict[str, str]) -> str:
    """Return the DSC of the prompt networks of a part of the record, by data set. titles: of networks, by name."""
    found = record(ROOT / "benchmarks" / "prompt_starts.json")[part]
    rows = [
        [SETS[data], titles.get(name, name), *_dice_and_gain(values)]
        for data, networks in found.items()
        for name, values in networks.items()
    ]
    return table(["", head, "objects", "box", "1 click", "3 clicks"], rows)


def _dice_and_gain(values: dict) -> list[str]:
    """Return the cells of a network: objects, and DSC of a box and of clicks, with the gain over the first network."""
    cells = [str(values["objects"])]
    for name, found in (("box", values["box"]), *((count, values["clicks"][count]) for count in ("1", "3"))):
        gain = values.get("gain", {}).get(name)
        cells.append(f"{found['dsc']:.3f}" + (f" ({gain[1]:+.3f} … {gain[2]:+.3f})" if gain else ""))
    return cells


def prompts_volumes() -> str:
    """Return the DSC of whole volumes from a box on one slice, and on three."""
    rows = []
    for name in ("hecktor", "brats"):
        found = [record(ROOT / "benchmarks" / f"propagation-{name}-{slices}.json") for slices in (1, 3)]
        cells = [f"{each['dsc']:.3f} (median {each['median']:.3f})" for each in found]
        rows.append([SETS[name], str(found[0]["volumes"]), *cells])
    return table(["", "volumes", "one box, on the largest slice", "boxes on three slices"], rows)


def comparison_table(name: str, plan: str = "busi-cpu", recipe: str = "strong") -> str:
    """Return one of a plan's tables on BUSI, over images with a lesion and with one recipe, and a sentence on the
    strongest rival.
    """
    found = tables.read(RESULTS / f"{plan}.jsonl")
    paper = tables.paper_numbers() if recipe == "strong" else None
    comparisons = tables.compare(found, name, recipe)
    strongest = [tables.strongest(comparisons, labels) for labels in sorted({each.labels for each in comparisons})]
    sentences = "\n".join(f"- {tables.sentence(each)}" for each in strongest if each)
    return f"{tables.markdown(tables.table(found, name, recipe, paper=paper))}\n{sentences}"


def low_labels(plan: str = "busi-few-labels") -> str:
    """Return the methods that were run with few labels, with and without a mean teacher, and what each of them adds to
    training from scratch.
    """
    found = tables.read(RESULTS / f"{plan}.jsonl")
    made = tables.table(found, "few_labels")
    rows = tuple(line for line in made.rows if line.runs)
    begun = dict.fromkeys(line.method for line in rows)
    pairs = [
        each
        for method in begun
        if method != "scratch"
        for each in tables.compare(found, "few_labels", method=method)
        if each.rival == "scratch"
    ]
    sentences = "\n".join(f"- {tables.sentence(each)}" for each in sorted(pairs, key=lambda each: each.labels))
    missing = tuple(run for run in made.missing if run[1] in begun)
    return f"{tables.markdown(replace(made, rows=rows, missing=missing))}\n{sentences}"


def summary(plan: str = "busi-cpu", recipe: str = "strong") -> str:
    """Return mean DSC over images with a lesion of every method of Table 1, with 5% and 10% of the labels, ours beside
    the paper's.
    """
    lines = tables.table(tables.read(RESULTS / f"{plan}.jsonl"), "table1", recipe, paper=tables.paper_numbers()).rows
    cells = {(line.method, line.labels): line.cells["dsc"] for line in lines}
    found = {
        name: [cells[name, labels] for labels in (0.05, 0.1)] for name in dict.fromkeys(line.method for line in lines)
    }
    rows = [
        [tables.TITLES[name], *(f"{value:.3f}" for cell in row for value in (cell.mean, cell.paper))]
        for name, row in found.items()
    ]
    return table(["", "5% of the labels", "paper", "10%", "paper"], rows)


def orders(plan: str = "busi-orders", recipe: str = "short") -> str:
    """Return the scores after each order, and each lesion-first order compared with random order, both with the
    adaptive ratio.
    """
    found = tables.read(RESULTS / f"{plan}.jsonl")
    pairs = [
        each
        for method in ("mps_ams", "descent_ams", "oracle_ams")
        for each in tables.compare(found, "orders", recipe, method=method)
    ]
    sentences = "\n".join(f"- {tables.sentence(each)}" for each in pairs if each.rival == "base_ams")
    return f"{tables.markdown(tables.table(found, 'orders', recipe))}\n{sentences}"


def longer(plan: str = "busi-cpu-long") -> str:
    """Change by more epochs of pretraining, on seeds and draws that both plans have, and MPS-AMS compared with base."""
    many = tables.read(RESULTS / f"{plan}.jsonl")
    rows = []
    for recipe, other in (("strong", "busi-cpu"), ("short", "busi-cpu-short")):
        few = tables.read(RESULTS / f"{other}.jsonl")
        epochs = [found.pretrainings[0]["epochs"] for found in (few, many)]
        for labels, method in itertools.product(many.labels, many.methods):
            before, after = (_dsc(found, method, labels, recipe) for found in (few, many))
            both = sorted(before.keys() & after.keys())
            if not both:
                continue
            draws = sorted({draw for _, draw in both})
            scratch = _dsc(few, "scratch", labels, recipe)
            alone = (
                f"{np.mean([scratch[None, draw] for draw in draws]):.3f}"
                if all((None, draw) in scratch for draw in draws)
                else tables.DASH
            )
            means = [f"{np.mean([found[run] for run in both]):.3f}" for found in (before, after)]
            gains = ", ".join(tables.format_signed(after[run] - before[run]) for run in both)
            rows.append([f"{100 * labels:g}%", recipe, tables.TITLES[method], alone, *means, gains])
    heads = ["Labels", "Recipe", "Method", "from scratch", *(f"{count} epochs" for count in epochs), "gain, each draw"]
    pairs = [
        (recipe, each)
        for recipe in many.recipes
        for each in tables.compare(many, "table2", recipe)
        if each.rival == "base"
    ]
    sentences = "\n".join(f"- Recipe “{recipe}”: {tables.sentence(each)}" for recipe, each in pairs)
    return f"{table(heads, rows)}\n\nAfter {epochs[1]} epochs:\n\n{sentences}"


def _dsc(found: tables.Results, method: str, labels: float, recipe: str) -> dict[tuple[int | None, int], float]:
    """Return the mean DSC over images with a lesion of each run, by (seed, draw)."""
    return {
        (run.seed, run.draw): float(tables.score(run.scores_nk[None], "lesion", "dsc")[0, 0])
        for run in found.of(method, labels, recipe)
    }


def rivals() -> str:
    """Return the differences of the other methods from their papers, as a list."""
    deviations = methods.deviations()
    return "\n".join(f"- {tables.TITLES.get(name, 'All')}: {sentence}" for name, sentence in deviations.items())
