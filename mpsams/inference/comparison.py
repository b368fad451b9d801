"""Several segmentation networks on one slice: their masks, their scores against the truth, where they agree.

No gradio here.

Axes: M networks; H x W pixels of the slice; probabilities at a network's own size, S x S. Masks: True = lesion.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from mpsams import calibration
from mpsams.calibration import Rule
from mpsams.inference import shared
from mpsams.inference.case import Case
from mpsams.inference.network_names import ASSIST, is_assistant, parse_name, titles_of
from mpsams.inference.registry import ModelRegistry
from mpsams.inference.slice_scores import defined, overlap, slice_lesion
from mpsams.plots import images

DEFAULT_THRESHOLD = 0.5
FIRST = "mps_ams"  # whose outline is large at first


@dataclass(frozen=True)
class SlicePredictions:
    """The predictions of networks for a slice, before any threshold.

    probabilities: by network, in the paper's order, float32 (S, S) in [0, 1]. rules: of the networks that have one.
    shown: what is large on the page: a network, "truth" or "dispute"; "" for nothing. waiting: how many networks are
    still to be asked. maps: heat maps drawn so far. parts: of a data set that the image was in when each network was
    trained, keys of ``membership.MEANING``.
    """

    case: Case
    probabilities: dict[str, np.ndarray]
    shown: str = ""
    waiting: int = 0
    maps: dict[str, str] = field(default_factory=dict)
    rules: dict[str, Rule | None] = field(default_factory=dict)
    parts: dict[str, str] = field(default_factory=dict)

    def __deepcopy__(self, memo: dict) -> SlicePredictions:
        return self  # never changed but for the maps, which are the same for all, so sessions may share it

    @cached_property
    def titles(self) -> dict[str, str]:
        """The networks in order, with titles for people."""
        return titles_of(self.probabilities)

    @property
    def pictures(self) -> list[str]:
        """Names of the pictures that can be shown large; empty before the first prediction."""
        truth = ["truth"] * (self.case.truth_hw is not None and bool(self.probabilities))
        first = [name for name in self.probabilities if is_assistant(name)]
        return [
            *first,
            *truth,
            *["dispute"] * (len(self.peers) > 1),
            *(name for name in self.probabilities if name not in first),
        ]

    @property
    def peers(self) -> list[str]:
        """The networks that are compared with each other: all but the assistant, which learnt from more labels; it
        alone where there is no other.
        """
        return [name for name in self.probabilities if not is_assistant(name)] or list(self.probabilities)

    def map(self, name: str) -> str:
        """Return a network's probabilities as a heat map, a PNG as data URI."""
        if name not in self.maps:
            self.maps[name] = shared.picture("probability", self.probabilities[name], images.heat_uri)
        return self.maps[name]


def predict_slice(
    case: Case, names: Sequence[str], registry: ModelRegistry, before: SlicePredictions | None = None
) -> Iterator[SlicePredictions]:
    """Predict a slice with each network, the one shown large first; yields the predictions so far after each of them.

    Predictions of the same slice in ``before`` are used again. Without networks it yields one empty answer.
    """
    names = list(titles_of(names))
    again = before is not None and same_slice(before.case, case)
    known = {name: before.probabilities[name] for name in names if name in before.probabilities} if again else {}  # type: ignore[union-attr]
    maps = before.maps if again else {}  # type: ignore[union-attr]
    preferred = before.shown if before is not None else ""
    usual = next(
        (name for first in (ASSIST, FIRST) for name in names if parse_name(name)[1] == first), next(iter(names), "")
    )
    unit_hw = case.unit_hw
    rules = {name: calibration.readout(registry.metadata(name)).rule for name in names}
    seen_in = {name: registry.membership(name, case.scan.content_sha256) for name in names}
    missing = sorted(
        (name for name in names if name not in known),
        key=lambda name: name != (preferred if preferred in names else usual),
    )
    for count in range(len(missing) + 1):
        if count:
            known[missing[count - 1]] = shared.grid_probability(registry.network(missing[count - 1]), unit_hw, case.box)
        if known or not names:
            predictions = SlicePredictions(
                case,
                {name: known[name] for name in names if name in known},
                preferred,
                len(missing) - count,
                maps,
                rules,
                seen_in,
            )
            yield (
                predictions
                if preferred in predictions.pictures
                else replace(predictions, shown=usual if usual in known else next(iter(known), ""))
            )


def needed_results(
    case: Case, names: Sequence[str], registry: ModelRegistry, before: SlicePredictions | None = None
) -> tuple:
    """Return the keys of the shared results that ``predict_slice`` has to ask networks for."""
    known = before.probabilities if before is not None and same_slice(before.case, case) else {}
    return shared.probability_keys(
        [registry.network(name) for name in names if name not in known], case.unit_hw, case.box
    )


def same_slice(one: Case, other: Case) -> bool:
    """Return True if networks see the same slice in both cases."""
    return one.scan is other.scan and (one.plane, one.index, one.span, one.box) == (
        other.plane,
        other.index,
        other.span,
        other.box,
    )


@dataclass(frozen=True)
class Thresholds:
    """The thresholds set for the networks on one image; none is set for another image. own: by network, in (0, 1)."""

    image: str = ""
    own: Mapping[str, float] = field(default_factory=dict)

    def on(self, case: Case) -> Mapping[str, float]:
        """Return the thresholds that were set on the image of a case."""
        return self.own if self.image == image_key(case) else {}

    def change(self, case: Case, names: Iterable[str], threshold: float) -> Thresholds:
        """Return thresholds with another one for some networks. ValueError unless it lies between 0 and 1."""
        if not 0 < threshold < 1:
            raise ValueError(f"threshold {threshold} must lie between 0 and 1")
        return Thresholds(image_key(case), {**self.on(case), **dict.fromkeys(names, threshold)})


def image_key(case: Case) -> str:
    """Return a text that changes with the image and its modality, but not with the slice or what is displayed of it."""
    return f"{case.title} {case.modality} {case.content or id(case.scan.voxels_xyz)}"


@dataclass(frozen=True)
class SliceComparison:
    """The masks of the networks at their thresholds, compared. threshold: of those that have none of their own."""

    predictions: SlicePredictions
    threshold: float = DEFAULT_THRESHOLD
    own: Mapping[str, float] = field(default_factory=dict)

    def threshold_of(self, name: str) -> float:
        """Return the probability from which a network's pixel is lesion."""
        return self.own.get(name, self.threshold)

    @property
    def case(self) -> Case:
        """The case whose slice is compared."""
        return self.predictions.case

    @cached_property
    def masks(self) -> dict[str, np.ndarray]:
        """Bool (H, W) at the slice's size by network: ``inference.lesion_mask``."""
        rules = self.predictions.rules
        return {
            name: slice_lesion(self.case, probability_ss, self.threshold_of(name), rules.get(name))
            for name, probability_ss in self.predictions.probabilities.items()
        }

    @cached_property
    def peers(self) -> dict[str, np.ndarray]:
        """The masks of ``SlicePredictions.peers``."""
        return {name: self.masks[name] for name in self.predictions.peers}

    @cached_property
    def votes_hw(self) -> np.ndarray:
        """Number of compared networks that call a pixel lesion, uint8 (H, W)."""
        return sum(
            (mask_hw.astype(np.uint8) for mask_hw in self.peers.values()), np.zeros(self.case.shape_hw, np.uint8)
        )

    @cached_property
    def packed(self) -> dict[str, np.ndarray]:
        """The masks as bits, eight pixels a byte, to be counted fast."""
        return {name: np.packbits(mask_hw) for name, mask_hw in self.masks.items()}

    @cached_property
    def scores(self) -> dict[str, dict[str, float]]:
        """DSC, PPV and Sen by network; NaN for PPV of an empty mask and Sen of an empty truth; {} without a truth."""
        truth_hw = self.case.truth_hw
        return (
            {}
            if truth_hw is None
            else {
                name: defined(overlap(mask, np.packbits(truth_hw)), mask, truth_hw)
                for name, mask in self.packed.items()
            }
        )

    @cached_property
    def mean_agreement(self) -> float:
        """Mean DSC between two of the networks that are compared over all pairs, in [0, 1]; NaN when there is no pair.

        Two that say nothing agree: 1.
        """
        pairs = [
            overlap(self.packed[one], self.packed[other])["dsc"]
            for one, other in itertools.combinations(self.predictions.peers, 2)
        ]
        return float(np.mean(pairs)) if pairs else float("nan")


def disagreement(votes_hw: np.ndarray, count: int) -> np.ndarray:
    """Return 4 p (1 - p) for p = votes / count, float32 (H, W): 0 where all agree, 1 where half say lesion."""
    share_hw = votes_hw.astype(np.float32) / max(count, 1)
    return 4 * share_hw * (1 - share_hw)
