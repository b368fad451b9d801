"""From a network's logits to calibrated probabilities and to masks that may be empty, fitted on validation images.

Axes: B batch, C channels, H x W pixels, K bins.

Over 250 lines because fitting, using and judging a calibration must agree on the same few definitions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

FOUND = ("flips_averaged", "calibration", "rule", "calibrated")  # what train.calibrate writes into a checkpoint
BINS = 10  # of a reliability table
FINEST = 4001  # bins of logits from -REACH to REACH that Platt's fit counts in
REACH = 40.0
CANDIDATES = 41  # areas, and peaks, among which a rule is sought
EIGHT = np.ones((3, 3), int)  # pixels that touch at a corner belong together


@dataclass(frozen=True)
class Rule:
    """Limits below which a connected part of a mask is removed; 0 switches one off.

    smallest_area: share of what the network looks at that it must cover. least_peak: probability that it must reach
    somewhere, at threshold 0.5; at another threshold it moves along in logits, so that a lower one shows parts that the
    rule removed.
    """

    smallest_area: float = 0.0
    least_peak: float = 0.0

    def peak_at(self, threshold: float) -> float:
        """Return the probability that a part must reach at a threshold in (0, 1)."""
        if not 0 < self.least_peak < 1:
            return self.least_peak
        return 1 / (1 + math.exp(-(logit(self.least_peak) + logit(threshold))))


@dataclass(frozen=True)
class Readout:
    """The way from logits to probabilities and masks, as stated by a checkpoint; by default logits are used unchanged.

    flips_averaged: the mean of the logits of an image and of its mirror image. slope, intercept: of Platt's
    calibration, applied to the logits. rule: None keeps every part of a mask.
    """

    flips_averaged: bool = False
    slope: float = 1.0
    intercept: float = 0.0
    rule: Rule | None = None

    def logits(self, network: torch.nn.Module, standard_bchw: Tensor) -> Tensor:
        """Return logits of standardised images, before calibration: (B, C, H, W) -> (B, 1, H, W)."""
        if not self.flips_averaged:
            return network(standard_bchw)
        both = network(torch.cat([standard_bchw, standard_bchw.flip(3)]).contiguous(memory_format=torch.channels_last))
        straight, mirrored = both.chunk(2)
        return (straight + mirrored.flip(3)) / 2

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return calibrated probabilities in [0, 1]."""
        return torch.sigmoid(
            logits if (self.slope, self.intercept) == (1.0, 0.0) else self.slope * logits + self.intercept
        )


def readout(metadata: Mapping) -> Readout:
    """Return the readout that a checkpoint's metadata state; the default one when they state none."""
    fitted, rule = metadata.get("calibration") or {}, metadata.get("rule")
    found = Rule(rule["smallest_area"], rule["least_peak"]) if rule else None
    return Readout(
        bool(metadata.get("flips_averaged", False)), fitted.get("slope", 1.0), fitted.get("intercept", 0.0), found
    )


def readout_metadata(metadata: Mapping) -> dict:
    """Return the readout's entries of a checkpoint's metadata, for a network that starts from it uncalibrated."""
    return {key: metadata[key] for key in FOUND if key in metadata}


def logit(probability: float) -> float:
    """Return log(p / (1 - p)) of a number in (0, 1)."""
    return math.log(probability / (1 - probability))


def threshold_mask(probability_hw: np.ndarray, threshold: float, rule: Rule | None, field_pixels: int) -> np.ndarray:
    """Return the pixels whose probability reaches the threshold, without the parts that the rule removes: bool (H, W).

    field_pixels: pixels of the field that the network sees, of which ``Rule.smallest_area`` is a share.
    """
    mask_hw = probability_hw >= threshold
    if rule is None or not mask_hw.any():
        return mask_hw
    labels_hw, areas, peaks = parts(mask_hw, probability_hw)
    kept = (areas >= rule.smallest_area * field_pixels) & (peaks >= rule.peak_at(threshold))
    return np.concatenate([[False], kept])[labels_hw]


def parts(mask_hw: np.ndarray, probability_hw: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number the connected parts of a mask from 1 in (H, W); return them, and the pixels and peak of each."""
    from scipy import ndimage

    labels_hw, count = ndimage.label(mask_hw, EIGHT)
    areas = np.bincount(labels_hw.ravel(), minlength=count + 1)[1:]
    return labels_hw, areas, np.asarray(ndimage.maximum(probability_hw, labels_hw, np.arange(1, count + 1)))


class Reliability:
    """Counts pixels by the probability they were given, to compare it with the share that is lesion."""

    def __init__(self) -> None:
        self.pixels_k, self.lesion_k, self.probabilities_k = (np.zeros(BINS) for _ in range(3))

    def add(self, probability: np.ndarray, truth: np.ndarray) -> None:
        """Count pixels: probabilities in [0, 1] and bool, of one shape."""
        places = np.minimum((probability.ravel() * BINS).astype(int), BINS - 1)
        for counts, values in (
            (self.pixels_k, None),
            (self.lesion_k, truth.ravel()),
            (self.probabilities_k, probability.ravel()),
        ):
            counts += np.bincount(places, values, BINS)

    def table(self) -> dict:
        """Return the expected calibration error of all pixels ("ece"), without the lowest bin ("ece_above"), and bins.

        Of each bin: from, to, pixels, mean probability and share of lesion (None where it is empty). Errors are None
        without a pixel.
        """
        rows = zip(range(BINS), self.pixels_k, self.probabilities_k, self.lesion_k, strict=True)
        bins = [
            {
                "from": k / BINS,
                "to": (k + 1) / BINS,
                "pixels": int(n),
                "probability": p / n if n else None,
                "lesion": real / n if n else None,
            }
            for k, n, p, real in rows
        ]
        gaps_k = np.abs(self.probabilities_k - self.lesion_k)
        error, above = (
            float(gaps_k[first:].sum() / self.pixels_k[first:].sum()) if self.pixels_k[first:].any() else None
            for first in (0, 1)
        )
        return {"ece": error, "ece_above": above, "bins": bins}


def tally(logits: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Count pixels and lesion pixels by logit, float64 (2, FINEST), for ``platt``; add those of all images."""
    places = np.clip(np.rint((logits.ravel() + REACH) * (FINEST - 1) / (2 * REACH)), 0, FINEST - 1).astype(int)
    return np.stack([np.bincount(places, minlength=FINEST), np.bincount(places, truth.ravel(), FINEST)]).astype(float)


def platt(counts_2k: np.ndarray, intercept: bool = True) -> tuple[float, float]:
    """Fit slope and intercept of the logistic regression of truth on logit (Platt 1999) by Newton's method.

    counts_2k: of ``tally``. intercept: False fits the slope alone, one over the temperature of Guo et al. (ICML 2017).
    ValueError unless there are both lesion and background, and the probability rises with the logit.
    """
    total_k, lesion_k = counts_2k
    real, rest = lesion_k.sum(), total_k.sum() - lesion_k.sum()
    if not (real and rest):
        raise ValueError("the validation images show no lesion or nothing but lesion; a calibration needs both")
    high, low = (real + 1) / (real + 2), 1 / (rest + 2)
    wanted_k = high * lesion_k + low * (total_k - lesion_k)
    x_k = np.stack([np.linspace(-REACH, REACH, FINEST), np.ones(FINEST)])[: 2 if intercept else 1]
    w = np.array([1.0, 0.0])[: len(x_k)]

    def cost(w: np.ndarray) -> float:
        z_k = w @ x_k
        return float((total_k * np.logaddexp(0, z_k) - wanted_k * z_k).sum())

    for _ in range(100):
        p_k = 0.5 * (1 + np.tanh(w @ x_k / 2))
        gradient = x_k @ (total_k * p_k - wanted_k)
        step = np.linalg.solve((x_k * (total_k * p_k * (1 - p_k) + 1e-9)) @ x_k.T, gradient)
        scale, before = 1.0, cost(w)
        while cost(w - scale * step) > before and scale > 1e-6:
            scale /= 2
        w = w - scale * step
        if np.abs(scale * step).max() < 1e-7:
            break
    slope, shift = float(w[0]), float(w[1]) if intercept else 0.0
    if not slope > 0:
        raise ValueError(
            "on the validation images lesions are no more likely where the network predicts them; it has learnt nothing"
            " to be calibrated"
        )
    return slope, shift


@dataclass(frozen=True)
class Outcomes:
    """Masks of N images compared with their truth, in P connected parts.

    truth_n: lesion pixels of each image. Of each part: image_p, its image; areas_p, share of the image's area; peaks_p,
    highest probability; pixels_p, its pixels; hits_p, those that are lesion.
    """

    truth_n: np.ndarray
    image_p: np.ndarray
    areas_p: np.ndarray
    peaks_p: np.ndarray
    pixels_p: np.ndarray
    hits_p: np.ndarray


def outcomes(
    probabilities_nhw: Iterable[np.ndarray], truths_nhw: Iterable[np.ndarray], threshold: float = 0.5
) -> Outcomes:
    """Compare the masks of images at a threshold, part by part, with their truth."""
    real, rows = [], []
    for number, (probability_hw, truth_hw) in enumerate(zip(probabilities_nhw, truths_nhw, strict=True)):
        labels_hw, areas, peaks = parts(probability_hw >= threshold, probability_hw)
        hits = np.bincount(labels_hw[truth_hw], minlength=len(areas) + 1)[1:]
        real.append(int(truth_hw.sum()))
        rows.append(np.stack([np.full(len(areas), number), areas / probability_hw.size, peaks, areas, hits]))
    image_p, *columns = np.concatenate(rows, axis=1)
    return Outcomes(np.array(real), image_p.astype(int), *columns)


def score_rule(found: Outcomes, rule: Rule) -> dict[str, float]:
    """Return the mean DSC of the images with lesion ("dsc_lesion") and the share of the others that get one
    ("false_alarms") under a rule; NaN of none.
    """
    kept_p = (found.areas_p >= rule.smallest_area) & (found.peaks_p >= rule.least_peak)
    predicted_n, hits_n = (
        np.bincount(found.image_p[kept_p], values_p[kept_p], len(found.truth_n))
        for values_p in (found.pixels_p, found.hits_p)
    )
    lesion_n = found.truth_n > 0
    dsc, alarms = 2 * hits_n[lesion_n] / (predicted_n + found.truth_n)[lesion_n], predicted_n[~lesion_n] > 0
    return {
        "dsc_lesion": float(dsc.mean()) if len(dsc) else math.nan,
        "false_alarms": float(alarms.mean()) if len(alarms) else math.nan,
    }


def find_rule(found: Outcomes, most_alarms: float) -> tuple[Rule, bool]:
    """Return the rule of the highest DSC on lesions among those with no more than this share of false alarms, and True
    if there is one.

    Areas and peaks are sought among those of the parts. Of equals the mildest. When none has so few false alarms, the
    one with fewest. ValueError when no image has a lesion.
    """
    if not found.truth_n.any():
        raise ValueError("the validation images show no lesion; a rule for when there is none needs some")

    def candidates(values_p: np.ndarray) -> list[float]:
        return (
            [0.0, *np.unique(np.quantile(values_p, np.linspace(0, 1, CANDIDATES)[1:-1])).tolist()]
            if len(values_p)
            else [0.0]
        )

    def order(judged: tuple[Rule, dict[str, float]]) -> tuple:
        rule, values = judged
        alarms = 0.0 if math.isnan(values["false_alarms"]) else values["false_alarms"]
        within_limit = alarms <= most_alarms
        return (
            within_limit,
            0.0 if within_limit else -alarms,
            values["dsc_lesion"],
            -rule.least_peak,
            -rule.smallest_area,
        )

    rules = [Rule(area, peak) for area in candidates(found.areas_p) for peak in candidates(found.peaks_p)]
    best = max(((rule, score_rule(found, rule)) for rule in rules), key=order)
    return best[0], order(best)[0]


def describe(rule: Rule) -> str:
    """Describe a rule: "parts are kept that …"."""
    conditions = [
        *([f"cover at least {100 * rule.smallest_area:.2g}% of the image"] if rule.smallest_area else []),
        *([f"have a peak probability of at least {100 * rule.least_peak:.3g}%"] if rule.least_peak else []),
    ]
    return f"connected parts are kept that {' and '.join(conditions)}" if conditions else "all connected parts are kept"
