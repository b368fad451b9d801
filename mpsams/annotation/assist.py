"""Help of a network for a slice that is annotated: a proposal, and masks made of strokes or of a neighbouring slice's
mask.

Axes: H x W pixels of a slice; G the side of the working grid, which covers the part of the slice that networks look at.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from mpsams import inference, transforms
from mpsams.annotation import adoption, propagation, scribble
from mpsams.imaging import Scan
from mpsams.inference import Network, shared
from mpsams.inference.case import SIDE, Span
from mpsams.inference.network_names import parse_name
from mpsams.inference.registry import ModelRegistry
from mpsams.transforms import Box

PREFERRED_METHOD = "mps_ams"  # whose network proposes, if there is one
THRESHOLD = 0.5  # probability from which a pixel is proposed
GRID = (SIDE, SIDE)


def default_model(registry: ModelRegistry, modality: str) -> str | None:
    """Return the name of the network that proposes: the last retrained one, else the assistant, else the usual one."""
    names = registry.segmenters(modality)
    usual = registry.assistant(modality) or next(
        (name for name in names if parse_name(name)[1] == PREFERRED_METHOD), next(iter(names), None)
    )
    return max((name for name in names if adoption.number(name)), key=adoption.number, default=usual)


@dataclass(frozen=True)
class SliceContext:
    """A slice prepared for a network; nothing in it depends on what is drawn.

    box: the part that networks look at. network: may be None. is_shared: whether its probabilities are kept for all
    visitors.
    """

    unit_hw: np.ndarray
    box: Box | None
    network: Network | None
    is_shared: bool = True

    @cached_property
    def probability_ss(self) -> np.ndarray:
        """Probability of lesion at the network's size; zeros without a network."""
        if self.network is None:
            return np.zeros(GRID, np.float32)
        return (shared if self.is_shared else inference).grid_probability(self.network, self.unit_hw, self.box)

    @property
    def has_body(self) -> bool:
        """True if there is more than air where the network looks."""
        return transforms.has_body(transforms.crop(self.unit_hw, self.box))

    @cached_property
    def prepared(self) -> scribble.PreparedImage:
        """The slice prepared for strokes, on the working grid."""
        features_kss = None if self.network is None else inference.features(self.network, self.unit_hw, self.box)
        return scribble.prepare(self.unit_gg, scribble.resample(self.probability_ss[None], GRID)[0], features_kss)

    @cached_property
    def unit_gg(self) -> np.ndarray:
        """The slice on the working grid, in [0, 1]."""
        return inference.to_grid(transforms.crop(self.unit_hw, self.box), SIDE)[0, 0].numpy()

    @cached_property
    def proposal_hw(self) -> np.ndarray:
        """The mask that the network proposes, bool; empty without a network."""
        rule = None if self.network is None else self.network.readout.rule
        return inference.lesion_mask(rule, self.from_grid(self.probability_ss), THRESHOLD, self.box)

    def from_grid(self, probability_gg: np.ndarray) -> np.ndarray:
        """Return probabilities of a grid at the slice's size, 0 outside the box."""
        return inference.to_image(probability_gg, self.unit_hw.shape, self.box)

    def to_grid(self, mask_hw: np.ndarray) -> np.ndarray:
        """Return a mask of the slice on the working grid, bool."""
        return transforms.resize_mask(transforms.crop(mask_hw, self.box), *GRID)[0, 0].numpy()

    def apply_scribbles(self, mask_hw: np.ndarray, strokes_hw: np.ndarray) -> np.ndarray:
        """Return the mask after strokes, bool.

        mask_hw: from before the first of them; if empty, the proposal takes its place.

        The mask changes only where the strokes change the result, and is as marked where a stroke lies. While all
        strokes are of one kind they only add to the mask, or only remove from it.
        """
        is_empty = not mask_hw.any()
        prepared = self.prepared if is_empty else scribble.with_prior_mask(self.prepared, self.to_grid(mask_hw))
        strokes_gg = scribble.to_grid(transforms.crop(strokes_hw, self.box), GRID)
        before_hw, after_hw = (
            self.from_grid(scribble.refine(prepared, these)) > THRESHOLD
            for these in (np.zeros_like(strokes_gg), strokes_gg)
        )
        result_hw = after_hw if is_empty else np.where(before_hw == after_hw, mask_hw, after_hw)
        if not is_empty and not (strokes_hw == scribble.BACKGROUND).any():
            result_hw = result_hw | mask_hw
        elif not is_empty and not (strokes_hw == scribble.LESION).any():
            result_hw = result_hw & mask_hw
        return np.where(strokes_hw == scribble.NOTHING, result_hw, strokes_hw == scribble.LESION)


def slice_context(
    scan: Scan, span: Span, plane: str, index: int, network: Network | None, is_shared: bool = True
) -> SliceContext:
    """Return a slice of a scan prepared for a network. span: its values 0 and 1. is_shared: see ``SliceContext``."""
    values_hw, spacing = scan.slice(index, plane), scan.spacing(plane)
    box = transforms.frame(values_hw, spacing and spacing[1:], scan.modality)
    return SliceContext(transforms.to_unit(values_hw, span), box, network, is_shared)


def propagate(before: SliceContext, mask_hw: np.ndarray, after: SliceContext) -> np.ndarray:
    """Return a slice's mask propagated to the next slice, bool; outside the part that networks look at it is copied."""
    before = replace(before, box=after.box)
    mask_gg = propagation.propagate_slice(before.unit_gg, before.to_grid(mask_hw), after.unit_gg).astype(np.float32)
    inside_hw = after.from_grid(np.ones(GRID, np.float32)) > THRESHOLD
    return (after.from_grid(mask_gg) > THRESHOLD) | (mask_hw & ~inside_hw)
