"""A project of annotations: a folder with images, proposed and corrected masks, a queue, and a log of what was done.

A call that returns is acknowledged: what it did is on the disk. The log is the truth, the SQLite file a table made from
it. ``docs/reference/project-folder.md`` says what lies where.

Over 250 lines because all methods of ``Project`` take the same locks in the same order.

Axes: X, Y, Z as the image's file stores them, of a flat image Z = 1.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import RLock

import numpy as np

from mpsams import checkpoint, imaging
from mpsams.annotation import caches, disk, images, label_maps, lock, log, masks, structures
from mpsams.annotation.index import OPEN, STATUSES, Index, Item
from mpsams.annotation.project_folder import (
    FOLDERS,
    FORMAT,
    LABELLED_VERSION,
    VERSION,
    add_time_and_user,
    added_line,
    check_finite,
    compare_masks,
    is_project,
    pack_truth,
    printable,
    validate_folder,
)
from mpsams.imaging import Scan

BY_MODALITY = "by modality"  # in project.json: the classes of images before any are defined


class ConflictError(ValueError):
    """Someone else saved an image's mask after it was opened; what was drawn since is not on the disk."""


class Project:
    """An open project. May be used from several threads; a second app that opens the folder gets a ValueError.

    folder: of the project. read_only: whether it lies where nothing can be written; then everything that writes raises
    ``disk.ReadOnly`` (an OSError), and no lock is held. accepted: the folder in it that ``mpsams.datasets.folder``
    loads, images/ and masks/ of exactly the accepted items; it is there even while none is accepted. has_labels: True
    if the values of mask files are labels of structures, which they are once several are defined (``structures``).
    """

    def __init__(self, folder: str | Path) -> None:
        """Open a folder, or make it; repair what a crash left behind.

        A project that cannot be written is opened to look at only.

        ValueError: another app has it open, it holds other files, or a later version wrote it. OSError: the disk
        refuses.
        """
        self.folder = Path(folder)
        self.accepted = self.folder / "accepted"
        self._lines, self._names = self.folder / "log.jsonl", self.folder / "names.private.jsonl"
        self._lock, self._adding = RLock(), RLock()  # of the log and the index; of adding images
        # of one image's files; taken before ``_lock``, never after it
        self._image_locks: defaultdict[str, RLock] = defaultdict(RLock)
        self._scans, self._packed = caches.Scans(), caches.PackedMasks()
        self._labels_in_masks: dict[str, tuple[str, frozenset[int]]] = {}  # by item, with the sha256 of the mask
        self._remarks: dict[str, str] = {}
        self._inside: dict[str, Project] = {}  # projects in folders of this one, such as those of other readers
        validate_folder(self.folder)
        self.read_only, self._held = False, None
        self.has_labels = self.description.get("version", VERSION) >= LABELLED_VERSION
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._held = lock.hold(self.folder / "lock")
        except OSError as error:
            if error.errno not in disk.READ_ONLY or not is_project(self.folder):
                raise
            self.read_only = True
            self._index = Index(self.folder / "index.sqlite", self._lines, self._names, read_only=True)
            return
        try:
            about = self.folder / "project.json"
            self._write_version(about)
            for path in (self.folder, *map(self.folder.joinpath, FOLDERS)):
                path.mkdir(exist_ok=True)
                images.clean(path)
            log.truncate_partial_line(self._lines)
            log.truncate_partial_line(self._names)
            self._commits = log.GroupCommit(self._lines, self._lock, lambda: self._index.rebuild())
            self._index = Index(self.folder / "index.sqlite", self._lines, self._names)
            self._recover()
        except BaseException:
            self._held.close()
            raise

    def __enter__(self) -> Project:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the folder; nothing is waiting to be written."""
        with self._lock:
            for project in self._inside.values():
                project.close()
            self._index.close()
            if self._held is not None:
                self._held.close()

    def open_inside(self, path: str) -> Project:
        """Return the project of a folder in this one, made if need be; closed with this one. Raises as ``Project``."""
        with self._lock:
            if path not in self._inside:
                self._inside[path] = Project(self.folder / path)
            return self._inside[path]

    # What there is

    def items(self, status: str | None = None) -> tuple[Item, ...]:
        """Return all items, or those of one status, in the order they were added."""
        if status is not None and status not in STATUSES:
            raise ValueError(f"status {status!r}; allowed are {', '.join(STATUSES)}")
        with self._ready() as index:
            return index.items(STATUSES if status is None else (status,))

    def item(self, id: str) -> Item:
        """Return the item of an id. ValueError for an id that is not in the project."""
        with self._ready() as index:
            found = index.item(id)
        if found is None:
            raise ValueError(f"image {str(id)[:20]!r} is not in this project; expected an id from its list")
        return found

    def counts(self) -> dict[str, int]:
        """Return the number of items of each status."""
        with self._ready() as index:
            return index.counts()

    def queue(self) -> tuple[Item, ...]:
        """Return the images neither accepted nor skipped: first those where nothing was found, then by falling
        priority, those without one last, else as added.
        """
        with self._ready() as index:
            found = index.items(OPEN)
        return tuple(
            sorted(
                found,
                key=lambda item: (not item.is_nothing_found, math.inf if item.priority is None else -item.priority),
            )
        )

    def next(self, after: str | None = None) -> Item | None:
        """Return the first item of the queue, or the one after a given item of it, the first after the last; None when
        all is done.
        """
        queue = self.queue()
        ids = [item.id for item in queue]
        at = ids.index(after) + 1 if after in ids else 0
        return queue[at % len(queue)] if queue else None

    def image(self, id: str) -> Path:
        """Return the path of an image: a file, or a folder with a DICOM series."""
        return self.folder / "images" / (id + self.item(id).image_ending)

    def scan(self, id: str) -> Scan:
        """Open an image and return its scan; the images used last stay open.

        UnreadableImage (a ValueError) says that its file was damaged, or why it cannot be read.
        """
        item = self.item(id)
        with self._image_locks[id]:
            return self._scans.open(item, self.image(id))

    def mask(self, id: str) -> np.ndarray | None:
        """Return the voxels marked in the last saved mask, bool (X, Y, Z), of all structures; None without one."""
        return _marked(self.labels(id))

    def proposal(self, id: str) -> np.ndarray | None:
        """Return the voxels marked in the proposed mask, as ``mask``."""
        return _marked(self.proposed_labels(id))

    def labels(self, id: str) -> np.ndarray | None:
        """Return the last saved mask as label map, uint8 (X, Y, Z), see ``structures``; None where there is none.

        In place of a file that was damaged or removed meanwhile it is the accepted mask, if that is the same, else
        None; ``remark`` says so.
        """
        return self._unpacked("masks", id)

    def proposed_labels(self, id: str) -> np.ndarray | None:
        """Return the proposed mask, as ``labels``; without the structures that were removed since it was proposed."""
        return self._unpacked("proposals", id)

    def labels_in_mask(self, item: Item) -> frozenset[int]:
        """Return the labels of the structures that the saved mask of an item holds; a file is read once for it."""
        sha256, found = self._labels_in_masks.get(item.id, ("", frozenset()))
        if item.mask is None or item.mask == sha256:
            return found if item.mask else frozenset()
        if (map_xyz := self.labels(item.id)) is None:
            return frozenset()
        found = frozenset(label_maps.present(map_xyz))
        if self.item(item.id).mask == item.mask:
            self._labels_in_masks[item.id] = item.mask, found
        return found

    def remark(self, id: str) -> str:
        """Return a sentence on a file of an image that was found damaged since the last call; "" if none was."""
        return self._remarks.pop(id, "")

    def name(self, id: str) -> str:
        """Return the name of the user's file, to be shown to that user only; "" where it was forgotten."""
        with self._ready() as index:
            return index.name(self.item(id).id)

    def setting(self, name: str) -> object:
        """Return the last value that the log gives a setting of the project, JSON; None where it gives none."""
        with self._ready() as index:
            return index.setting(name)

    def setting_values(self, name: str) -> list:
        """Return all values that the log gives a setting of the project, oldest first, JSON."""
        with self._ready() as index:
            return index.setting_values(name)

    def log(self) -> list[dict]:
        """Return all lines of the log, oldest first; ``docs/reference/project-folder.md`` has their fields."""
        return log.read(self._lines)[0]

    def last_lines(self, count: int) -> list[dict]:
        """Return the last ``count`` lines of the log, or fewer if there are no more, oldest first."""
        return log.tail(self._lines, count)

    # What is done

    def add(
        self, files: Path | Sequence[Path], modality: str | None = None, name: str | None = None, user: str = ""
    ) -> Item:
        """Copy an image in, or the files of one DICOM series; one that is there already is only found.

        modality: None lets the file say, or guesses. name: to be kept privately; None is the file's own.
        UnreadableImage (a ValueError) says why it is no image we open.
        """
        return self.add_with_notes(files, modality, name, user)[0]

    def add_with_notes(
        self, files: Path | Sequence[Path], modality: str | None = None, name: str | None = None, user: str = ""
    ) -> tuple[Item, list[str]]:
        """Add an image, as ``add``; return sentences on what the reader noticed of a new one, too."""
        self.refuse_read_only()
        listed = images.list_files(files)
        scan = imaging.read(listed, modality)
        with self._adding:
            id, ending = images.copy_in(listed, self.folder / "images")
        with self._ready() as index:
            if (known := index.item(id)) is not None:
                return known, []
            given = (
                Path(files) if isinstance(files, str | Path) else listed[0] if len(listed) == 1 else listed[0].parent
            )
            kept = printable(given.name if name is None else name)
            log.append(self._names, [{"item": id, "name": kept}])
            self._write(added_line(id, ending, scan), user)
            index.call(id, kept)
            several = f"There are {len(scan.choices)} images in it; the first is taken."
            return self.item(id), [*scan.notes, *[several] * (len(scan.choices) > 1)]

    def set_priorities(self, priority: Mapping[str, float]) -> None:
        """Set how urgent items are, greater first (``annotations.priority``). ValueError for what is not finite."""
        rows = [
            {"item": self.item(id).id, "action": "prioritised", "priority": check_finite("priority", value)}
            for id, value in priority.items()
        ]
        with self._ready():
            self._write(rows, "")

    def propose(
        self,
        id: str,
        mask_xyz: np.ndarray,
        checkpoint_name: str,
        sha256: str,
        priority: float | None = None,
        user: str = "",
        **more,
    ) -> Item:
        """Keep a mask that a checkpoint proposes, in place of an earlier proposal; saved and accepted masks stay as
        they are.

        mask_xyz: as for ``save``. checkpoint_name, sha256: of the checkpoint, or of whatever proposed. more: what else
        the log's line is to say, JSON.
        """
        priority = None if priority is None else check_finite("priority", priority)
        with self._image_locks[self.item(id).id]:
            made_by = {"checkpoint": printable(checkpoint_name), "sha256": printable(sha256)}
            map_xyz = masks.validate(self.scan(id), mask_xyz, structures.labels(self))
            file = self._put("proposals", self.item(id), map_xyz)
            counts = label_maps.count(map_xyz)
            row = {
                "item": id,
                "action": "proposed",
                "proposal": made_by,
                "file": file,
                "priority": priority,
                "pixels": int(counts[1:].sum()),
                "pixels_of_labels": {str(label): int(counts[label]) for label in np.flatnonzero(counts) if label},
            }
            self._acknowledge([more | row], user)
            return self.item(id)

    def save(
        self, id: str, mask_xyz: np.ndarray, user: str = "", seconds: float = 0.0, truth_xyz: np.ndarray | None = None,
        expected: str | None = None, **more,
    ) -> Item:  # fmt: skip
        """Keep a mask that is being worked on; an accepted one is in work again.

        The same mask once more writes nothing.

        mask_xyz: label map, uint8, of the image's shape, or bool in a project with a single structure. seconds: worked
        since the last call. truth_xyz: where it is known, for the log's DSC. expected: the sha256 of the mask's file
        this one was made from, "" where there was none; None does not ask.
        more: what else the log's line is to say, JSON. ConflictError (a ValueError): the file is another one now.
        OSError says that the disk is full; then the last good mask stands.
        """
        row = more | {"item": id, "action": "saved", "seconds": check_finite("seconds", seconds)}
        return self._keep(row, mask_xyz, user, truth_xyz, expected)

    def accept(
        self, id: str, mask_xyz: np.ndarray | None = None, user: str = "", seconds: float = 0.0,
        truth_xyz: np.ndarray | None = None, expected: str | None = None, **more,
    ) -> Item:  # fmt: skip
        """Accept a mask, by default the last saved one, else the proposal; it goes to ``accepted``. See ``save``."""
        with self._image_locks[self.item(id).id]:
            if mask_xyz is None:
                saved = self.labels(id)
                mask_xyz = self.proposed_labels(id) if saved is None else saved
            if mask_xyz is None:
                raise ValueError(
                    f"image {id} has neither a mask nor a proposal; expected a mask to accept (an empty one for no"
                    " lesion)"
                )
            row = more | {"item": id, "action": "accepted", "seconds": check_finite("seconds", seconds)}
            return self._keep(row, mask_xyz, user, truth_xyz, expected)

    def skip(self, id: str, user: str = "", seconds: float = 0.0) -> Item:
        """Put an item aside; its masks stay."""
        return self._set(id, "skipped", user, seconds)

    def reopen(self, id: str, user: str = "") -> Item:
        """Put an accepted or skipped item back into the queue; its masks stay."""
        return self._set(id, "reopened", user, 0.0)

    def remove(self, id: str, user: str = "") -> None:
        """Delete an image with its masks, proposal and name; the log keeps what was done to it."""
        with self._image_locks[self.item(id).id], self._ready():
            item = self.item(id)
            image = self.image(id)
            self._write([{"item": id, "action": "removed"}], user)
            self._scans.forget(id)
            for path in (
                image,
                self.accepted / "images" / image.name,
                *(self._file(name, item) for name in ("proposals", "masks", "accepted/masks")),
            ):
                images.remove(path)
            names = [row for row in log.read(self._names)[0] if row.get("item") != id]
            checkpoint.write(self._names, "".join(json.dumps(row) + "\n" for row in names).encode())

    def rebuild(self) -> None:
        """Make the SQLite file again from the log and the files; nothing that was acknowledged is lost by it."""
        with self._lock:
            self._index.rebuild()
            self._recover()

    def append_log(self, action: str, user: str = "", **fields) -> None:
        """Append a line to the log that is about no image of its own; fields: what it is to say, JSON."""
        with self._ready():
            self._write([{"action": action} | fields], user)

    # Inside

    @property
    def has_default_classes(self) -> bool:
        """Return True if images may have their modality's usual classes before any are defined; not in old projects."""
        return self.description.get("classes") == BY_MODALITY

    @property
    def description(self) -> dict:
        """Return the content of project.json; {} without it."""
        about = self.folder / "project.json"
        return json.loads(about.read_bytes()) if about.is_file() else {}

    def describe(self, **fields) -> None:
        """Set fields of project.json, JSON, at once or not at all."""
        self.refuse_read_only()
        with self._lock:
            description = self.description | fields
            checkpoint.write(self.folder / "project.json", json.dumps(description).encode())
            self.has_labels = description["version"] >= LABELLED_VERSION

    @staticmethod
    def _write_version(about: Path) -> None:
        """Write the file that says the format and its version, if there is none or it is of an earlier version."""
        is_new = not about.is_file() and not (about.parent / "log.jsonl").is_file()
        description = json.loads(about.read_bytes()) if about.is_file() else {"format": FORMAT, "made": log.now()}
        description |= {"classes": BY_MODALITY} if is_new else {}
        if description.get("version") not in (VERSION, LABELLED_VERSION):
            checkpoint.write(about, json.dumps(description | {"version": VERSION}).encode())

    @contextmanager
    def exclusive(self, with_images: bool = False) -> Iterator[None]:
        """Keep everybody else of this app from using the project while inside.

        with_images: masks are read or written in it; no mask is being saved meanwhile.
        """
        with ExitStack() as held:
            for item in self.items() if with_images else ():
                held.enter_context(self._image_locks[item.id])
            held.enter_context(self._lock)
            yield

    @contextmanager
    def _ready(self) -> Iterator[Index]:
        """Yield the index, up to date with the log, for this thread alone."""
        with self._lock:
            self._index.sync_from_log()
            if self._index.is_ahead:
                self._index.rebuild()
                if not self.read_only:
                    self._recover()
            yield self._index

    def refuse_read_only(self) -> None:
        if self.read_only:
            raise disk.ReadOnly

    def _read(self, folder: str, item: Item) -> np.ndarray | None:
        """Return a mask of the index; a damaged one is repaired as when the project is opened, or left out."""
        try:
            return masks.read(self._file(folder, item), item.shape_xyz, self.has_labels)
        except ValueError:
            kind = "saved mask" if folder == "masks" else "proposal"
            self._remarks[item.id] = f"The {kind} of this image was damaged or removed outside of this program."
            good = self._file("accepted/masks", item)
            if self.read_only:
                good_one = folder == "masks" and masks.sha256(good) == item.mask
                return masks.read(good, item.shape_xyz, self.has_labels) if good_one else None
            (self._check_mask if folder == "masks" else self._check_proposal)(item)
            self._publish(self.item(item.id))
        item = self.item(item.id)
        if (item.mask if folder == "masks" else item.proposal) is None:
            return None
        self._remarks[item.id] += " The accepted one is shown in its place." if folder == "masks" else ""
        return masks.read(self._file(folder, item), item.shape_xyz, self.has_labels)

    def _file(self, folder: str, item: Item) -> Path:
        return self.folder / folder / (item.id + item.mask_ending)

    def _bits(self, folder: str, item: Item) -> np.ndarray | None:
        """Return a mask of the index as bits; as ``_read``."""
        path = self._file(folder, item)
        if (item.mask if folder == "masks" else item.proposal) is None:
            return None
        bits = self._packed.get(path)
        if bits is None and (mask_xyz := self._read(folder, item)) is not None:
            bits = masks.pack(mask_xyz)
            self._packed.put(path, bits)
        if bits is not None and folder == "proposals":
            with self._ready() as index:
                removed = index.removed_labels(item.id)
            if removed:
                bits = masks.pack(label_maps.clear(masks.unpack(bits, item.shape_xyz), removed))
        return bits

    def _unpacked(self, folder: str, id: str) -> np.ndarray | None:
        """Return a mask of the index as label map (X, Y, Z); as ``_read``."""
        item = self.item(id)
        with self._image_locks[id]:
            bits = self._bits(folder, self.item(id))
            return None if bits is None else masks.unpack(bits, item.shape_xyz)

    def _put(self, folder: str, item: Item, map_xyz: np.ndarray) -> str:
        """Write a label map's file, at once or not at all; return its sha256."""
        self.refuse_read_only()
        path = self._file(folder, item)
        data = masks.encode(self.scan(item.id), map_xyz if self.has_labels else map_xyz.view(bool))
        checkpoint.write(path, data)
        self._packed.put(path, masks.pack(map_xyz))
        return hashlib.sha256(data).hexdigest()

    def _write(self, rows: Sequence[dict], user: str) -> None:
        """Append to the log, which acknowledges, and let the index follow."""
        self.refuse_read_only()
        self._commits.append_now(add_time_and_user(rows, user))
        self._index.sync_from_log()

    def _acknowledge(self, rows: Sequence[dict], user: str) -> None:
        """Append to the log as ``_write``, but without the lock: lines of several threads reach the disk together."""
        self.refuse_read_only()
        with self._ready() as index:
            position = self._commits.append(add_time_and_user(rows, user))
            index.sync_from_log()
        self._commits.commit(position)

    def _keep(
        self, row: dict, mask_xyz: np.ndarray, user: str, truth_xyz: np.ndarray | None, expected: str | None
    ) -> Item:
        """Save or accept a mask: its file first, then the line that acknowledges it, then ``accepted``.

        row: the line without what is found out here; its item is the image, its action "saved" or "accepted".
        """
        id, action = row["item"], row["action"]
        self.refuse_read_only()
        with self._image_locks[self.item(id).id]:
            item = self.item(id)
            if expected is not None and expected != (item.mask or ""):
                raise ConflictError(
                    f"image {id} has another mask now than when it was opened; open it again to see that one"
                )
            map_xyz = masks.validate(self.scan(id), mask_xyz, structures.labels(self))
            proposed, saved, after = (
                self._bits("proposals", item),
                self._bits("masks", item) if action == "saved" else None,
                masks.pack(map_xyz),
            )
            if action == "saved" and item.status == "in work" and saved is not None and np.array_equal(saved, after):
                return item
            before = next((bits for bits in (saved, proposed) if bits is not None), np.zeros_like(after))
            changes = compare_masks(before, after, proposed, pack_truth(truth_xyz, item))
            sha256 = self._put("masks", item, map_xyz)
            made_by = item.checkpoint and {"checkpoint": item.checkpoint[0], "sha256": item.checkpoint[1]}
            self._acknowledge([row | {"proposal": made_by, "mask": sha256} | changes], user)
            self._publish(self.item(id))
            return self.item(id)

    def _set(self, id: str, action: str, user: str, seconds: float) -> Item:
        with self._image_locks[self.item(id).id]:
            self._acknowledge([{"item": id, "action": action, "seconds": check_finite("seconds", seconds)}], user)
            self._publish(self.item(id))
            return self.item(id)

    def _publish(self, item: Item) -> None:
        """Let ``accepted`` hold the item's image and mask if it is accepted and its image is there, else neither."""
        mask = self._file("accepted/masks", item)
        image = self.accepted / "images" / (item.id + item.image_ending)
        if item.status != "accepted" or not (image.exists() or self.image(item.id).exists()):
            images.remove(image)
            images.remove(mask)
        else:
            if masks.sha256(mask) != item.mask:
                checkpoint.write(mask, self._file("masks", item).read_bytes())
            images.link(self.image(item.id), self.accepted / "images")

    def _recover(self) -> None:
        """Settle differences between folder and log: images and masks that a crash or a person added or removed."""
        known = {item.id + item.image_ending for item in self._index.items()}
        for path in sorted((self.folder / "images").iterdir()):
            if path.name not in known:
                self._add_found(path)
        for item in self._index.items():
            self._check_proposal(item)
            self._check_mask(item)
            self._publish(self.item(item.id))

    def _add_found(self, path: Path) -> None:
        """Add an image in images/ that the log lacks; one that is not named by its content, or none, is left alone."""
        if images.named_by_content(path):
            with suppress(ValueError):
                self._write(added_line(path.name[:16], path.name[16:], imaging.read(images.files_of(path))), "")

    def _check_proposal(self, item: Item) -> None:
        """Remove a proposal that is not the one the log names: it was never acknowledged, so its origin is unknown."""
        path = self._file("proposals", item)
        if masks.sha256(path) != item.proposal:
            images.remove(path)
            if item.proposal is not None:
                self._write([{"item": item.id, "action": "discarded"}], "")

    def _check_mask(self, item: Item) -> None:
        """Take a whole mask that differs from that in the log for a later one, saved at a crash or by another tool."""
        path = self._file("masks", item)
        found = masks.sha256(path)
        if found == item.mask:
            return
        good = self._file("accepted/masks", item)
        try:
            masks.read(path, item.shape_xyz, self.has_labels)
        except ValueError:
            if found is not None:
                path.replace(path.with_name(path.name + ".damaged"))
            if item.mask is not None and masks.sha256(good) == item.mask:
                checkpoint.write(path, good.read_bytes())
            elif item.mask is not None:
                self._write([{"item": item.id, "action": "missing"}], "")
        else:
            again = item.mask is None and masks.sha256(good) == found  # the log itself was lost
            self._write([{"item": item.id, "action": "accepted" if again else "recovered", "mask": found}], "")


def _marked(map_xyz: np.ndarray | None) -> np.ndarray | None:
    return None if map_xyz is None else map_xyz != 0
