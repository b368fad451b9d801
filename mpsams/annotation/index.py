"""An index of the images in SQLite, built from the log; it may be deleted and is then built again.

One connection, guarded by the lock of the project that holds it.

Over 250 lines because the queries and the replay of the log share one connection and one table.
"""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from mpsams.annotation import log
from mpsams.annotation.definitions import STRUCTURES
from mpsams.annotation.index_schema import CHANGES, COLUMNS, TABLES, VERSION

STATUSES = ("new", "proposed", "in work", "accepted", "skipped")
OPEN = STATUSES[:3]  # what stands in the queue
IMAGE_ENDINGS = (".png", ".jpg", ".tif", ".nii", ".nii.gz", ".dcm", ".zip", "")  # the last is a folder with a series
MASK_ENDINGS = (".png", ".nii.gz")
MAX_LABEL = 32  # of a structure
LOCK_TIMEOUT = 0.5  # seconds to wait for another program that locks the file

_ID = re.compile("[0-9a-f]{16}")


@dataclass(frozen=True)
class Item:
    """An image of a project and how far it is.

    id: 16 hexadecimal digits of its content. status: one of STATUSES. priority: None where nobody gave one. shape_xyz:
    of the image in voxels, a flat one with Z = 1. mask, proposal: sha256 of their files, None where there is none.
    checkpoint: the name and sha256 of what proposed. seconds: spent on it in all. changed: ISO 8601, UTC. image_class:
    of the whole image, "" where nobody gave one. class_before: what it was before the last change. reader: who saved
    its mask last. name: of the user's file, "" where that was forgotten; it may name a patient, so it is shown to the
    user and goes nowhere else but into an export.
    proposal_pixels: outlined by the proposal without the structures that were removed since, None where that is not
    known.
    """

    id: str
    status: str
    priority: float | None
    modality: str
    image_ending: str
    mask_ending: str
    shape_xyz: tuple[int, int, int]
    mask: str | None
    proposal: str | None
    checkpoint: tuple[str, str] | None
    seconds: float
    changed: str
    image_class: str = ""
    class_before: str = ""
    reader: str = ""
    name: str = field(default="", repr=False)
    proposal_pixels: int | None = None

    @property
    def is_nothing_found(self) -> bool:
        """True if the network found nothing in the image and nobody has worked on it yet."""
        return self.status == "proposed" and self.proposal_pixels == 0


class Index:
    """The table of a project; ``sync_from_log`` brings it up to the log.

    Where its file cannot be written (a full or read-only disk, another program that locks it, a folder of its name),
    the table is kept in memory until the project is opened again: nothing depends on the file, for the log has it all.
    """

    def __init__(self, path: Path, lines: Path, names: Path, read_only: bool = False) -> None:
        """path: of the SQLite file, made when it is not there and made again when it is damaged or of another version.

        lines: of the log. names: of the file with the private names. read_only: the table is kept in memory.
        """
        self.path, self.lines, self.names, self.in_memory = path, lines, names, read_only
        self.db = None if read_only else _open_table(path, lines)
        if self.db is None:
            self.rebuild()
        else:
            try:
                self._read_names()
            except sqlite3.DatabaseError:
                self.rebuild()
            self.sync_from_log()

    @property
    def _table(self) -> sqlite3.Connection:
        """The connection of an index that is not closed."""
        assert self.db is not None
        return self.db

    def rebuild(self) -> None:
        """Throw the table away and make it again from the log."""
        if not self.in_memory:
            try:
                self._make(self.path)
                return
            except (sqlite3.Error, OSError):
                self.in_memory = True
        self._make(None)

    def _make(self, path: Path | None) -> None:
        self.close()
        if path is not None:
            for ending in ("", "-journal", "-wal", "-shm"):
                path.with_name(path.name + ending).unlink(missing_ok=True)
        self.db = _connected(path)
        self.db.executescript(f"BEGIN; {TABLES} PRAGMA user_version = {-VERSION}; COMMIT;")
        self._read_names()
        self._apply_log()

    def sync_from_log(self) -> None:
        """Take in what the log has and the table has not; a table that is damaged, gone or locked is made again."""
        try:
            self._apply_log()
        except sqlite3.DatabaseError:
            self.rebuild()

    @property
    def is_ahead(self) -> bool:
        """Return True if the log is shorter than what was read of it, because it was removed or replaced."""
        ((end,),) = self._rows("SELECT log_end FROM state")
        return end > (self.lines.stat().st_size if self.lines.exists() else 0)

    def _apply_log(self) -> None:
        (start,) = self._table.execute("SELECT log_end FROM state").fetchone()
        if not self.lines.exists() or self.lines.stat().st_size == start:
            return
        rows, end = log.read(self.lines, start)
        with self._table:
            for row in rows:
                with contextlib.suppress(OverflowError, UnicodeEncodeError):  # numbers and letters no table can hold
                    _apply(self._table, row)
            self._table.execute("UPDATE state SET log_end = ?", (end,))

    def items(self, statuses: Sequence[str] = STATUSES) -> tuple[Item, ...]:
        """Return all items of some statuses, in the order they were added."""
        marks = ", ".join("?" * len(statuses))
        return tuple(
            map(
                _item,
                self._rows(f"SELECT {COLUMNS} FROM items WHERE status IN ({marks}) ORDER BY number", tuple(statuses)),
            )
        )

    def counts(self) -> dict[str, int]:
        """Return the number of items of each status."""
        return dict.fromkeys(STATUSES, 0) | dict(self._rows("SELECT status, COUNT(*) FROM items GROUP BY status"))

    def item(self, id: str) -> Item | None:
        """Return the item of an id; None where there is none."""
        return next(map(_item, self._rows(f"SELECT {COLUMNS} FROM items WHERE id = ?", (id,))), None)

    def name(self, id: str) -> str:
        """Return the name of the user's file; "" where that was forgotten."""
        return next((name for (name,) in self._rows("SELECT name FROM names WHERE id = ?", (id,))), "")

    def setting(self, name: str) -> object:
        """Return the last value that the log gives a setting; None where it gives none."""
        question = "SELECT value FROM settings WHERE name = ? ORDER BY number DESC LIMIT 1"
        return next((json.loads(value) for (value,) in self._rows(question, (name,))), None)

    def setting_values(self, name: str) -> list:
        """Return all values that the log gives a setting, oldest first."""
        question = "SELECT value FROM settings WHERE name = ? ORDER BY number"
        return [json.loads(value) for (value,) in self._rows(question, (name,))]

    def removed_labels(self, id: str) -> set[int]:
        """Return the labels of structures that the proposal of an image is read without: they were removed since, even
        if others have these labels now.
        """
        rows = self._rows("SELECT proposal_labels, kept_labels FROM items WHERE id = ?", (id,))
        return {
            label
            for counts, kept in rows
            for label in (map(int, json.loads(counts)) if counts else range(1, MAX_LABEL + 1))
            if not kept >> label & 1
        }

    def call(self, id: str, name: str) -> None:
        """Keep the name of a user's file in the table alone; see the project's ``names`` file."""
        try:
            with self._table:
                self._table.execute("INSERT OR REPLACE INTO names VALUES (?, ?)", (id, name))
        except sqlite3.DatabaseError:
            self.rebuild()  # which reads the names' file

    def _rows(self, question: str, values: tuple = ()) -> list[tuple]:
        """Return the rows that answer a question; the table is made again if it was damaged meanwhile."""
        try:
            return self._table.execute(question, values).fetchall()
        except sqlite3.DatabaseError:
            self.rebuild()
            return self._table.execute(question, values).fetchall()

    def close(self) -> None:
        if self.db is not None:
            with contextlib.suppress(sqlite3.Error):
                _mark(self.db, VERSION)
            self.db.close()
        self.db = None

    def _read_names(self) -> None:
        known = [(row.get("item"), row.get("name")) for row in log.read(self.names)[0]]
        with self._table:
            self._table.execute("DELETE FROM names")
            pairs = [pair for pair in known if all(isinstance(text, str) and text.isprintable() for text in pair)]
            self._table.executemany("INSERT OR REPLACE INTO names VALUES (?, ?)", pairs)


def _connected(path: Path | None) -> sqlite3.Connection:
    """Open the database file of the table. path: None is a table in memory."""
    db = sqlite3.connect(":memory:" if path is None else path, timeout=LOCK_TIMEOUT, check_same_thread=False)
    db.execute("PRAGMA journal_mode = DELETE")  # one file, which any SQLite reads
    db.execute("PRAGMA synchronous = OFF")  # the log is the truth; after a crash the table is made again
    return db


def _mark(db: sqlite3.Connection, version: int) -> None:
    """Bring the table to the disk with its version: of a closed table that version, of one in use its negative."""
    db.execute("PRAGMA synchronous = FULL")
    db.execute(f"PRAGMA user_version = {version}")
    db.execute("PRAGMA synchronous = OFF")


def _open_table(path: Path, lines: Path) -> sqlite3.Connection | None:
    """Open the table; None where it is missing, damaged, was not closed, has another version or is ahead of the log."""
    if not path.is_file():
        return None
    db = None
    try:
        db = _connected(path)
        (found,) = db.execute("PRAGMA quick_check").fetchone()
        (version,) = db.execute("PRAGMA user_version").fetchone()
        (end,) = db.execute("SELECT log_end FROM state").fetchone()
        db.execute(f"SELECT {COLUMNS} FROM items LIMIT 1").fetchone()
        if (found, version) == ("ok", VERSION) and end <= (lines.stat().st_size if lines.exists() else 0):
            _mark(db, -VERSION)
            return db
    except (sqlite3.DatabaseError, TypeError):  # TypeError: no row where one belongs
        pass
    if db is not None:
        with contextlib.suppress(sqlite3.Error):
            db.close()
    return None


def _apply(db: sqlite3.Connection, row: dict) -> None:
    """Apply a line of the log to the table; a line without sense, or of a later version's action, changes nothing."""
    action, proposal = row.get("action"), row.get("proposal")
    proposal = proposal if isinstance(proposal, dict) else {}
    values = {
        name: row.get(name) for name in ("item", "priority", "file", "mask", "time", "image_class", "pixels", "user")
    }
    values |= {name: proposal.get(name) for name in ("checkpoint", "sha256")} | {"seconds": row.get("seconds") or 0}
    values["labels"] = _read_counts(row.get("pixels_of_labels"))
    if not all(value is None or isinstance(value, str | int | float) for value in values.values()):
        return
    if action == "added" and _sensible(row):
        db.execute(
            "INSERT OR IGNORE INTO items (id, status, modality, image_ending, mask_ending, shape, changed) "
            "VALUES (?, 'new', ?, ?, ?, ?, ?)",
            (
                row["item"],
                row["modality"],
                row["image_ending"],
                row["mask_ending"],
                json.dumps(row["shape"]),
                str(row.get("time")),
            ),
        )
    if action == "removed":
        for table in ("items", "names"):
            db.execute(f"DELETE FROM {table} WHERE id = ?", (values["item"],))
    if action == "configured" and isinstance(row.get("setting"), str):
        db.execute("INSERT INTO settings (name, value) VALUES (?, ?)", (row["setting"], json.dumps(row.get("value"))))
        if row["setting"] == STRUCTURES and (bits := _label_bits(row.get("value"))):
            db.execute("UPDATE items SET kept_labels = kept_labels & ?", (bits,))
    if isinstance(action, str) and action in CHANGES:
        changes = f"{CHANGES[action]}, seconds = seconds + :seconds, changed = coalesce(:time, changed)"
        db.execute(f"UPDATE items SET {changes} WHERE id = :item", values)


def _read_counts(counts: object) -> str | None:
    """Return the pixels of each structure that a line of the log gives, as JSON; None if it gives none."""
    if not isinstance(counts, dict):
        return None
    return json.dumps({label: n for label, n in counts.items() if label.isdecimal() and type(n) is int})


def _label_bits(definition: object) -> int:
    """Return the labels of a definition of structures as bits; 0 for what is no definition."""
    rows = definition if isinstance(definition, list) else []
    labels = {row["label"] for row in rows if isinstance(row, dict) and type(row.get("label")) is int}
    return sum(1 << label for label in labels if 0 < label <= MAX_LABEL)


def _count_kept(pixels: int | None, counts: str | None, kept: int) -> int | None:
    """Return the pixels of a proposal without the structures that were removed; None where that is not known.

    pixels: of all of them. counts: of each structure, JSON. kept: as in the table.
    """
    if not pixels or kept == -1:
        return pixels
    if counts is None:
        return None
    return sum(n for label, n in json.loads(counts).items() if kept >> int(label) & 1)


def _sensible(row: dict) -> bool:
    """Return True if a line "added" says all that is needed, and nothing that leads out of the folder."""
    shape = row.get("shape")
    return (
        isinstance(row.get("item"), str)
        and _ID.fullmatch(row["item"]) is not None
        and isinstance(row.get("modality"), str)
        and row.get("image_ending") in IMAGE_ENDINGS
        and row.get("mask_ending") in MASK_ENDINGS
        and isinstance(shape, list)
        and len(shape) == 3
        and all(isinstance(side, int) and side > 0 for side in shape)
    )


@lru_cache(4096)
def _shape(text: str) -> tuple[int, int, int]:
    """Return a shape from its JSON; most images of a project share few."""
    x, y, z = json.loads(text)
    return x, y, z


def _item(row: tuple) -> Item:
    *first, shape, mask, proposal, checkpoint, sha256 = row[:11]
    made_by = None if checkpoint is None else (checkpoint, sha256 or "")
    return Item(*first, _shape(shape), mask, proposal, made_by, *row[11:-3], _count_kept(*row[-3:]))  # type: ignore[call-arg]
