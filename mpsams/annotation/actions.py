"""The actions of an annotation session: for each command a function that carries it out and returns the reply.

Over 250 lines because each action of the table is a short function that is called from nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from mpsams.annotation import classes, consensus, disk, label_maps, masks, structures
from mpsams.annotation.commands import Command, SliceRef
from mpsams.annotation.open_image import VolumePropagation
from mpsams.inference import Network
from mpsams.inference.prompts import Prompt, PromptResult

if TYPE_CHECKING:
    from mpsams.annotation.session import AnnotationSession

EMPTY = "Nothing is outlined here. If there is no lesion in it, press “No lesion” (Shift+Enter)."
NOT_EMPTY = "Something is outlined here. Clear it first, or press “Accept & next”."
NOTHING_THERE = "The network found nothing there. Draw a box around the object, or click on it elsewhere."
UNSURE = "The network is unsure here; click on what is missing, or with Alt on what is too much."
LABELS = {"staple": "STAPLE estimate"}
SLICES_AT_ONCE = 8  # through which an object is followed before the page hears of it
SLICES_TO_SAVE = 64  # after which the mask is saved meanwhile; a large one takes longer to save than eight to follow
LEAST_SURE = 3  # slices that are named as those of which the network is least sure
CONFIDENT = 0.6  # expected DSC below which the page says that the network is unsure


def _save(session: AnnotationSession, command: Command) -> str:
    return session.reply(command.slice_ref.key, saved=session.save_first(command))


def _scribble(session: AnnotationSession, command: Command) -> str:
    here, lesion, background = command.slice_ref, command.params["lesion"], command.params["background"]
    strokes_hw = lesion.astype(np.int8) - background.astype(np.int8)
    return _reply_with_mask(session, here, here.image.scribble(here.plane, here.index, strokes_hw, command.structure))


def _copy(session: AnnotationSession, command: Command) -> str:
    here, source = command.slice_ref, command.slice_ref.index + command.params["step"]
    if not 0 <= source < here.slices:
        raise ValueError(f"there is no slice {source + 1}; there are 1 to {here.slices}")
    source_hw = here.image.mask(here.plane, source) == command.structure
    copied_hw = label_maps.replace_free(here.mask_hw, command.structure, source_hw)
    return _reply_with_mask(session, here, copied_hw, f"Copied from slice {source + 1}.")


def _proposal(session: AnnotationSession, command: Command) -> str:
    here = command.slice_ref
    proposal_hw = here.image.proposal(here.plane, here.index)
    if proposal_hw is None:
        raise ValueError("there is no proposal for this image")
    if len(here.image.proposed_labels) < 2:  # of one structure, which may be any; others stay
        proposal_hw = label_maps.replace(here.mask_hw, command.structure, proposal_hw > 0)
    return _reply_with_mask(session, here, proposal_hw, "This is the model's proposal again.")


def _prompt(session: AnnotationSession, command: Command) -> str:
    result = _segment_prompt(session, command)
    if not result.mask.any():
        return session.reply(command.slice_ref.key, saved=session.save_first(command), error=NOTHING_THERE)
    outlined_hw = label_maps.add(command.params["base"], command.structure, result.mask)
    return _reply_with_mask(session, command.slice_ref, outlined_hw, UNSURE * (result.confidence < CONFIDENT))


def _preview(session: AnnotationSession, command: Command) -> str:
    return session.reply(
        command.slice_ref.key, saved=session.save_first(command), preview_hw=_segment_prompt(session, command).mask
    )


def _tidy(session: AnnotationSession, command: Command) -> str:
    here_hw, structure = command.slice_ref.mask_hw, command.structure
    tidy_hw = masks.tidy(here_hw == structure, command.params["how"])
    return _reply_with_mask(session, command.slice_ref, label_maps.replace_free(here_hw, structure, tidy_hw))


def _propagate(session: AnnotationSession, command: Command) -> str:
    here, step = command.slice_ref, command.params["step"]
    if not (here.mask_hw == command.structure).any():
        raise ValueError("this slice has no mask to propagate; draw one first")
    if not 0 <= here.index + step < here.slices:
        raise ValueError(f"there is no slice beyond {here.index + 1} in that direction; there are 1 to {here.slices}")
    done, is_blocked = here.image.propagate(here.plane, here.index, step, command.params["count"], command.structure)
    first, last = sorted((here.index + 1 + step, here.index + 1 + step * done))
    message = (
        f"Carried on to {done} slice{'s' * (done > 1)}, {first} to {last}; look at each."
        if done
        else "Nothing of it goes on to the next slice."
    )
    if is_blocked:
        message += f" Slice {here.index + 1 + step * (done + 1)} has been drawn on by hand and was left alone."
    return session.reply(here.key, saved=session.save(here.image), message=message)


def _propagate_all(session: AnnotationSession, command: Command) -> str:
    here, is_resumed = command.slice_ref, command.params.get("resume", False)
    if not is_resumed:
        if not (here.mask_hw == command.structure).any():
            raise ValueError("this slice has no mask to propagate; draw one first")
        here.image.start_propagation(_prompt_network(session), here.plane, here.index, command.structure)
    before_hw = here.mask_hw.copy()
    now = here.image.continue_propagation(SLICES_AT_ONCE)
    message = _describe_propagation(now, here.slices)
    is_due = now.is_finished or len(now.found) % SLICES_TO_SAVE == 0
    saved = session.save(here.image) if is_due or not is_resumed or command.mask_hw is not None else ""
    changed_hw = None if np.array_equal(here.mask_hw, before_hw) else here.mask_hw
    return session.reply(here.key, saved=saved, message=message, mask_hw=changed_hw)


def _describe_propagation(now: VolumePropagation, slices: int) -> str:
    """Return a sentence on the progress of a propagation, or on its result and the slices that are least sure."""
    if not now.found:
        return "The network does not find the object on the slices beside this one."
    numbers = [each.index + 1 for each in now.found]
    if not now.is_finished:
        return f"Slice {numbers[-1]} of {slices}: followed through {len(numbers)} so far. Esc stops."
    unsure = sorted(now.found, key=lambda each: each.confidence)[:LEAST_SURE]
    named = ", ".join(f"{each.index + 1} ({each.confidence:.0%})" for each in unsure)
    return (
        f"Carried on to slices {min(numbers)} to {max(numbers)}; look at each. The network is least sure of"
        f" {'slice' if len(unsure) == 1 else 'slices'} {named}."
    )


def _interpolate(session: AnnotationSession, command: Command) -> str:
    here = command.slice_ref
    filled = here.image.interpolate(here.plane, command.structure)
    if not filled:
        message = (
            "There is no empty slice between two slices with a mask. Draw on two slices first, with some between them."
        )
        return session.reply(here.key, saved=session.save_first(command), error=message)
    message = (
        f"Filled {len(filled)} slice{'s' * (len(filled) > 1)} between those that were drawn, {filled[0] + 1} to"
        f" {filled[-1] + 1}; look at each."
    )
    return (
        _reply_with_mask(session, here, here.mask_hw, message)
        if here.index in filled
        else session.reply(here.key, saved=session.save(here.image), message=message)
    )


def _undo_slices(session: AnnotationSession, command: Command) -> str:
    here = command.slice_ref
    plane = here.image.last_change[0]
    restored, changed_since = here.image.undo_slices()
    message = f"Took back the change of {len(restored)} slice{'s' * (len(restored) != 1)}."
    if changed_since:
        message += f" {changed_since} {'was' if changed_since == 1 else 'were'} changed since and left alone."
    mask_hw = here.mask_hw if plane != here.plane or here.index in restored else None
    return session.reply(here.key, saved=session.save(here.image), message=message, mask_hw=mask_hw)


def _go(session: AnnotationSession, command: Command) -> str:
    saved = session.save_first(command)
    here = command.slice_ref if command.slice_ref.image is session.image else session.slice_ref
    index = command.params["slice"] if "slice" in command.params else here.index + command.params["step"]
    if not 0 <= index < here.slices:
        return session.reply(
            command.slice_ref.key, error=f"There is no slice {index + 1}; there are 1 to {here.slices}.", saved=saved
        )
    session.move_to(session.case_on_screen, session.case_on_screen.plane, index)
    return session.reply(command.slice_ref.key, saved=saved, show=True)


def _window(session: AnnotationSession, command: Command) -> str:
    if command.slice_ref.image is session.image:
        session.set_window(command.params["low"], command.params["high"])
    return session.reply(command.slice_ref.key, saved=session.save_first(command))


def _open(session: AnnotationSession, command: Command) -> str:
    saved = session.save_first(command)
    return session.open_item(command.params["item"], command.slice_ref.key, saved)


def _accept(session: AnnotationSession, command: Command) -> str:
    image = command.slice_ref.image
    session.project_of(image)
    is_empty = not image.mask_xyz.any()
    if is_empty != command.params.get("empty", False):
        return session.reply(
            command.slice_ref.key, saved=session.save_first(command), error=EMPTY if is_empty else NOT_EMPTY
        )
    session.accept(image)
    return _open_next(session, command, "Accepted")


def _skip(session: AnnotationSession, command: Command) -> str:
    image = command.slice_ref.image
    session.save_first(command)
    session.project_of(image).skip(image.item, session.user, image.seconds)
    image.seconds = 0.0
    return _open_next(session, command, "Skipped")


def _reopen(session: AnnotationSession, command: Command) -> str:
    image = command.slice_ref.image
    session.project_of(image).reopen(image.item, session.user)
    return session.reply(command.slice_ref.key, saved=session.save_first(command), message="Open again.")


def _reopen_last(session: AnnotationSession, command: Command) -> str:
    saved = session.save_first(command)
    if session.project is None or not session.can_reopen_last:
        return session.reply(command.slice_ref.key, saved=saved, error="Nothing was accepted or skipped just now.")
    item, session.last_finished = session.last_finished[0], ()
    session.project.reopen(item, session.user)
    return session.open_item(item, command.slice_ref.key, saved, "Open again.")


def _previous(session: AnnotationSession, command: Command) -> str:
    saved = session.save_first(command)
    id = session.pop_previous()
    if id is None:
        return session.reply(command.slice_ref.key, saved=saved, message="There is no image before this one.")
    return session.open_item(id, command.slice_ref.key, saved, is_back=True)


def _take(session: AnnotationSession, command: Command) -> str:
    """Take the mask of another reader, or that made of all, on all slices; in a consensus also a missing class."""
    here, source = command.slice_ref, command.params["source"]
    found = session.reader_masks(here.image)
    own = [one for one in found if one.name == source] or found * (session.is_consensus and source in consensus.MERGES)
    if not own:
        raise ValueError(
            f"source {source!r}; allowed are"
            f" {', '.join([one.name for one in found] + [*consensus.MERGES] * session.is_consensus) or 'none'}"
        )
    here.image.replace(here.plane, consensus.merge([one.map_xyz for one in own], source if len(own) > 1 else "union"))
    saved, project = session.save(here.image), session.project_of(here.image)
    allowed = [one.name for one in classes.defined(project)]
    name = (
        classes.match(allowed, own[0].image_class)
        if len(own) == 1
        else consensus.common_class((one.image_class for one in own), allowed)
    )
    if session.is_consensus and name and not project.item(here.image.item).image_class:
        classes.classify(project, here.image.item, name, session.user)
    message = (
        f"This is the {LABELS.get(source, source)} of the readers"
        if source in consensus.MERGES
        else f"This is the mask of {source}"
    )
    return session.reply(
        here.key, saved=saved, message=message + (", on all slices." if here.slices > 1 else "."), mask_hw=here.mask_hw
    )


def _define(session: AnnotationSession, command: Command) -> str:
    saved = session.save_first(command)
    if session.project is None or not session.can_define:
        raise ValueError("structures are edited by the first reader of a project that can be written")
    structures.define(
        session.project, command.params["structures"], session.user, edited_from=command.params.get("edited_from")
    )
    return session.reply(command.slice_ref.key, saved=saved)


ACTIONS: dict[str, Callable[[AnnotationSession, Command], str]] = {
    "save": _save,
    "scribble": _scribble,
    "go": _go,
    "copy": _copy,
    "propagate": _propagate,
    "propagate_all": _propagate_all,
    "interpolate": _interpolate,
    "undo_slices": _undo_slices,
    "proposal": _proposal,
    "prompt": _prompt,
    "preview": _preview,
    "tidy": _tidy,
    "accept": _accept,
    "skip": _skip,
    "reopen": _reopen,
    "reopen_last": _reopen_last,
    "window": _window,
    "open": _open,
    "previous": _previous,
    "take": _take,
    "define": _define,
}


def _open_next(session: AnnotationSession, command: Command, done: str) -> str:
    """Open the next image of the queue after one is accepted or skipped; return the reply."""
    key, image = command.slice_ref.key, command.slice_ref.image
    following = session.project_of(image).next(image.item)
    session.last_finished = (image.item,)
    if following is None or image is not session.image:
        return session.reply(key, saved="disk", message=f"{done}." + " That was the last one." * (following is None))
    try:
        session.last_finished = image.item, following.id
        return session.open_item(
            following.id, key, "disk", f"{done}; Undo (Ctrl+Z) takes that back. This is the next one."
        )
    except (ValueError, OSError) as error:
        return session.reply(key, saved="disk", message=f"{done}.", error=disk.as_sentence(error))


def _reply_with_mask(session: AnnotationSession, here: SliceRef, mask_hw: np.ndarray, message: str = "") -> str:
    """Set the mask of a slice and save it, since the canvas will not send it back; return the reply that shows it."""
    here.image.draw(here.plane, here.index, mask_hw)
    return session.reply(here.key, saved=session.save(here.image), message=message, mask_hw=mask_hw)


def _segment_prompt(session: AnnotationSession, command: Command) -> PromptResult:
    """Segment the object that a box and clicks mark. ValueError if nothing is marked."""
    here, params = command.slice_ref, command.params
    prompt = Prompt(params["box"], params["positive"], params["negative"])
    return here.image.prompt(_prompt_network(session), here.plane, here.index, prompt, command.structure)


def _prompt_network(session: AnnotationSession) -> Network:
    """Return the network for boxes and clicks. ValueError if there is none."""
    name = session.registry.prompt_network()
    if name is None:
        raise ValueError("there is no network for boxes and clicks in the folder of --weights")
    return session.registry.network(name)
