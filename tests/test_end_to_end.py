"""The whole path on phantoms: pretrain, fine-tune from it, evaluate; by the commands a user types."""

import json

import numpy as np
import pytest

from mpsams import checkpoint, datasets, inference, metrics, records, splits
from train import evaluate, finetune, pretrain, ship

SMALL = ["--data.name", "phantom", "--data.size", "64", "--data.cases", "40", "--run.threads", "1", "--run.device", "cpu"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory, quick_phantom):
    """Run folders of a pretraining and of a fine-tuning from it."""
    top = tmp_path_factory.mktemp("runs")
    first = pretrain.main([*SMALL, "--model.width", "8", "--optim.epochs", "6", "--optim.batch", "8", "--out", str(top / "pre")])
    how = ["--labels", "1", "--recipe.name", "strong", "--recipe.epochs", "30", "--recipe.batch", "8", "--recipe.average", "0.9"]
    finetune.main([*SMALL, *how, "--init", str(first), "--validate_every", "15", "--out", str(top / "seg")])
    return top


def test_pretraining_learns_to_fill_in(runs):
    losses = [row["loss"] for row in records.read(runs / "pre" / "records.jsonl", "epoch")]
    assert len(losses) == 6 and losses[-1] < 0.8 * losses[0]
    assert sorted(path.name for path in (runs / "pre" / "pictures").iterdir()) == [f"epoch-000{n}.png" for n in (1, 5, 6)]


def test_ratios_in_the_records_follow_the_schedule(runs):
    ratios = [row["ratio"] for row in records.read(runs / "pre" / "records.jsonl", "epoch")]
    assert ratios[0] == 0.25 and ratios[-1] == pytest.approx(0.25 + np.log(800) / 12) and ratios == sorted(ratios)


def test_checkpoints_say_where_they_come_from(runs):
    pre, seg = (checkpoint.load(runs / name / "weights.safetensors") for name in ("pre", "seg"))
    assert (pre.metadata["kind"], pre.metadata["method"]) == ("pretrain", "mps_ams")
    assert (seg.metadata["kind"], seg.metadata["method"], seg.metadata["recipe"]) == ("segmentation", "mps_ams", "strong")
    assert seg.metadata["init"]["sha256"] == pre.sha256
    assert splits.restore(seg.metadata["split"]) == splits.load(runs / "pre" / "split.json")
    assert set(seg.metadata["labelled"]) == set(splits.restore(seg.metadata["split"]).train)


def test_segmentation_beats_calling_everything_lesion(runs):
    out = runs / "test.json"
    means = evaluate.main(["--weights", str(runs / "seg" / "weights.safetensors"), "--split", "all", "--json", str(out)])
    written = json.loads(out.read_text())
    assert {"dsc", "ppv", "sen", "dsc_lesion", "dsc_pooled", "images"} <= written.keys()
    assert written["dsc_pooled"] == means["dsc_pooled"] and len(written["cases"]) == written["images"] == 64
    phantom = datasets.open_dataset("phantom")
    everything = metrics.summary([metrics.case(np.ones_like(s.mask), s.mask) for s in list(phantom)[:8]])
    assert means["dsc_pooled"] > 2 * everything["dsc_pooled"]


def test_evaluation_is_what_inference_says(runs):
    path = runs / "seg" / "weights.safetensors"
    evaluate.main(["--weights", str(path), "--split", "test", "--json", str(runs / "one.json")])
    case, numbers = next(iter(json.loads((runs / "one.json").read_text())["cases"].items()))
    sample = datasets.open_dataset("phantom").select([case])[0]
    chance = inference.probability(inference.open_network(path), sample.unit)
    assert numbers == metrics.case(chance >= 0.5, sample.mask)


def test_pretraining_that_saw_the_test_images_is_refused(runs):
    init = ["--init", str(runs / "pre" / "weights.safetensors"), "--data.split_seed", "1"]
    with pytest.raises(ValueError, match="has seen .* images of this split's test"):
        finetune.main([*SMALL, *init, "--out", str(runs / "leak")])


def test_a_segmentation_cannot_start_a_fine_tuning(runs):
    with pytest.raises(ValueError, match="expected the weights of a pretraining"):
        finetune.main([*SMALL, "--init", str(runs / "seg" / "weights.safetensors"), "--out", str(runs / "wrong")])


def test_a_pretraining_cannot_be_evaluated(runs):
    with pytest.raises(ValueError, match="expected a segmentation"):
        evaluate.main(["--weights", str(runs / "pre" / "weights.safetensors")])


def test_shipped_weights_are_the_trained_ones_without_this_machines_paths(runs, tmp_path):
    (runs / "seg" / "test.json").unlink(missing_ok=True)
    evaluate.main(["--weights", str(runs / "seg" / "weights.safetensors"), "--json", str(runs / "seg" / "test.json")])
    paths = ship.main([str(runs / "pre"), str(runs / "seg"), "--weights", str(tmp_path)])
    assert [path.name for path in paths] == ["phantom-mps_ams-pretrain.safetensors", "phantom-mps_ams-seg-100.safetensors"]
    shipped, trained = checkpoint.load(paths[1]), checkpoint.load(runs / "seg" / "weights.safetensors")
    assert shipped.sha256 == trained.sha256 and str(runs) not in json.dumps(shipped.metadata)
    card = paths[1].with_suffix(".md").read_text()
    means = json.loads((runs / "seg" / "test.json").read_text())
    assert means["sha256"] == shipped.sha256 and shipped.sha256 in card and f"{means['dsc']:.3f}" in card and f"{means['hd95_lesion']:.3f}" in card


def test_an_evaluation_of_other_weights_is_not_shipped(runs, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "weights.safetensors").write_bytes((runs / "seg" / "weights.safetensors").read_bytes())
    (tmp_path / "run" / "test.json").write_text(json.dumps({"sha256": "of something else"}))
    with pytest.raises(ValueError, match="measured another checkpoint"):
        ship.main([str(tmp_path / "run"), "--weights", str(tmp_path / "weights")])
    assert not (tmp_path / "weights").exists()
