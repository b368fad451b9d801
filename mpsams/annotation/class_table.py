"""names.csv: one row for each image of an export, with its own name and its class; and tables of classes read from
strangers.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Mapping, Sequence

from mpsams.annotation.coco_json import label_of
from mpsams.imaging import UnreadableImage
from mpsams.imaging.name_matching import Names

MAX_BYTES, MAX_ROWS = 16 * 2**20, 200_000
# columns that say which image a row is about
IDS, NAMES = ("id",), ("name", "image", "file", "filename", "file_name", "mask")
CLASSES = ("class", "label", "diagnosis", "category")  # columns that say its class
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # with which a cell begins that a spreadsheet would compute


def document(rows: Sequence[Mapping[str, object]]) -> bytes:
    """Return rows of the same columns as a CSV file, UTF-8; what a spreadsheet takes for a formula has ' before."""
    file = io.StringIO()
    table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows({column: _cell(value) for column, value in row.items()} for row in rows)
    return file.getvalue().encode()


def read(data: bytes, ids: Collection[str], names: Names) -> tuple[dict[str, str], int]:
    """Return the class of each image that a CSV file names, by id or else name, and how many rows name no image here.

    ids, names: of the images. The first line names the columns: one of IDS or NAMES, and one of CLASSES, in any case.
    An empty class is none. A file without such columns gives nothing. UnreadableImage: no text, too large, one image
    with two classes.
    """
    if len(data) > MAX_BYTES or data.count(b"\n") > MAX_ROWS:
        raise UnreadableImage(
            f"The CSV file is too large; allowed are up to {MAX_ROWS} rows and {MAX_BYTES >> 20} MiB."
        )
    try:
        text = data.decode("utf-8-sig")
        first = text.partition("\n")[0]
        rows = list(csv.reader(io.StringIO(text), delimiter=max(",;\t", key=first.count)))
    except (UnicodeDecodeError, csv.Error):
        raise UnreadableImage("A CSV file was left out: it is no table in UTF-8 that can be read.") from None
    columns = [cell.strip().casefold() for cell in rows[0]] if rows else []
    by_id, by_name, by_class = (
        next((columns.index(name) for name in group if name in columns), None) for group in (IDS, NAMES, CLASSES)
    )
    if by_class is None or (by_id is None and by_name is None):
        return {}, 0
    found: dict[str, str] = {}
    strangers = 0
    for row in rows[1:]:
        id, name, image_class = (_text(row, column) for column in (by_id, by_name, by_class))
        keys = {id} if id in ids else names.of_mask((), name.replace("\\", "/").split("/")[-1]) if name else set()
        if len(keys) != 1:
            strangers += bool(row)
        elif label_of(image_class) and found.setdefault(next(iter(keys)), image_class) != image_class:
            raise UnreadableImage("A CSV file was left out: it gives one image two classes.")
    return found, strangers


def _text(row: list[str], column: int | None) -> str:
    cell = row[column].strip() if column is not None and column < len(row) else ""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA) else cell


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
