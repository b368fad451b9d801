"""A thousand hostile uploads, each opened as an image and as masks: a plain refusal or a correct opening, within
bounds.

They are opened one after another by a process of its own, whose memory, time and files are watched.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.support.hostile_checks import plain  # noqa: F401
from tests.support.made_hostile import IMAGES, NO_IMAGES, SECRET

ROOT = Path(__file__).resolve().parents[2]
NUMBER, EVERY = 1000, 25
# of processor time for any one opening of a file, helpers of ours and the making of temporary files included
SECONDS = 10.0
# MiB of the whole process at its peak: the libraries and the maker of the files about 550, a volume of 1 GiB mapped
MEMORY = 2304
ADDRESSES = 8 * 2**30  # a backstop, with room for the libraries and for a volume mapped from disk


def outcome(open_it: Callable[[], object]) -> str:
    """ "opened", "refused", or what went wrong."""
    from mpsams.imaging import UnreadableImage

    try:
        open_it()
    except UnreadableImage as refusal:
        return "refused" if plain(str(refusal)) else f"says {str(refusal)[:300]!r}"
    except BaseException as error:  # SystemExit is no answer either
        return f"raises {type(error).__name__}: {str(error)[:300]}"
    return "opened"


def as_image(path: Path) -> None:
    """Open as the page does, then cut the middle of every plane."""
    from mpsams.inference import open_case

    case = open_case.open_upload([path], None, lambda modality: {"seed": 0, "selector": "softmax-of-covariance"})
    scan = case.scan
    assert scan.voxels_xyz.ndim == 3 and min(scan.voxels_xyz.shape) > 0 and scan.modality in ("ultrasound", "ct", "mri")
    assert np.isfinite([scan.slope, scan.intercept]).all() and (scan.affine is None or np.isfinite(scan.affine).all())
    assert all(np.isfinite(case.span)) and case.span[0] <= case.span[1] and case.unit_hw.dtype == np.float32
    assert np.isfinite(case.image_11ss.numpy()).all() and case.pictures[0].startswith("data:image/png")
    for plane in scan.planes:
        slices, height, width = scan.shown(plane).shape
        middle = scan.slice(slices // 2, plane)
        assert middle.shape == (height, width) and middle.dtype == np.float32 and np.isfinite(middle).all()
    for text in (scan.origin, *scan.notes, *scan.choices):
        assert SECRET not in text and text.isprintable(), "a note names the file"


def as_truth(path: Path, name: str, cases: dict) -> None:
    from mpsams.inference import case as _case

    truth = _case.set_truth(cases[name], path).truth_xyz
    assert truth.dtype == bool and truth.shape == cases[name].scan.voxels_xyz.shape


def as_masks(path: Path, scans: dict) -> None:
    from tests.support import mask_imports

    found = mask_imports.read(path, scans)
    assert all(mask.dtype == bool and mask.shape == scans[name].voxels_xyz.shape for name, mask in found.masks.items())
    assert all(SECRET not in note and note.isprintable() for note in found.notes), "a note names the file"
    assert all(label.isprintable() and len(label) <= 64 for label in found.labels.values())


def files_open() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def worked() -> float:
    """Seconds of processor time so far, of this process and its children."""
    return time.process_time() + sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def run(seed: int, indices: range, log: Path) -> None:
    """Open these uploads; a line of JSON each goes into the log before and after, so that a crash has a name."""
    from gradio_client.utils import strip_invalid_filename_characters

    from mpsams.app.server import logs
    from mpsams.inference import open_case
    from tests.support import made_hostile

    logs.configure_logging()  # as when it is served
    scans = made_hostile.scans()
    cases = {
        name: open_case.open_scan(name, scans[name], {"seed": 0, "selector": "softmax-of-covariance"})
        for name in ("flat", "volume")
    }
    made_hostile.valid()
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    with (
        tempfile.TemporaryDirectory() as uploads,
        tempfile.TemporaryDirectory() as temporary,
        log.open("a", buffering=1) as out,
    ):
        tempfile.tempdir = temporary
        for index in indices:
            out.write(json.dumps({"begins": index, "family": made_hostile.family(index)}) + "\n")
            name, data = made_hostile.one(seed, index)
            path = Path(uploads) / strip_invalid_filename_characters(name.replace("\0", "").rpartition("/")[2]).replace(
                "..", "file"
            )
            path.write_bytes(data)
            before = files_open()
            ways = {
                "image": lambda: as_image(path), "truth of a picture": lambda: as_truth(path, "flat", cases),
                "truth of a volume": lambda: as_truth(path, "volume", cases), "masks": lambda: as_masks(path, scans),
            }  # fmt: skip
            line = {
                "index": index,
                "family": made_hostile.family(index),
                "bytes": len(data),
                "ends": {},
                "seconds": {},
                "waited": 0.0,
            }
            for way, open_it in ways.items():
                began = worked(), time.perf_counter()
                line["ends"][way] = outcome(open_it)
                line["seconds"][way], line["waited"] = (
                    worked() - began[0],
                    max(line["waited"], time.perf_counter() - began[1]),
                )
            path.unlink()
            line["left"] = [str(entry) for entry in (*Path(temporary).rglob("*"), *Path(uploads).rglob("*"))]
            line["open"] = files_open() - before
            line["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            out.write(json.dumps(line) + "\n")


def opened_all(indices: range, tmp_path: Path, seed: int = 0) -> tuple[list[dict], str]:
    """The results for all files, and the output of the process."""
    log = tmp_path / "log"
    code = (
        f"from tests.server import test_hostile\nfrom pathlib import Path\ntest_hostile.run({seed}, {indices!r},"
        f" Path({str(log)!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=3600,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert done.returncode == 0, f"the process ended with {done.returncode} at {lines[-1]}\n{done.stderr[-2000:]}"
    return [line for line in lines if "index" in line], done.stdout + done.stderr


def judged(lines: list[dict], printed: str) -> dict:
    """Fails on whatever is not as it should be; else the numbers."""
    wrong = [
        f"{line['index']} {line['family']} as {way}: {end}"
        for line in lines
        for way, end in line["ends"].items()
        if end not in ("opened", "refused")
    ]
    assert not wrong, "\n".join(wrong)
    slow = [
        f"{line['index']} {line['family']} as {way}: {taken:.1f} s"
        for line in lines
        for way, taken in line["seconds"].items()
        if taken > SECONDS
    ]
    assert not slow, "\n".join(slow)
    assert [line for line in lines if line["left"] or line["open"] > 0] == []
    peak = max(line["peak_mib"] for line in lines)
    assert peak < MEMORY, f"{peak:.0f} MiB"
    assert SECRET not in printed, printed[-2000:]
    image_ends = {(line["family"], line["ends"]["image"]) for line in lines}
    assert {family for family, end in image_ends if end == "opened"}.isdisjoint(NO_IMAGES)
    assert {family for family, end in image_ends if end == "refused"}.isdisjoint(IMAGES)
    ends = Counter(f"{way} {end}" for line in lines for way, end in line["ends"].items())
    # so that masks were opened and refused too
    assert all(ends[f"masks {end}"] for end in ("opened", "refused"))
    return {
        "files": len(lines), "peak_mib": peak, "slowest_s": max(max(line["seconds"].values()) for line in lines),
        "longest_wait_s": max(line["waited"] for line in lines), **ends,
    }  # fmt: skip


def test_every_twentyfifth_of_a_thousand_hostile_uploads_is_refused_or_opened(tmp_path):
    judged(*opened_all(range(0, NUMBER, EVERY), tmp_path))


@pytest.mark.slow
def test_a_thousand_hostile_uploads_are_refused_or_opened(tmp_path):
    print(json.dumps(judged(*opened_all(range(NUMBER), tmp_path))))


def test_equal_seeds_make_equal_uploads():
    from tests.support import made_hostile

    code = (
        "from tests.support import made_hostile\nimport hashlib\nprint([hashlib.sha256(made_hostile.one(3,"
        " k)[1]).hexdigest() for k in range(6)])"
    )
    there = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert there.strip() == str([hashlib.sha256(made_hostile.one(3, k)[1]).hexdigest() for k in range(6)])
    assert made_hostile.one(3, 1) != made_hostile.one(4, 1)
    assert math.gcd(len(made_hostile.FAMILIES), EVERY) == 1  # so that every 25th meets every kind


@pytest.mark.parametrize("sentence", [f"{SECRET} is no image.", "no end", "two\nlines.", "at /tmp/x.", "x" * 500 + "."])
def test_the_judge_sees_what_is_no_plain_sentence(sentence):
    assert not plain(sentence) and plain("The file is empty; this version opens PNG.")


# What these uploads brought to light


def upload(tmp_path: Path, data: bytes) -> Path:
    (tmp_path / "upload").write_bytes(data)
    return tmp_path / "upload"


def test_members_of_a_zip_without_a_name_are_left_out(tmp_path):
    from mpsams import imaging
    from tests.support.made_hostile import valid, zipped

    path = upload(tmp_path, zipped({"": b"nameless", "a.png": valid()["png L"]}))
    assert imaging.read([path]).origin.startswith("PNG")


def test_a_zip_that_says_it_is_too_large_is_refused_before_anything_is_written(tmp_path):
    from mpsams.imaging import UnreadableImage, archive
    from tests.support.made_hostile import _overlapping, zeros_zipped

    (tmp_path / "folder").mkdir()
    with pytest.raises(UnreadableImage, match="too large unpacked"):
        archive.unpack(upload(tmp_path, _overlapping(zeros_zipped(), 6)), tmp_path / "folder")
    assert list((tmp_path / "folder").iterdir()) == []


def test_many_small_masks_in_coco_are_bounded(tmp_path):
    from mpsams.annotation import coco
    from mpsams.imaging.name_matching import Names
    from tests.support import made_hostile

    whole = json.loads(made_hostile.coco())
    whole["annotations"] = whole["annotations"][:1] * 5
    work = coco.PixelBudget()
    scans = made_hostile.scans()
    document = coco.read(json.dumps(whole).encode(), Names({name: (name,) for name in scans}), work)
    for name in document.entries:
        coco.draw(document, name, scans[name], work)
    assert coco.MAX_WORK - work.left >= 5 * 2**16


def test_headers_of_one_segmentation_cannot_spend_what_an_upload_may(tmp_path, monkeypatch):
    from mpsams.imaging import UnreadableImage
    from mpsams.imaging.dicom import annotation_seg
    from tests.support import made_hostile

    path, scans = upload(tmp_path, made_hostile.valid()["seg"]), made_hostile.scans()
    allowance = annotation_seg.allowance()
    annotation_seg.read(path, scans, allowance)
    spent = annotation_seg._STEPS - allowance.left
    assert 100 < spent < 1000
    monkeypatch.setattr(annotation_seg, "_FILE_STEPS", spent - 50)
    with pytest.raises(UnreadableImage, match="far more parts|damaged"):
        annotation_seg.read(path, scans, allowance)
    assert annotation_seg._STEPS - allowance.left <= 2 * spent


def test_a_full_disk_is_a_sentence(tmp_path, monkeypatch):
    import errno

    from mpsams import imaging
    from mpsams.imaging import UnreadableImage, nifti
    from tests.support.made_hostile import valid

    def full(path, store):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(nifti, "_copy_voxels", full)
    with pytest.raises(UnreadableImage, match="no room") as refusal:
        imaging.read([upload(tmp_path, valid()["nifti"])])
    assert plain(str(refusal.value))
