"""Options, configurations and links in the spelling of earlier versions are still read, and mean the same."""

import json
from dataclasses import asdict

import pytest
import torch

from mpsams import checkpoint, clusters, renames, selectors
from mpsams.methods import mps_ams
from mpsams.unet import UNet
from train import finetune, plan, pretrain, reproduce, run_metadata, state
from train.command_line import parse

OLD = {
    "method": {"name": "mps_ams", "patch": 4, "reading": "descent"},
    "data": {"name": "busi", "size": 64, "every": 3},
    "recipe": {"name": "strong", "average": 0.9, "teacher": {"weight": 0.0}},
    "run": {"seed": 0},
}
NEW = {
    "method": {"name": "mps_ams", "patch": 4, "selector": "geodesic"},
    "data": {"name": "busi", "size": 64, "slice_stride": 3},
    "recipe": {"name": "strong", "ema_decay": 0.9, "teacher": {"weight": 0.0}},
    "run": {"seed": 0},
}


def read_pretrain(*argv):
    return parse(pretrain.Pretrain, "train.pretrain", argv, {"method": mps_ams.Config}, {"method.name": "mps_ams"})


def test_a_configuration_is_updated_and_restored_in_its_order():
    assert renames.update_config(OLD) == NEW and renames.restore_config(NEW) == OLD
    assert json.dumps(renames.restore_config(NEW)) == json.dumps(OLD)
    assert renames.update_config(NEW) == NEW and renames.update_config({"method": 7, "data": None}) == {
        "method": 7,
        "data": None,
    }


@pytest.mark.parametrize("form", ["separate", "equals"])
def test_the_command_line_takes_the_earlier_names(form):
    words = {"--data.every": "3", "--method.reading": "descent"}
    argv = (
        [f"{name}={value}" for name, value in words.items()]
        if form == "equals"
        else [word for pair in words.items() for word in pair]
    )
    found = read_pretrain(*argv, "--data.size", "64")
    assert (found.data.slice_stride, found.method.selector, found.data.size) == (3, "geodesic", 64)


def test_a_toml_file_takes_the_earlier_names_and_the_command_line_wins(tmp_path):
    path = tmp_path / "old.toml"
    path.write_text('[data]\nevery = 3\nsize = 64\nsequences = ["t1"]\n[method]\nreading = "descent"\npatch = 8\n')
    found = read_pretrain("--config", str(path))
    assert (found.data.slice_stride, found.data.sequences, found.method.selector, found.method.patch) == (
        3,
        ("t1",),
        "geodesic",
        8,
    )
    assert read_pretrain("--data.every", "5", "--config", str(path)).data.slice_stride == 5
    path.write_text("[recipe]\naverage = 0.9\n")
    found = parse(
        finetune.Finetune,
        "train.finetune",
        ["--config", str(path)],
        {"recipe": finetune.Recipe},
        {"recipe.name": "paper"},
    )
    assert found.recipe.ema_decay == 0.9


def test_an_unknown_option_is_still_an_error(capsys):
    with pytest.raises(SystemExit):
        read_pretrain("--data.evry", "3")
    assert "unknown option --data.evry" in capsys.readouterr().err


def test_a_checkpoint_of_an_earlier_version_is_read_with_the_names_of_this_one(tmp_path):
    network = UNet(width=4)
    checkpoint.save(
        tmp_path / "old.safetensors", network.state_dict(), {"kind": "pretrain", "config": OLD, "model": {"width": 4}}
    )
    assert checkpoint.metadata(tmp_path / "old.safetensors")["config"] == NEW
    assert checkpoint.load(tmp_path / "old.safetensors").metadata["config"] == NEW


def test_a_state_of_an_earlier_version_is_resumed_and_a_change_is_still_seen():
    assert state.changed_options(OLD, NEW) == ""
    assert state.changed_options(OLD, NEW | {"data": NEW["data"] | {"slice_stride": 4}}) == "data"


def test_run_folders_and_fingerprints_of_plans_stay_what_they_were():
    assert run_metadata.run_folder(["busi"], NEW, False, "busi") == run_metadata.run_folder(
        ["busi"], OLD, False, "busi"
    )
    old, new = (plan.Job("pretrain", "base", 0, tuple(plan.flat(config).items())) for config in (OLD, NEW))
    assert reproduce.fingerprint(old) == reproduce.fingerprint(new)


def test_the_records_in_results_fit_the_plans_they_were_made_by():
    """The hashes of options in results/*.jsonl were written before options were renamed."""
    from mpsams import jsonl

    root = plan.PLANS.parents[1]
    checked = 0
    for name in ("busi-cpu", "busi-orders", "busi-cpu-short", "busi-cpu-long"):
        planned = plan.read(name)
        jobs = {job.name: job for table in plan.TABLES if planned.parts.get(table) for job in planned.jobs(table)}
        for row in jsonl.read(root / "results" / f"{name}.jsonl"):
            if row.get("run") in jobs:
                assert row["options"] == reproduce.fingerprint(jobs[row["run"]]), (name, row["run"])
                checked += 1
    assert checked > 100


@pytest.mark.parametrize("name", clusters.SELECTORS)
def test_every_selector_keeps_the_contract(name):
    """One boolean and one finite score per patch, deterministic, no lesion where there is one patch, any number of
    images alike.
    """
    x_bchw = torch.rand(3, 1, 32, 48, generator=torch.Generator().manual_seed(0))
    found = clusters.split(x_bchw, 8, name)
    assert found.lesion_bl.shape == found.score_bl.shape == (3, 24) and found.lesion_bl.dtype == torch.bool
    assert found.score_bl.isfinite().all() and found.lesion_bl.any(dim=1).all() and not found.lesion_bl.all(dim=1).any()
    assert torch.equal(clusters.lesion_patches(x_bchw, 8, name), found.lesion_bl) and torch.equal(
        clusters.scores(x_bchw, 8, name), found.score_bl
    )
    assert torch.equal(clusters.lesion_patches(x_bchw[1:2], 8, name), found.lesion_bl[1:2])
    assert not clusters.lesion_patches(torch.full((1, 1, 32, 32), 0.5), 32, name).any()
    with pytest.raises(ValueError):
        clusters.lesion_patches(x_bchw, 7, name)
    assert asdict(mps_ams.Config(selector=name))["selector"] == name


def test_selectors_are_found_by_their_files_and_earlier_names():
    assert (
        set(selectors.available())
        == set(clusters.SELECTORS)
        == {"covariance-of-softmax", "softmax-of-covariance", "geodesic"}
    )
    assert selectors.find("descent") is selectors.find("geodesic")
    with pytest.raises(
        ValueError, match="unknown selector 'ascent'; available: covariance-of-softmax, geodesic, softmax-of-covariance"
    ):
        selectors.find("ascent")
