"""The tables of README.md and docs/, written from the records of benchmarks/, results/ and weights/ and from the commands' parsers.

  python -m benchmarks.docs            write the tables
  python -m benchmarks.docs --check    exit with 1 if a page is out of date
"""

from __future__ import annotations

import argparse
import ast
import itertools
import json
import re
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import command_reference, lesion_ranking
from mpsams import clusters, methods, tables

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
RESULTS = ROOT / "results"
SETS = {"busi": "BUSI, ultrasound", "hecktor": "OpenKBP, CT", "brats": "TCGA-LGG, T1"}
READINGS = {"covariance-of-softmax": "covariance of softmax", "softmax-of-covariance": "softmax of covariance"}
METHODS = {"mps_ams": "MPS-AMS", "scratch": "from scratch"}


def ranking() -> str:
    """AUC and lifts of the paper's selectors, of ours and of the references, on each data set."""
    found = {name: lesion_ranking.read_records()[name] for name in SETS}
    rows = []
    for selector in (*lesion_ranking.TITLES, lesion_ranking.CENTRE, lesion_ranking.RANDOM):
        told = [found[name]["selectors"][selector] for name in SETS]
        rows.append([_title(selector), *(f"{t['auc'][0]:.3f} / {t['lift_top'][0]:.2f} / {t['lift'][0] or '–'}" for t in _round_text(told))])
    rows.append(["images with a lesion patch", *(str(found[name]["images"]) for name in SETS)])
    return table(["AUC / lift of the first 15% / lift of the cluster", *SETS.values()], rows)


def ranking_table(name: str) -> str:
    """All measurements of all selectors on one data set, best first."""
    selectors = lesion_ranking.read_records()[name]["selectors"]
    rows = []
    for selector, told in sorted(selectors.items(), key=lambda each: -each[1]["auc"][0]):
        intervals = ["{:.3f} ({:.3f}–{:.3f})".format(*told["auc"]), f"{told['auc_second']:.3f}", *("{:.2f} ({:.2f}–{:.2f})".format(*told[key]) for key in ("lift_top", "lift"))]
        rows.append([_title(selector), *intervals, f"{told['size'][1]:.0%}", *(f"{share:.0%}" for share in told["cover"].values()), f"{told['ms']:.1f}"])
    epochs = [f"hidden, epoch {epoch}" for epoch in lesion_ranking.EPOCHS]
    return table(["", "AUC", "… of every second image", "lift of the first 15%", "lift of the cluster", "size of the cluster", *epochs, "ms per image"], rows)


def _title(selector: str) -> str:
    """Name of a selector; ours in bold."""
    said = lesion_ranking.TITLES.get(selector, selector)
    return f"**{said}**" if selector == clusters.GEODESIC else said


def _round_text(told: Iterable[dict]) -> list[dict]:
    """Copies with the cluster's lift as text, empty where there is no cluster."""
    return [each | {"lift": [f"{each['lift'][0]:.2f}" if each["size"][2] else ""]} for each in told]


def selector_parameters() -> str:
    """The parameters chosen for the paper's selectors on the training parts, and AUC and pooled lift on the rest, beside the references."""
    rows = []
    for name, words in SETS.items():
        measured = record(ROOT / "benchmarks" / f"selector_parameters-{name}.json")["rest"]
        for each in measured["selectors"]:
            chosen = [f"{each[key]}" if key in each else "" for key in ("similarity", "normalise", "temperature")]
            numbers = [f"{each['auc']:.3f}", f"{each['lift']:.2f}", f"{each['size']:.0%}"]
            rows.append([words, each["selector"].replace("-", " "), *chosen, *numbers, str(measured["images"])])
    return table(["", "selector", "similarity", "image", "temperature", "AUC", "pooled lift", "size of the cluster", "images"], rows)


def results(*sets: str) -> str:
    """The included segmentation networks on the test images or patients of these data sets."""
    rows = []
    for name, words in ((name, SETS[name]) for name in sets):
        for method, says in METHODS.items():
            path = ROOT / "weights" / f"{name}-{method}-seg-10.json"
            means = record(path)
            parts = [("image" if "per_volume" not in means else "slice", means)]
            parts += [("volume", means["per_volume"])] if "per_volume" in means else []
            for what, values in parts:
                numbers = (values[key] for key in ("dsc", "ppv", "sen", "dsc_lesion", "dsc_pooled"))
                rows.append([words, says, f"{values['images']} {what}s", *(f"{value:.3f}" for value in numbers)])
    return table(["", "pretraining", "mean over", "DSC", "PPV", "Sen", "DSC, with lesion", "DSC, pooled"], rows)


def assistants() -> str:
    """Overlap and false lesions of the shipped assistants on the test parts, per image or slice and per volume."""
    rows = []
    for name, words in SETS.items():
        means = record(ROOT / "weights" / f"{name}-assist.json")
        volumes = f"{means['per_volume']['dsc']:.3f}" if "per_volume" in means else "–"
        overlaps = [f"{means[key]:.3f}" for key in ("dsc_lesion", "dsc_pooled")]
        rows.append([words, f"{means['images']} ({means['lesions']} with lesion)", *overlaps, volumes, f"{means['false_alarms']:.0%}"])
    return table(["", "images or slices", "DSC, with lesion", "DSC, pooled", "DSC per volume", "false lesions"], rows)


def prompts() -> str:
    """Results of one box and some clicks with the shipped prompt network, and with methods that need no training."""
    rows = []
    for name, words in SETS.items():
        told = record(ROOT / "weights" / f"prompt-{name}.json")
        rows += [prompt_row(words, "**prompt network**", told["images"], told)]
        for peer, values in told.get("peers", {}).items():
            rows += [prompt_row(words, peer, values["images"], values)]
    return table(["", "", "objects", "box", "1 click", "3 clicks", "5 clicks", "clicks to 0.90", "ms (p95)"], rows)


def prompt_row(words: str, who: str, images: int, told: dict) -> list[str]:
    """A row of ``prompts``."""
    overlaps = (f"{each['dsc']:.3f} ({each['at_least_90']:.0%})" for each in (told["box"], *told["clicks"].values()))
    needed = told["clicks_to_90"]
    median = "over 10" if needed["median"] is None else f"{needed['median']:g}"
    return [words, who, str(images), *overlaps, f"{median} ({needed['reached']:.0%})", f"{told['ms_p95']:.0f}"]


def packing() -> str:
    """Packing beside reading everything into memory."""
    found = record(ROOT / "benchmarks" / "packing.json")
    named = [(f"{SETS[name]}, {size} px", found[f"{name}-{size}"]) for name in ("hecktor", "brats") for size in (128, 256)]
    named += [("made-up CT, 128 px", row) for row in found["made_up"]]
    rows = [
        [words, str(row["slices"]), f"{row['ours']['slices_per_s']:.0f}", f"{row['ours']['peak_mib']:.0f}", f"{row['peer']['peak_mib']:.0f}"]
        + [f"{row['peer_over_ours_seconds']:.2f}"]
        for words, row in named
    ]
    return table(["", "slices", "slices/s", "peak MiB", "peak MiB in memory", "time in memory ÷ packing"], rows)


BENCHMARKS = ("loop", "pipeline", "processes", "onnx_runtime", "growth", "switches", "gpu", "gpu-compiled")
ON_CPU_ONLY = ("processes", "onnx_runtime", "growth")


def speed(folder: Path = ROOT / "benchmarks") -> str:
    """Ratios of the benchmarks of training and inference, and a sentence on those that have not run on a GPU."""
    found = {path.stem: record(path) for path in sorted(folder.glob("*.json"))}
    rows, skipped = [], []
    for name in BENCHMARKS:
        for told in (found[key] for key in (name, f"{name}-gpu") if key in found):
            about = told["about"]
            for line in told["ratios"]:
                threads, (low, high) = line.get("threads", about["threads"]), line["quartiles"]
                cpu = f"CPU: {about.get('cpu', 'unknown')}, {threads} thread{'s' * (threads > 1)}"
                where = f"GPU: {about['gpu']}" if about["gpu"] and name not in ON_CPU_ONLY else cpu
                spread = f" ({low:.2f}–{high:.2f})" if line.get("pairs", 2) > 1 else ""
                rows.append([line["what"], f"{line['median']:.2f}{spread}", line["aim"] or "–", where])
            skipped += [f"{name}, {switch}: {why}" for switch, why in told.get("skipped", {}).items()]
    on_gpu = {name.removesuffix("-gpu") for name, told in found.items() if told["about"]["gpu"]}
    missing = [name for name in BENCHMARKS if name not in (*ON_CPU_ONLY, "gpu-compiled", *on_gpu)]
    said = [f"Not run on a GPU yet: {', '.join(f'`benchmarks.{name}`' for name in missing)}."] if missing else []
    said += [f"Skipped: {'; '.join(skipped)}."] if skipped else []
    return "\n".join([table(["what ÷ what", "ratio (quartiles)", "aim", "where"], rows), "", *said])


def comparison_table(name: str, plan: str = "busi-cpu", recipe: str = "strong") -> str:
    """One of a plan's tables on BUSI, over images with a lesion, with one recipe; and the strongest rival in a sentence."""
    found = tables.read(RESULTS / f"{plan}.jsonl")
    paper = tables.paper_numbers() if recipe == "strong" else None
    comparisons = tables.compare(found, name, recipe)
    strongest = [tables.strongest(comparisons, labels) for labels in sorted({each.labels for each in comparisons})]
    said = "\n".join(f"- {tables.sentence(each)}" for each in strongest if each)
    return f"{tables.markdown(tables.table(found, name, recipe, paper=paper))}\n{said}"


def summary(plan: str = "busi-cpu", recipe: str = "strong") -> str:
    """Mean DSC over images with a lesion of every method of Table 1, with 5% and 10% of the labels, ours beside the paper's."""
    lines = tables.table(tables.read(RESULTS / f"{plan}.jsonl"), "table1", recipe, paper=tables.paper_numbers()).rows
    cells = {(line.method, line.labels): line.cells["dsc"] for line in lines}
    found = {name: [cells[name, labels] for labels in (0.05, 0.1)] for name in dict.fromkeys(line.method for line in lines)}
    rows = [[tables.TITLES[name], *(f"{value:.3f}" for cell in row for value in (cell.mean, cell.paper))] for name, row in found.items()]
    return table(["", "5% of the labels", "paper", "10%", "paper"], rows)


def modules() -> str:
    """Each module and package of the code with the first line of its docstring."""
    rows = []
    for folder in ("mpsams", "train"):
        paths = sorted((ROOT / folder).glob("*.py")) + sorted(path.parent for path in (ROOT / folder).glob("*/__init__.py"))
        for path in sorted(paths, key=lambda path: path.name):
            text = (path / "__init__.py" if path.is_dir() else path).read_text(encoding="utf-8")
            about = (ast.get_docstring(ast.parse(text)) or "").partition("\n\n")[0].replace("\n", " ").replace("|", "\\|")
            if path.name != "__init__.py":
                rows.append([f"`{folder}/{path.name}{'/' if path.is_dir() else ''}`", about])
    return table(["module", "content"], rows)


def orders(plan: str = "busi-orders", recipe: str = "short") -> str:
    """Scores after each order, and each lesion-first order compared with random order, both with the adaptive ratio."""
    found = tables.read(RESULTS / f"{plan}.jsonl")
    pairs = [each for method in ("mps_ams", "descent_ams", "oracle_ams") for each in tables.compare(found, "orders", recipe, method=method)]
    said = "\n".join(f"- {tables.sentence(each)}" for each in pairs if each.rival == "base_ams")
    return f"{tables.markdown(tables.table(found, 'orders', recipe))}\n{said}"


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
            alone = f"{np.mean([scratch[None, draw] for draw in draws]):.3f}" if all((None, draw) in scratch for draw in draws) else tables.DASH
            means = [f"{np.mean([found[run] for run in both]):.3f}" for found in (before, after)]
            gains = ", ".join(tables.format_signed(after[run] - before[run]) for run in both)
            rows.append([f"{100 * labels:g}%", recipe, tables.TITLES[method], alone, *means, gains])
    heads = ["Labels", "Recipe", "Method", "from scratch", *(f"{count} epochs" for count in epochs), "gain, each draw"]
    pairs = [(recipe, each) for recipe in many.recipes for each in tables.compare(many, "table2", recipe) if each.rival == "base"]
    said = "\n".join(f"- Recipe “{recipe}”: {tables.sentence(each)}" for recipe, each in pairs)
    return f"{table(heads, rows)}\n\nAfter {epochs[1]} epochs:\n\n{said}"


def _dsc(found: tables.Results, method: str, labels: float, recipe: str) -> dict[tuple[int | None, int], float]:
    """(seed, draw) of each run -> its mean DSC over images with a lesion."""
    return {(run.seed, run.draw): float(tables.score(run.scores_nk[None], "lesion", "dsc")[0, 0]) for run in found.of(method, labels, recipe)}


def mask_uncertainty() -> str:
    """Entropy of masks on each data set, at random and lesion first by both readings, and how often H3 <= H2 <= H1 fails."""
    found = [record(ROOT / "benchmarks" / f"information-{name}.json") for name in SETS]

    def bits(ratio: str, epoch: int) -> list[str]:
        random, first = (("base", "base_mps"), ("base_ams", "mps_ams"))[ratio == "adaptive"]
        pairs = [("random", random), *((reading, first) for reading in READINGS)]
        return [_slashed(told["undecided"][order][name]["mean"][told["epochs"].index(epoch)] for order, name in pairs) for told in found]

    def broken(key: str, form: str = "{}") -> list[str]:
        return [_slashed((told["ordering"][reading][key] for reading in READINGS), form) for told in found]

    sizes = [" / ".join(_with_quartiles(told["cluster_size"][reading]) for reading in READINGS) for told in found]
    rows = [
        ["images", *(str(told["images"]) for told in found)],
        [f"patches of {found[0]['patches']} in the lesion cluster (quartiles)", *sizes],
        ["fixed 75%: random / lesion first", *bits("fixed", 1)],
        *([f"adaptive, epoch {epoch}: random / lesion first", *bits("adaptive", epoch)] for epoch in (1, 10, 100, 800)),
        ["images × epochs compared", *broken("compared")],
        ["… where H₂ > H₁", *broken("h2_above_h1")],
        ["… where H₃ > H₁", *broken("h3_above_h1")],
        ["… where H₃ > H₂", *broken("h3_above_h2")],
        ["images where H₃ > H₂ at some epoch", *broken("images_h3_above_h2")],
        ["their largest lesion cluster, patches", *broken("largest_cluster")],
        ["H₃ − H₂ at most, bits", *broken("most_bits", "{:.2f}")],
        ["masks drawn that are not among those counted", *broken("masks_not_counted")],
    ]
    return table(["", *SETS.values()], rows)


def shared_information() -> str:
    """Mutual information of hidden and visible patches on each data set: at random, lesion first by both readings, one block."""
    found = [record(ROOT / "benchmarks" / f"information-{name}.json") for name in SETS]
    orders = ("random", *READINGS, "block")

    def at(ratio: float, each: bool = False) -> list[str]:
        cells = []
        for told in found:
            bits = [told["shared"][order]["mean"][told["ratios"].index(ratio)] for order in orders]
            cells.append(_slashed((b / (ratio * told["patches"]) for b in bits), "{:.2f}") if each else _slashed(bits))
        return cells

    def half(key: str) -> list[str]:
        return [f"{told[key][told['ratios'].index(0.5)]:.1f}" for told in found]

    def over(ratio: str) -> list[str]:
        return [_slashed(told["shared_over_epochs"][order][ratio]["bits"] for order in orders) for told in found]

    def more(ratio: float) -> list[str]:
        return [_slashed((told["more_than_random"][reading][told["ratios"].index(ratio)] for reading in READINGS), "{:.0%}") for told in found]

    rows = [
        *([f"{ratio:.0%} hidden, bits", *at(ratio)] for ratio in (0.25, 0.5, 0.75)),
        *([f"{ratio:.0%} hidden, bits per hidden patch", *at(ratio, each=True)] for ratio in (0.25, 0.75)),
        ["mean over 800 epochs, fixed 75%, bits", *over("fixed")],
        ["mean over 800 epochs, adaptive, bits", *over("adaptive")],
        *([f"images where lesion first shares more than random, {ratio:.0%} hidden", *more(ratio)] for ratio in (0.25, 0.5, 0.75)),
        ["50% hidden at random, patches of different images mixed, bits", *half("random_mixed")],
        ["50% hidden at random, covariance from half the images, bits", *half("random_from_half")],
    ]
    return table(["", *SETS.values()], rows)


DRAWN = {"phantom": "phantoms", "busi": "BUSI, test part"}
STARTS = {"from nothing": "empty mask", "from proposal": "proposal"}
FEATURES = {"no network": "of no network", "busi-mps_ams-pretrain": "of MPS-AMS, pretrained", "busi-mps_ams-seg-10": "of MPS-AMS, fine-tuned", "busi-scratch-seg-10": "from scratch"}


def strokes() -> str:
    """Strokes of the simulated annotator to the target Dice score, for each tool and data set."""
    found = {name: record(ROOT / "benchmarks" / f"annotator-{name}.json") for name in DRAWN}
    first = found["busi"]
    rows = []
    for way in first["ways"]:
        _tool, start, *network = way.split(", ")
        words = "brush" if not network else f"scribble, features {FEATURES[network[0]]}"
        cells = []
        for told in (each["ways"][way] for each in found.values()):
            low, high = told["quartiles"]
            cells += [f"{told['median']:g} ({low:g}–{high:g})", f"{told['reached']:.0%}"]
        ms = first["ways"][way]["ms"]
        rows.append([f"{STARTS[start]}: {words}", *cells, f"{ms[1]:.0f}" if ms else "–"])
    heads = [head for name, words in DRAWN.items() for head in (f"strokes, {found[name]['images']} {words}", "reached")]
    return table([f"to DSC {first['dsc']:.2f}", *heads, "ms per stroke, p95"], rows)


def learning_table() -> str:
    """Mean DSC on held-out images before and after retraining on accepted masks."""
    rows = []
    for name, words in (("busi", "BUSI, images not seen before"), ("phantom", "phantoms")):
        told = record(ROOT / "benchmarks" / f"corrections-{name}.json")
        for one in told["rates"]:
            low, high = one["interval"]
            rows.append([words, str(one["learned"]), str(one["images"]), f"{one['lr']:g}", f"{one['before']:.3f}", f"{one['after']:.3f}", f"{low:+.3f} … {high:+.3f}"])
    return table(["", "trained on", "held out", "learning rate", "DSC before", "DSC after", "95% interval of the gain"], rows)


def clients() -> str:
    """Response times of many clients at once, and errors."""
    told = record(ROOT / "benchmarks" / "clients.json")
    rows = [[name, str(count), f"{told['p50_s'][name]:.1f}", f"{told['p95_s'][name]:.1f}"] for name, count in told["answers"].items()]
    memory = " / ".join(f"{told['memory_mib'][key]:.0f}" for key in ("start", "middle", "end"))
    said = (
        f"{told['clients']} clients for {told['seconds']} seconds on {told['about']['cores']} cores that had other work to do (load {told['load_before']:.0f} before it): "
        f"{told['leaks']} answers about another's image, {told['other_errors']} errors, {told['busy']} times “busy, try again”; "
        f"memory {memory} MiB at start, middle and end."
    )
    return f"{table(['', 'answers', 'p50, s', 'p95, s'], rows)}\n\n{said}"


HALLS = {"hall": "50 visitors", "hall-same": "200 visitors of one sample", "hall-greedy": "50 visitors beside one who asks for everything all the time"}
ACTIONS = {"mask": "mask", "reconstruct": "reconstruct", "segment": "segment", "save": "save", "open": "open in Annotate"}


def hall(folder: Path = ROOT / "benchmarks") -> str:
    """Response times of visitors of the page, and sentences on the load, errors, memory and start, of the records there are."""
    found = {name: record(folder / f"{name}.json") for name in (*HALLS, "hall-memory", "hall-start") if (folder / f"{name}.json").is_file()}
    rows, said = [], []
    for name, words in ((name, words) for name, words in HALLS.items() if name in found):
        told = found[name]
        for action, each in ((action, each) for action, each in told["actions"].items() if each["answers"]):
            more = told.get("p95_over_without", {}).get(action)
            cells = [f"{each[key]:.2f}" for key in ("alone_s", "p50_s", "p95_s", "aim_p95_s")] + [f"{each['p95_over_alone']:.0f}", f"{more:.2f}" if more else "–"]
            rows.append([words, ACTIONS[action], str(each["answers"]), *cells])
        store = told["shared_results"]
        hits = (store["hits"] + store["waits"]) / max(1, store["hits"] + store["waits"] + store["misses"])
        said.append(
            f"- {words[0].upper()}{words[1:]}: {told['answers_a_second']:.0f} answers a second, {told['cpu_seconds_an_answer']:.3f} CPU seconds each, {told['share_of_cores']:.0%} of "
            f"{told['about']['cores']} cores; load of the machine {told['load_before']:.0f} before it; {told['refused_saves']} refused saves, {told['other_errors']} errors, "
            f"{told['leaks']} wrong pictures, {told['busy']} times “busy”; {hits:.0%} of the shared results asked for were there."
        )
    if (told := found.get("hall-memory")) is not None:
        said.append(
            f"- Memory: {told['idle_visitor_mib']:.2f} MiB an idle visitor (aim {told['aim_idle_visitor_mib']}); "
            f"{told['users']} visitors for {told['seconds']:.0f} s: {_slashed((told['memory_mib'][key] for key in ('start', 'middle', 'end')), '{:.0f}')} MiB at start, middle and end, "
            f"{told['second_half_growth']:+.1%} in the second half (aim {told['aim_second_half_growth']:.0%}); load {told['load_before']:.0f}."
        )
    if (told := found.get("hall-start")) is not None:
        said.append(
            f"- Start: the page answers after {told['page_ready_s']:.1f} s (aim {told['aims']['page_ready_s']:.0f}), a browser shows its first picture after "
            f"{told['first_picture_s']:.1f} s (aim {told['aims']['first_picture_s']:.0f}); {told['wire']['all_bytes'] / 1e6:.1f} MB over the wire in {told['wire']['requests']} requests, "
            f"{told['wire']['html_bytes'] / 1e6:.2f} MB of it HTML ({told['wire']['html_bytes_plain'] / 1e6:.1f} MB before compression); load {told['load_before']:.0f}."
        )
    head = ["", "action", "answers", "alone, s", "p50, s", "p95, s", "aim, s", "p95 ÷ alone", "p95 ÷ without that visitor"]
    return "\n".join([table(head, rows), "", *said])


def _slashed(values: Iterable[float], form: str = "{:.1f}") -> str:
    """Numbers separated by slashes."""
    return " / ".join(form.format(value) for value in values)


def _with_quartiles(size: dict) -> str:
    """Mean and quartiles as text."""
    return f"{size['mean'][0]:.0f} ({size['low'][0]:.0f}–{size['high'][0]:.0f})"


def record(path: Path) -> dict:
    """Contents of a JSON record."""
    return json.loads(path.read_text(encoding="utf-8"))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines)


def rivals() -> str:
    """Differences of the other methods from their papers, as a list."""
    told = methods.deviations()
    return "\n".join(f"- {tables.TITLES.get(name, 'All')}: {sentence}" for name, sentence in told.items())


TABLES = {"rivals": rivals, "ranking": ranking, "results_busi": partial(results, "busi"), "results_volumes": partial(results, "hecktor", "brats"), "packing": packing, "speed": speed, "table1": partial(comparison_table, "table1"), "table2": partial(comparison_table, "table2")}
TABLES |= {"short": partial(comparison_table, "table1", "busi-cpu-short", "short"), "longer": longer}
TABLES |= {"undecided": mask_uncertainty, "shared": shared_information, **{f"ranked_{name}": partial(ranking_table, name) for name in SETS}}
TABLES |= {"orders": orders, "strokes": strokes, "learnt": learning_table, "clients": clients, "hall": hall, "commands": command_reference.commands_page, "summary": summary, "modules": modules, "selector_parameters": selector_parameters, "prompts": prompts, "assistants": assistants}


def rewrite(text: str) -> str:
    """The page with new contents between every "<!-- table: NAME -->" and "<!-- end -->"."""

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
