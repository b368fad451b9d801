"""BUSI: breast ultrasound images (Al-Dhabyani et al., Data in Brief 28, 2020, 104863), the official folder."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from mpsams.datasets import Dataset, Sample, _files
from mpsams.datasets._volumes import like_a_mask
from mpsams.imaging import UnreadableImage, raster

SOURCE = (
    "BUSI: W. Al-Dhabyani, M. Gomaa, H. Khaled, A. Fahmy, Dataset of breast ultrasound images, "
    "Data in Brief 28 (2020) 104863, https://doi.org/10.1016/j.dib.2019.104863; public, to be cited"
)
KINDS = ("benign", "malignant", "normal")
FOLDER = "Dataset_BUSI_with_GT"
LAYOUT = (
    f"{FOLDER}/{{benign,malignant,normal}}/ with 'benign (1).png' beside 'benign (1)_mask.png' "
    "(and '_mask_1.png', '_mask_2.png' where an image has several)"
)
MASK = re.compile(r"_mask(_\d+)?$", re.IGNORECASE)


def load(root: str | Path | None) -> Dataset:
    """Open the folder, checking that every image has masks of its own size before anything is trained.

    root: the folder with benign/, malignant/ and normal/, or the one that holds Dataset_BUSI_with_GT.
    Images may be grey or RGB, endings in any case; several masks of an image are merged; normals have empty masks.
    Other files are passed over, with a note.
    Raises ValueError naming the file and what was expected: a missing folder or mask, a mask without
    image, a mask of another size, a file that is no PNG.
    """
    folder = find(root)
    files: dict[str, tuple[Path, ...]] = {}
    notes: list[str] = []
    for kind in KINDS:
        found, passed = pair(folder / kind)
        files |= found
        notes += passed
    for own in files.values():
        check_sizes(own)
    cases = tuple(sorted(files, key=natural))
    return Dataset(
        "busi", "ultrasound", "breast lesion", cases, cases, partial(read, files), files.__getitem__, notes=tuple(notes)
    )


def find(root: str | Path | None) -> Path:
    """Return the folder that holds benign/, malignant/ and normal/: ``root`` or one step below."""
    if root is None:
        raise ValueError(f"BUSI needs --data.root DIR; expected {LAYOUT}")
    for folder in (Path(root), Path(root) / FOLDER):
        if all((folder / kind).is_dir() for kind in KINDS):
            return folder
    absent = [kind for kind in KINDS if not (Path(root) / kind).is_dir()]
    raise ValueError(f"{root} is not a BUSI folder: it has no {', '.join(absent)}; expected {LAYOUT}")


def natural(case: str) -> tuple[str, int]:
    """Return a sort key: kind, then number, so that 'benign (10)' follows 'benign (9)'."""
    kind, _, number = case.partition(" ")
    return kind, int(re.sub(r"\D", "", number) or 0)


def pair(folder: Path) -> tuple[dict[str, tuple[Path, ...]], list[str]]:
    """Return the image and masks of each case of one of the three folders, and a sentence on skipped files if any.

    ValueError names what has no partner.
    """
    paths = sorted(folder.iterdir())
    pngs = [path for path in paths if path.suffix.lower() == ".png" and path.is_file() and not _files.is_hidden(path)]
    images: dict[str, tuple[Path, ...]] = {}
    for path in pngs:
        if not MASK.search(path.stem):
            if path.stem in images:
                raise ValueError(
                    f"{images[path.stem][0].name} and {path.name} in {folder} have one name; expected one file per"
                    " image"
                )
            images[path.stem] = (path,)
    if not images:
        raise ValueError(f"{folder} holds no images; expected {LAYOUT}")
    for mask in pngs:
        if MASK.search(mask.stem):
            case = MASK.split(mask.stem)[0]
            if case not in images:
                raise ValueError(f"{mask} is a mask without image: expected '{case}.png' beside it")
            images[case] += (mask,)
    for case, (image, *masks) in images.items():
        if not masks:
            raise ValueError(f"{image} has no mask: expected '{case}_mask.png' beside it")
        if not case.startswith(f"{folder.name} ("):
            raise ValueError(f"{image}: expected a name like '{folder.name} (1).png'")
    return images, _files.skipped_note([path for path in paths if path not in pngs], folder, "PNG images")


def check_sizes(files: tuple[Path, ...]) -> None:
    """Raise ValueError unless an image and its masks are PNG headers of one size."""
    sizes = []
    for file in files:
        try:
            with Image.open(file, formats=("PNG",)) as header:
                sizes.append(header.size)
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise ValueError(f"{file} cannot be read as a PNG file: {error}") from None
        if sizes[-1] != sizes[0]:
            raise ValueError(f"{file} is {sizes[-1]} pixels (width, height), its image {sizes[0]}; expected the same")


def read(files: dict[str, tuple[Path, ...]], case: str) -> Sample:
    """Decode one case; ValueError names the file that cannot be decoded."""
    image = decode(files[case][0], lambda data: raster.grey(data)[0])
    masks = [decode(file, lambda data: raster.mask_of(data, image.shape)) for file in files[case][1:]]
    notes = like_a_mask(image) + tuple(dict.fromkeys(note for mask in masks for note in mask.notes))  # type: ignore[attr-defined]
    return Sample(image, np.logical_or.reduce([mask.lesion for mask in masks]), case, notes=notes)  # type: ignore[attr-defined]


def decode(file: Path, decoder) -> np.ndarray:
    """Apply a decoder to a file's bytes, naming the file when it refuses them."""
    try:
        return decoder(file.read_bytes())
    except UnreadableImage as error:
        raise ValueError(f"{file}: {error}") from None
