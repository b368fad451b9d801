"""Write the hashes of a data set's images, by which the app tells whether a network has seen the image on screen.

  python -m train.image_hashes --data.name busi --data.root Dataset_BUSI_with_GT --out weights/busi-images.json

The file holds hashes of pixel values and names of cases; no image can be made from it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from mpsams import checkpoint, datasets, imaging
from mpsams.imaging import UnreadableImage
from train.command_line import check_replace, parse, run
from train.evaluate import Source
from train.options import print_notes


@dataclass(frozen=True)
class Hashing:
    """Options of the hashing.

    Args:
        out: the file to write, named after the data set, such as weights/busi-images.json.
        overwrite: replace the file if it exists.
    """

    out: str
    data: Source = Source()
    overwrite: bool = False


def hash_images(dataset: datasets.Dataset) -> dict[str, list[str]]:
    """Hash each image's values; return by hash the patients (of pictures: the cases) it belongs to, several where there
    are copies. Masks and what cannot be opened are passed over.
    """
    found: dict[str, list[str]] = {}
    for group in tqdm(list(dict.fromkeys(dataset.groups)), desc="hashing", disable=None):
        for path in dataset.files(group):
            if "mask" in path.stem.lower() or path.name.partition(".")[0].endswith(("_gtvt", "_seg")):
                continue
            try:
                found.setdefault(imaging.read([path], dataset.modality).content_sha256, []).append(group)
            except UnreadableImage:
                continue
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, hash the images of the data set and write the hashes."""
    options = parse(Hashing, "train.image_hashes", argv)
    if not options.data.name:
        raise ValueError(f"--data.name is not given; allowed are {', '.join(datasets.available())}")
    out = Path(options.out)
    check_replace(out, options.overwrite)
    dataset = datasets.open_dataset(options.data.name, options.data.root, (), options.data.modality)
    images = hash_images(dataset)
    checkpoint.write(out, _lines(dataset.name, images).encode())
    print_notes([*dataset.notes, f"{out} holds {len(images)} images of {len(set().union(*images.values()))} cases"])


def _lines(name: str, images: dict[str, list[str]]) -> str:
    """Return the file: JSON, an image a line."""
    rows = ",\n".join(f"{json.dumps(key)}: {json.dumps(sorted(set(cases)))}" for key, cases in sorted(images.items()))
    return f'{{"dataset": {json.dumps(name)}, "images": {{\n{rows}\n}}}}\n'


if __name__ == "__main__":
    run(main, "train.image_hashes")
