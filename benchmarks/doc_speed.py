"""Tables of speed, of visitors and of drawing."""

from __future__ import annotations

from pathlib import Path

from benchmarks.doc_selectors import SETS
from benchmarks.doc_tables import ROOT, _slashed, record, table


def packing() -> str:
    """Return a table of packing beside reading everything into memory."""
    found = record(ROOT / "benchmarks" / "packing.json")
    named = [
        (f"{SETS[name]}, {size} px", found[f"{name}-{size}"]) for name in ("hecktor", "brats") for size in (128, 256)
    ]
    named += [("synthetic CT, 128 px", row) for row in found["synthetic"]]
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
    """Return the ratios of the benchmarks of training and inference, and a sentence on those that have not run on a
    GPU.
    """
    found = {path.stem: record(path) for path in sorted(folder.glob("*.json"))}
    rows, skipped = [], []
    for name in BENCHMARKS:
        for result in (found[key] for key in (name, f"{name}-gpu") if key in found):
            about = result["about"]
            for line in result["ratios"]:
                threads, (low, high) = line.get("threads", about["threads"]), line["quartiles"]
                cpu = f"CPU: {about.get('cpu', 'unknown')}, {threads} thread{'s' * (threads > 1)}"
                where = f"GPU: {about['gpu']}" if about["gpu"] and name not in ON_CPU_ONLY else cpu
                spread = f" ({low:.2f}–{high:.2f})" if line.get("pairs", 2) > 1 else ""
                rows.append([line["what"], f"{line['median']:.2f}{spread}", line["aim"] or "–", where])
            skipped += [f"{name}, {switch}: {why}" for switch, why in result.get("skipped", {}).items()]
    on_gpu = {name.removesuffix("-gpu") for name, result in found.items() if result["about"]["gpu"]}
    missing = [name for name in BENCHMARKS if name not in (*ON_CPU_ONLY, "gpu-compiled", *on_gpu)]
    sentences = [f"Not run on a GPU yet: {', '.join(f'`benchmarks.{name}`' for name in missing)}."] if missing else []
    sentences += [f"Skipped: {'; '.join(skipped)}."] if skipped else []
    return "\n".join([table(["what ÷ what", "ratio (quartiles)", "aim", "where"], rows), "", *sentences])


DRAWN = {"phantom": "phantoms", **SETS}
STARTS = {"from nothing": "empty mask", "from proposal": "proposal"}
TOOLS = {"brush": "brush", "scribble": "scribbles", "box": "boxes, then clicks", "click": "clicks"}


def gestures() -> str:
    """Return gestures and seconds of the simulated annotator to the target Dice score, for each tool and data set."""
    found = {name: record(ROOT / "benchmarks" / f"annotator-{name}.json") for name in DRAWN}
    rows = []
    for start, start_words in STARTS.items():
        for tool, tool_words in TOOLS.items():
            cells = []
            for each in found.values():
                network = f", {each['proposal']}" if tool == "scribble" else ""
                way = each["ways"][f"{tool}, {start}{network}"]
                low, high = way["quartiles"]
                cells.append(
                    f"{way['median']:g} ({low:g}–{high:g}), {way['seconds']:.0f} s"
                    + ("" if way["reached"] == 1 else f"; {way['reached']:.0%} reached")
                )
            rows.append([f"{start_words}: {tool_words}", *cells])
    heads = [f"{words} ({found[name]['images']})" for name, words in DRAWN.items()]
    return table([f"to DSC {found['busi']['dsc']:.2f}", *heads], rows)


def annotated_in_browser() -> str:
    """Return seconds and overlap of images annotated in the browser by mouse and keys, of one and of several
    data sets.
    """
    rows = []
    for name in ("annotate_thirty", "annotate_mixed"):
        found = record(ROOT / "benchmarks" / f"{name}.json")
        overlaps = ", ".join(f"{SETS[data]} {dsc:.3f}" for data, dsc in found["mean_dsc_of"].items())
        seconds = (found[key] for key in ("seconds_per_image", "drawn_to_mask_s", "accept_to_next_s"))
        lost = str(found["lost_or_changed"])
        rows.append([str(found["images"]), *(f"{value:.2f}" for value in seconds), overlaps, lost])
    heads = ["images", "s per image", "box to mask, s", "accept to next, s", "mean DSC", "lost or changed on disk"]
    return table(heads, rows)


def learning_table() -> str:
    """Return mean DSC on held-out images before and after retraining on accepted masks."""
    rows = []
    for name, words in (("busi", "BUSI, images not seen before"), ("phantom", "phantoms")):
        result = record(ROOT / "benchmarks" / f"corrections-{name}.json")
        for one in result["rates"]:
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
    """Return the response times of many clients at once, and errors."""
    result = record(ROOT / "benchmarks" / "clients.json")
    rows = [
        [name, str(count), f"{result['p50_s'][name]:.1f}", f"{result['p95_s'][name]:.1f}"]
        for name, count in result["answers"].items()
    ]
    memory = " / ".join(f"{result['memory_mib'][key]:.0f}" for key in ("start", "middle", "end"))
    sentence = (
        f"{result['clients']} clients for {result['seconds']} seconds on {result['about']['cores']} cores"
        f" (load {result['load_before']:.0f} before it):"
        f" {result['leaks']} answers about another's image, {result['other_errors']} errors,"
        f" {result['busy']} times “busy, try again”; memory {memory} MiB at start, middle and end."
    )
    return f"{table(['', 'answers', 'p50, s', 'p95, s'], rows)}\n\n{sentence}"


HALLS = {
    "hall": "50 visitors",
    "hall-workers": "50 visitors, {workers} processes answer",
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
    """Return the response times of visitors of the page, and sentences on the load, errors, memory and start, of the
    records there are.
    """
    found = {
        name: record(folder / f"{name}.json")
        for name in (*HALLS, "hall-memory", "hall-start")
        if (folder / f"{name}.json").is_file()
    }
    rows, sentences = [], []
    for name, words in ((name, words) for name, words in HALLS.items() if name in found):
        result = found[name]
        words, memory = words.format_map(result), result["memory_mib"]
        for action, each in ((action, each) for action, each in result["actions"].items() if each["answers"]):
            more = result.get("p95_over_without", {}).get(action)
            cells = [f"{each[key]:.2f}" for key in ("alone_s", "p50_s", "p95_s", "aim_p95_s")] + [
                f"{each['p95_over_alone']:.0f}",
                f"{more:.2f}" if more else "–",
            ]
            rows.append([words, ACTIONS[action], str(each["answers"]), *cells])
        store = result["shared_results"]
        hits = (store["hits"] + store["waits"]) / max(1, store["hits"] + store["waits"] + store["misses"])
        sentences.append(
            f"- {words[0].upper()}{words[1:]}: {result['answers_a_second']:.0f} answers a second,"
            f" {result['cpu_seconds_an_answer']:.3f} CPU seconds each, {result['share_of_cores']:.0%} of"
            f" {result['about']['cores']} cores; load of the machine {result['load_before']:.0f} before it;"
            f" {result['refused_saves']} refused saves, {result['other_errors']} errors, {result['leaks']} wrong"
            f" pictures, {result['busy']} times “busy”; {hits:.0%} of the shared results asked for were there;"
            f" memory of all processes {memory['start']:.0f} MiB at the start, {memory['peak']:.0f} at most."
        )
    if (result := found.get("hall-memory")) is not None:
        sentences.append(
            f"- Memory: {result['idle_visitor_mib']:.2f} MiB an idle visitor (aim {result['aim_idle_visitor_mib']});"
            f" {result['users']} visitors for {result['seconds']:.0f} s:"
            f" {_slashed((result['memory_mib'][key] for key in ('start', 'middle', 'end')), '{:.0f}')} MiB at start,"
            f" middle and end, {result['second_half_growth']:+.1%} in the second half (aim"
            f" {result['aim_second_half_growth']:.0%}); load {result['load_before']:.0f}."
        )
    if (result := found.get("hall-start")) is not None:
        sentences.append(
            f"- Start: the page answers after {result['page_ready_s']:.1f} s"
            f" (aim {result['aims']['page_ready_s']:.0f}), a browser shows its first picture after"
            f" {result['first_picture_s']:.1f} s (aim {result['aims']['first_picture_s']:.0f});"
            f" {result['wire']['all_bytes'] / 1e6:.1f} MB over the wire in {result['wire']['requests']} requests,"
            f" {result['wire']['html_bytes'] / 1e6:.2f} MB of it HTML"
            f" ({result['wire']['html_bytes_plain'] / 1e6:.1f} MB before compression);"
            f" load {result['load_before']:.0f}."
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
    return "\n".join([table(head, rows), "", *sentences])
