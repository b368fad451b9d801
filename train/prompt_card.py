"""The model card of a prompt network, from what its checkpoint and its evaluations say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from mpsams import datasets
from mpsams.checkpoint import Checkpoint
from train.prompt_data import PartedSet, hashes
from train.run_metadata import describe
from train.state import Position


def evaluations(path: Path, sha256: str) -> list[dict]:
    """Return the results that train.evaluate_prompts wrote beside a shipped prompt network: a file for each data set,
    "prompt-busi.json".

    ValueError when one measured another file.
    """
    found = []
    for record in sorted(path.parent.glob(f"{path.stem}-*.json")):
        measured = json.loads(record.read_text(encoding="utf-8"))
        if measured["sha256"] != sha256:
            raise ValueError(f"{record} measured another checkpoint than {path}; run train.evaluate_prompts again")
        found.append(measured)
    return found


def card(name: str, found: Checkpoint, measured: list[dict]) -> str:
    """Return the model card as Markdown."""
    about, learning = found.metadata, found.metadata["config"]["learning"]
    model, training = about["model"], about["training"]
    numbers = sum(
        each.numel() for key, each in found.tensors.items() if key.split(".")[0] in ("encoder", "decoder", "head")
    )
    size, start = about["size"], about["init"]
    begun = (
        "random initialisation"
        if start is None
        else f"the {start['kind']} `{start['sha256'][:16]}` ({start['method']})"
    )
    lines = [
        f"# {name}",
        "",
        (
            "It segments one object that a person marks with a box, clicks, scribbles or a mask to correct. "
            "For research and teaching; not a medical device."
        ),
        "",
        "| | |",
        "|---|---|",
        f"| Network | U-Net, width {model['width']}, {numbers / 1e6:.1f} M parameters, {model['norm']} normalisation |",
        f"| Input | a crop around the prompt at {size} × {size} pixels: image, box, points, mask |",
        *(data_row(data, split) for data, split in zip(about["data"]["sets"], about["splits"], strict=True)),
        (
            f"| Also | shapes painted into them ({learning['shapes']:.0%}), structures in them"
            f" ({learning['structures']:.0%}); in volumes, the mask of the slice beside as the prompt"
            f" ({learning.get('slices', 0.0):.0%}) |"
        ),
        f"| Begun from | {begun} |",
        (
            f"| Schedule | {learning['epochs']} epochs of {about['seen']} draws in batches of {learning['batch']}, "
            f"up to {learning['turns']} turns each, "
            f"learning rate {learning['lr']:g}, {training['steps']} steps in {training['seconds'] / 60:.0f} minutes, "
            f"seed {about['config']['run']['seed']} |"
        ),
        (
            f"| File | sha256 `{found.sha256}`, convolutions in half precision, rounded from "
            f"`{about.get('rounded_from', 'itself')[:16]}` |"
        ),
    ]
    return "\n".join(lines + (results(measured) if measured else [])) + "\n"


def data_row(data: dict, split: dict) -> str:
    """Return a row of the card on one data set: its split, what its masks outline, its source and its terms."""
    of_volumes = data["patients"] != data["images"]
    patients = f" patients ({data['images']} slices in all)" if of_volumes else " images"
    counts = "/".join(str(len(split[part])) for part in ("train", "val", "test"))
    source = data.get("source") or datasets.source(data["name"])
    return (
        f"| Read as {data['name']} | {data['modality']}; {data['target']}; parts {counts}{patients}, "
        f"split `{split['sha256'][:16]}`. {source} |"
    )


def results(measured: list[dict]) -> list[str]:
    """Return the evaluations as lines of Markdown."""
    jitter, most = (100 * measured[0]["box_jitter"], measured[0]["most_clicks"])
    lines = [
        "",
        f"## Measured on the {' and '.join(sorted({each['split'] for each in measured}))} part",
        "",
        (
            "Mean DSC (share of objects at .90 or better) for the largest object of each image, at its own size. Boxes"
            f" are moved by up to {jitter:g}% on each side; clicks go to the deepest point of the object, then of the"
            " largest error. “To .90” is the median number of clicks to a DSC of .90 (share of objects that reach it"
            f" within {most})."
        ),
        "",
        "| | objects | box | 1 click | 3 clicks | 5 clicks | to .90 | ms (p95) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in measured:
        lines.append(row(each["data"], each["images"], each))
        lines += [
            row(f"{each['data']}, {name}", values["images"], values) for name, values in each.get("peers", {}).items()
        ]
    return lines


def row(name: str, images: int, values: dict) -> str:
    """Return a row of the table of results."""
    overlaps = [values["box"], *values["clicks"].values()]
    words = [f"{each['dsc']:.3f} ({each['at_least_90']:.0%})" for each in overlaps]
    needed = values["clicks_to_90"]
    reached = f"{'–' if needed['median'] is None else format(needed['median'], 'g')} ({needed['reached']:.0%})"
    return f"| {name} | {images} | {' | '.join(words)} | {reached} | {values['ms_p95']:.0f} |"


def describe_prompts(config: dict, model: dict, data: Sequence[PartedSet], at: Position, images: int) -> dict:
    """Return the metadata of the checkpoint on its origin: as of other trainings, but of several data sets."""
    each = [describe("prompt", "prompt", config, part.stack, part.split, at) for part in data]
    first = {name: value for name, value in each[0].items() if name not in ("data", "split")}
    sets = {"sha256": hashes(data), "sets": [about["data"] for about in each]}
    return first | {
        "size": config["learning"]["size"],
        "model": model,
        "data": sets,
        "splits": [about["split"] for about in each],
        "seen": images,
    }
