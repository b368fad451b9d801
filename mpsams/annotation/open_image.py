"""One image that a browser tab outlines: its mask as drawn so far, and where that is kept. No gradio here.

Axes: X, Y, Z voxels as stored; H x W pixels of a slice as shown.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from mpsams import inference
from mpsams.annotation import assist, log, masks
from mpsams.annotation.project import Item, Project, ConflictError
from mpsams.imaging import geometry
from mpsams.inference import Network
from mpsams.inference.case import Case
from mpsams.inference.propagation import SliceMask, propagate
from mpsams.inference.prompts import Prompt, PromptResult, segment_prompt

LOOKS = 6  # slices of an image that stay prepared for strokes


@dataclass(eq=False)
class OpenImage:
    """An image being outlined. Changed in place, by one desk, under its lock.

    token: its name in the keys of sheets, never used for another lineage of masks; the project's log has it too. case: as last seen on screen.
    mask_xyz: bool, all slices. proposal_xyz: what was proposed, None where each slice asks the network. sha256: of the
    mask's file that this one goes on from, "" for none. dirty: whether what is here is not kept yet. seconds: worked and
    not yet logged. request: the id of the wish being obeyed, for the log. drawn: the slices (plane, index) that a person drew on. lent: what was given away as the truth.
    history: what was done, as the log of a project has it, where there is no project.
    """

    token: str
    title: str
    case: Case
    network: Network | None
    mask_xyz: np.ndarray
    proposal_xyz: np.ndarray | None = None
    sha256: str = ""
    dirty: bool = False
    seconds: float = 0.0
    request: str = ""
    drawn: set[tuple[str, int]] = field(default_factory=set)
    lent: np.ndarray | None = None
    history: list[dict] = field(default_factory=list)
    looks: OrderedDict[tuple[str, int], assist.SliceContext] = field(default_factory=OrderedDict)
    scribbles: dict[tuple[str, int], tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    prompted: tuple[tuple[str, int], Prompt, np.ndarray] | None = None

    @property
    def item(self) -> str:
        """Its id in the project; "" for what is in none."""
        return self.case.item

    def is_current(self, item: Item) -> bool:
        """Whether the project still has it as it was opened or saved here."""
        return self.sha256 == (item.mask or "") and (self.proposal_xyz is not None or item.proposal is None or bool(self.drawn))

    @property
    def truth_xyz(self) -> np.ndarray | None:
        """The truth, unless that was drawn here."""
        return None if self.case.truth_xyz is self.lent else self.case.truth_xyz

    def seen(self, case: Case) -> None:
        """The case as it is on screen now; taken for another modality, it is looked at anew."""
        if case.modality != self.case.modality:
            self.looks.clear()
        self.case = case

    def mask(self, plane: str, index: int) -> np.ndarray:
        """A view of one slice, bool (H, W): writing to it draws."""
        return geometry.shown(self.mask_xyz, self.case.scan.affine, plane)[index]

    def look(self, plane: str, index: int) -> assist.SliceContext:
        """A slice as the network sees it, prepared once."""
        at = plane, index
        if at not in self.looks:
            self.looks[at] = assist.view(self.case.scan, self.case.span, plane, index, self.network)
        self.looks.move_to_end(at)
        while len(self.looks) > LOOKS:
            self.looks.popitem(last=False)
        return self.looks[at]

    def proposal(self, plane: str, index: int) -> np.ndarray | None:
        """What was proposed for a slice, bool (H, W); None where there is no network and no proposal."""
        if self.proposal_xyz is not None:
            return geometry.shown(self.proposal_xyz, self.case.scan.affine, plane)[index]
        return None if self.network is None else self.look(plane, index).proposal_hw

    def truth(self, plane: str, index: int) -> np.ndarray | None:
        """The truth of a slice, bool (H, W), or None."""
        return None if self.truth_xyz is None else geometry.shown(self.truth_xyz, self.case.scan.affine, plane)[index]

    def draw(self, plane: str, index: int, mask_hw: np.ndarray) -> None:
        """Put a person's mask of one slice in place of what was there."""
        self.drawn.add((plane, index))
        here_hw = self.mask(plane, index)
        if not np.array_equal(here_hw, mask_hw):
            self._note(plane, index, here_hw, mask_hw)
            here_hw[:] = mask_hw
            self.dirty = True

    def scribble(self, plane: str, index: int, strokes_hw: np.ndarray) -> np.ndarray:
        """The mask after all strokes so far, int8 (H, W).

        As long as strokes are only added, they act on what was drawn before the first of them.
        """
        at, now_hw = (plane, index), self.mask(plane, index)
        start_hw, earlier_hw, made_hw = self.scribbles.get(at, (now_hw, strokes_hw, now_hw))
        more = (strokes_hw[earlier_hw != 0] == earlier_hw[earlier_hw != 0]).all()
        start_hw = np.where(now_hw == made_hw, start_hw, now_hw) if more else now_hw.copy()
        made_hw = self.look(plane, index).scribbled(start_hw, strokes_hw)
        self.scribbles[at] = start_hw, strokes_hw, made_hw
        while len(self.scribbles) > LOOKS:
            del self.scribbles[next(iter(self.scribbles))]
        return made_hw

    def prompt(self, network: Network, plane: str, index: int, prompt: Prompt) -> PromptResult:
        """The object that a box and clicks mark on a slice. Clicks added to the last prompt there refine its answer."""
        before, at = self.prompted, (plane, index)
        if before is not None and before[0] == at and extends(prompt, before[1]):
            prompt = replace(prompt, mask=before[2])
        found = segment_prompt(network, self.look(plane, index).unit_hw, prompt)
        self.prompted = at, prompt, found.mask
        return found

    def carry(self, plane: str, index: int, step: int, count: int) -> tuple[int, bool]:
        """Carry a slice's mask on through so many slices; how many got one, and whether a drawn one stood in the way."""
        slices = len(self.case.scan.shown(plane))
        for done in range(count):
            here, there = index + step * done, index + step * (done + 1)
            if not 0 <= there < slices:
                return done, False
            if (plane, there) in self.drawn:
                return done, True
            mask_hw = assist.carried(self.look(plane, here), self.mask(plane, here), self.look(plane, there))
            self._note(plane, there, self.mask(plane, there), mask_hw)
            self.mask(plane, there)[:] = mask_hw
            self.dirty = True
            if not mask_hw.any():
                return done, False
        return count, False

    def propagate_all(self, network: Network, plane: str, index: int) -> list[SliceMask]:
        """Carry a slice's mask on both ways with the prompt network, until it is unsure or a slice was drawn on by hand.

        Returns the slices that got a mask, in order.
        """
        slices, start = len(self.case.scan.shown(plane)), SliceMask(index, self.mask(plane, index).copy(), 1.0)

        def free(indices: Iterable[int]) -> Iterator[int]:
            return itertools.takewhile(lambda there: (plane, there) not in self.drawn, indices)

        found: list[SliceMask] = []
        for indices in (range(index - 1, -1, -1), range(index + 1, slices)):
            found += propagate(network, lambda there: self.look(plane, there).unit_hw, start, free(indices))
        for each in found:
            self._note(plane, each.index, self.mask(plane, each.index), each.mask)
            self.mask(plane, each.index)[:] = each.mask
            self.dirty = True
        return sorted(found, key=lambda each: each.index)

    def keep(self, project: Project | None, who: str) -> str:
        """Bring what is drawn to the disk if it is not there; "disk", or "kept" where there is no project.

        ConflictError where the disk holds another mask than the one that this goes on from.
        """
        if not self.item:
            self.dirty = False
            return "kept"
        if self.dirty:
            item = project.save(self.item, self.mask_xyz, who, self.seconds, self.truth_xyz, self.sha256, **self._origin())
            self.sha256, self.dirty, self.seconds = item.mask or "", False, 0.0
        elif (project.item(self.item).mask or "") != self.sha256:
            raise ConflictError("someone else has saved this image meanwhile")
        return "disk"

    def accept(self, project: Project, who: str) -> None:
        """Accept what is drawn."""
        item = project.accept(self.item, self.mask_xyz, who, self.seconds, self.truth_xyz, self.sha256, **self._origin())
        self.sha256, self.dirty, self.seconds = item.mask or "", False, 0.0

    def _origin(self) -> dict[str, str]:
        """The sheet and the wish that a line of the log is about."""
        return {"sheet": self.token} | ({"request": self.request} if self.request else {})

    def as_truth(self) -> Case:
        """The case with a copy of what is drawn as its truth, measured."""
        self.lent = self.mask_xyz.copy()
        case = replace(self.case, truth_xyz=self.lent)
        self.case = replace(case, agreement=inference.agreement(case.study, case.truth_11ss))
        return self.case

    def _note(self, plane: str, index: int, before_hw: np.ndarray, after_hw: np.ndarray) -> None:
        """A line of the history; a project keeps its own."""
        if self.item:
            return
        added, removed = masks.changes(before_hw, after_hw)
        truth_hw = self.truth(plane, index)
        dsc = [None if truth_hw is None else masks.agreement(mask_hw, truth_hw) for mask_hw in (before_hw, after_hw)]
        row = {"time": log.now(), "plane": plane, "slice": index + 1, "seconds": round(self.seconds, 1), "pixels_added": added, "pixels_removed": removed}
        self.history.append(row | {"dsc_before": dsc[0], "dsc_after": dsc[1]})
        self.seconds = 0.0


def extends(prompt: Prompt, before: Prompt) -> bool:
    """True if a prompt is an earlier one with further clicks."""
    clicks = ((prompt.positive, before.positive), (prompt.negative, before.negative))
    return prompt.box == before.box and all(now[: len(earlier)] == earlier for now, earlier in clicks) and clicks[0][0] + clicks[1][0] != clicks[0][1] + clicks[1][1]
