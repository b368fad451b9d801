"""An image that is being annotated: its mask as drawn so far, and how it is saved.

Over 250 lines because drawing, undo and saving all change one mask and what is known of it.

Axes: X, Y, Z voxels as stored; H x W pixels of a slice as shown.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mpsams.annotation import assist, label_maps, log, masks
from mpsams.annotation.project import ConflictError, Item, Project
from mpsams.annotation.structures import Structure
from mpsams.imaging import geometry
from mpsams.inference import Network
from mpsams.inference.case import Case, TruthMap, measure_agreement
from mpsams.inference.prompts import Prompt, PromptResult, segment_prompt
from mpsams.inference.propagation import SliceMask, propagate

CACHED_SLICES = 6  # slices of an image that stay prepared for strokes


@dataclass(eq=False)
class VolumePropagation:
    """A structure that is being propagated through a volume, some slices at a time.

    rest: the masks to come, each found when it is asked for. found: the slices that got one.
    """

    structure: int
    rest: Iterator[SliceMask]
    found: list[SliceMask] = field(default_factory=list)
    is_finished: bool = False


@dataclass(eq=False)
class OpenImage:
    """An image that is being annotated. Changed in place by one session, under its lock.

    token: its name in the keys of its slices, never used for another image or mask; the project's log has it too. case:
    as last seen on screen. mask_xyz: label map, all slices. proposal_xyz: the proposed mask; None if each slice asks
    the network. network_structure: returns the label of the structure that the network proposes, which may change.
    sha256: of the mask's file that this one was made from, "" for none. is_dirty: True if the mask is not saved yet.
    seconds: worked and not yet logged. command_id: of the command being handled, for the log. edited: the slices
    (plane, index, label of the structure) that a person drew on. filled: those that a command on several slices filled
    since, and nobody drew on. truth_copy: the mask that was given away as the truth. history: what was done, as lines
    of a project's log, for an image without a project. last_change: of the last command on several slices, its plane
    and, by slice, the mask before and after it as bits. propagation: through the volume, as far as it has come; None
    where another command on several slices came after it. voxels: of each label on all slices, int64 (256,); None until
    they are asked for.
    """

    token: str
    title: str
    case: Case
    network: Network | None
    network_structure: Callable[[], int]
    mask_xyz: np.ndarray
    proposal_xyz: np.ndarray | None = None
    sha256: str = ""
    is_dirty: bool = False
    seconds: float = 0.0
    command_id: str = ""
    edited: set[tuple[str, int, int]] = field(default_factory=set)
    filled: set[tuple[str, int, int]] = field(default_factory=set)
    truth_copy: np.ndarray | None = None
    history: list[dict] = field(default_factory=list)
    contexts: OrderedDict[tuple[str, int], assist.SliceContext] = field(default_factory=OrderedDict)
    scribbles: dict[tuple[str, int, int], tuple[np.ndarray, ...]] = field(default_factory=dict)
    last_prompt: tuple[tuple[str, int, int], Prompt, np.ndarray] | None = None
    last_change: tuple[str, dict[int, tuple[np.ndarray, np.ndarray]]] = ("axial", {})
    propagation: VolumePropagation | None = None
    voxels: np.ndarray | None = None

    @property
    def item(self) -> str:
        """Id in the project; "" without one."""
        return self.case.item

    def is_current(self, item: Item) -> bool:
        """Return True if the project still has the mask that was opened or saved here."""
        return self.sha256 == (item.mask or "") and (
            self.proposal_xyz is not None or item.proposal is None or bool(self.edited)
        )

    @property
    def truth_xyz(self) -> np.ndarray | None:
        """The true mask; None if there is none, or it was drawn here."""
        return None if self.case.truth_xyz is self.truth_copy else self.case.truth_xyz

    def update_case(self, case: Case) -> None:
        """Set the case as it is on screen now; prepared slices are dropped if its modality changed."""
        if case.modality != self.case.modality:
            self.contexts.clear()
        self.case = case

    def mask(self, plane: str, index: int) -> np.ndarray:
        """Return the label map of one slice, uint8 (H, W), a view that may be written to."""
        return geometry.radiological_view(self.mask_xyz, self.case.scan.affine, plane)[index]

    def count_elsewhere(self, plane: str, index: int) -> np.ndarray:
        """Return the number of voxels of each label on the other slices of a plane, int64 (256,)."""
        if self.voxels is None:
            self.voxels = label_maps.count(self.mask_xyz)
        return self.voxels - label_maps.count(self.mask(plane, index))

    def context(self, plane: str, index: int) -> assist.SliceContext:
        """Return a slice prepared for the network, from the cache if it is there."""
        at = plane, index
        if at not in self.contexts:
            self.contexts[at] = assist.slice_context(self.case.scan, self.case.span, plane, index, self.network)
        self.contexts.move_to_end(at)
        while len(self.contexts) > CACHED_SLICES:
            self.contexts.popitem(last=False)
        return self.contexts[at]

    def proposal(self, plane: str, index: int) -> np.ndarray | None:
        """Return the proposed mask of a slice, label map (H, W); None without network and proposal."""
        if self.proposal_xyz is not None:
            return geometry.radiological_view(self.proposal_xyz, self.case.scan.affine, plane)[index]
        if self.network is None:
            return None
        return self.context(plane, index).proposal_hw * np.uint8(self.network_structure())

    @property
    def proposed_labels(self) -> list[int]:
        """The labels of the structures that are proposed on any slice."""
        if self.proposal_xyz is not None:
            return label_maps.present(self.proposal_xyz)
        return [] if self.network is None else [self.network_structure()]

    def truth(self, plane: str, index: int) -> np.ndarray | None:
        """Return the true mask of a slice, bool (H, W), or None."""
        return (
            None
            if self.truth_xyz is None
            else geometry.radiological_view(self.truth_xyz, self.case.scan.affine, plane)[index]
        )

    def draw(self, plane: str, index: int, mask_hw: np.ndarray, structure: int = 1) -> None:
        """Replace the label map of one slice by one that a person made, of the chosen structure or of several."""
        self._set_edited(plane, index, mask_hw, structure)
        if not np.array_equal(self.mask(plane, index), mask_hw):
            self._set_mask(plane, index, mask_hw)

    def _set_edited(self, plane: str, index: int, after_hw: np.ndarray, *structures: int) -> None:
        """Note that a person drew structures on a slice, and those that another label map of the slice changes."""
        before_hw = self.mask(plane, index)
        differs_hw = before_hw != after_hw
        labels = {*structures, *before_hw[differs_hw].tolist(), *after_hw[differs_hw].tolist()} - {0}
        drawn = {(plane, index, label) for label in labels}
        self.edited |= drawn
        self.filled -= drawn

    def _set_mask(self, plane: str, index: int, mask_hw: np.ndarray) -> None:
        """Write another label map of a slice, which is not saved yet."""
        here_hw = self.mask(plane, index)
        self._append_history(plane, index, here_hw, mask_hw)
        if self.voxels is not None:
            self.voxels += label_maps.count(mask_hw) - label_maps.count(here_hw)
        here_hw[:] = mask_hw
        self.is_dirty = True

    def replace(self, plane: str, mask_xyz: np.ndarray) -> None:
        """Replace the mask of all slices by one that a person chose."""
        self._begin_change(plane)
        after = geometry.radiological_view(mask_xyz, self.case.scan.affine, plane)
        for index, mask_hw in enumerate(after):
            if not np.array_equal(mask_hw, self.mask(plane, index)):
                self._set_edited(plane, index, mask_hw)
                self._change_slice(plane, index, mask_hw)

    def undo_slices(self) -> tuple[list[int], int]:
        """Restore the slices that the last command on several slices changed, except those changed again since.

        Returns the indices of the restored ones, in order, and the number of those left alone. ValueError if there is
        no such command.
        """
        plane, changes = self.last_change
        if not changes:
            raise ValueError("no command has changed several slices; there is nothing to undo")
        self._begin_change(plane)
        restored = []
        for index, (before, after) in sorted(changes.items()):
            here_hw = self.mask(plane, index)
            if np.array_equal(masks.pack(here_hw), after):
                self._set_mask(plane, index, masks.unpack(before, here_hw.shape))
                self.filled = {one for one in self.filled if one[:2] != (plane, index)}
                restored.append(index)
        return restored, len(changes) - len(restored)

    def _begin_change(self, plane: str) -> None:
        """Begin a command on several slices."""
        self.last_change, self.propagation = (plane, {}), None

    def _change_slice(self, plane: str, index: int, mask_hw: np.ndarray) -> None:
        """Replace the mask of a slice as part of a command on several slices, which ``undo_slices`` can undo."""
        self.last_change[1][index] = masks.pack(self.mask(plane, index)), masks.pack(mask_hw)
        self._set_mask(plane, index, mask_hw)

    def _fill_slice(self, plane: str, index: int, structure: int, mask_hw: np.ndarray) -> None:
        """Replace a structure of a slice as part of a command on several slices.

        Other structures keep their pixels, unless they were filled in that way too.
        """
        here_hw = self.mask(plane, index)
        kept = [label for label in np.unique(here_hw[mask_hw]).tolist() if (plane, index, label) not in self.filled]
        free_hw = mask_hw & ~np.isin(here_hw, [label for label in kept if label not in (0, structure)])
        self._change_slice(plane, index, label_maps.replace(here_hw, structure, free_hw))
        self.filled.add((plane, index, structure))

    def scribble(self, plane: str, index: int, strokes_hw: np.ndarray, structure: int = 1) -> np.ndarray:
        """Return the label map after strokes, uint8 (H, W).

        strokes_hw: all strokes so far, int8. While strokes are only added, they act on the mask from before the first
        of them.
        """
        at, now_hw = (plane, index, structure), self.mask(plane, index)
        start_hw, earlier_hw, made_hw = self.scribbles.get(at, (now_hw, strokes_hw, now_hw))
        more = (strokes_hw[earlier_hw != 0] == earlier_hw[earlier_hw != 0]).all()
        start_hw = np.where(now_hw == made_hw, start_hw, now_hw) if more else now_hw.copy()
        lesion_hw = self.context(plane, index).apply_scribbles(start_hw == structure, strokes_hw)
        made_hw = label_maps.replace(start_hw, structure, lesion_hw)
        self.scribbles[at] = start_hw, strokes_hw, made_hw
        while len(self.scribbles) > CACHED_SLICES:
            del self.scribbles[next(iter(self.scribbles))]
        return made_hw

    def prompt(self, network: Network, plane: str, index: int, prompt: Prompt, structure: int = 1) -> PromptResult:
        """Segment the object that a box and clicks mark on a slice; more clicks refine the last prompt's result."""
        before, at = self.last_prompt, (plane, index, structure)
        if before is not None and before[0] == at and extends_prompt(prompt, before[1]):
            prompt = replace(prompt, mask=before[2])
        found = segment_prompt(network, self.context(plane, index).unit_hw, prompt)
        self.last_prompt = at, prompt, found.mask
        return found

    def interpolate(self, plane: str, structure: int = 1) -> list[int]:
        """Fill the slices without a structure between two with it by interpolation; return the indices that got it.

        An empty slice that a person edited is filled too only if it lies between two masks; ``masks.interpolate`` says
        how.
        """
        self._begin_change(plane)
        slices = geometry.radiological_view(self.mask_xyz == structure, self.case.scan.affine, plane)
        drawn, filled = [index for index in range(len(slices)) if slices[index].any()], []
        for first, last in itertools.pairwise(drawn):
            for index in range(first + 1, last):
                mask_hw = masks.interpolate(slices[first], slices[last], (index - first) / (last - first))
                if mask_hw.any():
                    self._fill_slice(plane, index, structure, mask_hw)
                    filled.append(index)
        return filled

    def propagate(self, plane: str, index: int, step: int, count: int, structure: int = 1) -> tuple[int, bool]:
        """Propagate a structure of a slice through ``count`` slices; return how many got it, and True if an edited
        slice was in the way.
        """
        self._begin_change(plane)
        slices = len(self.case.scan.shown(plane))
        for done in range(count):
            here, there = index + step * done, index + step * (done + 1)
            if not 0 <= there < slices:
                return done, False
            if (plane, there, structure) in self.edited:
                return done, True
            here_hw = self.mask(plane, here) == structure
            mask_hw = assist.propagate(self.context(plane, here), here_hw, self.context(plane, there))
            self._fill_slice(plane, there, structure, mask_hw)
            if not mask_hw.any():
                return done, False
        return count, False

    def start_propagation(self, network: Network, plane: str, index: int, structure: int = 1) -> None:
        """Begin to propagate a structure of a slice in both directions with the prompt network, until it is unsure or
        a slice was edited; ``continue_propagation`` does it.
        """
        self._begin_change(plane)
        slices, start = len(self.case.scan.shown(plane)), SliceMask(index, self.mask(plane, index) == structure, 1.0)

        def propagate_along(indices: Iterable[int]) -> Iterator[SliceMask]:
            free = itertools.takewhile(lambda there: (plane, there, structure) not in self.edited, indices)
            return propagate(network, lambda there: self.context(plane, there).unit_hw, start, free)

        both = itertools.chain(*map(propagate_along, (range(index - 1, -1, -1), range(index + 1, slices))))
        self.propagation = VolumePropagation(structure, both)

    def continue_propagation(self, count: int) -> VolumePropagation:
        """Propagate through up to ``count`` more slices; returns what was found from the beginning on.

        ValueError if there is nothing to continue.
        """
        now = self.propagation
        if now is None:
            raise ValueError("nothing is being followed through the volume any more; start again")
        plane, more = self.last_change[0], list(itertools.islice(now.rest, count))
        for each in more:
            self._fill_slice(plane, each.index, now.structure, each.mask)
        now.found += more
        now.is_finished = len(more) < count
        return now

    def save(self, project: Project | None, user: str) -> str:
        """Save the mask to the project if it changed; return "disk", or "memory" without a project.

        ConflictError: the project holds another mask than the one that this was made from.
        """
        if project is None or not self.item:
            self.is_dirty = False
            return "memory"
        if self.is_dirty:
            item = project.save(
                self.item, self.mask_xyz, user, self.seconds, self.truth_xyz, self.sha256, **self._origin()
            )
            self.sha256, self.is_dirty, self.seconds = item.mask or "", False, 0.0
        elif (project.item(self.item).mask or "") != self.sha256:
            raise ConflictError("someone else has saved this image meanwhile")
        return "disk"

    def accept(self, project: Project, user: str) -> None:
        """Accept the mask."""
        item = project.accept(
            self.item, self.mask_xyz, user, self.seconds, self.truth_xyz, self.sha256, **self._origin()
        )
        self.sha256, self.is_dirty, self.seconds = item.mask or "", False, 0.0

    def _origin(self) -> dict[str, str]:
        """Return the fields of a log line that say which open image, plane and command it is about."""
        plane = {"plane": self.case.plane} if self.case.is_volume else {}
        return {"token": self.token} | plane | ({"request": self.command_id} if self.command_id else {})

    def as_truth(self, defined: Sequence[Structure], label: int) -> Case:
        """Return the case with a copy of the mask as its truth, measured: of several structures, the one with a label.

        defined: the structures of the mask.
        """
        truth_map, self.truth_copy = None, self.mask_xyz != 0
        if len(defined) > 1:
            self.truth_copy = self.mask_xyz == label
            rows = [(one.label, one.name, one.colour) for one in defined]
            truth_map = TruthMap(self.mask_xyz.copy(), tuple(sorted(rows, key=lambda row: row[0] != label)))
        self.case = measure_agreement(
            replace(self.case, truth_xyz=self.truth_copy, truth_map=truth_map, truth_notes=())
        )
        return self.case

    def _append_history(self, plane: str, index: int, before_hw: np.ndarray, after_hw: np.ndarray) -> None:
        """Append a line to the history of an image without a project."""
        if self.item:
            return
        added, removed = masks.changes(masks.pack(before_hw), masks.pack(after_hw))
        truth_hw = self.truth(plane, index)
        dsc = [None if truth_hw is None else masks.agreement(map_hw != 0, truth_hw) for map_hw in (before_hw, after_hw)]
        row = {
            "time": log.now(),
            "plane": plane,
            "slice": index + 1,
            "seconds": round(self.seconds, 1),
            "pixels_added": added,
            "pixels_removed": removed,
        }
        self.history.append(row | {"dsc_before": dsc[0], "dsc_after": dsc[1]})
        self.seconds = 0.0


def extends_prompt(prompt: Prompt, before: Prompt) -> bool:
    """Return True if a prompt is an earlier one with further clicks."""
    clicks = ((prompt.positive, before.positive), (prompt.negative, before.negative))
    return (
        prompt.box == before.box
        and all(now[: len(earlier)] == earlier for now, earlier in clicks)
        and clicks[0][0] + clicks[1][0] != clicks[0][1] + clicks[1][1]
    )
