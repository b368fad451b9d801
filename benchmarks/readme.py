"""The README's tables, written from the records of benchmarks/, results/ and weights/, so that no number is typed by hand.

  python -m benchmarks.readme            write them
  python -m benchmarks.readme --check    exit with 1 when the README says something else
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tomllib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from mpsams import tables

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"
SETS = {"busi": "BUSI, ultrasound", "hecktor": "OpenKBP, CT", "brats": "TCGA-LGG, T1"}
READINGS = {"covariance-of-softmax": "covariance of softmax", "softmax-of-covariance": "softmax of covariance"}
METHODS = {"mps_ams": "MPS-AMS", "scratch": "from scratch"}


def lift() -> str:
    """Lift and AUC of both readings on the sets with truth."""
    found = {name: record(ROOT / "benchmarks" / f"lesion_lift-{name}.json") for name in SETS}
    rows = []
    for reading, words in READINGS.items():
        for normalise in ("standardised", "raw"):
            values = [found[name][f"{reading} {normalise}"] for name in SETS]
            rows.append([f"{words}, {normalise}", *(f"{v['lift_mean']:.2f} / {v['auc_mean']:.2f}" for v in values)])
    rows.append(["distance to the image centre", *(f"– / {found[name]['centre_auc_mean']:.2f}" for name in SETS)])
    rows.append(["images with a lesion patch", *(str(found[name]["images"]) for name in SETS)])
    return table(["lift / AUC", *SETS.values()], rows)


def results() -> str:
    """The shipped segmentations on the patients or images held back."""
    rows = []
    for name, words in SETS.items():
        for method, says in METHODS.items():
            path = ROOT / "weights" / f"{name}-{method}-seg-10.json"
            means = record(path)
            parts = [("image" if "per_volume" not in means else "slice", means)]
            parts += [("volume", means["per_volume"])] if "per_volume" in means else []
            for what, values in parts:
                numbers = (values[key] for key in ("dsc", "ppv", "sen", "dsc_lesion", "dsc_pooled"))
                rows.append([words, says, f"{values['images']} {what}s", *(f"{value:.3f}" for value in numbers)])
    return table(["", "begun", "mean over", "DSC", "PPV", "Sen", "DSC, with lesion", "DSC, pooled"], rows)


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
    """What the benchmarks of training and inference measured, and which of them have not run on a GPU."""
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
    said = [f"Not run on a GPU, for want of one: {', '.join(f'`benchmarks.{name}`' for name in missing)}."] if missing else []
    said += [f"Skipped: {'; '.join(skipped)}."] if skipped else []
    return "\n".join([table(["what ÷ what", "ratio (quartiles)", "aim", "where"], rows), "", *said])


def compared(name: str, plan: str = "busi-cpu", recipe: str = "strong") -> str:
    """One of a plan's tables on BUSI, over images with a lesion, with one recipe; and the strongest rival in a sentence."""
    found = tables.read(RESULTS / f"{plan}.jsonl")
    paper = tomllib.loads((ROOT / "train" / "paper.toml").read_text(encoding="utf-8")) if recipe == "strong" else None
    comparisons = tables.compare(found, name, recipe)
    strongest = [tables.strongest(comparisons, labels) for labels in sorted({each.labels for each in comparisons})]
    said = "\n".join(f"- {tables.sentence(each)}" for each in strongest if each)
    return f"{tables.markdown(tables.table(found, name, recipe, paper=paper))}\n{said}"


def record(path: Path) -> dict:
    """What a record says."""
    return json.loads(path.read_text(encoding="utf-8"))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines)


TABLES = {"lift": lift, "results": results, "packing": packing, "speed": speed, "table1": partial(compared, "table1"), "table2": partial(compared, "table2")}
TABLES["short"] = partial(compared, "table1", "busi-cpu-short", "short")


def filled(text: str) -> str:
    """A README with what stands between "<!-- table: NAME -->" and "<!-- end -->" written anew."""

    def between(found: re.Match) -> str:
        return f"<!-- table: {found[1]} -->\n{TABLES[found[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- table: (\w+) -->\n.*?<!-- end -->", between, text, flags=re.DOTALL)


def main() -> None:
    """Write or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only say whether the README is what the records say")
    check = parser.parse_args().check
    path = ROOT / "README.md"
    before = path.read_text(encoding="utf-8")
    after = filled(before)
    if check and before != after:
        sys.exit("the README's tables are not what the records say; run python -m benchmarks.readme")
    path.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main()
