"""Put finished runs into weights/ under their proper names, each with a model card written from its records.

A run's evaluation, if it lies in the run folder as test.json (train.evaluate --json), goes along.

  python -m train.ship runs/busi-mps_ams-pretrain-0 runs/busi-mps_ams-seg-10-strong-0
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

from mpsams import checkpoint, datasets
from mpsams.checkpoint import Checkpoint
from train.options import run

MEANS = ("dsc", "ppv", "sen", "hd95", "assd")
NAMES = {
    "base": "a masked autoencoder with random order and a fixed ratio (the paper's “base”)",
    "base_ams": "a masked autoencoder with random order and the adaptive ratio (“base+AMS”)",
    "base_mps": "a masked autoencoder with lesion-first order and a fixed ratio (“base+MPS”)",
    "mps_ams": "MPS-AMS: lesion-first order and the adaptive ratio",
    "scratch": "random initialisation, no pretraining",
}


def main(argv: Sequence[str] | None = None) -> list[Path]:
    """Parse, copy, describe; returns the files written into the folder of weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders with weights.safetensors")
    parser.add_argument("--weights", type=Path, default=Path("weights"), help="where to put them (default: weights)")
    options = parser.parse_args(argv)
    written = [ship(folder, options.weights) for folder in options.runs]
    print("\n".join(map(str, written)))
    return written


def ship(source: Path, folder: Path) -> Path:
    """Copy one run's checkpoint and evaluation, and write the card beside them."""
    found = checkpoint.load(source / "weights.safetensors")
    path = folder / f"{name_of(found.metadata)}.safetensors"
    evaluation = source / "test.json"
    measured = json.loads(evaluation.read_text(encoding="utf-8")) if evaluation.exists() else None
    if measured and measured["sha256"] != found.sha256:
        raise ValueError(f"{evaluation} measured another checkpoint than {source / 'weights.safetensors'}; run train.evaluate again")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(source / "weights.safetensors", path)
    if measured:
        shutil.copy(evaluation, path.with_suffix(".json"))
    else:
        path.with_suffix(".json").unlink(missing_ok=True)  # it would be of the file just replaced
    path.with_suffix(".md").write_text(card(path.stem, found, measured), encoding="utf-8")
    return path


def name_of(metadata: dict) -> str:
    """"busi-mps_ams-pretrain" or "busi-mps_ams-seg-10": data set, method, and share of labels in percent."""
    what = "pretrain" if metadata["kind"] == "pretrain" else f"seg-{100 * metadata['labels']:g}"
    return f"{metadata['data']['name']}-{metadata['method']}-{what}"


def card(name: str, found: Checkpoint, measured: dict | None) -> str:
    """The model card as Markdown, from what the checkpoint and its evaluation say."""
    about, config, split = found.metadata, found.metadata["config"], found.metadata["split"]
    data, model, training = about["data"], about["model"], about["training"]
    numbers = sum(tensor.numel() for key, tensor in found.tensors.items() if key.split(".")[0] in ("encoder", "decoder", "head"))
    if about["kind"] == "pretrain":
        schedule, images = config["optim"], len(split["train"])
        task = "It fills in hidden patches of an image. It is no segmentation: fine-tune it with `train.finetune --init`."
        seen = f"{len(split['train'])} images without labels (the training part)"
    else:
        schedule, images = config["recipe"], len(about["labelled"])
        task = f"It gives each pixel a probability of “{data['target']}”. Begun from {NAMES.get(about['method'], about['method'])}."
        seen = f"{len(about['labelled'])} labelled images ({100 * about['labels']:g}% of the training part), recipe “{about['recipe']}”"
    lines = [
        f"# {name}",
        "",
        f"{task} For research and teaching; not a medical device.",
        "",
        "| | |",
        "|---|---|",
        f"| Method | {NAMES.get(about['method'], about['method'])} |",
        f"| Network | U-Net, width {model['width']}, {numbers / 1e6:.1f} M parameters, {model['norm']} normalisation, {about['size']} × {about['size']} pixels |",
        f"| Trained on | {seen} |",
        *([f"| Masking | {masking(config['method'])} |"] if about["kind"] == "pretrain" else []),
        f"| Schedule | {epochs(training['steps'], schedule, images)} in batches of {schedule['batch']}, learning rate {schedule['lr']:g}, "
        f"{training['steps']} steps in {training['seconds'] / 60:.0f} minutes, seed {config['run']['seed']} |",
        f"| Data | {data['images']} images of {data['name']} ({data['modality']}); hash of pixels and masks `{data['sha256'][:16]}` |",
        f"| Source and terms | {datasets.source(data['name'])} |",
        f"| Split | {len(split['train'])}/{len(split['val'])}/{len(split['test'])}, seed {split['seed']}, "
        f"near-duplicates {'kept together' if split['grouped'] else 'not kept together'}, hash `{split['sha256'][:16]}` |",
        f"| File | sha256 `{found.sha256}` |",
    ]
    return "\n".join(lines + (results(measured) if measured else [])) + "\n"


def masking(how: dict) -> str:
    """How patches were hidden, in words."""
    order = how["order"] + (f" ({how['reading']}, {how['normalise']} image)" if how["order"] == "lesion-first" else "")
    ratio = f"fixed at {how['fixed_ratio']:.0%}" if how["ratio"] == "fixed" else f"{how['start']:.0%} + ln(epoch) / {how['tau']:g}"
    stretched = f", epochs stretched to {how['horizon']}" if how["ratio"] == "adaptive" and how["horizon"] else ""
    return f"patches of {how['patch']} pixels, order {order}, ratio {ratio}{stretched}"


def epochs(steps: int, schedule: dict, images: int) -> str:
    """How many passes over the images were made, and of how many planned when it was fewer."""
    done = steps / math.ceil(images / schedule["batch"])
    return f"{done:.3g} epochs" + ("" if done == schedule["epochs"] else f" (stopped early, of {schedule['epochs']} planned)")


def results(measured: dict) -> list[str]:
    """The evaluation's means as lines of Markdown."""
    rows = [f"| {label} | " + " | ".join(number(measured[key + suffix]) for key in MEANS) + " |" for label, suffix in (
        (f"all {measured['images']} images", ""), (f"the {measured['lesions']} with a lesion", "_lesion"))]  # fmt: skip
    return [
        "",
        f"## Measured on the {measured['split']} part",
        "",
        "Per image at its own size; distances in pixels. Truth and prediction both empty count 1; only one of them empty counts 0 "
        "and the image diagonal.",
        "",
        "| mean over | DSC | PPV | Sen | HD95 | ASSD |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
        f"Pooled over all pixels: DSC {measured['dsc_pooled']:.3f}, PPV {measured['ppv_pooled']:.3f}, Sen {measured['sen_pooled']:.3f}. "
        f"Share of the images without lesion that got one: {number(measured['false_alarms'])}.",
    ]


def number(value: float | None) -> str:
    """Three decimals, or a dash where the set was empty."""
    return "–" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    run(main, "train.ship")
