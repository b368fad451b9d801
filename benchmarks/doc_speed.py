"""Tables of speed, of visitors and of drawing."""

from __future__ import annotations

from pathlib import Path

from benchmarks.doc_selectors import SETS
from benchmarks.doc_tables import ROOT, _slashed, record, table


def packing() -> str:
    """Packing beside reading everything into memory."""
    found = record(ROOT / "benchmarks" / "packing.json")
    named = [
        (f"{SETS[name]}, {size} px", found[f"{name}-{size}"]) for name in ("hecktor", "brats") for size in (128, 256)
    ]
    named += [("made-up CT, 128 px", row) for row in found["made_up"]]
    rows = [
        [
            words,
            str(row["slices"]),
            f"{row['ours']['slices_per_s']:.0f}",
            f"{row['ours']['peak_mib']:.0f}",
            f"{row['peer']['peak_mib']:.0f}",
        ]
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


DRAWN = {"phantom": "phantoms", "busi": "BUSI, test part"}
STARTS = {"from nothing": "empty mask", "from proposal": "proposal"}
FEATURES = {
    "no network": "of no network",
    "busi-mps_ams-pretrain": "of MPS-AMS, pretrained",
    "busi-mps_ams-seg-10": "of MPS-AMS, fine-tuned",
    "busi-scratch-seg-10": "from scratch",
}


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
            rows.append(
                [
                    words,
                    str(one["learned"]),
                    str(one["images"]),
                    f"{one['lr']:g}",
                    f"{one['before']:.3f}",
                    f"{one['after']:.3f}",
                    f"{low:+.3f} … {high:+.3f}",
                ]
            )
    return table(
        ["", "trained on", "held out", "learning rate", "DSC before", "DSC after", "95% interval of the gain"], rows
    )


def clients() -> str:
    """Response times of many clients at once, and errors."""
    told = record(ROOT / "benchmarks" / "clients.json")
    rows = [
        [name, str(count), f"{told['p50_s'][name]:.1f}", f"{told['p95_s'][name]:.1f}"]
        for name, count in told["answers"].items()
    ]
    memory = " / ".join(f"{told['memory_mib'][key]:.0f}" for key in ("start", "middle", "end"))
    said = (
        f"{told['clients']} clients for {told['seconds']} seconds on {told['about']['cores']} cores that had other work"
        f" to do (load {told['load_before']:.0f} before it): {told['leaks']} answers about another's image,"
        f" {told['other_errors']} errors, {told['busy']} times “busy, try again”; memory {memory} MiB at start, middle"
        " and end."
    )
    return f"{table(['', 'answers', 'p50, s', 'p95, s'], rows)}\n\n{said}"


HALLS = {
    "hall": "50 visitors",
    "hall-same": "200 visitors of one sample",
    "hall-greedy": "50 visitors beside one who asks for everything all the time",
}
ACTIONS = {
    "mask": "mask",
    "reconstruct": "reconstruct",
    "segment": "segment",
    "save": "save",
    "open": "open in Annotate",
}


def hall(folder: Path = ROOT / "benchmarks") -> str:
    """Response times of visitors of the page, and sentences on the load, errors, memory and start, of the records there
    are.
    """
    found = {
        name: record(folder / f"{name}.json")
        for name in (*HALLS, "hall-memory", "hall-start")
        if (folder / f"{name}.json").is_file()
    }
    rows, said = [], []
    for name, words in ((name, words) for name, words in HALLS.items() if name in found):
        told = found[name]
        for action, each in ((action, each) for action, each in told["actions"].items() if each["answers"]):
            more = told.get("p95_over_without", {}).get(action)
            cells = [f"{each[key]:.2f}" for key in ("alone_s", "p50_s", "p95_s", "aim_p95_s")] + [
                f"{each['p95_over_alone']:.0f}",
                f"{more:.2f}" if more else "–",
            ]
            rows.append([words, ACTIONS[action], str(each["answers"]), *cells])
        store = told["shared_results"]
        hits = (store["hits"] + store["waits"]) / max(1, store["hits"] + store["waits"] + store["misses"])
        said.append(
            f"- {words[0].upper()}{words[1:]}: {told['answers_a_second']:.0f} answers a second,"
            f" {told['cpu_seconds_an_answer']:.3f} CPU seconds each, {told['share_of_cores']:.0%} of"
            f" {told['about']['cores']} cores; load of the machine {told['load_before']:.0f} before it;"
            f" {told['refused_saves']} refused saves, {told['other_errors']} errors, {told['leaks']} wrong pictures,"
            f" {told['busy']} times “busy”; {hits:.0%} of the shared results asked for were there."
        )
    if (told := found.get("hall-memory")) is not None:
        said.append(
            f"- Memory: {told['idle_visitor_mib']:.2f} MiB an idle visitor (aim {told['aim_idle_visitor_mib']});"
            f" {told['users']} visitors for {told['seconds']:.0f} s:"
            f" {_slashed((told['memory_mib'][key] for key in ('start', 'middle', 'end')), '{:.0f}')} MiB at start,"
            f" middle and end, {told['second_half_growth']:+.1%} in the second half (aim"
            f" {told['aim_second_half_growth']:.0%}); load {told['load_before']:.0f}."
        )
    if (told := found.get("hall-start")) is not None:
        said.append(
            f"- Start: the page answers after {told['page_ready_s']:.1f} s (aim {told['aims']['page_ready_s']:.0f}), a"
            f" browser shows its first picture after {told['first_picture_s']:.1f} s (aim"
            f" {told['aims']['first_picture_s']:.0f}); {told['wire']['all_bytes'] / 1e6:.1f} MB over the wire in"
            f" {told['wire']['requests']} requests, {told['wire']['html_bytes'] / 1e6:.2f} MB of it HTML"
            f" ({told['wire']['html_bytes_plain'] / 1e6:.1f} MB before compression); load {told['load_before']:.0f}."
        )
    head = [
        "",
        "action",
        "answers",
        "alone, s",
        "p50, s",
        "p95, s",
        "aim, s",
        "p95 ÷ alone",
        "p95 ÷ without that visitor",
    ]
    return "\n".join([table(head, rows), "", *said])
