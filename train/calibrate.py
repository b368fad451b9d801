"""Calibrate a segmentation on its validation part: average flips, believable probabilities, and a rule for "no lesion
here".

What is found is written into the checkpoint, and whatever uses it follows: the app, its proposals, train.evaluate,
train.export.

  flips          the mean over an image and its mirror image
  calibration    Platt's: slope and intercept of the logits, so that of the pixels at 70% about 70% are lesion
  rule           connected parts of a mask that are too small, or nowhere likely enough, are left out: those for which
                 lesions are outlined best while no more than --false_alarms of the validation images without lesion get
                 one

The validation part is seen as in training, so a pack serves as well as the folder it was made from.

  python -m train.calibrate --weights runs/busi-assist/weights.safetensors --data.root packs/busi-192
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from mpsams import calibration, checkpoint, inference, jsonl, splits, transforms
from mpsams.calibration import Outcomes, Readout, Reliability, Rule
from mpsams.checkpoint import Checkpoint
from mpsams.datasets import Stack
from mpsams.inference import Network
from train import memory, options
from train.command_line import check_replace, parse, run
from train.options import Data, one_of

KINDS = ("platt", "temperature", "none")
CHUNK = 16  # images that go through the network at once


@dataclass(frozen=True)
class Where:
    """The images to calibrate on.

    Args:
        root: folder of the data set that the checkpoint was trained on, or a pack of it.
    """

    root: str | None = None


@dataclass(frozen=True)
class Calibrate:
    """Options of a calibration.

    Args:
        weights: a segmentation checkpoint, into which the result is written.
        false_alarms: share of the validation images without lesion that may get one.
        calibration: platt (slope and intercept), temperature (slope alone, which leaves masks at threshold 0.5 as they
            are) or none.
        flips_averaged: look at each image and its mirror image, which takes twice as long.
        rule: look for a rule; false keeps every part of a mask.
        out: another file to write to.
        overwrite: replace that file if it exists.
    """

    weights: str
    data: Where = Where()
    false_alarms: float = 0.1
    calibration: str = "platt"
    flips_averaged: bool = True
    rule: bool = True
    out: str | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        one_of("calibration", self.calibration, KINDS)
        if not 0 <= self.false_alarms <= 1:
            raise ValueError(f"false_alarms {self.false_alarms} must lie in [0, 1]: it is a share, 0.1 for 10%")


def main(argv: Sequence[str] | None = None) -> dict:
    """Parse the options, fit, write and print; return what was written into the metadata."""
    chosen = parse(Calibrate, "train.calibrate", argv)
    memory.keep_freed()
    if chosen.out:
        check_replace(Path(chosen.out), chosen.overwrite)
    found = checkpoint.load(chosen.weights)
    if found.metadata.get("kind") != "segmentation":
        raise ValueError(f"{chosen.weights} is a {found.metadata.get('kind')} checkpoint; expected a segmentation")
    plain = {key: value for key, value in found.metadata.items() if key not in calibration.FOUND} | {
        "flips_averaged": chosen.flips_averaged
    }
    network = inference.build_network(Checkpoint(found.tensors, plain, found.sha256), "float32")  # as train.evaluate
    val = validation(found.metadata, chosen.data.root)
    logits_nss, truth_nss = predict_logits(network, val)
    fitted = fit(logits_nss, truth_nss, chosen.calibration)
    read = replace(network.readout, slope=fitted["slope"], intercept=fitted["intercept"])
    judged = outcomes(read, logits_nss, truth_nss)
    rule = choose(judged, chosen.false_alarms) if chosen.rule else None
    origin = found.metadata.get("calibrated", {}).get("from", found.sha256)
    fields = {"flips_averaged": chosen.flips_averaged, "calibration": fitted, "rule": rule}
    fields["calibrated"] = {"from": origin, "part": "val", "images": len(val), "sha256": val.sha256}
    images = (
        transforms.standardise(val.take(indices)[0].double() / 255).float()
        for indices in torch.arange(len(val)).split(CHUNK)
    )
    # calibration moves the masks' edges, so it is measured again
    agreement = inference.agreement_in_bfloat16(network.unet, images, read)
    out = Path(chosen.out or chosen.weights)
    checkpoint.save(out, found.tensors, plain | fields | {"bfloat16_dsc": agreement})
    print(report(fields, outcomes(network.readout, logits_nss, truth_nss), judged))
    print(f"wrote {out}")
    return fields


def validation(metadata: dict, root: str | None) -> Stack:
    """Return the validation part of a checkpoint's data set as the training saw it. ValueError when it has none."""
    config, split = metadata["config"]["data"], splits.restore(metadata["split"])
    known = {key: config[key] for key in ("name", "size", "slice_stride", "modality") if key in config}
    stack = options.read(
        Data(**known, root=root, sequences=tuple(config.get("sequences", ()))),
        partial(tqdm, desc="reading", unit="img"),
    )
    if not split.val:
        raise ValueError("the checkpoint was trained without a validation part, so there is nothing to calibrate it on")
    if not stack.target:
        raise ValueError(f"{stack.name!r} at {root} has no masks to calibrate against")
    return stack.of(split.val, config.get("slice_stride", 1))


def predict_logits(network: Network, val: Stack) -> tuple[np.ndarray, np.ndarray]:
    """Return logits of images before calibration, float32 (N, S, S), and their truth, bool (N, S, S)."""
    logits, truth = [], []
    for indices in tqdm(torch.arange(len(val)).split(CHUNK), desc="looking", unit="batch"):
        images_bchw, masks_b1hw = val.take(indices)
        logits.append(inference.logits(network, images_bchw.float() / 255)[:, 0].numpy())
        truth.append(masks_b1hw[:, 0].numpy())
    return np.concatenate(logits), np.concatenate(truth)


def fit(logits_nss: np.ndarray, truth_nss: np.ndarray, kind: str) -> dict:
    """Fit slope and intercept; return them with the reliability of the probabilities before and after."""
    counts_2k = sum(
        calibration.tally(logits_ss, truth_ss) for logits_ss, truth_ss in zip(logits_nss, truth_nss, strict=True)
    )
    slope, intercept = (1.0, 0.0) if kind == "none" else calibration.platt(counts_2k, kind == "platt")  # type: ignore[arg-type]
    before, after = (
        reliability(Readout(slope=a, intercept=b), logits_nss, truth_nss) for a, b in ((1.0, 0.0), (slope, intercept))
    )
    return {"kind": kind, "slope": slope, "intercept": intercept, "before": before, "after": after}


def reliability(read: Readout, logits_nss: np.ndarray, truth_nss: np.ndarray) -> dict:
    """Return ``Reliability.table`` over all pixels of the images."""
    counted = Reliability()
    for logits_ss, truth_ss in zip(logits_nss, truth_nss, strict=True):
        counted.add(probabilities(read, logits_ss), truth_ss)
    return counted.table()


def probabilities(read: Readout, logits_ss: np.ndarray) -> np.ndarray:
    """Return calibrated probabilities of an image, float32."""
    return read.probabilities(torch.from_numpy(logits_ss)).numpy()


def outcomes(read: Readout, logits_nss: np.ndarray, truth_nss: np.ndarray) -> Outcomes:
    """Return ``calibration.outcomes`` of the calibrated probabilities."""
    return calibration.outcomes((probabilities(read, logits_ss) for logits_ss in logits_nss), truth_nss)


def choose(judged: Outcomes, most_alarms: float) -> dict:
    """Choose the rule; return it and its results on the validation part, as metadata."""
    rule, within_limit = calibration.find_rule(judged, most_alarms)
    about = {
        "smallest_area": rule.smallest_area,
        "least_peak": rule.least_peak,
        "most_false_alarms": most_alarms,
        "quiet_enough": within_limit,
    }
    about |= {"lesions": int((judged.truth_n > 0).sum()), "without": int((judged.truth_n == 0).sum())}
    return about | {
        when: jsonl.nan_to_none(calibration.score_rule(judged, each))
        for when, each in (("before", Rule()), ("after", rule))
    }


def report(fields: dict, plain: Outcomes, judged: Outcomes) -> str:
    """Report the calibration and the rule, in lines."""
    fitted, rule = fields["calibration"], fields["rule"]
    lines = [f"calibration {fitted['kind']}: slope {fitted['slope']:.4f}, intercept {fitted['intercept']:.4f}"]
    lines += [
        f"  expected calibration error {when}: {json.dumps({key: fitted[when][key] for key in ('ece', 'ece_above')})}"
        for when in ("before", "after")
    ]
    steps = [
        (name, jsonl.nan_to_none(calibration.score_rule(each, Rule())))
        for name, each in (("as trained", plain), ("calibrated", judged))
    ]
    if rule:
        lines.append(f"rule: {calibration.describe(Rule(rule['smallest_area'], rule['least_peak']))}")
        if not rule["quiet_enough"]:
            lines.append(f"  no rule has at most {rule['most_false_alarms']:.0%} false alarms; this one has the fewest")
        steps.append(("with the rule", rule["after"]))
    return "\n".join([*lines, *(f"  {name}: {json.dumps(values)}" for name, values in steps)])


if __name__ == "__main__":
    run(main, "train.calibrate")
