"""Import masks into a project, export them, and add images, as the Annotate tab of the app does; prints a report as
JSON.

python -m mpsams.annotation import PROJECT FILE

Over 250 lines because the options, the help and the reports of six commands belong together.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from mpsams import checkpoint
from mpsams.annotation import disk, readers, transfer
from mpsams.annotation.consensus import METHODS
from mpsams.annotation.project import Project
from mpsams.annotation.project_folder import is_project
from mpsams.arguments import Parser
from mpsams.imaging import MODALITIES

ABOUT = "Import masks into a project of annotations, export them, and add images, as the Annotate tab of the app does."
FORMATS = "\n".join(f"  {name:<10} {description}" for name, description in {
    "folder": "images/ and masks/, PNG for pictures and .nii.gz for volumes: what --data.name folder reads",
    "nifti": "a NIfTI mask for each image, on the image's own grid",
    "coco": "annotations.json; a slice of a volume is the image NAME/007.png, counted from 0",
    "dicom-seg": "a DICOM-SEG for each DICOM series; other images are left out",
    "busi": "each flat picture and its mask in the folder of its class, as benign, malignant and normal",
}.items())  # fmt: skip
EPILOG = f"""
formats of an export:
{FORMATS}
formats of an import (told by content, not by name):
  PNG, JPEG, TIFF and NIfTI masks named like their image, with or without _mask, _mask_1 or _seg after the name;
  COCO JSON; DICOM-SEG; a folder or a zip of these
  a table (.csv) with the columns id or name, and class
names.csv lies in each export: id, name of the file, class, state, reader and mask of each image; where structures
have names also dataset.json with these, and structures.csv with their sizes.

The report is printed as JSON. Of import: saved (number of masks), classified (number of images that got a class),
images (each with id, name, class, status, lesion_voxels), refused
(each with name and reason) and notes (sentences on all that did not fit). Of export: out, format, which, exported
(number of images), classes (number of each), images (each with id, name, class, status and file; file is null
for one that was left out) and notes. Of add: added, images, notes. What cannot be done at all gives
{{"error": sentence}}.
Exit code: 0 when something was saved, exported or is in the project; 1 when nothing was; 2 for wrong options.
A project can be used by one program at a time: close the app first.

examples:
  python -m mpsams.annotation add breasts scans/*.png              makes the project when it does not exist
  python -m mpsams.annotation import breasts masks.zip --who anne
  python -m mpsams.annotation export breasts coco breasts-coco
  python -m mpsams.annotation second breasts breasts-cd            the same images, for a second reader
  python -m mpsams.annotation agreement breasts breasts-cd agreement.csv
  python -m mpsams.annotation consensus breasts breasts-cd breasts-ef breasts-consensus
  python -m mpsams.annotation export breasts folder masks.zip --which all --names hashed
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, open the project, do it, print the report; returns the exit code."""
    options = _parser().parse_args(argv)
    warnings.simplefilter("ignore")  # of the libraries; what matters is in the notes
    try:
        if options.command != "add" and not is_project(options.project):
            raise ValueError(
                f"{options.project} is no project of annotations; make one with: python -m mpsams.annotation add"
                f" {options.project} IMAGE..."
            )
        with Project(options.project) as project:
            code, report = {
                "import": _import,
                "export": _export,
                "add": _add,
                "second": _second,
                "agreement": _agreement,
                "consensus": _consensus,
            }[options.command](project, options)
    except OSError as error:
        code, report = 1, {"error": disk.sentence(error)}
    except ValueError as error:
        code, report = 1, {"error": str(error)}
    print(json.dumps(report, indent=1, allow_nan=False, ensure_ascii=False))
    return code


def _parser() -> Parser:
    parser = Parser(prog="python -m mpsams.annotation", description=ABOUT, epilog=EPILOG)
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="import|export|add|second|agreement|consensus"
    )
    project = Parser(add_help=False)
    project.add_argument(
        "project", type=Path, metavar="PROJECT", help="folder of the project, as app.py --project has it"
    )
    user = Parser(add_help=False)
    user.add_argument(
        "--who", dest="user", default="", metavar="NAME", help="name for the project's log (default: none)"
    )
    _add_exchange(commands, project, user)
    _add_readers(commands, project, user)
    return parser


def _add_exchange(commands, project: Parser, user: Parser) -> None:
    """Add the commands that take images and masks in and write them."""
    taking = commands.add_parser(
        "import", parents=[project, user], help="save masks as drafts that wait to be accepted", epilog=EPILOG
    )
    taking.add_argument(
        "file", type=Path, metavar="FILE", help="a mask, COCO JSON, a DICOM-SEG, or a folder or zip of them"
    )

    sending = commands.add_parser("export", parents=[project], help="write masks as files", epilog=EPILOG)
    sending.add_argument("format", choices=tuple(transfer.FORMATS), metavar="FORMAT", help=", ".join(transfer.FORMATS))
    sending.add_argument("out", type=Path, metavar="OUT", help="new folder, or a new file that ends in .zip")
    which = (
        "accepted images only, or all with a mask (default: accepted, or all while none is accepted; the report says"
        " which)"
    )
    sending.add_argument("--which", choices=tuple(transfer.WHICH), help=which)
    sending.add_argument(
        "--label",
        choices=transfer.LABELS,
        default="lesion",
        help="what is marked on images without a class (default: lesion)",
    )
    named = (
        "name images as their files, or by hashes of their content (default: keep); names.csv in the export has both"
    )
    sending.add_argument("--names", choices=tuple(transfer.NAMES), default="keep", help=named)

    adding = commands.add_parser(
        "add", parents=[project, user], help="copy images into a project, made if need be", epilog=EPILOG
    )
    adding.add_argument(
        "files",
        type=Path,
        nargs="+",
        metavar="IMAGE",
        help="pictures, volumes, zips, files of DICOM series, or folders of these",
    )
    adding.add_argument(
        "--modality", choices=MODALITIES, help="modality of the images (default: as the files state it, else guessed)"
    )


def _add_readers(commands, project: Parser, user: Parser) -> None:
    """Add the commands for several readers of the same images."""
    copying = commands.add_parser(
        "second", parents=[project, user], help="make a project with the same images for a second reader", epilog=EPILOG
    )
    copying.add_argument(
        "folder",
        type=Path,
        metavar="FOLDER",
        help="of the second reader's project; what it lacks is added if it is there",
    )
    copying.add_argument(
        "--show-masks",
        action="store_true",
        help="propose the first reader's masks in it (default: blind, none of them is in it)",
    )

    comparing = commands.add_parser(
        "agreement", parents=[project], help="measure how far two readers agree", epilog=EPILOG
    )
    comparing.add_argument("other", type=Path, metavar="OTHER", help="folder of the second reader's project")
    comparing.add_argument(
        "out", type=Path, metavar="OUT", help="new CSV file: for each image DSC, HD95 and both classes"
    )

    joining = commands.add_parser(
        "consensus",
        parents=[project],
        help="make a project of what the readers agree on, to be exported",
        epilog=EPILOG,
    )
    joining.add_argument("others", type=Path, nargs="+", metavar="OTHER", help="folders of the other readers' projects")
    joining.add_argument("folder", type=Path, metavar="FOLDER", help="new folder, of the project with the consensus")
    method = (
        "voxels that more than half of the readers outline, or that STAPLE gives a probability of at least one half"
        " (default: majority)"
    )
    joining.add_argument("--method", choices=tuple(METHODS), default="majority", help=method)


def _lesion_voxels(project: Project, id: str) -> int:
    mask_xyz = project.mask(id)
    return 0 if mask_xyz is None else int(mask_xyz.sum())


def _import(project: Project, options: argparse.Namespace) -> tuple[int, dict]:
    if not options.file.exists():
        raise ValueError(
            f"{options.file} does not exist; expected a mask, COCO JSON, a DICOM-SEG, or a folder or zip of them"
        )
    found = transfer.take(project, options.file, options.user)
    saved = [_about(project, id) | {"lesion_voxels": _lesion_voxels(project, id)} for id in found.saved]
    refused = [{"name": name, "reason": reason} for name, reason in found.refused]
    return int(not saved and not found.classified), {
        "saved": len(saved),
        "classified": len(found.classified),
        "images": saved,
        "refused": refused,
        "notes": found.notes,
    }


def _export(project: Project, options: argparse.Namespace) -> tuple[int, dict]:
    which, notes = options.which or "accepted", []
    if options.which is None and not project.items("accepted"):
        which, notes = "all", ["No image is accepted yet, so all masks were exported as they are."]
    exported = transfer.write(project, options.format, which, options.label, options.out, options.names)
    sent = [_about(project, id) | {"file": place} for id, place in exported.places.items()]
    count = sum(place is not None for place in exported.places.values())
    report = {
        "out": str(options.out),
        "format": options.format,
        "which": which,
        "exported": count,
        "classes": exported.classes,
        "images": sent,
    }
    return 0, report | {"notes": [*notes, *exported.notes]}


def _second(project: Project, options: argparse.Namespace) -> tuple[int, dict]:
    notes: list[str] = []
    count = readers.start(project, options.folder, not options.show_masks, options.user, notes)
    return 0, {"added": count, "folder": str(options.folder), "blind": not options.show_masks, "notes": notes}


def _agreement(project: Project, options: argparse.Namespace) -> tuple[int, dict]:
    _require_project(options.other, project.folder)
    if options.out.exists():
        raise ValueError(f"{options.out.name} is there already; allowed is a new file")
    with Project(options.other) as other:
        found = readers.measure(project, other)
    checkpoint.write(options.out, found.csv())
    return 0, {"out": str(options.out), "overall": found.overall, "images": found.rows, "notes": found.notes}


def _consensus(project: Project, options: argparse.Namespace) -> tuple[int, dict]:
    for path in options.others:
        _require_project(path, project.folder)
    notes: list[str] = []
    with ExitStack() as opened:
        projects = [project, *(opened.enter_context(Project(path)) for path in options.others)]
        count = readers.consensus(projects, options.folder, method=options.method, notes=notes)
    return int(not count), {"folder": str(options.folder), "readers": len(projects), "masks": count, "notes": notes}


def _require_project(path: Path, first: Path) -> None:
    if not is_project(path):
        raise ValueError(
            f"{path} is no project of annotations; make it with: python -m mpsams.annotation second {first} {path}"
        )


def _about(project: Project, id: str) -> dict:
    item = project.item(id)
    return {"id": id, "name": item.name, "class": item.image_class, "status": item.status}


def _add(project: Project, options: argparse.Namespace) -> tuple[int, dict]:
    files = [
        file
        for path in options.files
        for file in (sorted(path.rglob("*")) if path.is_dir() else [path])
        if not file.is_dir()
    ]
    if missing := next((file for file in files if not file.is_file()), None):
        raise ValueError(f"{missing} does not exist; expected images")
    count, notes = transfer.add(project, files, options.modality, options.user, are_named=True)
    there = [
        {"id": item.id, "name": project.name(item.id), "modality": item.modality, "shape": list(item.shape_xyz)}
        for item in project.items()
    ]
    return int(not there), {"added": count, "images": there, "notes": notes}


if __name__ == "__main__":
    sys.exit(main())
