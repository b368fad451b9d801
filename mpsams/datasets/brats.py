"""BraTS 2018: brain tumours on MRI (Menze et al., IEEE TMI 34:10, 2015; Bakas et al., arXiv:1811.02629), the official
folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mpsams.datasets import Dataset, _files, _volumes, add_names
from mpsams.datasets._volumes import Codes, Patient

SOURCE = (
    "BraTS 2018: B. Menze et al., The Multimodal Brain Tumor Image Segmentation Benchmark, IEEE TMI 34 (2015) 1993; "
    "S. Bakas et al., arXiv:1811.02629; to be had from its organisers after registration"
)
SEQUENCES = ("t1", "t1ce", "t2", "flair")
GRADES = ("HGG", "LGG")
CODES = Codes(lesion=(1, 2, 3, 4), known=(0, 1, 2, 3, 4))  # necrosis, oedema, (unused), enhancing; or a plain 0 and 1
LAYOUT = "{HGG,LGG}/CASE/CASE_t1.nii.gz beside CASE_seg.nii.gz (and CASE_t1ce, CASE_t2, CASE_flair; .nii or .nii.gz)"


def load(root: str | Path | None, sequences: Sequence[str] = ("t1",)) -> Dataset:
    """Open the folder: axial slices, the whole tumour (any code above 0) as lesion, patients kept together.

    root: the folder with HGG/ and LGG/ (one of them is enough), or one that holds it. sequences: of SEQUENCES;
    each becomes a channel, and patients without all of them are left out.
    Raises ValueError saying what was expected: no such folder, an unknown sequence, a file that is no volume.
    """
    unknown = [name for name in sequences if name not in SEQUENCES]
    if unknown or not sequences:
        raise ValueError(f"unknown sequence {', '.join(unknown) or 'none'}; available: {', '.join(SEQUENCES)}")
    folders = [folder for grade in find(root) for folder in sorted(grade.iterdir()) if folder.is_dir()]
    found = {folder.name: patient_of(folder, sequences) for folder in folders}
    patients = [patient for patient in found.values() if isinstance(patient, Patient)]
    if not patients:
        raise ValueError(f"{root} has no patient with {', '.join(sequences)} and seg; expected {LAYOUT}")
    notes = add_names((name, lacking) for name, lacking in found.items() if isinstance(lacking, str))
    dataset = _volumes.dataset("brats", "mri", "whole brain tumour", patients, CODES)
    return replace(dataset, sequences=tuple(sequences), notes=notes + dataset.notes)


def find(root: str | Path | None) -> list[Path]:
    """Return the folders of the grades, in ``root`` or one step below."""
    if root is None:
        raise ValueError(f"BraTS needs --data.root DIR; expected {LAYOUT}")
    for folder in (Path(root), *sorted(path for path in Path(root).glob("*") if path.is_dir())):
        grades = [folder / grade for grade in GRADES if (folder / grade).is_dir()]
        if grades:
            return grades
    raise ValueError(f"{root} is not a BraTS folder: it has neither HGG nor LGG; expected {LAYOUT}")


def patient_of(folder: Path, sequences: Sequence[str]) -> Patient | str:
    """Return the files of a case's folder, or a sentence that says which are missing."""
    files = _files.volumes(folder)
    lacking = [part for part in (*sequences, "seg") if f"{folder.name}_{part}" not in files]
    if lacking:
        return f"Left out, for there is no {' and no '.join(lacking)}."
    return Patient(
        folder.name, tuple(files[f"{folder.name}_{part}"] for part in sequences), files[f"{folder.name}_seg"]
    )
