"""What one browser tab outlines, and its answers to what the canvas wishes. No gradio here.

A wish names the sheet it speaks of by a key, so that what comes late still lands where it was drawn; even after the app was started
again, for the token of an item's sheet is its id, what it went on from, and a random end, and the project's log says who saved last.
Axes: X, Y, Z voxels as stored; H x W pixels of a slice as shown.
"""

from __future__ import annotations

import json
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from threading import RLock

import numpy as np

from mpsams.annotation import assist, commands, disk, masks, proposals, protocol
from mpsams.annotation.commands import SliceRef, Command
from mpsams.annotation.open_image import OpenImage
from mpsams.annotation.open_images import LAST, CompressedImage, OpenImages, restore
from mpsams.annotation.project import Item, Project, ConflictError
from mpsams.inference import Network
from mpsams.inference import case as _case
from mpsams.inference.case import Case
from mpsams.inference.prompts import Prompt, PromptResult
from mpsams.inference.registry import ModelRegistry

ONCE = ("accept", "skip", "reopen", "open", "go", "propagate", "propagate_all")  # wishes that are obeyed once, however often the page tries
REMEMBERED = 64  # wishes by which a later try is known
MEANWHILE = """Someone else has saved this image since you opened it, so what you drew was not saved. To keep yours, download the mask; then open the
image again from the list to see theirs.""".replace("\n", " ")
NO_DISK = "{} What you drew is kept here."
NO_PROPOSAL = "No proposal was made: {}"
EMPTY = "Nothing is outlined here. If there is no lesion in it, accept it once more."
NO_FILE = "the file of this image is no longer here, so this was not saved. Open it again; what you drew before is kept, and comes back with it"
NOTHING_THERE = "The network found nothing there. Draw a box around the object, or click on it elsewhere."
UNSURE = "The network is unsure here; click on what is missing, or with Alt on what is too much."
SURE_OF_AN_OBJECT = 0.6  # expected DSC below which the page says that the network is unsure
AGAIN = "The app was started again; what you drew is saved."


class AnnotationSession:
    """One browser tab's images being outlined; its calls may come from several threads.

    case: what is on screen once an answer was given; the page is to show it elsewhere too.
    """

    def __init__(self, registry: ModelRegistry, project: Project | None = None, room: Callable[[int], None] = lambda size: None) -> None:
        """room: asks for so many bytes of memory; it raises ValueError, in words, where there are none."""
        self.registry, self.project, self._room = registry, project, room
        self.case: Case | None = None
        self.who = ""
        self._remark = ""  # to be told with the next sheet
        self._shelf = OpenImages()
        self._lock = RLock()
        self._turn, self._sent = 0, None
        self._counted: OrderedDict[str, float] = OrderedDict()  # seconds, by the ids of the last wishes
        self._done: set[str] = set()  # of these wishes, those that were obeyed
        self._last: tuple[str, str] = "", ""  # the id of the last one, and its answer
        self._warned: OpenImage | None = None  # which was to be accepted although nothing is outlined in it

    # What is on screen

    @property
    def work(self) -> OpenImage:
        """The image on screen."""
        return self._shelf.find(lambda work: work.case.is_same_image(self.case))

    @property
    def place(self) -> SliceRef:
        """The slice on screen."""
        return SliceRef(self.work, self.case.plane, self.case.index)

    @property
    def state(self) -> tuple:
        """What of the project the page shows beside the canvas; it changes when that is to be shown anew."""
        with self._lock:
            if self.project is None or self.case is None:
                return (id(self.case and self.case.scan),)
            return self.case.item, *self.project.counts().values()

    def show(self, case: Case, who: str = "") -> str | None:
        """The answer that brings the case on screen to the canvas; None where the canvas has it already."""
        with self._lock:
            self.who = who
            try:
                self._look_at(case)
            except (ValueError, OSError) as error:
                return protocol.answer(self._turn, "", protocol.State(), refused=_plain(error))
            return None if self._sent == self._signature() else self._answer(self.place.key, sheet=True)

    def open(self, id: str, who: str = "") -> str:
        """Put an item of the project on screen, the next of the queue for "": the answer with its sheet, or with a refusal."""
        with self._lock:
            self.who = who
            try:
                return self._opened(id)
            except (ValueError, OSError) as error:
                return self._answer(self.place.key if self.case else "", refused=_plain(error))

    def as_truth(self) -> Case:
        """Let what is drawn be the truth in the other tabs: the case to be shown there."""
        with self._lock:
            self.case = self.work.as_truth()
            self._sent = self._signature()
            return self.case

    @property
    def held(self) -> list:
        """All that takes memory or disk, to be measured."""
        return [self.case, list(self._shelf.works.values()), list(self._shelf.aside.values()), self._last]

    def release(self) -> bool:
        """Put all images aside, for nobody is looking; whether there is anything to keep, as there is while something is being done."""
        if not self._lock.acquire(blocking=False):
            return True
        try:
            self._shelf.thin()
            self.case, self._sent, self._warned = None, None, None
            return bool(self._shelf.aside)
        finally:
            self._lock.release()

    # Wishes

    def handle(self, said: object, case: Case | None, who: str = "") -> str:
        """Do what the canvas wishes while a case is on screen, and say so as the canvas reads it. Refusals change nothing.

        case: None where the server does not know any more what is on screen.
        """
        with self._lock:
            self.who = who
            key, turn = commands.reply_header(said)
            self._turn = max(self._turn, turn)
            try:
                fresh = self.case is None
                if case is not None:
                    self._look_at(case)
                self._bring_back(key)
                again = self._found_again(key)
                wish = commands.parse_command(said, self._shelf.works)
            except ConflictError:
                return self._answer("", refused=MEANWHILE)  # of no sheet, for what is on screen here need not be on screen there
            except (ValueError, OSError) as error:
                return self._answer(key if key.partition(".")[0] in self._shelf.works else "", refused=_plain(error))
            self._count(wish, again is not None)
            if wish.mask_hw is not None:
                wish.place.work.draw(wish.place.plane, wish.place.index, wish.mask_hw)
                self._warned = None
            try:
                if again is not None and (fresh or again is self.work):
                    return self._as_it_was(wish)
                if wish.id in self._done and wish.do in ONCE and not (wish.do.startswith("propagate") and wish.place.work.dirty):
                    return self._once_more(wish)
                answer = getattr(self, f"_{wish.do}")(wish)
                if wish.id:
                    self._done.add(wish.id)
                    self._last = wish.id, answer
                return answer
            except ConflictError:
                return self._answer(key, refused=MEANWHILE)
            except ValueError as error:
                return self._answer(key, refused=_plain(error), saved=self._attempt(wish))
            except OSError as error:
                return self._answer(key, refused=NO_DISK.format(_plain(error)))

    def _count(self, wish: Command, found_again: bool) -> None:
        """Add the seconds of a wish to those of its image, no second twice however often the page tries."""
        work, counted = wish.place.work, self._counted.get(wish.id, 0.0)
        if found_again and wish.id and any(row.get("request") == wish.id for row in self.project.log()):
            counted = wish.seconds
        work.seconds += max(0.0, wish.seconds - counted)
        work.request = wish.id
        if not wish.id:
            return
        self._counted[wish.id] = max(counted, wish.seconds)
        while len(self._counted) > REMEMBERED:
            self._done.discard(self._counted.popitem(last=False)[0])

    def _once_more(self, wish: Command) -> str:
        """The answer to a wish that was obeyed already, for a page that did not hear it. What was drawn since is kept first."""
        work = wish.place.work
        if work.dirty and wish.do == "accept":
            work.accept(self._of(work), self.who)
        saved = self._safe(wish)
        answer = json.loads(self._last[1] if self._last[0] == wish.id else self._answer(wish.place.key))
        return json.dumps(answer | {"turn": self._turn, "saved": saved or answer["saved"]})

    def _save(self, wish: Command) -> str:
        return self._answer(wish.place.key, saved=self._safe(wish))

    def _scribble(self, wish: Command) -> str:
        place, lesion, background = wish.place, wish.more["lesion"], wish.more["background"]
        strokes_hw = lesion.astype(np.int8) - background.astype(np.int8)
        return self._drawn(place, place.work.scribble(place.plane, place.index, strokes_hw))

    def _copy(self, wish: Command) -> str:
        place, there = wish.place, wish.place.index + wish.more["step"]
        if not 0 <= there < place.slices:
            raise ValueError(f"there is no slice {there + 1}; there are 1 to {place.slices}")
        return self._drawn(place, place.work.mask(place.plane, there), f"Copied from slice {there + 1}.")

    def _proposal(self, wish: Command) -> str:
        proposal_hw = wish.place.work.proposal(wish.place.plane, wish.place.index)
        if proposal_hw is None:
            raise ValueError("there is no proposal for this image")
        return self._drawn(wish.place, proposal_hw, "This is the model's proposal again.")

    def _prompt(self, wish: Command) -> str:
        found = self._object(wish)
        if not found.mask.any():
            return self._answer(wish.place.key, saved=self._safe(wish), refused=NOTHING_THERE)
        return self._drawn(wish.place, wish.more["base"] | found.mask, UNSURE * (found.confidence < SURE_OF_AN_OBJECT))

    def _preview(self, wish: Command) -> str:
        return self._answer(wish.place.key, saved=self._safe(wish), preview_hw=self._object(wish).mask)

    def _object(self, wish: Command) -> PromptResult:
        """The object that a box and clicks mark. ValueError where nothing is marked."""
        place, prompt = wish.place, Prompt(wish.more["box"], wish.more["positive"], wish.more["negative"])
        return place.work.prompt(self._prompt_network(), place.plane, place.index, prompt)

    def _prompt_network(self) -> Network:
        """The network for boxes and clicks. ValueError where there is none."""
        name = self.registry.prompt_network()
        if name is None:
            raise ValueError("there is no network for boxes and clicks in the folder of --weights")
        return self.registry.network(name)

    def _tidy(self, wish: Command) -> str:
        return self._drawn(wish.place, masks.tidy(wish.place.mask_hw, wish.more["how"]))

    def _propagate(self, wish: Command) -> str:
        place, step = wish.place, wish.more["step"]
        if not place.mask_hw.any():
            raise ValueError("this slice has no mask to carry on; draw one first")
        if not 0 <= place.index + step < place.slices:
            raise ValueError(f"there is no slice beyond {place.index + 1} in that direction; there are 1 to {place.slices}")
        done, blocked = place.work.carry(place.plane, place.index, step, wish.more["count"])
        ends = sorted((place.index + 1 + step, place.index + 1 + step * done))
        told = f"Carried on to {done} slice{'s' * (done > 1)}, {ends[0]} to {ends[1]}; look at each." if done else "Nothing of it goes on to the next slice."
        if blocked:
            told += f" Slice {place.index + 1 + step * (done + 1)} has been drawn on by hand and was left alone."
        return self._answer(place.key, saved=self._kept(place.work), told=told)

    def _propagate_all(self, wish: Command) -> str:
        place = wish.place
        if not place.mask_hw.any():
            raise ValueError("this slice has no mask to carry on; draw one first")
        found = place.work.propagate_all(self._prompt_network(), place.plane, place.index)
        if not found:
            return self._answer(place.key, saved=self._safe(wish), told="The network does not find the object on the slices beside this one.")
        unsure = min(found, key=lambda each: each.confidence)
        told = f"Carried on to slices {found[0].index + 1} to {found[-1].index + 1}; look at each. The network is least sure of slice {unsure.index + 1} ({unsure.confidence:.0%})."
        return self._answer(place.key, saved=self._kept(place.work), told=told)

    def _go(self, wish: Command) -> str:
        saved = self._safe(wish)
        place = wish.place if wish.place.work is self.work else self.place
        index = wish.more["slice"] if "slice" in wish.more else place.index + wish.more["step"]
        if not 0 <= index < place.slices:
            return self._answer(wish.place.key, refused=f"There is no slice {index + 1}; there are 1 to {place.slices}.", saved=saved)
        self.case = _case.moved(self.case, self.case.plane, index, self._how(self.case))
        self.work.seen(self.case)
        return self._answer(wish.place.key, saved=saved, sheet=True)

    def _window(self, wish: Command) -> str:
        if wish.place.work is self.work:
            self.case = _case.brightened(self.case, (wish.more["low"], wish.more["high"]))
            self.work.seen(self.case)
            self._sent = self._signature()
        return self._answer(wish.place.key, saved=self._safe(wish))

    def _open(self, wish: Command) -> str:
        saved = self._safe(wish)
        return self._opened(wish.more["item"], wish.place.key, saved)

    def _accept(self, wish: Command) -> str:
        work, project = wish.place.work, self._of(wish.place.work)
        if not work.mask_xyz.any() and self._warned is not work:
            self._warned = work
            return self._answer(wish.place.key, saved=self._safe(wish), refused=EMPTY)
        work.accept(project, self.who)
        return self._onwards(wish, "Accepted")

    def _skip(self, wish: Command) -> str:
        work = wish.place.work
        self._safe(wish)
        self._of(work).skip(work.item, self.who, work.seconds)
        work.seconds = 0.0
        return self._onwards(wish, "Skipped")

    def _reopen(self, wish: Command) -> str:
        self._of(wish.place.work).reopen(wish.place.work.item, self.who)
        return self._answer(wish.place.key, saved=self._safe(wish), told="Open again.")

    # How

    def _found_again(self, key: str) -> OpenImage | None:
        """The image of a sheet that another desk gave out, before the app or the page was started again; None for any other key.

        ConflictError: the disk has another mask now than the one that was last saved from that sheet, or that it began with.
        """
        found = commands.KEY.fullmatch(key)
        id = found[1][:16] if found and found[1] not in self._shelf.works else ""
        if self.project is None or all(item.id != id for item in self.project.items()):
            return None
        item, token = self.project.item(id), found[1]
        last = next((row for row in reversed(self.project.log()) if row.get("item") == id and row.get("mask")), {})
        if last.get("sheet") != token and token[16:24] != _start(item):
            raise ConflictError(MEANWHILE)
        work = self._shelf.find(lambda work: work.item == id and work.is_current(item) and not work.dirty)
        if work is None:
            return self._take(self._case_of(item), token)
        del self._shelf.works[work.token]
        work.token = token
        self._shelf.add(work)
        return work

    def _as_it_was(self, wish: Command) -> str:
        """After the app was started again: what was drawn is kept and on screen; a person may wish the rest once more."""
        work, saved = wish.place.work, self._safe(wish)
        self.case = _case.moved(work.case, wish.place.plane, wish.place.index, self._how(work.case))
        work.seen(self.case)
        self._shelf.works.move_to_end(work.token)
        told = AGAIN if wish.do == "save" else f"{AGAIN} Please do the last step once more."
        return self._answer(wish.place.key, saved=saved, told=told, sheet=True)

    def _onwards(self, wish: Command, done: str) -> str:
        """After an item is done: the next of the queue."""
        following = self.project.next(wish.place.work.item)
        if following is None or wish.place.work is not self.work:
            return self._answer(wish.place.key, saved="disk", told=f"{done}." + " That was the last one." * (following is None))
        try:
            return self._opened(following.id, wish.place.key, "disk", f"{done}. This is the next one.")
        except (ValueError, OSError) as error:
            return self._answer(wish.place.key, saved="disk", told=f"{done}.", refused=_plain(error))

    def _drawn(self, place: SliceRef, mask_hw: np.ndarray, told: str = "") -> str:
        """A mask that the canvas is to show from now on; it will not send it back, so it is kept at once."""
        place.work.draw(place.plane, place.index, mask_hw)
        return self._answer(place.key, saved=self._kept(place.work), told=told, mask_hw=mask_hw)

    def _kept(self, work: OpenImage) -> str:
        return work.keep(self.project, self.who)

    def _safe(self, wish: Command) -> str:
        """Keep what a wish brought, before the rest of it."""
        return self._kept(wish.place.work) if wish.mask_hw is not None or wish.place.work.dirty else ""

    def _attempt(self, wish: Command) -> str:
        """The same after the rest was refused; "" where that is refused too."""
        try:
            return self._safe(wish)
        except (ValueError, OSError):
            return ""

    def _of(self, work: OpenImage) -> Project:
        if self.project is None or not work.item:
            raise ValueError("this image is in no project; accept, skip and reopen are for those that are")
        return self.project

    def _how(self, case: Case) -> dict:
        return _case.clustering(self.registry.clustering(case.modality), case.seed, case.reading)

    def _look_at(self, case: Case) -> None:
        """The case on screen, as somebody else may have changed it."""
        found = self._shelf.find(lambda work: work.case.is_same_image(case)) or self._brought_back(lambda aside: aside.is_of(case), case)
        if found is None:
            self._take(case)
        else:
            found.seen(case)
            self._shelf.works.move_to_end(found.token)
        self.case = case

    def _opened(self, id: object, key: str = "", saved: str = "", told: str = "") -> str:
        if self.project is None:
            raise ValueError("there is no project; start the app with --project DIR")
        if id == "":
            following = self.project.next(self.work.item if self.case else None)
            if following is None:
                return self._answer(key, saved=saved, told="Nothing is left in the queue.")
            id = following.id
        item = self.project.item(id)
        found = self._shelf.find(lambda work: work.item == item.id and work.is_current(item)) or self._brought_back(
            lambda aside: aside.item == item.id and aside.work.sha256 == (item.mask or "")
        )
        if found is None:
            found = self._take(self._case_of(item))
        self._shelf.works.move_to_end(found.token)
        self.case = found.case
        return self._answer(key or self.place.key, saved=saved, told=told, sheet=True)

    def _case_of(self, item: Item) -> Case:
        scan = self.project.scan(item.id)
        how = _case.clustering(self.registry.clustering(scan.modality))
        return _case.of_scan(f"Image {proposals.number(self.project, item.id)} of the project", scan, how, item.id)

    def _take(self, case: Case, token: str = "") -> OpenImage:
        """Begin to work on an image: from its last mask, else the proposal, else nothing. token: "" is a new one."""
        self._make_room(case)
        name = assist.default_model(self.registry, case.modality)
        network = None if name is None else self.registry.network(name)
        work = OpenImage(token or secrets.token_hex(16), case.title, case, network, case.scan.empty_mask())
        if case.item:
            if not case.is_volume and network is not None and self.project.item(case.item).status == "new":
                try:
                    proposals.propose(self.project, self.registry, case.item, self.who)
                except OSError as error:  # the image can be looked at all the same
                    self._remark = NO_PROPOSAL.format(_plain(error))
            mask_xyz, work.proposal_xyz = self.project.mask(case.item), self.project.proposal(case.item)
            item = self.project.item(case.item)  # as it is after a damaged mask was found
            start_xyz = work.proposal_xyz if mask_xyz is None else mask_xyz
            work.mask_xyz = work.mask_xyz if start_xyz is None else start_xyz.copy()
            work.token = token or item.id + _start(item) + secrets.token_hex(4)
            work.sha256, work.title = item.mask or "", proposals.titled(self.project, item.id)
        elif not case.is_volume and network is not None:
            work.mask(case.plane, case.index)[:] = work.look(case.plane, case.index).proposal_hw
        self._shelf.add(work)
        return work

    def _make_room(self, case: Case) -> None:
        """Ask for the memory of an image's mask and proposal, after putting others aside if need be. ValueError where there is none left."""
        size = 2 * case.scan.voxels_xyz.size
        try:
            self._room(size)
        except ValueError:
            self._shelf.thin(LAST)
            self._room(size)

    def _bring_back(self, key: str) -> None:
        """The image of a sheet that was put aside, at hand again, and on screen where nothing is."""
        token = key.partition(".")[0]
        work = self._brought_back(lambda aside: aside.work.token == token)
        if work is not None and self.case is None:
            self.case = work.case

    def _brought_back(self, fits: Callable[[CompressedImage], bool], case: Case | None = None) -> OpenImage | None:
        """An image that was put aside, at hand again; None where none fits. case: of it, where that is open. ValueError: it cannot be opened."""

        def stands(aside: CompressedImage) -> bool:
            return not aside.item or not aside.is_safe or aside.work.sha256 == (self.project.item(aside.item).mask or "")

        aside = self._shelf.find_aside(lambda aside: fits(aside) and stands(aside))
        if aside is None:
            return None
        case = case or self._reopened(aside)
        self._make_room(case)
        work = restore(aside, case)
        name = assist.default_model(self.registry, case.modality)
        work.network = None if name is None else self.registry.network(name)
        work.proposal_xyz = self.project.proposal(aside.item) if aside.item else None
        self._shelf.add(work)
        return work

    def _reopened(self, aside: CompressedImage) -> Case:
        """The case of an image that was put aside, as it was seen."""
        case, view = aside.case, aside.view
        if aside.item:
            case = self._case_of(self.project.item(aside.item))
        elif aside.upload is not None:
            upload = aside.upload
            try:
                case = _case.of_upload(upload.files, upload.modality, lambda m: _case.clustering(self.registry.clustering(m)), upload.choice)
            except (ValueError, OSError):
                raise ValueError(NO_FILE) from None
            if not aside.is_of(case):
                raise ValueError(NO_FILE)
        how = _case.clustering(self.registry.clustering(view["modality"]), view["seed"], view["reading"])
        if case.modality != view["modality"]:
            case = _case.called(case, view["modality"], how)
        case = _case.moved(case, view["plane"], 0, how)  # to the plane, whose middle it is
        return replace(_case.moved(case, view["plane"], view["index"], how), seen=view["seen"])

    def _signature(self) -> tuple:
        """By which it is known whether the canvas shows what is on screen."""
        truth_xyz = self.work.truth_xyz
        return self.place.key, self.case.seen, None if truth_xyz is None else id(truth_xyz)

    def _answer(self, key: str, *, sheet: bool = False, saved: str = "", told: str = "", refused: str = "", **masks_hw: np.ndarray | None) -> str:
        if self.case is None:
            return protocol.answer(self._turn, key, protocol.State(), refused=refused)
        place, status, left = self.place, "", 0
        if place.work.item:
            status, left = self.project.item(place.work.item).status, len(self.project.queue())
        proposed = place.work.proposal_xyz is not None or place.work.network is not None
        state = protocol.State(status, place.index, place.slices, left, proposed, self.who, self.registry.prompt_network() is not None)
        if sheet:
            self._sent = self._signature()
            said = self.project.remark(place.work.item) if place.work.item else ""
            told, self._remark = " ".join(filter(None, (told, said, self._remark))), ""
        return protocol.answer(
            self._turn, key, state, saved=saved, told=told, refused=refused, **masks_hw, sheet=self._sheet(place) if sheet else None
        )

    def _sheet(self, place: SliceRef) -> dict:
        case, (work, plane, index) = self.case, (place.work, place.plane, place.index)
        height, width = case.scan.pixel_hw(plane)
        where = f", {plane} slice {index + 1} of {place.slices}" if case.is_volume else ""
        return protocol.sheet(
            place.key, work.title + where, case.scan.slice(index, plane), place.mask_hw, proposal_hw=work.proposal(plane, index),
            truth_hw=work.truth(plane, index), window=case.seen, aspect=height / width,
            unit="HU" if case.modality == "ct" and case.scan.affine is not None else "",
        )  # fmt: skip


def _start(item: Item) -> str:
    """The mask an item's sheet goes on from, in 8 digits of its sha256; zeros for none."""
    return (item.mask or "0" * 8)[:8]


def _plain(error: Exception) -> str:
    """An error as a sentence for the page."""
    text = str(error) if isinstance(error, ValueError) else disk.sentence(error)
    return text[:1].upper() + text[1:] + "." * (not text.endswith("."))
