"""Splits: 8:1:1, groups whole, labels nested, near-duplicates against a loop, hashes that notice."""

import json

import numpy as np
import pytest
import torch

from mpsams import splits
from mpsams.datasets import Stack
from train import options


def cases(count):
    return [f"case {i}" for i in range(count)]


def made(count=100, groups=None, **options):
    return splits.make("toy", cases(count), groups or cases(count), **options)


@pytest.mark.parametrize("count", [10, 16, 64, 100, 647, 780])
def test_eight_to_one_to_one(count):
    split = made(count)
    assert len(split.val) == len(split.test) == round(count / 10)
    assert sorted(split.train + split.val + split.test) == sorted(cases(count))


def test_the_seed_decides_and_nothing_else():
    np.random.seed(1)
    first = made(seed=4)
    np.random.seed(2)
    assert made(seed=4) == first and made(seed=5).test != first.test
    assert made(seed=4).sha256 == first.sha256 != made(seed=5).sha256


def test_every_case_gets_into_the_test_part_as_often():
    counts = np.zeros(20)
    for seed in range(400):
        for case in made(20, seed=seed).test:
            counts[int(case.split()[1])] += 1
    assert counts.sum() == 800 and counts.min() > 10 and counts.max() < 80  # 40 expected, deviation 6


@pytest.mark.parametrize("seed", range(20))
def test_groups_are_never_torn(seed):
    groups = np.random.default_rng(seed).integers(0, 45, 120).tolist()
    split = made(120, groups, seed=seed)
    where = {case: part for part in ("train", "val", "test") for case in split.part(part)}
    assert len(where) == 120
    for group in set(groups):
        assert len({where[f"case {i}"] for i in range(120) if groups[i] == group}) == 1
    assert 1 <= len(split.val) <= 12 and 1 <= len(split.test) <= 12


@pytest.mark.parametrize("count, groups", [(3, None), (1, None), (0, None), (20, ["one"] * 20), (20, ["a", "b"] * 10)])
def test_too_few_cases_or_groups_are_refused(count, groups):
    with pytest.raises(ValueError, match=f"{count} cases.*8:1:1"):
        made(count, groups)


def test_cases_must_be_unique_and_have_a_group_each():
    with pytest.raises(ValueError, match="unique"):
        splits.make("toy", ["a"] * 20, cases(20))
    with pytest.raises(ValueError, match="19 groups"):
        splits.make("toy", cases(20), cases(19))


def test_parts_by_name():
    split = made()
    assert split.part("all") == split.train + split.val + split.test and split.part("val") == split.val
    with pytest.raises(ValueError, match="'valid'.*train, val, test, all"):
        split.part("valid")


def test_labelled_fractions_are_nested_subsets_of_the_training_part():
    split = made(780)
    fractions = (0.01, 0.05, 0.1, 0.5, 1.0)
    drawn = [set(split.labelled(fraction, 3)) for fraction in fractions]
    assert [len(d) for d in drawn] == [round(f * 624) for f in fractions]
    assert all(small < large for small, large in zip(drawn, drawn[1:])) and drawn[-1] == set(split.train)
    assert split.labelled(0.1, 3) == split.labelled(0.1, 3) != split.labelled(0.1, 4)
    assert len(made(10).labelled(0.01, 0)) == 1


@pytest.mark.parametrize("fraction", [0, -0.1, 1.01, float("nan")])
def test_label_fractions_outside_are_refused(fraction):
    with pytest.raises(ValueError, match="label fraction"):
        made().labelled(fraction, 0)


def test_near_duplicates_are_the_loop_over_corrcoef():
    source = np.random.default_rng(0)
    thumbnails = source.random((30, 32, 32))
    thumbnails[7] = 3 * thumbnails[2] + 5  # the same but for contrast and brightness
    thumbnails[20] = thumbnails[11] + 0.02 * source.random((32, 32))
    thumbnails[25] = -thumbnails[3]
    expected = [(i, j) for i in range(30) for j in range(i + 1, 30)
                if np.corrcoef(thumbnails[i].ravel(), thumbnails[j].ravel())[0, 1] > 0.98]  # fmt: skip
    assert splits.near_duplicates(thumbnails) == expected == [(2, 7), (11, 20)]
    several = [(i, j) for i in range(30) for j in range(i + 1, 30)
               if np.corrcoef(thumbnails[i].ravel(), thumbnails[j].ravel())[0, 1] > 0.03]  # fmt: skip
    assert splits.near_duplicates(thumbnails, 0.03) == several and len(several) > 10
    assert splits.near_duplicates((255 * thumbnails[:3]).astype(np.uint8)) == []


@pytest.mark.parametrize("block", [1, 7, 29, 30])
def test_near_duplicates_are_found_whatever_the_blocks(monkeypatch, block):
    thumbnails = np.random.default_rng(3).random((30, 8, 8))
    for twin, of in ((7, 2), (29, 0), (20, 19), (13, 6)):
        thumbnails[twin] = 2 * thumbnails[of] + 1
    monkeypatch.setattr(splits, "BLOCK", block)
    assert sorted(splits.near_duplicates(thumbnails)) == [(0, 29), (2, 7), (6, 13), (19, 20)]


def test_constant_thumbnails_are_nobodys_duplicates():
    thumbnails = np.stack([np.full((32, 32), value) for value in (0.0, 0.1, 0.1, 255.0)])
    assert splits.near_duplicates(thumbnails) == []


def test_join_merges_along_pairs():
    numbers = splits.join(["a", "b", "a", "c", "d", "e"], [(1, 2), (3, 4)])
    assert len({numbers[i] for i in (0, 1, 2)}) == len({numbers[3], numbers[4]}) == 1
    assert len(set(numbers)) == 3
    assert len(set(splits.join(["a", "b", "a"], []))) == 2
    chain = splits.join(cases(5), [(0, 1), (1, 2), (3, 4)])
    assert chain[0] == chain[1] == chain[2] != chain[3] == chain[4]


def test_leakage_by_hand():
    split = splits.Split("toy", 0, False, train=("a", "b"), val=("c",), test=("d", "e", "f"))
    names = ("a", "b", "c", "d", "e", "f")
    pairs = [(0, 1), (0, 3), (3, 1), (2, 4), (5, 2)]  # within train; train-test twice for d; val-test for e and f
    assert splits.leakage(split, names, pairs) == {"pairs": 5, "torn": 4, "test_leaked": 1 / 3}
    assert splits.leakage(split, names, []) == {"pairs": 0, "torn": 0, "test_leaked": 0.0}


def test_a_grouped_split_has_no_leakage():
    pairs = [(0, 50), (50, 77), (3, 4)]
    split = made(100, splits.join(cases(100), pairs))
    assert splits.leakage(split, cases(100), pairs) == {"pairs": 3, "torn": 0, "test_leaked": 0.0}


def test_save_and_load(tmp_path):
    split = made(seed=2, grouped=False)
    splits.save(split, tmp_path / "split.json")
    assert splits.load(tmp_path / "split.json") == split
    assert json.loads((tmp_path / "split.json").read_text())["sha256"] == split.sha256


@pytest.mark.parametrize(
    "key, change", [("seed", lambda v: v + 1), ("test", lambda v: v[1:]), ("grouped", lambda v: not v)]
)
def test_tampering_is_noticed(tmp_path, key, change):
    splits.save(made(), tmp_path / "split.json")
    values = json.loads((tmp_path / "split.json").read_text())
    values[key] = change(values[key])
    (tmp_path / "split.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match="'toy' has been altered"):
        splits.load(tmp_path / "split.json")


# Of patients


def of_patients(patients=43, most=9, alike=()) -> Stack:
    """Patients with 1 to ``most`` slices of noise, in a mixed order; two numbers in ``alike`` are slices with the same
    pixels.
    """
    source = np.random.default_rng(0)
    slices = [
        (f"p{k:02d}", number)
        for k in range(patients)
        for number in range(1 if most == 1 else 1 + int(source.integers(most)))
    ]
    source.shuffle(slices)
    groups = tuple(patient for patient, _ in slices)
    cases = groups if most == 1 else tuple(f"{patient}/{number:03d}" for patient, number in slices)
    images = torch.tensor(source.integers(0, 256, (len(cases), 1, 32, 32), dtype=np.uint8))
    for one, other in alike:
        images[other] = images[one]
    return Stack(
        "brats",
        "mri",
        "tumour",
        "here",
        cases,
        groups,
        images,
        torch.zeros_like(images) > 0,
        torch.arange(len(cases)),
        "",
    )


@pytest.mark.parametrize("seed", range(5))
def test_a_split_of_volumes_lists_patients_and_tears_none(seed):
    stack = of_patients()
    split, pairs = options.divide(options.Data(name="brats", split_seed=seed), stack)
    assert sorted(split.part("all")) == sorted(set(stack.groups)) and pairs == []
    assert (len(split.train), len(split.val), len(split.test)) == (35, 4, 4)
    parts = {name: stack.of(split.part(name)) for name in ("train", "val", "test")}
    assert sorted(sum((part.cases for part in parts.values()), ())) == sorted(stack.cases)
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        assert not set(parts[one].groups) & set(parts[other].groups)
        assert not {case.split("/")[0] for case in parts[one].cases} & {
            case.split("/")[0] for case in parts[other].cases
        }
    assert options.divide(options.Data(name="brats", split_seed=seed), stack)[0] == split


def test_labels_are_a_share_of_patients_and_nested():
    stack = of_patients()
    split, _ = options.divide(options.Data(name="brats"), stack)
    tenth, half = split.labelled(0.1, 0), split.labelled(0.5, 0)
    assert (len(tenth), len(half)) == (round(0.1 * 35), round(0.5 * 35)) and set(tenth) < set(half) < set(split.train)
    seen = stack.of(tenth)
    assert set(seen.groups) == set(tenth) and len(seen) == sum(group in tenth for group in stack.groups) > len(tenth)


def test_every_nth_slice_is_counted_within_each_patient():
    stack = of_patients()
    patients = list(dict.fromkeys(stack.groups))[::-1]
    for every in (1, 2, 3, 99):
        expected = [
            case
            for patient in patients
            for case in [c for c, g in zip(stack.cases, stack.groups) if g == patient][::every]
        ]
        assert list(stack.of(patients, every).cases) == expected and len(set(stack.of(patients, every).groups)) == 43


def test_slices_that_look_alike_join_no_patients_but_pictures_do():
    volumes, pictures = of_patients(alike=[(0, 60)]), of_patients(most=1, alike=[(0, 20), (5, 30)])
    assert volumes.groups[0] != volumes.groups[60] and options.divide(options.Data(name="brats"), volumes)[1] == []
    torn = []
    for seed in range(12):
        split, pairs = options.divide(options.Data(name="brats", split_seed=seed), pictures)
        plain, _ = options.divide(options.Data(name="brats", split_seed=seed, grouped=False), pictures)
        assert pairs == [(0, 20), (5, 30)] and splits.leakage(split, pictures.cases, pairs)["torn"] == 0
        torn.append(splits.leakage(plain, pictures.cases, pairs)["torn"])
    assert sum(torn) > 0
