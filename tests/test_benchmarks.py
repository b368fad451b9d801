"""The benchmark of packing: its made-up data are a data set, ours and the peer read the same slices; --quick runs through."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import packing
from mpsams import datasets, packs, transforms


def test_what_is_made_up_is_a_data_set_that_the_peer_reads_as_we_do(tmp_path):
    root = packing.made_up(tmp_path / "made", patients=2, slices=6, side=32)
    dataset = datasets.open_dataset("hecktor", root)
    assert len(dataset) == 12 and len(set(dataset.groups)) == 2 and sum(sample.mask.any() for sample in dataset) >= 2
    assert dataset[0].spacing == pytest.approx((3, 8, 8))
    pairs = [[str(path) for path in dataset.files(patient)] for patient in dict.fromkeys(dataset.groups)]
    told = packing.job(packing.PEER, "ct", 16, tmp_path / "peer.npz", fed=pairs)
    assert told["slices"] == 12 and told["slices_per_s"] == pytest.approx(12 / told["seconds"]) and 0 < told["own_mib"] < told["peak_mib"] < 1000
    peer, whole = np.load(tmp_path / "peer.npz"), [sample.unit for sample in dataset]
    assert peer["images"].shape == peer["masks"].shape == (12, 16, 16) and peer["masks"].dtype == bool
    ours = np.stack([transforms.resize(unit, 16, 16)[0, 0] for unit in whole])
    assert np.abs(peer["images"] / 255 - ours).mean() < 0.01
    masks = np.stack([transforms.resize_mask(sample.mask, 16, 16)[0, 0] for sample in dataset])
    assert (peer["masks"] != masks).sum() <= 2 < masks.sum()
    packs.write(dataset, 16, tmp_path / "pack")
    read = packing.job(packing.READ, tmp_path / "pack", 3, 8)
    assert read["slices"] == 24 and 0 <= read["kept_mib"] < 50


@pytest.mark.slow
def test_a_quick_run_keeps_nothing(capsys, monkeypatch):
    monkeypatch.setattr(packing, "keep", lambda *_: pytest.fail("a quick run was kept"))
    packing.main(["--quick"])
    told = json.loads(capsys.readouterr().out)
    assert [row["slices"] for row in told["made_up"]] == [40, 160] and told["memory_of_many_over_few"]["slices"] == 4
    for row in told["made_up"]:
        assert row["ours"]["kept"] <= row["ours"]["slices"] == row["peer"]["slices"] == row["slices"]
