"""The card of a published checkpoint: what it was trained on, how it is read, and its results.

Over 250 lines because each row of the card has its words here.
"""

from __future__ import annotations

import math

from mpsams import calibration, datasets
from mpsams.calibration import Rule
from mpsams.checkpoint import Checkpoint
from mpsams.tables import number

MEANS = ("dsc", "ppv", "sen", "hd95", "assd")
NOT = (
    "The images lie in the layout of {name} but are not those of that challenge, and the target is another: see the two"
    " lines above"
)
NAMES = {
    "base": "a masked autoencoder with random order and a fixed ratio (the paper's “base”)",
    "base_ams": "a masked autoencoder with random order and the adaptive ratio (“base+AMS”)",
    "base_mps": "a masked autoencoder with lesion-first order and a fixed ratio (“base+MPS”)",
    "mps_ams": "MPS-AMS: lesion-first order and the adaptive ratio",
    "scratch": "random initialisation, no pretraining",
    "simclr": "SimCLR on the encoder",
    "byol": "BYOL on the encoder",
    "swav": "SwAV on the encoder",
    "mae": "MAE on the encoder, with a light decoder that was thrown away",
    "simmim": "SimMIM on the encoder",
}


def card(name: str, found: Checkpoint, measured: dict | None) -> str:
    """Return the model card as Markdown, from what the checkpoint and its evaluation say."""
    about, config, split = found.metadata, found.metadata["config"], found.metadata["split"]
    data, model, training = about["data"], about["model"], about["training"]
    numbers = sum(
        tensor.numel() for key, tensor in found.tensors.items() if key.split(".")[0] in ("encoder", "decoder", "head")
    )
    pretrained = about["kind"] == "pretrain"
    schedule = config["optim" if pretrained else "recipe"]
    images = about.get("seen", len(split["train"] if pretrained else about["labelled"]))
    task, seen = describe_pretraining(about, images) if pretrained else describe_finetuning(about, images)
    kept = "kept" if split["grouped"] else "not kept"
    lines = [
        f"# {name}",
        "",
        f"{task} For research and teaching; not a medical device.",
        "",
        "| | |",
        "|---|---|",
        f"| Method | {NAMES.get(about['method'], about['method'])} |",
        (
            f"| Network | U-Net, width {model['width']}, {numbers / 1e6:.1f} M parameters, {model['norm']}"
            f" normalisation, {about['size']} × {about['size']} pixels |"
        ),
        f"| Trained on | {seen} |",
        *([f"| Options | {masking(config['method'])} |"] if pretrained else []),
        (
            f"| Schedule | {epochs(training['steps'], schedule, images)} in batches of {schedule['batch']}, learning"
            f" rate {schedule['lr']:g}, {training['steps']} steps in {training['seconds'] / 60:.0f} minutes, seed"
            f" {config['run']['seed']} |"
        ),
        *further_training_row(about),
        *reading(about),
        *([f"| Chosen | {about['chosen']} |"] if "chosen" in about else []),
        (
            f"| Data | {count_images(data['images'], data.get('patients', data['images']), data)} ({data['modality']}),"
            f" read as {data['name']}; hash of pixels and masks `{data['sha256'][:16]}` |"
        ),
        f"| Outlined there | {data['target']} |",
        f"| Source and terms | {data.get('source') or datasets.source(data['name'])} |",
        *(
            [f"| Not | {NOT.format(name=data['name'])} |"]
            if data.get("source", datasets.source(data["name"])) != datasets.source(data["name"])
            else []
        ),
        (
            "| Split |"
            f" {len(split['train'])}/{len(split['val'])}/{len(split['test'])}{' patients' if volumes(data) else ''},"
            f" seed {split['seed']},"
            f" {'' if volumes(data) else f'near-duplicates {kept} together, '}hash"
            f" `{split['sha256'][:16]}` |"
        ),
        (
            f"| File | sha256 `{found.sha256}`, convolutions in half precision, rounded from"
            f" `{about.get('rounded_from', 'itself')[:16]}` |"
        ),
    ]
    return "\n".join(lines + (results(measured) + reliable(measured) if measured else [])) + "\n"


def describe_pretraining(about: dict, images: int) -> tuple[str, str]:
    """Return the task of a pretrained network and the images it was trained on, in words."""
    patients = len(about["split"]["train"])
    return (
        "It fills in hidden patches of an image. It is no segmentation: fine-tune it with `train.finetune --init`.",
        f"{count_images(images, patients, about['data'])} without labels (the training"
        f" part{describe_stride(about['config'])})",
    )


def describe_finetuning(about: dict, images: int) -> tuple[str, str]:
    """Return the task of a segmentation network and the images it was trained on, in words."""
    return (
        f"It gives each pixel a probability of “{about['data']['target']}”. Begun from"
        f" {NAMES.get(about['method'], about['method'])}.",
        f"{count_images(images, len(about['labelled']), about['data'])} with labels ({100 * about['labels']:g}% of the"
        f" training part{describe_stride(about['config'])}), recipe “{about['recipe']}”",
    )


def further_training_row(about: dict) -> list[str]:
    """Return the row on the segmentation that a network was trained further from; none where it was not."""
    start = about.get("init") or {}
    if start.get("kind") != "segmentation":
        return []
    before = start["training"]
    return [
        f"| Trained further from | a segmentation of {before['steps']} steps in {before['seconds'] / 60:.0f} minutes,"
        f" sha256 `{start['sha256'][:16]}` |"
    ]


def reading(about: dict) -> list[str]:
    """Return rows of the card on how the answer is read (train.calibrate); none where it is taken as it is."""
    fitted, rule = about.get("calibration"), about.get("rule")
    rows = [("Flips", "the mean over the image and its mirror image")] if about.get("flips_averaged") else []
    if fitted and fitted["kind"] != "none":
        rows.append(
            (
                "Calibrated",
                (
                    f"on the validation part ({fitted['kind']}): slope {fitted['slope']:.3f}, intercept"
                    f" {fitted['intercept']:.3f} of the logits"
                ),
            )
        )
    if rule:
        before, after = rule["before"], rule["after"]
        rows.append(
            (
                "No lesion",
                (
                    f"{calibration.describe(Rule(rule['smallest_area'], rule['least_peak']))}; chosen on the validation"
                    f" part: lesion-only DSC {number(before['dsc_lesion'])} → {number(after['dsc_lesion'])}, false"
                    f" alarms {number(before['false_alarms'])} → {number(after['false_alarms'])}"
                ),
            )
        )
    return [f"| {name} | {text} |" for name, text in rows]


def reliable(measured: dict) -> list[str]:
    """Return the calibration of the probabilities, as lines of Markdown; none of evaluations of earlier versions."""
    table = measured.get("reliability")
    if not table:
        return []
    bins = [
        (
            f"{100 * row['from']:.0f}–{100 * row['to']:.0f}%",
            *(number(row[key]) for key in ("probability", "lesion")),
            row["pixels"],
        )
        for row in table["bins"]
    ]
    return [
        "",
        (
            "Reliability: the pixels whose predicted probability lies in each interval, its mean, and the share of them"
            " that is lesion. "
            f"Expected calibration error {number(table['ece'])}, without the lowest row {number(table['ece_above'])}."
        ),
        "",
        "| probability | mean | lesion | pixels |",
        "|---|---|---|---|",
        *(f"| {span} | {mean} | {lesion} | {pixels} |" for span, mean, lesion, pixels in bins),
    ]


def masking(method: dict) -> str:
    """Describe the masking of patches; the options of a method that is not the paper's as they are."""
    if "order" not in method:
        return ", ".join(
            f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in method.items()
            if name != "name"
        )
    order = method["order"] + (
        f" ({method['selector']}, {method['normalise']} image)" if method["order"] == "lesion-first" else ""
    )
    ratio = (
        f"fixed at {method['fixed_ratio']:.0%}"
        if method["ratio"] == "fixed"
        else f"{method['start']:.0%} + ln(epoch) / {method['tau']:g}"
    )
    stretched = (
        f", epochs stretched to {method['horizon']}" if method["ratio"] == "adaptive" and method["horizon"] else ""
    )
    return f"patches of {method['patch']} pixels, order {order}, ratio {ratio}{stretched}"


def epochs(steps: int, schedule: dict, images: int) -> str:
    """Describe the number of epochs, and of the planned ones when they are more."""
    done = steps / math.ceil(images / schedule["batch"])
    return f"{done:.3g} epochs" + (
        "" if done == schedule["epochs"] else f" (stopped early, of {schedule['epochs']} planned)"
    )


def volumes(data: dict) -> bool:
    """Return True if a checkpoint's data are slices of patients rather than single images."""
    return data.get("patients", data["images"]) != data["images"]


def count_images(images: int, patients: int, data: dict) -> str:
    """Return the number of images as "562 images", or "560 slices of 112 patients"."""
    return f"{images} slices of {patients} patients" if volumes(data) else f"{images} images"


def describe_stride(config: dict) -> str:
    """Describe the slices that were used, when not all were."""
    step = config["data"].get("slice_stride", 1)
    return (
        f", every {step}th slice"
        if step > 3
        else ", every third slice"
        if step == 3
        else ", every second slice"
        if step == 2
        else ""
    )


def results(measured: dict) -> list[str]:
    """Return the evaluation's means as lines of Markdown."""
    lines = ["", f"## Measured on the {measured['split']} part", ""]
    if "per_volume" not in measured:
        return lines + ["Per image at its own size; distances in pixels.", *means(measured, "image")]
    lines += [
        "Per axial slice at its own size, also those without body or lesion; distances in millimetres.",
        *means(measured, "slice"),
    ]
    return lines + ["", "The same per volume, in three dimensions:", *means(measured["per_volume"], "volume")]


def means(values: dict, unit: str) -> list[str]:
    """Return a table of means over all, and over those with a lesion, and what they count as."""
    rows = [f"| {label} | " + " | ".join(number(values[key + suffix]) for key in MEANS) + " |" for label, suffix in (
        (f"all {values['images']} {unit}s", ""), (f"the {values['lesions']} with a lesion", "_lesion"))]  # fmt: skip
    return [
        "",
        "| mean over | DSC | PPV | Sen | HD95 | ASSD |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
        (
            "Where truth and prediction are both empty, DSC, PPV and Sen count as 1 and the distances as 0; where one"
            f" is empty, as 0 and as the {unit}’s diagonal. Pooled over all pixels: DSC"
            f" {values['dsc_pooled']:.3f}, PPV {values['ppv_pooled']:.3f}, Sen {values['sen_pooled']:.3f}. False alarms"
            f" ({unit}s without lesion in which one is outlined): {number(values['false_alarms'])}."
        ),
    ]
