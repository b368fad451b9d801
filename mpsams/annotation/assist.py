"""What a network offers for a slice that is being outlined: a proposal, and strokes or a neighbour's mask made into a mask. No gradio here.

Axes: H x W pixels of a slice; G the side of the working grid, which covers the part of the slice that networks look at.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from mpsams import inference, transforms
from mpsams.annotation import retraining, scribble
from mpsams.imaging import Scan
from mpsams.inference import Network
from mpsams.inference.case import SIDE, Span
from mpsams.inference.comparison import parts
from mpsams.inference.registry import ModelRegistry
from mpsams.transforms import Box

FIRST = "mps_ams"  # whose network proposes, where there is one
SURE = 0.5  # chance from which a pixel is proposed
GRID = (SIDE, SIDE)


def default_model(registry: ModelRegistry, modality: str) -> str | None:
    """The name of the network that proposes: the last that the project has learnt, else the assistant, else the usual one; None where there is none."""
    names = registry.segmenters(modality)
    usual = registry.assistant(modality) or next((name for name in names if parts(name)[1] == FIRST), next(iter(names), None))
    return max((name for name in names if retraining.number(name)), key=retraining.number, default=usual)


@dataclass(frozen=True)
class SliceContext:
    """A slice as a network sees it, with what does not depend on what is drawn. network: None goes without one."""

    unit_hw: np.ndarray
    box: Box | None
    network: Network | None

    @cached_property
    def chance_ss(self) -> np.ndarray:
        """The chance of lesion at the network's size; zeros without a network."""
        return np.zeros(GRID, np.float32) if self.network is None else inference.chance(self.network, self.unit_hw, self.box)

    @property
    def has_body(self) -> bool:
        """Whether there is more than air where the network looks."""
        return transforms.has_body(transforms.crop(self.unit_hw, self.box))

    @cached_property
    def ground(self) -> scribble.Ground:
        """The slice prepared for strokes, on the working grid."""
        features_kss = None if self.network is None else inference.features(self.network, self.unit_hw, self.box)
        return scribble.ground(self.unit_gg, scribble.brought(self.chance_ss[None], GRID)[0], features_kss)

    @cached_property
    def unit_gg(self) -> np.ndarray:
        """The slice on the working grid, in [0, 1]."""
        return inference.to_grid(transforms.crop(self.unit_hw, self.box), SIDE)[0, 0].numpy()

    @cached_property
    def proposal_hw(self) -> np.ndarray:
        """What the network would outline, bool; nothing without one."""
        rule = None if self.network is None else self.network.readout.rule
        return inference.lesion_mask(rule, self.spread(self.chance_ss), SURE, self.box)

    def spread(self, chance_gg: np.ndarray) -> np.ndarray:
        """A grid's chances at the slice's size, 0 outside the box."""
        return inference.spread(chance_gg, self.unit_hw.shape, self.box)

    def gridded(self, mask_hw: np.ndarray) -> np.ndarray:
        """A mask of the slice on the working grid, bool."""
        return transforms.resize_mask(transforms.crop(mask_hw, self.box), *GRID)[0, 0].numpy()

    def scribbled(self, drawn_hw: np.ndarray, strokes_hw: np.ndarray) -> np.ndarray:
        """The mask after strokes, bool. drawn_hw: before the first of them; an empty one leaves the first word to the network.

        Where the strokes change nothing, what was drawn stays to the pixel; where one lies, it is obeyed. As long as all are of
        one kind they only add to what was drawn, or only take from it: who marks lesion takes nothing away.
        """
        blank = not drawn_hw.any()
        of = self.ground if blank else scribble.standing(self.ground, self.gridded(drawn_hw))
        strokes_gg = scribble.to_grid(transforms.crop(strokes_hw, self.box), GRID)
        before_hw, after_hw = (self.spread(scribble.refine(of, these)) > SURE for these in (np.zeros_like(strokes_gg), strokes_gg))
        mask_hw = after_hw if blank else np.where(before_hw == after_hw, drawn_hw, after_hw)
        if not blank and not (strokes_hw == scribble.BACKGROUND).any():
            mask_hw = mask_hw | drawn_hw
        elif not blank and not (strokes_hw == scribble.LESION).any():
            mask_hw = mask_hw & drawn_hw
        return np.where(strokes_hw == scribble.NOTHING, mask_hw, strokes_hw == scribble.LESION)


def view(scan: Scan, span: Span, plane: str, index: int, network: Network | None) -> SliceContext:
    """A slice of a scan. span: the values that networks see as 0 and 1."""
    values_hw, spacing = scan.slice(index, plane), scan.spacing(plane)
    box = transforms.frame(values_hw, spacing and spacing[1:], scan.modality)
    return SliceContext(transforms.to_unit(values_hw, span), box, network)


def carried(before: SliceContext, mask_hw: np.ndarray, then: SliceContext) -> np.ndarray:
    """A slice's mask carried on to the next slice, bool; outside the part that networks look at it is copied."""
    before = replace(before, box=then.box)
    chance_gg = scribble.carry(before.unit_gg, before.gridded(mask_hw), then.unit_gg).astype(np.float32)
    inside_hw = then.spread(np.ones(GRID, np.float32)) > SURE
    return (then.spread(chance_gg) > SURE) | (mask_hw & ~inside_hw)
