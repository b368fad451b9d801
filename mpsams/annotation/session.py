"""An annotation session: the images that one browser tab or script annotates, and the commands that it handles.

A command names its slice by a key, so that a late one still lands where it was drawn. This holds even after the app was
restarted: the token of a project's image is the image's id, the mask it was opened with and a random end, and the log
of the project says who saved last. Axes: X, Y, Z voxels as stored; H x W pixels of a slice as shown.

Over 250 lines because all methods of the session work under one lock on what is on screen.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cached_property
from threading import RLock

import numpy as np

from mpsams.annotation import actions, commands, disk, label_maps, protocol, structures
from mpsams.annotation.commands import Command, SliceRef
from mpsams.annotation.consensus import MERGES
from mpsams.annotation.image_loader import CONFLICT, ImageLoader
from mpsams.annotation.index import OPEN
from mpsams.annotation.open_image import OpenImage
from mpsams.annotation.project import ConflictError, Item, Project
from mpsams.annotation.reader_views import ReaderMask, ReaderView
from mpsams.annotation.structures import Structure
from mpsams.imaging import geometry
from mpsams.inference import case as _case
from mpsams.inference.case import Case
from mpsams.inference.registry import ModelRegistry

# commands that take effect once, however often they are sent
ONCE = (
    "accept",
    "skip",
    "reopen",
    "reopen_last",
    "open",
    "previous",
    "go",
    "propagate",
    "propagate_all",
    "interpolate",
    "undo_slices",
)
REMEMBERED = 64  # commands whose repetition is recognised; images shown before
NOT_WRITTEN = "{} What you drew is kept here."
REMOVED = "the structure that you chose is not there any more; choose another one"
RESTORED = "Structure {!r} was removed from the project meanwhile; it is defined again, as this mask has it."
RESTARTED = "The app was started again; what you drew is saved."


class AnnotationSession:
    """The images that one browser tab annotates. Its methods may be called from several threads.

    case: the image and slice on screen after a reply was given; the page shows it in its other tabs too. user: name for
    the project's log of whoever sent the last command.
    """

    def __init__(
        self,
        registry: ModelRegistry,
        project: Project | None = None,
        reserve_memory: Callable[[int], None] = lambda size: None,
        view: ReaderView | None = None,
    ) -> None:
        """reserve_memory: called with a number of bytes before they are used; raises ValueError if there are too few.

        view: of the reader whose project it is; None is the first reader.
        """
        self.registry, self.project, self.view = registry, project, view
        self.loader = ImageLoader(registry, project, reserve_memory, view)
        self.case: Case | None = None
        self.user = ""
        self.is_untouched = False  # True if the page opened the image on screen by itself and nobody has worked on it
        self.shown_state: tuple = ()  # ``state`` as the page shows it
        # ids of the image last accepted or skipped, and of the one shown after it
        self.last_finished: tuple[str, ...] = ()
        self._visited: list[str] = []  # ids of the images shown before the one on screen, the last one last
        self._lock = RLock()
        self._request_id = 0
        self._sent: tuple | None = None  # ``_signature`` of what the canvas shows
        self._seconds: OrderedDict[str, float] = OrderedDict()  # counted so far, by the ids of the last commands
        self._done: set[str] = set()  # ids of the last commands that took effect
        self._last_reply: tuple[str, str] = "", ""  # id of the last command, and its reply
        self._notice = ""  # of the next reply

    @property
    def case_on_screen(self) -> Case:
        """The case of a session that has one."""
        assert self.case is not None
        return self.case

    @property
    def image(self) -> OpenImage:
        """The image on screen."""
        image = self.loader.images.find(lambda image: image.case.is_same_image(self.case_on_screen))
        assert image is not None
        return image

    @property
    def slice_ref(self) -> SliceRef:
        """The slice on screen."""
        return SliceRef(self.image, self.case_on_screen.plane, self.case_on_screen.index)

    @property
    def state(self) -> tuple:
        """A value that changes when the page must update what it shows of the project beside the canvas."""
        with self._lock:
            if self.project is None or self.case is None:
                return (id(self.case and self.case.scan),)
            return self.case.item, *self.project.counts().values()

    def show(self, case: Case, user: str = "") -> str | None:
        """Return the reply that puts a case on the canvas; None if the canvas shows it already."""
        with self._lock:
            self.user = user
            try:
                self._select(case)
            except (ValueError, OSError) as error:
                return protocol.Reply(self._request_id, "", protocol.State(), error=disk.as_sentence(error)).encode()
            return None if self._sent == self._signature() else self.reply(self.slice_ref.key, show=True)

    def open(self, id: str, user: str = "") -> str:
        """Open an image of the project, for "" the next of the queue; return the reply with its slice or an error."""
        with self._lock:
            self.user = user
            try:
                return self.open_item(id)
            except (ValueError, OSError) as error:
                return self.reply(self.slice_ref.key if self.case else "", error=disk.as_sentence(error))

    def prefetch(self, user: str = "") -> None:
        """Read the next image of the queue and let the network propose its mask. The session can be used meanwhile."""
        case = self.case
        if self.project is None or self.project.read_only or case is None or not case.item:
            return
        following = self.project.next(case.item)
        if following is not None and following.id != case.item:
            self.loader.prefetch(following, user)

    def reopen_on_screen(self, user: str = "") -> str | None:
        """Open the image on screen again as the project has it now, or the next if it was removed; None without one."""
        with self._lock:
            id = self.case.item if self.case else ""
            if self._item(id) is None:
                others = () if self.project is None else self.project.items()
                following = None if self.project is None or not others else self.project.next()
                id = (following or others[0]).id if others else ""
            return self.open(id, user) if id else None

    def as_truth(self, label: int = 1) -> Case:
        """Use the mask on screen as the truth in the other tabs; return the case with it.

        label: of the structure that is the truth, where the project has several. ValueError if it has not this one.
        """
        with self._lock:
            defined = structures.USUAL
            if self.project is not None and self.image.item:
                defined = structures.defined(self.project)
            if len(defined) > 1 and label not in {one.label for one in defined}:
                allowed = ", ".join(str(one.label) for one in defined)
                raise ValueError(f"structure {label} is not defined here; allowed are {allowed}")
            self.case = self.image.as_truth(defined, label)
            self._sent = self._signature()
            return self.case

    @property
    def held(self) -> list:
        """Everything in the session that takes memory or disk, to be measured."""
        images = self.loader.images
        return [
            self.case,
            self.loader.prefetched,
            list(images.in_memory.values()),
            list(images.compressed.values()),
            self._last_reply,
        ]

    def release(self) -> bool:
        """Compress all images; return True if any is kept, or if a command is being handled."""
        if not self._lock.acquire(blocking=False):
            return True
        try:
            self.loader.images.compress_all_but(0)
            self.case, self._sent, self.loader.prefetched = None, None, None
            return bool(self.loader.images.compressed)
        finally:
            self._lock.release()

    def handle(self, message: object, case: Case | None, user: str = "") -> str:
        """Carry out a command of the canvas while a case is on screen; return the reply.

        A rejected command changes nothing.

        message: what the page sent, which may be anything. case: None if the server no longer knows what is on screen.
        """
        with self._lock:
            self.user, self.is_untouched = user, False
            key, request_id = commands.reply_header(message)
            self._request_id = max(self._request_id, request_id)
            try:
                is_fresh = self.case is None
                if case is not None:
                    self._select(case)
                self._restore(key)
                resumed = self.loader.resume(key, self.user)
                command = commands.parse_command(message, self.loader.images.in_memory)
                if command.mask_hw is not None:
                    self._restore_structures(command.slice_ref.image, command.mask_hw)
            except ConflictError:
                return self.reply("", error=CONFLICT)  # without a key: another slice may be on screen there
            except (ValueError, OSError) as error:
                is_known = key.partition(".")[0] in self.loader.images.in_memory
                return self.reply(key if is_known else "", error=disk.as_sentence(error))
            self._count_seconds(command, resumed is not None)
            if command.mask_hw is not None:
                here = command.slice_ref
                here.image.draw(here.plane, here.index, command.mask_hw, command.structure)
            is_restarted = resumed is not None and (is_fresh or resumed is self.image)
            return self._run(command, is_restarted)

    def _run(self, command: Command, is_restarted: bool) -> str:
        """Carry out a parsed command; an error becomes part of the reply."""
        key = command.slice_ref.key
        try:
            if is_restarted:
                return self._reply_after_restart(command)
            repeats = command.id in self._done and command.action in ONCE
            if repeats and not (
                command.action.startswith(("propagate", "interpolate", "undo_slices"))
                and command.slice_ref.image.is_dirty
            ):
                return self._repeat_reply(command)
            self._check_chosen(command)
            answer = actions.ACTIONS[command.action](self, command)
            if command.id:
                self._done.add(command.id)
                self._last_reply = command.id, answer
            return answer
        except ConflictError:
            return self.reply(key, error=CONFLICT)
        except ValueError as error:
            return self.reply(key, error=disk.as_sentence(error), saved=self._try_save(command))
        except OSError as error:
            return self.reply(key, error=NOT_WRITTEN.format(disk.as_sentence(error)))

    # For the actions

    def save(self, image: OpenImage) -> str:
        """Save an image's mask; return "disk", or "memory" without a project."""
        if image.is_dirty:
            self._restore_structures(image, image.mask_xyz)
        return image.save(self.project, self.user)

    def accept(self, image: OpenImage) -> None:
        """Accept an image's mask. ValueError if it is in no project."""
        project = self.project_of(image)
        self._restore_structures(image, image.mask_xyz)
        image.accept(project, self.user)

    def save_first(self, command: Command) -> str:
        """Save the mask that came with a command before the rest of it is done; return as ``save``, "" without one."""
        image = command.slice_ref.image
        return self.save(image) if command.mask_hw is not None or image.is_dirty else ""

    @property
    def can_define(self) -> bool:
        """True if the structures of the project may be changed here."""
        return self.project is not None and not self.project.read_only and not (self.view and self.view.name)

    def reader_masks(self, image: OpenImage) -> list[ReaderMask]:
        """Return the masks of an image by other readers that may be seen here."""
        return self.view.masks(image.item) if self.view is not None and image.item else []

    @property
    def is_consensus(self) -> bool:
        """True if the masks are the consensus of several readers."""
        return self.view is not None and self.view.is_consensus

    def project_of(self, image: OpenImage) -> Project:
        """Return the project of an image. ValueError if it is in none."""
        if self.project is None or not image.item:
            raise ValueError("this image is in no project; accept, skip and reopen are for those that are")
        return self.project

    @property
    def can_reopen_last(self) -> bool:
        """True if the image on screen is the one last accepted or skipped here, or the one shown after it."""
        finished = self.last_finished
        item = self._item(finished[0]) if finished and self.case_on_screen.item in finished else None
        return item is not None and item.status not in OPEN

    def pop_previous(self) -> str | None:
        """Return the id of the image on screen before this one, else of the one added before it; None without one."""
        here, ids = self.case_on_screen.item, [item.id for item in self.project.items()] if self.project else []
        while self._visited:
            id = self._visited.pop()
            if id != here and id in ids:
                return id
        return ids[ids.index(here) - 1] if here in ids[1:] else None

    def move_to(self, case: Case, plane: str, index: int) -> None:
        """Show another slice of an open image."""
        self.case = _case.move_to_slice(case, plane, index, self.loader.clustering(case))
        self.image.update_case(self.case)

    def set_window(self, low: float, high: float) -> None:
        """Set the values that are shown black and white; the canvas shows them already."""
        self.case = _case.set_window(self.case_on_screen, (low, high))
        self.image.update_case(self.case)
        self._sent = self._signature()

    def open_item(self, id: str, key: str = "", saved: str = "", message: str = "", is_back: bool = False) -> str:
        """Put an image of the project on screen, for "" the next of the queue; return the reply with its slice.

        is_back: True if it is the image before this one, so that this one is not remembered as before it.
        """
        if self.project is None:
            raise ValueError("there is no project; start the app with --project DIR")
        if id == "":
            following = self.project.next(self.image.item if self.case else None)
            if following is None:
                return self.reply(key, saved=saved, message="Nothing is left in the queue.")
            id = following.id
        before = self.case.item if self.case else ""
        self.case = self.loader.open_item(self.project.item(id), self.user).case
        if before and before != id and not is_back:
            self._visited = [*self._visited, before][-REMEMBERED:]
        return self.reply(key or self.slice_ref.key, saved=saved, message=message, show=True)

    def reply(
        self,
        key: str,
        *,
        show: bool = False,
        saved: str = "",
        message: str = "",
        error: str = "",
        **masks_hw: np.ndarray | None,
    ) -> str:
        """Return a reply about the slice ``key``.

        show: put the slice on screen on the canvas. masks_hw: see ``protocol.Reply``.
        """
        if self.case is None:
            return protocol.Reply(self._request_id, key, protocol.State(), error=error).encode()
        here, status, left, defined, free_keys = self.slice_ref, "", 0, structures.USUAL, ""
        image = here.image
        item = self._item(image.item)
        if item is not None and self.project is not None:
            counts = self.project.counts()
            status, left = item.status, sum(counts[status] for status in OPEN)
            defined, free_keys = structures.defined(self.project), structures.free_structure_keys(self.project)
        has_proposal = not self.is_consensus and (image.proposal_xyz is not None or image.network is not None)
        found = self._count_elsewhere(here, defined)
        state = protocol.State(
            status,
            here.index,
            here.slices,
            left,
            has_proposal,
            self.user,
            self._has_prompts,
            self.can_reopen_last,
            sum(one["elsewhere"] for one in found),
            len(image.last_change[1]),
            image.propagation is not None and not image.propagation.is_finished,
            found if item is not None else (),
            item is not None and self.can_define,
            free_keys,
        )
        if not error:
            message, self._notice = " ".join(filter(None, (self._notice, message))), ""
        if show:
            self._sent = self._signature()
            remark = self.project.remark(image.item) if self.project is not None and item else ""
            message = " ".join(filter(None, (message, remark, self.loader.pop_warning())))
        view = self._slice_view(here) if show else None
        return protocol.Reply(
            self._request_id, key, state, saved=saved, message=message, error=error, slice_view=view, **masks_hw
        ).encode()

    # Inside

    @cached_property
    def _has_prompts(self) -> bool:
        """True if there is a network for boxes and clicks; looked for once, as this reads the folder of networks."""
        return self.registry.prompt_network() is not None

    def _item(self, id: str) -> Item | None:
        """Return an item of the project; None if it is not there (any more)."""
        try:
            return self.project.item(id) if self.project is not None and id else None
        except ValueError:
            return None

    def _check_chosen(self, command: Command) -> None:
        """Raise ValueError for a command about a structure that is not there."""
        project = self.project if command.slice_ref.image.item else None
        labels = (1,) if project is None else structures.labels(project)
        if command.action in commands.WITH_STRUCTURE and command.structure not in labels:
            raise ValueError(REMOVED)

    def _restore_structures(self, image: OpenImage, label_map: np.ndarray) -> None:
        """Define structures again that were removed in another tab since they were drawn on an image.

        ValueError: a map of it holds a label that no structure had.
        """
        if self.project is not None and image.item:
            for one in structures.restore(self.project, label_map, self.user):
                self._notice = f"{self._notice} {RESTORED.format(one.name)}".strip()
        elif label_maps.largest_label(label_map) > 1:
            raise ValueError("several structures; allowed is one, as this image is in no project")

    @staticmethod
    def _count_elsewhere(here: SliceRef, defined: Sequence[Structure]) -> list[dict]:
        """Return structures, each with its voxels on the other slices."""
        voxels = here.image.count_elsewhere(here.plane, here.index)
        return [asdict(one) | {"elsewhere": int(voxels[one.label])} for one in defined]

    def _select(self, case: Case) -> None:
        """Take what is on screen from the page, as another tab may have changed it."""
        self.loader.find_or_open(case, self.user)
        self.case = case

    def _restore(self, key: str) -> None:
        """Bring the compressed image of a key back into memory, and on screen if nothing is."""
        image = self.loader.restore_token(key.partition(".")[0])
        if image is not None and self.case is None:
            self.case = image.case

    def _count_seconds(self, command: Command, is_resumed: bool) -> None:
        """Add the seconds of a command to its image's; those of a repeated command are counted once."""
        image, counted = command.slice_ref.image, self._seconds.get(command.id, 0.0)
        rows = self.project.log() if self.project is not None and is_resumed and command.id else []
        if any(row.get("request") == command.id for row in rows):
            counted = command.seconds
        image.seconds += max(0.0, command.seconds - counted)
        image.command_id = command.id
        if not command.id:
            return
        self._seconds[command.id] = max(counted, command.seconds)
        while len(self._seconds) > REMEMBERED:
            self._done.discard(self._seconds.popitem(last=False)[0])

    def _repeat_reply(self, command: Command) -> str:
        """Return the reply to a repeated command once more; what was drawn since is saved first."""
        image = command.slice_ref.image
        if image.is_dirty and command.action == "accept":
            self.accept(image)
        saved = self.save_first(command)
        reply = self._last_reply[1] if self._last_reply[0] == command.id else self.reply(command.slice_ref.key)
        return protocol.update_reply(reply, self._request_id, saved)

    def _reply_after_restart(self, command: Command) -> str:
        """Save what was drawn before the app was restarted and show it; the user may repeat the rest of the command."""
        image, saved = command.slice_ref.image, self.save_first(command)
        self.case = image.case
        self.move_to(image.case, command.slice_ref.plane, command.slice_ref.index)
        self.loader.images.touch(image)
        message = RESTARTED if command.action == "save" else f"{RESTARTED} Please do the last step once more."
        return self.reply(command.slice_ref.key, saved=saved, message=message, show=True)

    def _try_save(self, command: Command) -> str:
        """Save the mask of a command that was rejected; "" if that fails too."""
        try:
            return self.save_first(command)
        except (ValueError, OSError):
            return ""

    def _signature(self) -> tuple:
        """Return a value that tells whether the canvas shows what is on screen."""
        truth_xyz = self.image.truth_xyz
        return self.slice_ref.key, self.case_on_screen.display_span, None if truth_xyz is None else id(truth_xyz)

    def _slice_view(self, here: SliceRef) -> dict:
        case, (image, plane, index) = self.case_on_screen, (here.image, here.plane, here.index)
        affine, (height, width) = case.scan.affine, case.scan.pixel_hw(plane)
        suffix = f", {plane} slice {index + 1} of {here.slices}" if case.is_volume else ""
        others = [
            (one.name, one.image_class, geometry.radiological_view(one.map_xyz, affine, plane)[index])
            for one in self.reader_masks(image)
        ]
        merges = tuple(MERGES) if self.is_consensus and len(others) > 1 else ()
        return protocol.SliceView(
            here.key,
            image.title + suffix,
            case.scan.slice(index, plane),
            here.mask_hw,
            proposal_hw=None if self.is_consensus else image.proposal(plane, index),
            truth_hw=image.truth(plane, index),
            window=case.display_span,
            aspect=height / width,
            pixel_mm2=None if affine is None else geometry.pixel_mm2(affine, plane),
            voxel_mm3=None if affine is None else geometry.voxel_mm3(affine),
            readers=others,
            merges=merges,
            unit="HU" if case.modality == "ct" and case.scan.affine is not None else "",
        ).encode()
