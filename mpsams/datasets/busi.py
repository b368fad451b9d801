"""BUSI: breast ultrasound images (Al-Dhabyani et al., Data in Brief 28, 2020, 104863), the official folder."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from mpsams.datasets import Dataset, Sample
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


def load(root: str | Path | None) -> Dataset:
    """Open the folder, checking that every image has masks of its own size before anything is trained.

    root: the folder with benign/, malignant/ and normal/, or the one that holds Dataset_BUSI_with_GT.
    Images may be grey or RGB; several masks of an image are merged; normals have empty masks.
    Raises ValueError naming the file and what was expected: a missing folder or mask, a mask without
    image, a mask of another size, a file that is no PNG.
    """
    folder = find(root)
    masks_of: dict[str, list[Path]] = {}
    for kind in KINDS:
        masks_of |= pair(folder / kind)
    for case, masks in masks_of.items():
        check_sizes(path_of(folder, case), masks)
    cases = tuple(sorted(masks_of, key=natural))
    return Dataset("busi", "ultrasound", "breast lesion", cases, cases, partial(read, folder, masks_of), partial(files_of, folder, masks_of))


def find(root: str | Path | None) -> Path:
    """The folder that holds benign/, malignant/ and normal/, in ``root`` or one step below."""
    if root is None:
        raise ValueError(f"BUSI needs --data.root DIR; expected {LAYOUT}")
    for folder in (Path(root), Path(root) / FOLDER):
        if all((folder / kind).is_dir() for kind in KINDS):
            return folder
    absent = [kind for kind in KINDS if not (Path(root) / kind).is_dir()]
    raise ValueError(f"{root} is not a BUSI folder: it has no {', '.join(absent)}; expected {LAYOUT}")


def natural(case: str) -> tuple[str, int]:
    """Sort key: kind, then number, so that 'benign (10)' follows 'benign (9)'."""
    kind, _, number = case.partition(" ")
    return kind, int(re.sub(r"\D", "", number) or 0)


def path_of(folder: Path, case: str) -> Path:
    """Where a case's image lies."""
    return folder / case.split(" ")[0] / f"{case}.png"


def files_of(folder: Path, masks_of: dict[str, list[Path]], case: str) -> tuple[Path, ...]:
    """What a case is read from."""
    return (path_of(folder, case), *masks_of[case])


def pair(folder: Path) -> dict[str, list[Path]]:
    """Case name -> its masks, for one of the three folders; ValueError names what has no partner."""
    files = sorted(folder.glob("*.png"))
    masks = [file for file in files if "_mask" in file.stem]
    images = {file.stem: [] for file in files if "_mask" not in file.stem}
    if not images:
        raise ValueError(f"{folder} holds no images; expected {LAYOUT}")
    for mask in masks:
        case = mask.stem.split("_mask")[0]
        if case not in images:
            raise ValueError(f"{mask} is a mask without image: expected '{case}.png' beside it")
        images[case].append(mask)
    for case, own in images.items():
        if not own:
            raise ValueError(f"{folder / case}.png has no mask: expected '{case}_mask.png' beside it")
        if not case.startswith(f"{folder.name} ("):
            raise ValueError(f"{folder / case}.png: expected a name like '{folder.name} (1).png'")
    return images


def check_sizes(image: Path, masks: list[Path]) -> None:
    """ValueError unless image and masks are PNG headers of one size."""
    sizes = []
    for file in (image, *masks):
        try:
            with Image.open(file, formats=("PNG",)) as header:
                sizes.append(header.size)
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise ValueError(f"{file} cannot be read as a PNG file: {error}") from None
        if sizes[-1] != sizes[0]:
            raise ValueError(f"{file} is {sizes[-1]} pixels (width, height), its image {sizes[0]}; expected the same")


def read(folder: Path, masks_of: dict[str, list[Path]], case: str) -> Sample:
    """Decode one case; ValueError names the file that cannot be decoded."""
    image = decode(path_of(folder, case), lambda data: raster.grey(data)[0])
    masks = [decode(file, lambda data: raster.read_mask(data, image.shape)) for file in masks_of[case]]
    return Sample(image, np.logical_or.reduce(masks), case)


def decode(file: Path, how) -> np.ndarray:
    """Apply a decoder to a file's bytes, naming the file when it refuses them."""
    try:
        return how(file.read_bytes())
    except UnreadableImage as error:
        raise ValueError(f"{file}: {error}") from None
