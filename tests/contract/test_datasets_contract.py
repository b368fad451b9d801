"""The contract that every data set keeps, BUSI's official folder made here, and what is wrong with a folder."""

from __future__ import annotations

import pickle  # only to see that a sample's reader holds no open file
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mpsams import datasets, transforms
from mpsams.datasets import Dataset, Sample
from mpsams.imaging import MODALITIES
from tests.support import made_volumes

FOLDER = "Dataset_BUSI_with_GT"
SIZE = (20, 30)  # height, width


def image(seed: int, size=SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


def square(top: int, left: int, side: int = 5, size=SIZE) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def put(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def busi(tmp_path) -> Path:
    """The official layout: benign 1, 2 and 10 (RGB, and with two masks), malignant 1, normal 1; 1- and 8-bit masks."""
    root = tmp_path / FOLDER
    for number in (1, 2, 10):
        put(root / "benign" / f"benign ({number}).png", image(number))
        put(root / "benign" / f"benign ({number})_mask.png", square(number, 3))
    put(root / "benign" / "benign (2)_mask_1.png", np.uint8(255) * square(8, 20))
    put(root / "benign" / "benign (10).png", np.repeat(image(10)[..., None], 3, axis=2))
    put(root / "malignant" / "malignant (1).png", image(20, (25, 40)))
    put(root / "malignant" / "malignant (1)_mask.png", np.uint8(255) * square(2, 2, 9, (25, 40)))
    put(root / "normal" / "normal (1).png", image(30))
    put(root / "normal" / "normal (1)_mask.png", np.zeros(SIZE, np.uint8))
    return root


@pytest.fixture(params=datasets.available())
def root(request, tmp_path) -> Path | None:
    """A folder of every data set, and nothing else in it; None for those without.

    A new one adds its writer to made_volumes.
    """
    folders = {"phantom": lambda: None, "busi": lambda: request.getfixturevalue("busi")}
    folders |= {
        name: lambda write=write: write(tmp_path / name) and tmp_path / name
        for name, write in made_volumes.WRITERS.items()
    }
    if request.param not in folders:
        pytest.fail(f"no folder is made for the data set {request.param!r}: add one to made_volumes.WRITERS")
    return folders[request.param]()


@pytest.fixture
def dataset(request, root) -> Dataset:
    """Every data set, opened."""
    return datasets.open_dataset(request.node.callspec.params["root"], root)


def check(dataset: Dataset, sample: Sample) -> None:
    assert sample.image.dtype == np.float32 and sample.image.ndim == 2 and np.isfinite(sample.image).all()
    assert sample.mask.dtype == bool and sample.mask.shape == sample.image.shape
    assert sample.case in dataset.cases and len(sample.spans) == 1 and sample.spans[0][0] < sample.spans[0][1]
    assert sample.unit.shape == sample.image.shape and sample.unit.dtype == np.float32
    assert sample.unit.min() >= 0 and sample.unit.max() <= 1
    assert sample.spacing is None or (len(sample.spacing) == 3 and min(sample.spacing) > 0)
    assert sample.box == transforms.frame(sample.image, sample.spacing_hw, dataset.modality)


def test_a_data_set_says_what_it_is(dataset):
    assert dataset.name in datasets.available() and dataset.modality in MODALITIES and dataset.target
    assert len(dataset) == len(dataset.cases) == len(dataset.groups) == len(set(dataset.cases)) > 0
    assert all(isinstance(text, str) for text in dataset.cases + dataset.groups)
    assert datasets.source(dataset.name) and isinstance(datasets.source(dataset.name), str)


def test_its_samples_keep_the_contract_and_are_the_same_in_another_order(dataset):
    cases = [dataset.cases[index] for index in (0, len(dataset) // 2, len(dataset) - 1)]
    samples = [dataset[dataset.cases.index(case)] for case in cases]
    for case, sample, again in zip(cases, samples, reversed([dataset.read(case) for case in reversed(cases)])):
        check(dataset, sample)
        assert sample.case == again.case == case
        assert np.array_equal(sample.image, again.image) and np.array_equal(sample.mask, again.mask)
        assert (sample.spans, sample.box, sample.spacing) == (again.spans, again.box, again.spacing)
    assert samples[1].unit.std() > 0.01 and samples[1].mask.any()


def test_patients_are_in_one_piece_and_chosen_whole(dataset):
    members = datasets.members_of(dataset.groups)
    assert all(own == list(range(own[0], own[-1] + 1)) for own in members.values())
    last, first = list(members)[-1], next(iter(members))
    chosen = dataset.of([last, first])
    assert chosen.cases == tuple(dataset.cases[i] for i in members[last] + members[first])
    assert chosen.groups == (last,) * len(members[last]) + (first,) * len(members[first])
    with pytest.raises(ValueError, match="'nobody' is not in this copy"):
        dataset.of([first, "nobody"])


def test_it_names_every_file_it_reads(dataset, root):
    named = [path for group in dict.fromkeys(dataset.groups) for path in dataset.files(group)]
    assert sorted(named) == sorted(path for path in root.rglob("*") if path.is_file()) if root else named == []


def test_select_keeps_order_and_groups_and_names_what_is_absent(dataset):
    cases = dataset.cases[2::-1]
    chosen = dataset.select(cases)
    assert chosen.cases == cases and len(chosen) == 3 and [s.case for s in chosen] == list(cases)
    assert chosen.groups == tuple(dataset.groups[dataset.cases.index(case)] for case in cases)
    with pytest.raises(ValueError, match="1 of 2 cases are not in this copy.*'nobody'"):
        dataset.select([dataset.cases[0], "nobody"])


def test_it_can_be_sent_to_a_worker_process(dataset):
    sent = pickle.loads(pickle.dumps(dataset))
    assert sent.cases == dataset.cases and np.array_equal(sent[0].image, dataset[0].image)


def test_stack_is_every_sample_at_the_networks_size(busi):
    dataset = datasets.open_dataset("busi", busi)
    seen = []
    stack = datasets.stack(dataset, 16, lambda cases: (seen.append(case) or case for case in cases))
    assert tuple(seen) == stack.cases == dataset.cases
    assert stack.stored_nchw.shape == stack.stored_n1hw.shape == (5, 1, 16, 16) and (stack.size, stack.channels) == (
        16,
        1,
    )
    assert stack.stored_nchw.dtype == torch.uint8 and stack.stored_n1hw.dtype == torch.bool
    for own, mask, sample in zip(*stack.take(torch.arange(5)), dataset):
        assert torch.equal(own[None], (transforms.resize(sample.image, 16, 16) * 255).round().byte())
        assert torch.equal(mask[None], transforms.resize_mask(sample.mask, 16, 16))
    chosen = stack.of(stack.groups[3:0:-2])
    assert chosen.cases == stack.cases[3:0:-2] and chosen.sha256 == stack.sha256 and len(chosen) == 2
    for taken, whole in zip(chosen.take(torch.tensor([1, 0, 1])), (stack.stored_nchw, stack.stored_n1hw)):
        assert torch.equal(taken, whole[[1, 3, 1]])
    with pytest.raises(ValueError, match="'nobody' is not in this copy of 'busi'"):
        stack.of(["nobody"])


def test_a_stack_of_patients_takes_every_nth_slice_of_each(tmp_path):
    made_volumes.hecktor_2020(tmp_path)
    dataset = datasets.open_dataset("hecktor", tmp_path)
    stack = datasets.stack(dataset, 16)
    first, last = "CHGJ000", "CHGJ002"
    assert stack.cases == tuple(case for case in dataset.cases if not case.endswith(("/000", "/006")))  # slices of air
    assert stack.groups == tuple(case.split("/")[0] for case in stack.cases)
    chosen = stack.of([last, first], slice_stride=2)
    assert chosen.cases == tuple(f"{name}/{k:03d}" for name in (last, first) for k in (1, 3, 5))
    assert chosen.groups == (last,) * 3 + (first,) * 3
    rows = [stack.cases.index(case) for case in chosen.cases]
    assert torch.equal(chosen.take(torch.arange(6))[0], stack.stored_nchw[rows])
    assert torch.equal(chosen.take(torch.arange(6))[1], stack.stored_n1hw[rows])
    again = chosen.of([first])
    assert again.cases == chosen.cases[3:] and torch.equal(again.take(torch.arange(3))[0], stack.stored_nchw[rows[3:]])
    assert stack.of([first], slice_stride=99).cases == (f"{first}/001",)


def test_a_stack_of_nothing_is_refused(busi):
    dataset = datasets.open_dataset("busi", busi).select(["normal (1)"])
    put(busi / "normal" / "normal (1).png", np.zeros(SIZE, np.uint8))
    with pytest.raises(ValueError, match="none of the 1 slices of 'busi' shows a body or a lesion"):
        datasets.stack(dataset, 16)


def test_the_stacks_hash_tells_other_pixels_and_other_masks(busi):
    hashes = [datasets.stack(datasets.open_dataset("busi", busi), 16).sha256 for _ in range(2)]
    put(busi / "normal" / "normal (1).png", image(31))
    hashes.append(datasets.stack(datasets.open_dataset("busi", busi), 16).sha256)
    put(busi / "normal" / "normal (1)_mask.png", square(0, 0, 9))
    hashes.append(datasets.stack(datasets.open_dataset("busi", busi), 16).sha256)
    assert hashes[0] == hashes[1] and len(set(hashes)) == 3


def test_unknown_data_sets_are_named():
    with pytest.raises(ValueError, match="'cifar'.*busi, .*phantom"):
        datasets.open_dataset("cifar")


# BUSI


@pytest.mark.parametrize("above", [False, True])
def test_busi_in_natural_order_from_the_folder_or_the_one_above(busi, above):
    dataset = datasets.open_dataset("busi", busi.parent if above else str(busi))
    assert dataset.cases == ("benign (1)", "benign (2)", "benign (10)", "malignant (1)", "normal (1)")
    assert (dataset.name, dataset.modality) == ("busi", "ultrasound")
    assert [path.name for path in dataset.files("benign (2)")] == [
        f"benign (2){end}.png" for end in ("", "_mask", "_mask_1")
    ]


def test_busi_pixels_and_masks_are_those_written(busi):
    dataset = datasets.open_dataset("busi", busi)
    samples = {sample.case: sample for sample in dataset}
    for number in (1, 2, 10):  # 10 is RGB
        np.testing.assert_allclose(samples[f"benign ({number})"].image, image(number) / 255, atol=1e-6)
    assert np.array_equal(samples["benign (1)"].mask, square(1, 3))
    assert np.array_equal(samples["benign (2)"].mask, square(2, 3) | square(8, 20))
    assert np.array_equal(samples["malignant (1)"].mask, square(2, 2, 9, (25, 40)))
    assert not samples["normal (1)"].mask.any()


def test_busi_endings_in_any_case_and_several_masks(busi):
    for name in ("benign (1)", "benign (1)_mask", "benign (2)_mask_1", "malignant (1)"):
        path = busi / name.split(" ")[0] / f"{name}.png"
        path.rename(path.with_name(f"{name}.{'PNG' if '1)' in name else 'Png'}"))
    put(busi / "benign" / "benign (2)_mask_2.png", np.uint8(255) * square(1, 1, 3))
    dataset = datasets.open_dataset("busi", busi)
    assert (
        dataset.cases == ("benign (1)", "benign (2)", "benign (10)", "malignant (1)", "normal (1)")
        and dataset.notes == ()
    )
    assert np.array_equal(dataset.read("benign (2)").mask, square(2, 3) | square(8, 20) | square(1, 1, 3))
    assert np.array_equal(dataset.read("benign (1)").mask, square(1, 3))


def test_busi_passes_over_what_is_no_png_and_says_so(busi):
    for name in ("._benign (1).png", "._benign (1)_mask.png", ".DS_Store", "Thumbs.db", "benign (3).jpg"):
        (busi / "benign" / name).write_bytes(b"no picture")
    dataset = datasets.open_dataset("busi", busi)
    assert len(dataset) == 5
    assert dataset.notes == (
        "Passed over in benign/, being no PNG images: Thumbs.db, benign (3).jpg and 3 hidden files.",
    )
    put(busi / "benign" / "benign (1).PNG", image(1))
    with pytest.raises(ValueError, match=r"benign \(1\)\.PNG and benign \(1\)\.png in .*benign have one name"):
        datasets.open_dataset("busi", busi)


def remove(*names):
    return lambda root: [(root / name).unlink() for name in names]


def write(name, data):
    return lambda root: (root / name).write_bytes(data(root) if callable(data) else data)


def half(name):
    return lambda root: (root / name).read_bytes()[: (root / name).stat().st_size // 2]


def emptied(root):
    for file in (root / "malignant").iterdir():
        file.unlink()


def flattened(root):
    for file in list(root.glob("*/*.png")):
        file.rename(root / file.name)
    for folder in root.iterdir():
        folder.rmdir() if folder.is_dir() else None


def renamed(root):
    for suffix in ("", "_mask"):
        (root / "benign" / f"benign (1){suffix}.png").rename(root / "benign" / f"mine{suffix}.png")


@pytest.mark.parametrize(
    "spoil, message",
    [
        (
            remove("benign/benign (2)_mask.png", "benign/benign (2)_mask_1.png"),
            r"benign \(2\)\.png has no mask: expected 'benign \(2\)_mask\.png'",
        ),
        (remove("normal/normal (1)_mask.png"), r"normal \(1\)\.png has no mask"),
        (
            remove("benign/benign (1).png"),
            r"benign \(1\)_mask\.png is a mask without image: expected 'benign \(1\)\.png'",
        ),
        (
            lambda root: put(root / "benign" / "benign (2)_mask_1.png", square(0, 0, 5, (20, 31))),
            r"benign \(2\)_mask_1\.png is \(31, 20\).*\(30, 20\)",
        ),
        (write("benign/benign (1).png", b"no image at all"), r"benign \(1\)\.png cannot be read as a PNG"),
        (write("malignant/malignant (1)_mask.png", b""), r"malignant \(1\)_mask\.png cannot be read as a PNG"),
        (
            write("benign/benign (1).png", b"\xff\xd8\xff\xe0 a JPEG by another name"),
            r"benign \(1\)\.png cannot be read as a PNG",
        ),
        (
            write("benign/benign (1).png", lambda root: (root / "benign/benign (1).png").read_bytes()[:20]),
            r"benign \(1\)\.png cannot be read as a PNG",
        ),
        (emptied, r"malignant holds no images; expected Dataset_BUSI_with_GT"),
        (flattened, r"is not a BUSI folder: it has no benign, malignant, normal; expected Dataset_BUSI_with_GT"),
        (renamed, r"mine\.png: expected a name like 'benign \(1\)\.png'"),
        (
            lambda root: [
                remove("normal/normal (1).png", "normal/normal (1)_mask.png")(root),
                (root / "normal").rmdir(),
            ],
            "it has no normal; expected",
        ),
    ],
)
def test_what_is_wrong_with_a_busi_folder_is_reported_when_it_is_opened(busi, spoil, message):
    spoil(busi)
    with pytest.raises(ValueError, match=message):
        datasets.open_dataset("busi", busi)


@pytest.mark.parametrize("name", ["benign/benign (1).png", "benign/benign (2)_mask_1.png"])
def test_a_png_cut_off_after_its_header_is_named_when_it_is_read(busi, name):
    write(name, half(name))(busi)
    dataset = datasets.open_dataset("busi", busi)
    with pytest.raises(ValueError) as error:
        dataset.read(Path(name).stem.split("_")[0])
    assert str(busi / name) in str(error.value)
    assert dataset.read("malignant (1)").mask.any()


@pytest.mark.parametrize(
    "root, message", [(None, "needs --data.root"), ("/nowhere/at/all", "/nowhere/at/all is not a BUSI folder")]
)
def test_busi_without_a_folder(root, message):
    with pytest.raises(ValueError, match=f"{message}.*Dataset_BUSI_with_GT/"):
        datasets.open_dataset("busi", root)


def test_the_real_busi(real_data):
    dataset = datasets.open_dataset("busi", real_data)
    assert dataset.modality == "ultrasound" and len(dataset) in (702, 780)
    kinds = Counter(case.split(" ")[0] for case in dataset.cases)
    if len(dataset) == 702:
        assert kinds == {"benign": 393, "malignant": 189, "normal": 120}
    for case in (dataset.cases[0], dataset.cases[400], dataset.cases[-1]):
        sample = dataset.read(case)
        check(dataset, sample)
        assert sample.mask.any() == (not case.startswith("normal"))
        assert not sample.mask.all()
