"""The benchmarks: what they compare does the same work, their arithmetic is right, and --quick runs through."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import benchmarks
from benchmarks import (
    doc_speed,
    gpu,
    growth,
    hall,
    interleaved,
    packing,
    peer,
    pipeline,
    processes,
    switches,
    synthetic,
    training,
)
from benchmarks import loop as loop_bench
from mpsams import clusters, datasets, jsonl, losses, masking, packs, patches, schedule, splits, transforms
from mpsams.unet import UNet
from train import loop, run_files
from train.state import Position

ROOT = Path(__file__).resolve().parents[2]


def test_synthetic_files_are_a_data_set_that_the_peer_reads_as_we_do(tmp_path):
    root = packing.write_synthetic(tmp_path / "made", patients=2, slices=6, side=32)
    dataset = datasets.open_dataset("hecktor", root)
    assert len(dataset) == 12 and len(set(dataset.groups)) == 2 and sum(sample.mask.any() for sample in dataset) >= 2
    assert dataset[0].spacing == pytest.approx((3, 8, 8))
    pairs = [[str(path) for path in dataset.files(patient)] for patient in dict.fromkeys(dataset.groups)]
    result = packing.job(packing.PEER, "ct", 16, tmp_path / "peer.npz", fed=pairs)
    assert (
        result["slices"] == 12
        and result["slices_per_s"] == pytest.approx(12 / result["seconds"])
        and 0 < result["own_mib"] < result["peak_mib"] < 1000
    )
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
    record = json.loads(capsys.readouterr().out)
    assert [row["slices"] for row in record["synthetic"]] == [40, 160] and record["memory_of_many_over_few"][
        "slices"
    ] == 4
    for row in record["synthetic"]:
        assert row["ours"]["kept"] <= row["ours"]["slices"] == row["peer"]["slices"] == row["slices"]


def test_a_line_is_the_median_of_the_pairs_with_their_quartiles():
    line = benchmarks.row("a ÷ b", [(1, 2), (3, 2), (2, 2), (4, 2), (10, 2)], "≥ 1")
    assert line == {"what": "a ÷ b", "median": 1.5, "quartiles": [1.0, 2.0], "pairs": 5, "aim": "≥ 1"}
    assert benchmarks.row("a ÷ b", [(3, 2)])["quartiles"] == [1.5, 1.5]
    with pytest.raises(ValueError, match="no pair"):
        benchmarks.row("a ÷ b", [])


def test_a_quick_record_is_printed_with_the_machine_and_not_kept(capsys):
    benchmarks.keep("never", {"ratios": []}, quick=True)
    record = json.loads(capsys.readouterr().out)
    assert record["about"]["cpu"] == benchmarks.cpu() != "" and record["about"]["cores"] >= 1
    assert not (ROOT / "benchmarks" / "never.json").exists()


def test_candidates_take_turns_and_what_warms_up_does_not_count():
    how = {"width": 2, "size": 32, "batch": 2}
    pieces_of = interleaved.interleave(
        {"long": (training.bare, how | {"steps": 12}), "short": (training.bare, how | {"steps": 1})}, rounds=2
    )
    for begun, *pieces in pieces_of.values():
        assert begun["warm_s"] > 0 and len(pieces) == 2
    assert min(piece["seconds"] for piece in pieces_of["long"][1:]) > max(
        piece["seconds"] for piece in pieces_of["short"][1:]
    )
    assert interleaved.speeds([{"seconds": 9}, {"seconds": 2}, {"seconds": 4}], 8) == [4, 2]


def test_a_candidate_that_fails_ends_the_comparison():
    with pytest.raises(RuntimeError, match="'broken' has failed"):
        interleaved.interleave({"broken": (training.bare, {"steps": 1, "width": 0, "size": 32, "batch": 2})}, rounds=1)


def test_synthetic_images_are_a_pack(tmp_path):
    stack = packs.read(synthetic.pack(tmp_path / "a", 70, 32, each=20))
    assert len(stack) == 70 and stack.stored_nchw.shape == (70, 1, 32, 32) and len(set(stack.groups)) == 4
    inside = stack.stored_nchw[stack.stored_n1hw].float().mean() / stack.stored_nchw[~stack.stored_n1hw].float().mean()
    assert 0.02 < stack.stored_n1hw.float().mean() < 0.3 and inside < 0.5
    assert splits.near_duplicates(stack.stored_nchw[:, 0].numpy()) == []
    again = packs.read(synthetic.pack(tmp_path / "b", 70, 32))
    assert again.sha256 == stack.sha256 and again.groups == again.cases


def test_the_bare_step_trains_the_network_that_the_loop_trains(tmp_path):
    """Both as prepared for training, to the last weight; the bare step learns."""
    chosen = training.options(width=2, size=32, batch=4)
    work = training.task(chosen, synthetic.pack(tmp_path / "pack", 8, 32), tmp_path)
    step = training.bare_step(chosen, work.device)
    network, x_b1hw = (
        step.__closure__[step.__code__.co_freevars.index(name)].cell_contents for name in ("network", "x_b1hw")
    )
    theirs = work.module.unet.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in network.state_dict().items()) and x_b1hw.shape == (
        4,
        1,
        32,
        32,
    )
    before = (network(x_b1hw) - x_b1hw).square().mean()
    for _ in range(20):
        step()
    assert (network(x_b1hw) - x_b1hw).square().mean() < before
    assert work.steps == 2 and work.epochs == 800


def test_the_peer_finds_and_hides_what_we_do_and_learns_the_same_loss(tmp_path):
    pack = synthetic.pack(tmp_path / "pack", 12, 96)
    x_n1hw = transforms.standardise(packs.read(pack).stored_nchw.float())
    ours = clusters.lesion_patches(x_n1hw).unflatten(1, (6, 6))
    theirs = torch.stack([torch.from_numpy(peer.lesion_patches(image[0].numpy())) for image in x_n1hw])
    assert (
        (ours == theirs).float().mean() > 0.99
        and theirs.sum(dim=(1, 2)).min() > 0
        and theirs.sum(dim=(1, 2)).max() <= 18
    )
    for epoch in (1, 100):
        ratio = torch.tensor(schedule.mask_ratio(epoch))
        for careful in (False, True):
            item = peer.transforms(careful, ratio)({"image": packs.read(pack).stored_nchw[0].numpy().copy()})
            hidden = patches.patchify(item["hidden"][None], 16)[0]
            assert (hidden == hidden[:, :1]).all() and hidden[:, 0].sum() == masking.hidden_count(36, float(ratio))
            found = torch.from_numpy(peer.lesion_patches(item["image"][0].numpy())).flatten()
            assert found[hidden[:, 0] > 0].sum() == min(found.sum(), hidden[:, 0].sum())
            assert item["image"].mean().abs() < 1e-4 and item["image"].std(correction=0) == pytest.approx(1, abs=1e-3)
    predicted, hidden = torch.randn(x_n1hw.shape), torch.rand(x_n1hw.shape) < 0.4
    assert peer.loss_of(predicted, x_n1hw, hidden.float()) == pytest.approx(
        losses.masked_mse(predicted, x_n1hw, hidden).item(), rel=1e-5
    )
    for careful in (False, True):
        count, ours_count = (
            sum(each.numel() for each in net.parameters()) for net in (peer.network(16, careful), UNet(width=16))
        )
        assert count == pytest.approx(ours_count, rel=0.01)


def test_flops_of_a_small_unet_by_hand():
    width, side = 2, 16
    net, x_b1hw = UNet(width=width), torch.randn(2, 1, side, side)
    channels, areas = [width * 2**level for level in range(5)], [(side >> level) ** 2 for level in range(5)]
    pairs = list(zip([1, *channels], channels))
    down = sum(9 * (a * b + b * b) * area for (a, b), area in zip(pairs, areas))
    up = sum(
        a * b * 4 * (area // 4) + 9 * (a * b + b * b) * area for (b, a), area in zip(zip(channels, channels[1:]), areas)
    )
    forward = 2 * 2 * (down + up + width * areas[0])
    first = 2 * 2 * 9 * width * areas[0]  # no gradient to the image
    assert gpu.flops(lambda: net(x_b1hw)) == forward
    assert gpu.flops(lambda: net(x_b1hw).sum().backward()) == 3 * forward - first


def test_the_arithmetic_of_a_whole_training(tmp_path):
    assert gpu.whole_training(5.0, [9.0, 1.0, 3.0, 2.0]) == 5 + 15 + 796 * 2
    work = training.task(training.options(2, 32, 4), synthetic.pack(tmp_path / "pack", 8, 32), tmp_path)
    assert len(taken := gpu.epochs_of(work, tmp_path, 2)) == 2 and min(taken) > 0
    assert len(jsonl.read(tmp_path / run_files.RECORDS, "epoch")) == 1  # the second was broken off before its record
    found = gpu.where_time_goes(gpu.step_of(work), work.device, steps=1)
    assert any("convolution" in each["name"] for each in found) and sum(each["share"] for each in found) <= 1
    assert found == sorted(found, key=lambda each: -each["share"]) and gpu.matrix_rate(work.device, 64, 3) > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_benchmark_of_a_gpu_refuses_without_one():
    with pytest.raises(SystemExit, match="sees no GPU"):
        gpu.main([])


def test_each_switch_is_really_off(tmp_path):
    pack = synthetic.pack(tmp_path / "pack", 8, 32)

    def made(switch: str, on: bool) -> loop.Task:
        return switches.task(switch, on, pack, tmp_path, width=2, size=32, batch=4)

    def laid_out(work: loop.Task) -> bool:
        return all(
            each.is_contiguous(memory_format=torch.channels_last)
            for each in work.module.parameters()
            if each.ndim == 4 and each.shape[1] > 1
        )

    assert laid_out(made("channels_last", True)) and not laid_out(made("channels_last", False))
    assert [made("fused", on).optimizer.param_groups[0]["fused"] for on in (True, False)] == [True, None]
    orders = [made("geodesic", on).module.config for on in (True, False)]
    assert [(config.order, config.selector == "geodesic") for config in orders] == [
        ("lesion-first", True),
        ("random", False),
    ]
    precisions = [made("bf16", on).module.unet.encoder.precision for on in (True, False)]
    assert precisions == [torch.bfloat16, torch.float32]
    losses_of = {}
    for switch, on in (
        ("fused", True),
        ("fused", False),
        ("clusters", False),
        ("channels_last", False),
        ("memory", False),
    ):
        work = made(switch, on)
        losses_of[switch, on] = [
            float(loop.train_step(work, at, torch.arange(4), 1)) for at in [Position()] for _ in range(3)
        ]
    for step_losses in losses_of.values():
        # in bfloat16 where the processor has it
        assert step_losses == pytest.approx(losses_of["fused", True], rel=1e-3)


def test_what_grows_is_seen():
    code = (
        "import json, numpy; from benchmarks import growth; watch = growth.Watch(); kept = numpy.ones(2**24);"
        " print(json.dumps(watch.usage()))"
    )
    # in a process where nothing else lets go
    result = json.loads(subprocess.check_output([sys.executable, "-c", code], text=True, cwd=Path(__file__).parents[2]))
    assert 120 < result["grown_mib"] < 160 and result["anonymous_mib"] > result["grown_mib"]


def test_the_table_of_speed_says_what_ran_where(tmp_path):
    about = {"gpu": None, "cpu": "ACME 1", "threads": 2}
    line = benchmarks.row("a ÷ b", [(1, 1), (3, 2), (2, 1)], "≥ 1")
    (tmp_path / "loop.json").write_text(json.dumps({"ratios": [line], "about": about}))
    table = doc_speed.speed(tmp_path)
    assert "| a ÷ b | 1.50 (1.25–1.75) | ≥ 1 | CPU: ACME 1, 2 threads |" in table
    assert "Not run on a GPU" in table and "benchmarks.gpu" in table
    (tmp_path / "loop-gpu.json").write_text(json.dumps({"ratios": [line], "about": about | {"gpu": "H9"}}))
    assert "| a ÷ b | 1.50 (1.25–1.75) | ≥ 1 | GPU: H9 |" in doc_speed.speed(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "each", [loop_bench, pipeline, processes, growth, switches], ids=lambda module: module.__name__
)
def test_a_quick_run_goes_through_and_keeps_nothing(each, capsys):
    record = ROOT / "benchmarks" / f"{each.__name__.split('.')[-1]}.json"
    before = record.read_bytes() if record.exists() else None
    results = each.main(["--quick"])
    assert (record.read_bytes() if record.exists() else None) == before
    assert results["ratios"] and all(line["median"] > 0 for line in results["ratios"])
    assert json.loads(capsys.readouterr().out)["ratios"] == results["ratios"]


def test_the_table_of_visitors_states_ratios_load_and_hits(tmp_path):
    actions = {
        action: hall.summary([0.2, 0.4] if action != "open" else [], [0.1, 0.1], aim)
        for action, aim in hall.AIMS.items()
    }
    assert actions["mask"]["p50_over_alone"] == pytest.approx(3) and actions["open"] == {
        "answers": 0,
        "p50_s": None,
        "p95_s": None,
        "alone_s": 0.1,
        "aim_p95_s": 1.5,
    }
    result = {
        "answers_a_second": 8.0,
        "cpu_seconds_an_answer": 0.1,
        "share_of_cores": 0.4,
        "load_before": 3.2,
        "actions": actions,
        "refused_saves": 0,
        "other_errors": 1,
        "leaks": 0,
        "busy": 2,
        "shared_results": {"hits": 6, "waits": 1, "misses": 3},
        "p95_over_without": {"mask": 1.25, "open": None},
        "memory_mib": {"start": 800.4, "peak": 912.7},
    }
    benchmarks.keep("hall-greedy", result, folder=tmp_path)
    benchmarks.keep("hall-workers", result | {"workers": 3}, folder=tmp_path)
    table = doc_speed.hall(tmp_path)
    assert (
        "| mask | 2 | 0.10 | 0.30 | 0.39 | 0.30 | 4 | 1.25 |" in table
        and "| save | 2 | 0.10 | 0.30 | 0.39 | 0.30 | 4 | – |" in table
    )
    assert "open in Annotate" not in table and "50 visitors |" not in table
    assert (
        "8 answers a second, 0.100 CPU seconds each, 40% of" in table
        and "1 errors" in table
        and "70% of the shared results" in table
        and "memory of all processes 800 MiB at the start, 913 at most" in table
        and "| 50 visitors, 3 processes answer | mask |" in table
    )
