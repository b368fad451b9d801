"""Packing a data set ÷ resizing all of it in memory, each in a fresh process: slices/s and peak memory.

The peer is what one would write without the project: nibabel, every slice through Pillow's resize, np.stack, np.savez.
It keeps uint8 as a pack does, at 256 × 256 and HECKTOR's 15,000 slices about 4 GiB. Then the same on made-up CT of
2,500 and of 25,000 slices, and training's batches from both packs: what a process keeps for itself must not grow with
the data.

  python -m benchmarks.packing --hecktor hecktor_nii --brats MICCAI_BraTS_2018_Data_Training [--quick]
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks import keep
from mpsams import datasets

ROOT = Path(__file__).resolve().parents[1]
SIZES = (256, 128)
SYNTHETIC = {"patients": (25, 250), "slices": 100, "side": 128, "batches": 100}
QUICK = {"patients": (2, 8), "slices": 20, "side": 64, "batches": 10}
BATCH = 32

# VmHWM and not ru_maxrss, which begins with what the process that started this one had
WATCH = """
import json, re, sys, time
def mib(name):
    return int(re.search(name + r":\\s+(\\d+) kB", open("/proc/self/status").read())[1]) / 1024
def print_record(began, slices, **more):
    taken = time.perf_counter() - began
    peak = mib("VmHWM")  # own_mib: beyond what Python and its libraries take
    speed = {"slices": slices, "seconds": taken, "slices_per_s": slices / taken}
    print(json.dumps(speed | {"peak_mib": peak, "own_mib": peak - idle, **more}))
"""

OURS = """
import nibabel, scipy.ndimage
from mpsams import packs
from train import pack
name, root, size, out = sys.argv[1:]
idle, began = mib("VmRSS"), time.perf_counter()
folder = pack.main(["--data.name", name, "--data.root", root, "--data.size", size, "--out", out])
about = json.loads((folder / packs.ABOUT).read_text())
print_record(began, about["slices_read"], kept=len(about["cases"]))
"""

PEER = """
import nibabel
import numpy as np
from PIL import Image
from tqdm import tqdm
modality, size, out = sys.argv[1:]
idle, began = mib("VmRSS"), time.perf_counter()
images, masks = [], []
for scan, mask in tqdm(json.load(sys.stdin), desc="stacking", unit="patient"):
    volume, truth = nibabel.load(scan).get_fdata(dtype=np.float32), nibabel.load(mask).get_fdata(dtype=np.float32) > 0
    low, high = (-160, 240) if modality == "ct" else np.percentile(volume[volume > 0], (1, 99))
    volume = np.uint8(255 * np.clip((volume - low) / (high - low), 0, 1))
    for k in range(volume.shape[2]):
        for values, kept in ((volume, images), (np.uint8(255) * truth, masks)):
            shown = Image.fromarray(np.ascontiguousarray(values[:, :, k].T))
            kept.append(np.asarray(shown.resize((int(size),) * 2, Image.Resampling.BILINEAR)))
np.savez(out, images=np.stack(images), masks=np.stack(masks) > 127)
print_record(began, len(images))
"""

READ = """
import torch
from mpsams import packs
out, batches, batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
idle, began = mib("VmRSS"), time.perf_counter()
own, mapped = mib("RssAnon"), mib("RssFile")
stack, draw, most = packs.read(out), torch.Generator().manual_seed(0), 0
for _ in range(batches):
    images, masks = stack.take(torch.randint(len(stack), (batch,), generator=draw))
    assert images.shape[0] == masks.shape[0] == batch
    most = max(most, mib("RssAnon") - own)
print_record(began, batches * batch, kept_mib=most, mapped_mib=mib("RssFile") - mapped)
"""


def job(code: str, *arguments, fed: object = None) -> dict[str, float]:
    """Run one of the programs above in a fresh process and return its output; its progress goes to our stderr."""
    command = [sys.executable, "-c", WATCH + code, *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, input=json.dumps(fed), text=True, cwd=ROOT)
    return json.loads(done.stdout.splitlines()[-1])


def compare(name: str, root: Path, size: int, top: Path) -> dict:
    """Measure ours and the peer's on one data set, and theirs ÷ ours; leave the pack in ``top``/pack."""
    dataset = datasets.open_dataset(name, root)
    pairs = [[str(path) for path in dataset.files(patient)] for patient in dict.fromkeys(dataset.groups)]
    shutil.rmtree(top / "pack", ignore_errors=True)
    ours = job(OURS, name, root, size, top / "pack")
    peer = job(PEER, dataset.modality, size, top / "peer.npz", fed=pairs)
    (top / "peer.npz").unlink()
    ratios = {f"peer_over_ours_{key}": peer[key] / ours[key] for key in ("seconds", "peak_mib", "own_mib")}
    return {"patients": len(pairs), "slices": len(dataset), "size": size, **ratios, "ours": ours, "peer": peer}


def copy_patients(name: str, root: Path, patients: int, into: Path) -> Path:
    """Make a folder with links to the first few patients of a data set."""
    dataset = datasets.open_dataset(name, root)
    for patient in list(dict.fromkeys(dataset.groups))[:patients]:
        for path in dataset.files(patient):
            link = into / path.relative_to(root)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())
    return into


def write_synthetic(root: Path, patients: int, slices: int, side: int) -> Path:
    """Write a CT of an ellipse with noise and a ball in it, 256 mm wide, in HECKTOR's layout; return the folder."""
    import nibabel

    source = np.random.default_rng(0)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in (side, side, slices)), indexing="ij")
    noise = source.normal(0, 30, x.shape).astype(np.int16)
    affine = np.diag([-256 / side, -256 / side, 3, 1])
    root.mkdir(parents=True)
    for k in tqdm(range(patients), desc="making up", unit="patient"):
        wide, high, shift = source.uniform(0.5, 0.8, 2), source.integers(side), source.uniform(-0.2, 0.2, 3)
        inside = (x / wide[0]) ** 2 + (y / wide[1]) ** 2 < 1
        ball = (x - shift[0]) ** 2 + (y - shift[1]) ** 2 + (z - shift[2]) ** 2 < 0.03
        values = np.where(inside, 40 + np.roll(noise, high, axis=0) + np.int16(30) * ball, np.int16(-1000)).astype(
            np.int16
        )
        for part, array in (("ct", values), ("gtvt", ball.astype(np.uint8))):
            nibabel.save(nibabel.Nifti1Image(array, affine), root / f"MADE{k:03d}_{part}.nii.gz")
    return root


def growth(patients: tuple[int, ...], slices: int, side: int, batches: int, top: Path) -> list[dict]:
    """Run ``compare`` on synthetic data of several sizes, and read batches of training from each pack."""
    rows = []
    for count in patients:
        root = write_synthetic(top / f"made-{count}", count, slices, side)
        rows.append(compare("hecktor", root, side, top) | {"read": job(READ, top / "pack", batches, BATCH)})
        shutil.rmtree(root)
    return rows


def main(argv: list[str] | None = None) -> dict:
    """Measure and keep; a quick run is only printed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hecktor", type=Path, help="folder of HECKTOR or of something in its layout")
    parser.add_argument("--brats", type=Path, help="folder of BraTS or of something in its layout")
    parser.add_argument(
        "--quick", action="store_true", help="a few patients, printed and not kept: to see that it runs"
    )
    options = parser.parse_args(argv)
    results: dict = {}
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        for name in ("hecktor", "brats"):
            if not (given := getattr(options, name)):
                continue
            root = copy_patients(name, given, 2, top / name) if options.quick else given.resolve()
            for size in (QUICK["side"],) if options.quick else SIZES:
                results[f"{name}-{size}"] = compare(name, root, size, top)
        results["synthetic"] = rows = growth(**(QUICK if options.quick else SYNTHETIC), top=top)
    few, many = rows[0], rows[-1]
    results["memory_of_many_over_few"] = {
        "slices": many["slices"] / few["slices"],
        "ours": many["ours"]["peak_mib"] / few["ours"]["peak_mib"],
        "peer": many["peer"]["peak_mib"] / few["peer"]["peak_mib"],
        "read": many["read"]["peak_mib"] / few["read"]["peak_mib"],
    }  # what reading maps of the pack's files counts as its memory, but the kernel takes it back when it is needed
    if options.quick:
        print(json.dumps(results, indent=1))
    else:
        keep("packing", results)
    return results


if __name__ == "__main__":
    main()
