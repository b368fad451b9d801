"""Learning from corrections: what is held back never trains, nothing worse is taken into use, and no end of a run harms
a project.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import time
from pathlib import Path

import gradio as gr
import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import corrections as benchmark
from mpsams import checkpoint, datasets, inference, metrics, splits
from mpsams.annotation import adoption, assist, log, proposals, retraining, retraining_run, structures
from mpsams.annotation.project import Project
from mpsams.annotation.retraining_run import Run
from mpsams.annotation.structures import Structure
from mpsams.app.annotate.retrain_panel import RetrainPanel, choose_structure, describe_result
from mpsams.app.session import Session
from mpsams.datasets import phantom
from mpsams.inference import network_names
from mpsams.inference.registry import ModelRegistry
from mpsams.unet import UNet
from tests.support.waiting import wait_until
from train import progress_file, retrain

SIDE, ITEMS, EPOCHS, RATE = 64, 24, 40, 1e-2
NAME = "busi-mps_ams-seg-10"
SECRET = "miller_anna_1961"
MODEL = {"channels": 1, "classes": 1, "width": 4, "norm": "batch"}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As the processes that are started, and not at the cost of whatever else runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def pictures() -> list[tuple[np.ndarray, np.ndarray]]:
    """Small phantoms with a lesion: uint8 (H, W) and bool (H, W)."""
    dataset = datasets.open_dataset("phantom")
    wanted = [case for number, case in enumerate(dataset.cases) if number % 4 != 3][: ITEMS + 4]
    stack = datasets.stack(dataset.select(wanted), SIDE)
    return [
        (image_1hw[0].numpy(), mask_1hw[0].numpy()) for image_1hw, mask_1hw in zip(stack.stored_nchw, stack.stored_n1hw)
    ]


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A network that has learnt nothing yet."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / f"{NAME}.safetensors"
    about = {
        "kind": "segmentation",
        "method": "mps_ams",
        "size": 32,
        "model": MODEL,
        "labels": 0.1,
        "training": {"steps": 0},
    }
    checkpoint.save(
        path,
        UNet(**MODEL).state_dict(),
        about | {"data": {"name": "busi", "modality": "ultrasound", "target": "lesion"}},
    )
    return path


def accept(project: Project, pictures: list, folder: Path, proposed: bool = True) -> None:
    """Add pictures under a patient's name and accept their masks, every second one just as it was proposed."""
    for number, (image_hw, mask_hw) in enumerate(pictures):
        Image.fromarray(image_hw).save(folder / f"{SECRET}_{number}.png")
        item = project.add(folder / f"{SECRET}_{number}.png", "ultrasound")
        mask_xyz = mask_hw.T[:, :, None]
        if proposed:
            project.propose(item.id, mask_xyz if number % 2 else np.roll(mask_xyz, 2, 0), "x", "y")
        project.accept(item.id, mask_xyz)


@pytest.fixture(scope="module")
def filled(tmp_path_factory, pictures) -> Path:
    """A project with accepted masks."""
    folder = tmp_path_factory.mktemp("filled")
    with Project(folder / "project") as project:
        accept(project, pictures[:ITEMS], folder)
    return folder / "project"


@pytest.fixture
def folder(filled, tmp_path) -> Path:
    """The same, for one test alone."""
    return Path(shutil.copytree(filled, tmp_path / "project"))


@pytest.fixture(scope="module")
def learnt(filled, weights, tmp_path_factory) -> tuple[Path, Run]:
    """A project that has learnt once."""
    folder = Path(shutil.copytree(filled, tmp_path_factory.mktemp("learnt") / "project"))
    run, own = retraining.prepare(folder, weights, NAME, epochs=EPOCHS)
    with own:
        retrain.correct(run.folder, 400, RATE)
    return folder, run


@pytest.fixture
def start():
    """``learning.start``, but what is still running when the test ends is ended."""
    runs = []

    def begin(*given, **how) -> Run:
        runs.append(retraining.start(*given, **how))
        return runs[-1]

    yield begin
    for run in runs:
        run.cancel()


def running(run: Run, words: str = "learning") -> None:
    """Wait until a run is so far."""

    def has_come() -> bool:
        now = run.progress()
        assert words in now.words or now.state == "running", now
        return words in now.words

    wait_until(has_come, 300)  # a busy machine lets it wait


def test_a_network_gets_better_on_what_it_never_saw_and_is_measured_as_anyone_would(learnt, weights):
    folder, run = learnt
    verdict, plan = run.evaluation(), json.loads((run.folder / "plan.json").read_text())
    assert not verdict.worse and verdict.after > verdict.before + 0.2 and verdict.interval[0] > 0
    assert verdict.better == (verdict.images >= retraining_run.MIN_SHOWN)
    assert verdict.images == len(plan["held_back"]) >= 3 and verdict.learned == len(plan["learn"]) >= 3
    assert verdict.images + verdict.learned == ITEMS and verdict.left_out == 0
    for path, mean in ((weights, verdict.before), (verdict.checkpoint, verdict.after)):
        network, found = inference.open_network(path), []
        for id in plan["held_back"]:
            image, mask = (
                np.asarray(Image.open(folder / "accepted" / kind / f"{id}.png")) for kind in ("images", "masks")
            )
            predicted = inference.probability(network, image.astype(np.float32) / 255) >= 0.5
            found.append(float(metrics.overlap(torch.tensor(predicted)[None], torch.tensor(mask > 0)[None])["dsc"]))
        assert np.mean(found) == pytest.approx(mean, abs=1e-9)


def test_the_checkpoint_says_what_it_was_begun_from_and_what_it_has_seen(learnt, weights):
    run = learnt[1]
    found, plan = checkpoint.load(run.evaluation().checkpoint), json.loads((run.folder / "plan.json").read_text())
    metadata = found.metadata
    assert (metadata["kind"], metadata["method"], metadata["size"], metadata["model"]) == (
        "segmentation",
        "mps_ams",
        32,
        MODEL,
    )
    init = metadata["init"]
    assert (init["kind"], init["method"], init["sha256"]) == (
        "segmentation",
        "mps_ams",
        checkpoint.load(weights).sha256,
    )
    assert sorted(metadata["labelled"]) == plan["learn"] and metadata["split"]["test"] == plan["held_back"]
    assert (
        metadata["data"]["modality"] == "ultrasound"
        and "by hand" in metadata["data"]["target"]
        and "project" in metadata["data"]["source"]
    )
    assert checkpoint.training_patients(found) == {"folder": set(plan["learn"])}


def test_masks_that_are_proposals_as_they_were_are_counted(learnt):
    folder, run = learnt
    held = json.loads((run.folder / "plan.json").read_text())["held_back"]
    rows = {row["item"]: row for row in log.read(folder / "log.jsonl")[0] if row["action"] == "accepted"}
    by_hand = [id for id in held if rows[id]["pixels_added"] + rows[id]["pixels_removed"]]
    assert run.evaluation().manually_edited == len(by_hand) and 0 < len(by_hand) < len(held)


def test_a_process_of_its_own_tells_how_far_it_is_and_writes_nothing_but_ids(folder, weights, start):
    run = start(folder, weights, NAME, epochs=3)
    seen = [run.progress()]
    assert seen[0].state == "running" and retraining_run.last(folder) == run
    with pytest.raises(ValueError, match="learning already"):
        retraining.start(folder, weights, NAME)
    with Project(folder) as project:  # the app's lock is free, and what it does meanwhile disturbs nothing
        item = project.items("accepted")[0]
        project.reopen(item.id)
        project.accept(item.id)
    wait_until(lambda: seen.append(retraining_run.last(folder).progress()) or seen[-1].state != "running", 300)
    assert seen[-1].state == "done", (run.folder / "log.txt").read_text()
    shares = [progress.share for progress in seen]
    assert shares == sorted(shares) and shares[-1] == 1 and any(0 < share < 1 for share in shares)
    assert run.evaluation().images + run.evaluation().learned == ITEMS
    stays = {
        "log.txt",
        "plan.json",
        "process.json",
        "progress.json",
        "records.jsonl",
        "verdict.json",
        "weights.safetensors",
    }
    assert {path.name for path in run.folder.iterdir()} == stays
    for path in (*run.folder.iterdir(), folder / "holdout.json"):
        assert SECRET.encode() not in path.read_bytes() and str(folder).encode() not in path.read_bytes(), path.name


def test_the_steps_of_a_training_are_reported(tmp_path):
    progress = progress_file.ProgressReporter(tmp_path)
    progress("before", 0.5, "not yet")
    progress.written -= 2
    progress("learning", 0.2, "learning: step 2 of 10")
    assert retraining_run.read(tmp_path / "progress.json") == {
        "share": 0.3,
        "words": "learning: step 2 of 10",
        "failed": False,
    }


def test_adopting_and_taking_back_and_the_next_round(learnt, tmp_path):
    folder = Path(shutil.copytree(learnt[0], tmp_path / "project"))
    run = retraining_run.last(folder)
    sha256 = checkpoint.load(run.evaluation().checkpoint).sha256
    shelf = ModelRegistry(tmp_path, more=[folder / "checkpoints"])
    with Project(folder) as project:
        assert adoption.promoted(folder) == [] and shelf.names() == []
        path = adoption.promote(project, run, "me")
        assert adoption.promote(project, run, "me") == path == adoption.promoted(folder)[0]  # a second click
        assert checkpoint.load(path).sha256 == sha256 and path.stem == "corrected-1-mps_ams-seg-10"
        assert shelf.segmenters("ultrasound") == [path.stem] and shelf.network(path.stem).sha256 == sha256
        assert network_names.titles_of([path.stem, NAME]) == {NAME: "MPS-AMS busi", path.stem: "MPS-AMS corrected-1"}
        (row,) = [row for row in project.log() if row["action"] == "learned"]
        assert (
            row["checkpoint"] == {"name": path.stem, "sha256": sha256}
            and row["base_checkpoint"]["name"] == NAME
            and row["user"] == "me"
        )
        assert row["items"] == run.evaluation().learned and row["after"] == run.evaluation().after
        assert project.counts()["accepted"] == ITEMS
        following, own = retraining.prepare(folder, path, path.stem)
        own.close()
        first, second = (json.loads((each.folder / "plan.json").read_text()) for each in (run, following))
        assert second["held_back"] == first["held_back"] and not checkpoint.training_patients(checkpoint.load(path))[
            "folder"
        ] & set(second["held_back"])
        withdrawn = adoption.rollback(project, "me")
        assert withdrawn.parent.name == "withdrawn" and checkpoint.load(withdrawn).sha256 == sha256
        assert adoption.promoted(folder) == [] and shelf.names() == [] and project.log()[-1]["action"] == "rolled back"
        with pytest.raises(ValueError, match="nothing to take back"):
            adoption.rollback(project)
        with pytest.raises(ValueError, match="no longer there"):
            adoption.promote(project, run)
        project.rebuild()  # the index reads past lines that are of no item
        assert project.counts()["accepted"] == ITEMS
        # no number comes twice
        assert adoption._name(folder, {"name": NAME, "method": "mps_ams"}) == "corrected-2-mps_ams-seg-10"


def test_masks_that_make_it_worse_are_not_taken_into_use(learnt, tmp_path):
    folder = Path(shutil.copytree(learnt[0], tmp_path / "project"))
    good = Path(shutil.copy(learnt[1].folder / "weights.safetensors", tmp_path / f"{NAME}.safetensors"))
    run, own = retraining.prepare(folder, good, NAME, epochs=40)
    learnt_from = json.loads((run.folder / "plan.json").read_text())["learn"]
    for id in learnt_from:  # everything is lesion but the lesion
        mask = np.asarray(Image.open(run.folder / "masks" / f"{id}.png"))
        (run.folder / "masks" / f"{id}.png").unlink()  # a hard link
        Image.fromarray(255 - mask).save(run.folder / "masks" / f"{id}.png")
    with own:
        retrain.correct(run.folder, 400, RATE)
    verdict = run.evaluation()
    assert verdict.before > 0.4 > verdict.after and not verdict.better and verdict.interval[1] < 0
    with Project(folder) as project, pytest.raises(ValueError, match="the mean DSC fell from 0"):
        adoption.promote(project, run)
    assert adoption.promoted(folder) == []
    # the earlier run's, not adopted
    assert not (retraining_run.Run(folder / "runs" / "0001").folder / "weights.safetensors").exists()


def test_a_run_of_another_start_than_what_is_in_use_is_not_taken_into_use(learnt, tmp_path):
    folder = Path(shutil.copytree(learnt[0], tmp_path / "project"))
    (folder / "checkpoints").mkdir()
    checkpoint.save(folder / "checkpoints" / "corrected-3-mps_ams-seg-10.safetensors", UNet(**MODEL).state_dict(), {})
    with Project(folder) as project, pytest.raises(ValueError, match="did not begin from corrected-3"):
        adoption.promote(project, retraining_run.last(folder))


def test_cancelling_ends_it_soon_and_leaves_nothing(folder, weights, start):
    run = start(folder, weights, NAME, epochs=100_000)
    running(run)
    assert "of 300000" in run.progress().words and "left" in run.progress().words
    began = time.monotonic()
    run.cancel()
    assert time.monotonic() - began < 5 and run.progress().state == "cancelled"
    assert {path.name for path in run.folder.iterdir()} == {
        "cancelled",
        "log.txt",
        "plan.json",
        "process.json",
        "progress.json",
    }
    with pytest.raises(ValueError, match="no result; it is cancelled"):
        run.evaluation()
    run.cancel()  # once more does nothing
    _, own = retraining.prepare(folder, weights, NAME)  # and the next may begin
    own.close()


def test_a_run_that_was_killed_has_failed_and_the_next_may_begin(folder, weights, start):
    run = start(folder, weights, NAME, epochs=100_000)
    running(run, "reading")
    pid = json.loads((run.folder / "process.json").read_text())["pid"]
    assert os.getpriority(os.PRIO_PROCESS, pid) > os.getpriority(os.PRIO_PROCESS, 0) and os.getpgid(pid) == pid
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: run.progress().state != "running")
    assert run.progress().state == "failed" and "killed" in run.progress().words
    again, own = retraining.prepare(folder, weights, NAME)
    with own:
        assert again.folder.name == "0002" and again.progress().state == "running" and run.progress().state == "failed"
        assert not (run.folder / "images").exists()
    with Project(folder) as project:
        assert project.counts()["accepted"] == ITEMS


def test_a_run_sees_that_it_was_cancelled_from_another_computer(folder, weights):
    run, own = retraining.prepare(folder, weights, NAME, epochs=5)
    (run.folder / "cancelled").touch()
    with own, pytest.raises(SystemExit, match="cancelled"):
        retrain.correct(run.folder, 400, 1e-3)
    assert run.progress().state == "cancelled" and not (run.folder / "images").exists()


def test_what_goes_wrong_is_reported_in_a_sentence(folder, weights):
    run, own = retraining.prepare(folder, weights, NAME, epochs=5)
    spoilt = next((run.folder / "images").iterdir())
    spoilt.unlink()
    spoilt.write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with own, pytest.raises(ValueError):
        retrain.correct(run.folder, 400, 1e-3)
    progress = run.progress()
    assert progress.state == "failed" and spoilt.stem in progress.words and "Traceback" not in progress.words


def test_too_few_masks_and_what_is_no_segmentation_are_refused(tmp_path, pictures, weights):
    with Project(tmp_path / "project") as project:
        accept(project, pictures[:9], tmp_path)
    with pytest.raises(ValueError, match="at least 10 accepted masks are needed; there are 9"):
        retraining.start(tmp_path / "project", weights, NAME)
    pretraining = tmp_path / "pre.safetensors"
    checkpoint.save(pretraining, UNet(**MODEL).state_dict(), {"kind": "pretrain", "model": MODEL})
    with pytest.raises(ValueError, match="'pretrain' checkpoint; expected a segmentation"):
        retraining.start(tmp_path / "project", pretraining, "pre")
    assert retraining_run.last(tmp_path / "project") is None
    with pytest.raises(ValueError, match="damaged"):
        (tmp_path / "x.json").write_text("{")
        retraining_run.read(tmp_path / "x.json")


IDS = [f"{number:016x}" for number in range(400)]


@pytest.mark.parametrize("step", [1, 7, 60])
def test_what_was_once_held_back_is_never_learnt_from(step):
    known, learnt = set(), set()
    for count in range(10, len(IDS), step):
        held = retraining.select_holdout(IDS[:count], known, learnt)
        assert known & set(IDS[:count]) <= held and not held & learnt and len(held) >= 3
        known |= held
        learnt |= set(IDS[:count]) - held
    assert 0.15 < len(held) / count < 0.25
    assert retraining.select_holdout(IDS, known, learnt) == retraining.select_holdout(IDS[::-1], known, learnt)


def test_items_that_came_later_change_no_part(folder, weights, pictures, tmp_path):
    plans = []
    for more in (pictures[ITEMS:], []):
        run, own = retraining.prepare(folder, weights, NAME)
        own.close()
        plans.append(json.loads((run.folder / "plan.json").read_text()))
        with Project(folder) as project:
            accept(project, more, tmp_path)
    first, second = plans
    assert set(first["held_back"]) <= set(second["held_back"]) and set(first["learn"]) <= set(second["learn"])
    assert len(second["learn"]) + len(second["held_back"]) == ITEMS + 4 and not set(second["learn"]) & set(
        second["held_back"]
    )


def test_near_duplicates_of_what_is_held_back_are_not_learnt_from(phantoms):
    names = [f"{number:02}" for number in range(12)]
    stack = datasets.Stack(
        "folder",
        "ultrasound",
        "lesion",
        "",
        tuple(names),
        tuple(names),
        phantoms.stored_nchw[:12].clone(),
        phantoms.stored_n1hw[:12],
        torch.arange(12),
        "",
    )
    stack.stored_nchw[7] = stack.stored_nchw[0]  # one to learn from and one held back are alike
    split, left_out = retrain.divide(stack, names[:6], names[6:], seen=set())
    assert (
        left_out == {"00"} and split.train == tuple(names[1:6]) and split.test == tuple(names[6:]) and split.val == ()
    )
    split, left_out = retrain.divide(stack, names[:6], names[6:], seen={"00"})  # an earlier round has learnt from it
    assert left_out == {"00", "07"} and "07" not in split.test
    with pytest.raises(ValueError, match="too few are left"):
        retrain.divide(stack, names[:3], names[6:], seen=set())


def test_volumes_count_as_one_item_and_of_many_slices_only_some_are_learnt_from(tmp_path, weights):
    rng, space = np.random.default_rng(0), np.diag([2.0, 2.0, 3.0, 1.0])
    with Project(tmp_path / "project") as project:
        for number in range(12):
            values_xyz, mask_xyz = rng.normal(100, 20, (24, 24, 6)), np.zeros((24, 24, 6), bool)
            mask_xyz[6:15, 8:14, 1 : 3 + number % 3] = True
            values_xyz[mask_xyz] += 200
            nibabel.save(nibabel.Nifti1Image(values_xyz.astype(np.float32), space), tmp_path / "volume.nii.gz")
            project.accept(project.add(tmp_path / "volume.nii.gz", "mri").id, mask_xyz)
    run, own = retraining.prepare(tmp_path / "project", weights, NAME)
    shutil.copytree(run.folder, tmp_path / "kept")
    with own:
        verdict = retrain.correct(run.folder, 3, 1e-3)
    assert len(verdict["items"]) == verdict["images"] == verdict["changed_by_hand"] == 12 - verdict["learned"]
    found = checkpoint.load(run.folder / "weights.safetensors").metadata
    assert (
        found["data"]["modality"] == "mri"
        and found["config"]["data"]["slice_stride"] == verdict["learned"] * 6 // 24 > 1
    )
    id, numbers = next(iter(verdict["items"].items()))
    dataset, network = retrain.corrected_stack(tmp_path / "kept", "mri").of([id]), inference.open_network(weights)
    predicted, truth = (
        np.stack(each)
        for each in zip(*[(inference.probability(network, s.unit, s.box) >= 0.5, s.mask) for s in dataset])
    )
    assert len(predicted) == 6 and numbers["before"] == pytest.approx(
        2 * (predicted & truth).sum() / (predicted.sum() + truth.sum())
    )


def test_the_interval_is_of_pairs():
    before, after = {"a": 0.1, "b": 0.5, "c": 0.9}, {"a": 0.2, "b": 0.6, "c": 1.0}
    result = retrain.compare_scores(before, after)
    assert (
        result["interval"] == pytest.approx([0.1, 0.1])
        and result["before"] == pytest.approx(0.5)
        and result["p"] == 2 / 2**3
    )
    assert retrain.compare_scores(before, before) == {
        "before": 0.5,
        "after": 0.5,
        "interval": [0, 0],
        "p": 1,
        "images": 3,
        "better": False,
    }
    # all resamples there are
    drawn = [np.mean([x, y, z]) for x in (-0.3, 0, 0.6) for y in (-0.3, 0, 0.6) for z in (-0.3, 0, 0.6)]
    result = retrain.compare_scores(before, {"a": 0.7, "b": 0.5, "c": 0.6})
    assert result["interval"][0] == pytest.approx(min(drawn)) and result["interval"][1] == pytest.approx(max(drawn))


@pytest.mark.parametrize(
    "gains, better",
    [
        ([0.1] * 3, False),
        ([0.1, 0.3, 0.2, 0.4, 0.1], False),
        ([0.1, 0.3, 0.2, 0.4, 0.1, 0.2], True),
        ([0.5, -0.2, 0.1, 0.3, -0.3, 0.2, 0.1, -0.1], False),
        ([0.01] * 20, True),
        ([-0.1] * 8, False),
        ([0.2] * 5 + [-0.01] * 9, False),
    ],
)
def test_better_is_reported_only_where_a_gain_is_shown(gains, better):
    before = {str(number): 0.5 for number in range(len(gains))}
    result = retrain.compare_scores(before, {id: 0.5 + gain for id, gain in zip(before, gains)})
    assert result["better"] is better
    if len(gains) < 10:
        sums = [
            abs(sum(sign * gain for sign, gain in zip(signs, gains)))
            for signs in itertools.product((1, -1), repeat=len(gains))
        ]
        assert result["p"] == pytest.approx(np.mean([total >= abs(sum(gains)) - 1e-12 for total in sums]))


def test_the_verdict_is_in_words_and_those_of_an_earlier_version_are_read_anew(tmp_path):
    facts = {
        "before": 0.5,
        "after": 0.6,
        "images": 3,
        "changed_by_hand": 3,
        "learned": 9,
        "left_out": 0,
        "better": True,
    }

    def said(**more) -> str:
        retraining_run.write(tmp_path / "verdict.json", facts | more)
        return describe_result(Run(tmp_path).evaluation())

    assert "fewer than 6 held-back images" in said(interval=[0.05, 0.2]) and "is better" not in said(
        interval=[0.05, 0.2]
    )
    assert "not shown to be better" in said(interval=[-0.05, 0.2], images=20)
    assert "It is better" in said(interval=[0.05, 0.2], images=20) and "It is better" in said(
        interval=[0.05, 0.2], images=20, p=0.01
    )
    assert "not shown to be better" in said(interval=[0.05, 0.2], images=20, p=0.2)
    assert "It is worse" in said(interval=[-0.2, 0.1], after=0.4) and Run(tmp_path).evaluation().worse


def test_items_of_another_modality_are_left_alone(weights, tmp_path):
    begun = checkpoint.load(weights)
    (tmp_path / "images").mkdir()
    rows = [
        {"item": id, "action": "added", "modality": "ct" if number < 3 else "ultrasound"}
        for number, id in enumerate(IDS[:8])
    ]
    for id in IDS[:8]:
        (tmp_path / "images" / f"{id}.png").touch()
    assert retraining.select_modality(tmp_path, rows, begun) == (set(IDS[3:8]), "ultrasound")
    assert retraining.select_modality(tmp_path, [row | {"modality": "ct"} for row in rows], begun) == (
        set(IDS[:8]),
        "ct",
    )


def test_the_benchmark_takes_no_image_that_the_network_has_seen():
    split = splits.make("phantom", phantom.CASES, phantom.CASES)
    network = inference.Network(UNet(**MODEL), {"split": split.__dict__}, "", None)
    source = benchmark.Source(name="phantom")
    assert (
        set(benchmark.unseen_images(network, source, 0).cases) == {*split.val, *split.test}
        and len(benchmark.unseen_images(network, source, 5)) == 5
    )
    elsewhere = inference.Network(network.unet, {"split": split.__dict__ | {"dataset": "busi"}}, "", None)
    assert benchmark.unseen_images(elsewhere, source, 0).cases == phantom.CASES


def test_two_networks_of_one_name_are_distinguished(tmp_path):
    about = {"kind": "segmentation", "size": 32, "model": MODEL, "data": {"modality": "ultrasound"}}
    for number, place in enumerate(("weights", "project")):
        torch.manual_seed(number)
        for name in (NAME, f"x{number}-mps_ams-seg-10"):
            checkpoint.save(tmp_path / place / f"{name}.safetensors", UNet(**MODEL).state_dict(), about)
    shelf = ModelRegistry(tmp_path / "weights", more=[tmp_path / "project", tmp_path / "none"])
    assert shelf.names() == [NAME, "x0-mps_ams-seg-10", f"2-{NAME}", "x1-mps_ams-seg-10"]
    first, second = (shelf.network(name).sha256 for name in (NAME, f"2-{NAME}"))
    assert first != second == checkpoint.load(tmp_path / "project" / f"{NAME}.safetensors").sha256
    assert (
        network_names.parse_name(f"2-{NAME}")[1:] == ("mps_ams", "10")
        and shelf.find("-mps_ams-seg-10", "ultrasound") == NAME
    )


# On the page


@pytest.fixture
def section():
    """The section of the Annotate tab for a project, over a folder of weights."""
    opened = []

    def make(folder: Path, weights: Path) -> tuple[RetrainPanel, ModelRegistry]:
        opened.append(Project(folder))
        registry = ModelRegistry(weights.parent, None, [folder / "checkpoints"])
        with gr.Blocks():
            return RetrainPanel(Session(registry, opened[-1], "annotate"), gr.Textbox()), registry

    yield make
    for project in opened:
        project.close()


def shown(teach: RetrainPanel) -> tuple[str, set[str]]:
    """The section's text, and the buttons that can be pressed."""
    updates, buttons = teach.update(), ("start", "cancel", "use", "back")
    there = {
        name
        for name in buttons
        if updates[getattr(teach, name)].visible and updates[getattr(teach, name)].interactive is not False
    }
    assert updates[teach.clock].active == ("cancel" in there)
    return updates[teach.status], there


def test_the_page_takes_a_better_network_into_use_and_back(learnt, weights, section, tmp_path):
    folder = Path(shutil.copytree(learnt[0], tmp_path / "project"))
    teach, registry = section(folder, weights)
    verdict = Run(folder / "runs" / learnt[1].folder.name).evaluation()
    text, there = shown(teach)
    assert f"DSC {verdict.before:.3f} before, {verdict.after:.3f} after" in text and there == {"start", "use"}
    assert assist.default_model(registry, "ultrasound") == NAME
    teach._use("anna")
    text, there = shown(teach)
    newest = f"corrected-1-{NAME.removeprefix('busi-')}"
    assert newest in text and there == {"start", "back"} and assist.default_model(registry, "ultrasound") == newest
    assert teach._begins_from() == newest
    teach._back("anna")
    assert newest not in shown(teach)[0] and assist.default_model(registry, "ultrasound") == NAME
    assert [row["user"] for row in teach.project.log()[-2:]] == ["anna", "anna"]
    with pytest.raises(gr.Error, match="nothing to take back"):
        teach._back("")


def test_the_page_says_how_many_masks_are_missing(weights, section, tmp_path):
    teach, _ = section(tmp_path / "empty", weights)
    text, there = shown(teach)
    assert f"0 of {retraining.MIN_ACCEPTED} masks" in text and not there
    with pytest.raises(gr.Error, match="no segmentation network"):
        teach._start()


def test_the_page_begins_watches_and_cancels(folder, weights, section):
    teach, _ = section(folder, weights)
    assert shown(teach)[1] == {"start"}
    teach._start()
    try:
        text, there = shown(teach)
        assert "progressbar" in text and there == {"cancel"}
        with pytest.raises(gr.Error, match="learning already"):
            teach._start()
    finally:
        teach._cancel()
    text, there = shown(teach)
    assert "cancelled; nothing has changed" in text and there == {"start"}


def test_the_structure_to_learn_is_chosen_by_its_label(tmp_path):
    with Project(tmp_path / "project") as project:
        assert choose_structure(project, 2) is None  # of one that was removed, a single one is left
        structures.define(project, ["liver", "tumour"])
        structures.define(project, ["liver", Structure("mass", label=2)])
        chosen = [choose_structure(project, label).name for label in (None, 1, 2)]
        assert chosen == ["liver", "liver", "mass"]
        with pytest.raises(ValueError, match="was removed meanwhile; allowed are liver, mass"):
            choose_structure(project, 3)


def test_an_untouched_proposal_of_another_network_is_made_anew(folder, weights, section, pictures, tmp_path):
    teach, registry = section(folder, weights)
    Image.fromarray(pictures[-1][0]).save(tmp_path / "new.png")
    item = teach.project.add(tmp_path / "new.png", "ultrasound")
    assert proposals.waiting(teach.project, registry) == [item.id]
    proposals.propose(teach.project, registry, item.id)
    assert proposals.waiting(teach.project, registry) == []
    (folder / "checkpoints").mkdir()
    shutil.copy(weights, folder / "checkpoints" / f"corrected-1-{NAME}.safetensors")
    assert proposals.waiting(teach.project, registry) == [item.id]
    teach.project.save(item.id, pictures[-1][1].T[:, :, None])
    assert proposals.waiting(teach.project, registry) == []
