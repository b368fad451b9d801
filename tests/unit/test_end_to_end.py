"""The whole path on phantoms and on volumes: pack, pretrain, fine-tune from it, evaluate; by the commands
a user types.
"""

import json

import numpy as np
import pytest
import torch
from test_metrics import slow_case

from mpsams import checkpoint, datasets, inference, jsonl, metrics, splits, transforms
from mpsams.unet import UNet
from tests.support import made_volumes
from train import evaluate, finetune, leakage, pack, pretrain, publish, starting_point

SMALL = [
    "--data.name",
    "phantom",
    "--data.size",
    "64",
    "--data.cases",
    "40",
    "--run.threads",
    "1",
    "--run.device",
    "cpu",
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory, quick_phantom):
    """Run folders of a pretraining and of a fine-tuning from it."""
    top = tmp_path_factory.mktemp("runs")
    first = pretrain.main(
        [*SMALL, "--model.width", "8", "--optim.epochs", "6", "--optim.batch", "8", "--out", str(top / "pre")]
    )
    how = [
        "--labels",
        "1",
        "--recipe.name",
        "strong",
        "--recipe.epochs",
        "30",
        "--recipe.batch",
        "8",
        "--recipe.ema_decay",
        "0.9",
    ]
    finetune.main([*SMALL, *how, "--init", str(first), "--validate_every", "15", "--out", str(top / "seg")])
    return top


def test_pretraining_learns_to_fill_in(runs):
    losses = [row["loss"] for row in jsonl.read(runs / "pre" / "records.jsonl", "epoch")]
    assert len(losses) == 6 and losses[-1] < 0.8 * losses[0]
    assert sorted(path.name for path in (runs / "pre" / "pictures").iterdir()) == [
        f"epoch-000{n}.png" for n in (1, 5, 6)
    ]


def test_ratios_in_the_records_follow_the_schedule(runs):
    ratios = [row["ratio"] for row in jsonl.read(runs / "pre" / "records.jsonl", "epoch")]
    assert ratios[0] == 0.25 and ratios[-1] == pytest.approx(0.25 + np.log(800) / 12) and ratios == sorted(ratios)


def test_checkpoints_say_where_they_come_from(runs):
    pre, seg = (checkpoint.load(runs / name / "weights.safetensors") for name in ("pre", "seg"))
    assert (pre.metadata["kind"], pre.metadata["method"]) == ("pretrain", "mps_ams")
    assert (seg.metadata["kind"], seg.metadata["method"], seg.metadata["recipe"]) == (
        "segmentation",
        "mps_ams",
        "strong",
    )
    assert seg.metadata["init"]["sha256"] == pre.sha256
    assert splits.restore(seg.metadata["split"]) == splits.load(runs / "pre" / "split.json")
    assert set(seg.metadata["labelled"]) == set(splits.restore(seg.metadata["split"]).train)


def test_segmentation_beats_calling_everything_lesion(runs):
    out = runs / "test.json"
    means = evaluate.main(
        ["--weights", str(runs / "seg" / "weights.safetensors"), "--split", "all", "--json", str(out)]
    )
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
    probability = inference.probability(inference.open_network(path, "float32"), sample.unit)
    assert numbers == metrics.case(probability >= 0.5, sample.mask)


def test_pretraining_that_saw_the_test_images_is_refused(runs):
    init = ["--init", str(runs / "pre" / "weights.safetensors"), "--data.split_seed", "1"]
    with pytest.raises(ValueError, match="has seen .* images of this split's test"):
        finetune.main([*SMALL, *init, "--out", str(runs / "leak")])


def test_a_segmentation_is_learnt_further_whole(runs):
    """Its head too, and with the sizes it has; it knows its parents, and all that these have seen is kept from the test
    part.
    """
    first = runs / "seg" / "weights.safetensors"
    how = ["--labels", "1", "--recipe.epochs", "1", "--recipe.batch", "8", "--validate_every", "0"]
    still = finetune.main(
        [
            *SMALL,
            *how,
            "--recipe.lr",
            "1e-30",
            "--recipe.weight_decay",
            "0",
            "--init",
            str(first),
            "--out",
            str(runs / "further"),
        ]
    )
    found, begun = checkpoint.load(still), checkpoint.load(first)
    own, before = checkpoint.unet(found), checkpoint.unet(begun)
    assert all(torch.equal(one, other) for one, other in zip(own.parameters(), before.parameters(), strict=True))
    assert found.metadata["model"] == begun.metadata["model"] and found.metadata["method"] == "mps_ams"
    origin = found.metadata["init"]
    assert (origin["kind"], origin["sha256"], origin["training"]) == (
        "segmentation",
        begun.sha256,
        begun.metadata["training"],
    )
    assert checkpoint.training_patients(found) == {"phantom": set(splits.restore(begun.metadata["split"]).train)}
    with pytest.raises(ValueError, match="the segmentation has seen .* images of this split's test"):
        finetune.main([*SMALL, *how, "--init", str(still), "--data.split_seed", "1", "--out", str(runs / "leak2")])
    elsewhere = {"split": splits.make("folder", list("abcdefghijkl"), list("abcdefghijkl")), "init": origin}
    other = checkpoint.Checkpoint(
        found.tensors, found.metadata | elsewhere | {"split": elsewhere["split"].__dict__}, ""
    )
    with pytest.raises(ValueError, match="it was begun from one that was trained on them"):
        starting_point.begin(
            None, 1, other, splits.make("phantom", (p := datasets.open_dataset("phantom")).cases[:40], p.cases[:40], 1)
        )
    # another data set
    assert starting_point.begin(None, 1, other, splits.make("busi", p.cases[:40], p.cases[:40], 1))[1] == "mps_ams"


def test_the_state_of_a_run_cannot_start_a_fine_tuning(runs):
    with pytest.raises(
        ValueError, match="is a state checkpoint; expected the weights of a pretraining or a segmentation"
    ):
        finetune.main([*SMALL, "--init", str(runs / "seg" / "state.safetensors"), "--out", str(runs / "wrong")])


def test_a_pretraining_cannot_be_evaluated(runs):
    with pytest.raises(ValueError, match="expected a segmentation"):
        evaluate.main(["--weights", str(runs / "pre" / "weights.safetensors")])


@pytest.fixture
def shipped(runs, tmp_path) -> list:
    """Both runs in a folder of weights: pretraining, segmentation."""
    return publish.main([str(runs / "pre"), str(runs / "seg"), "--weights", str(tmp_path / "weights")])


def test_shipped_weights_are_the_trained_ones_rounded_without_this_machines_paths(runs, shipped):
    assert [path.name for path in shipped] == [
        "phantom-mps_ams-pretrain.safetensors",
        "phantom-mps_ams-seg-100.safetensors",
    ]
    found, trained = checkpoint.load(shipped[1]), checkpoint.load(runs / "seg" / "weights.safetensors")
    assert found.metadata["rounded_from"] == trained.sha256 and str(runs) not in json.dumps(found.metadata)
    assert shipped[1].stat().st_size < 0.6 * (runs / "seg" / "weights.safetensors").stat().st_size
    for own, other in zip(checkpoint.unet(found).parameters(), checkpoint.unet(trained).parameters(), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-6)


def test_the_card_of_shipped_weights_has_the_numbers_of_the_shipped_file(shipped):
    weights, record, folder = shipped[1], shipped[1].with_suffix(".json"), ["--weights", str(shipped[1].parent)]
    assert "Measured" not in weights.with_suffix(".md").read_text()
    evaluate.main(["--weights", str(weights), "--json", str(record)])
    publish.main(folder)
    means, card = json.loads(record.read_text()), weights.with_suffix(".md").read_text()
    assert means["sha256"] == checkpoint.load(weights).sha256 and means["sha256"] in card
    assert f"{means['dsc']:.3f}" in card and f"{means['hd95_lesion']:.3f}" in card


def test_a_shipped_file_is_only_replaced_on_request(runs, shipped):
    held = {path: path.read_bytes() for path in shipped[0].parent.iterdir()}
    again = [str(runs / "pre"), str(runs / "seg"), "--weights", str(shipped[0].parent)]
    with pytest.raises(
        ValueError,
        match=(
            r"mps_ams-pretrain.safetensors exists already \(trained until 20.*seg-100.safetensors exists.*--overwrite"
            r" replaces it"
        ),
    ):
        publish.main(again)
    assert {path: path.read_bytes() for path in shipped[0].parent.iterdir()} == held
    assert publish.main([*again, "--overwrite"]) == shipped
    with pytest.raises(ValueError, match="several of these runs would be shipped as phantom-mps_ams-seg-100"):
        publish.main([str(runs / "seg"), str(runs / "seg" / ".." / "seg"), "--weights", str(shipped[0].parent / "new")])


def test_an_evaluation_does_not_replace_another_one(runs, tmp_path):
    command = [
        "--weights",
        str(runs / "seg" / "weights.safetensors"),
        "--split",
        "test",
        "--json",
        str(tmp_path / "m.json"),
    ]
    evaluate.main(command)
    first = (tmp_path / "m.json").read_bytes()
    evaluate.main(command)  # the same measurement again
    for other in (["--split", "val"], ["--threshold", "0.6"]):
        with pytest.raises(ValueError, match="m.json exists already; --overwrite replaces it"):
            evaluate.main([*command, *other])
        assert (tmp_path / "m.json").read_bytes() == first
    (tmp_path / "m.json").write_text("notes")
    with pytest.raises(ValueError, match="exists already"):
        evaluate.main(command)
    evaluate.main([*command, "--overwrite"])
    assert json.loads((tmp_path / "m.json").read_bytes()) == json.loads(first)


def test_fine_tuning_takes_size_width_and_normalisation_from_the_checkpoint(runs, tmp_path, capsys):
    init = [
        "--data.name",
        "phantom",
        "--data.cases",
        "40",
        "--init",
        str(runs / "pre" / "weights.safetensors"),
        "--run.device",
        "cpu",
        "--run.threads",
        "1",
    ]
    short = [*init, "--labels", "1", "--recipe.epochs", "1", "--validate_every", "0"]
    about = checkpoint.load(finetune.main([*short, "--out", str(tmp_path / "a")])).metadata
    assert (
        about["size"] == about["config"]["data"]["size"] == 64
        and about["model"]["width"] == about["config"]["model"]["width"] == 8
    )
    assert "--init" not in capsys.readouterr().out
    other = finetune.main(
        [*short, "--data.size", "32", "--model.width", "16", "--model.norm", "group", "--out", str(tmp_path / "b")]
    )
    printed = capsys.readouterr().out
    assert checkpoint.load(other).metadata["size"] == 32 and checkpoint.load(other).metadata["model"]["width"] == 8
    assert "--init was trained on images of 64 pixels; data.size says 32, and so is it fine-tuned" in printed
    assert (
        "has width 8 and keeps it; model.width 16 is not used" in printed
        and "has norm batch and keeps it; model.norm group is not used" in printed
    )


def test_sequences_are_taken_from_the_checkpoint(volumes, tmp_path):
    init = [
        "--init",
        str(volumes / "direct" / "pre" / "weights.safetensors"),
        "--data.name",
        "brats",
        "--data.root",
        str(volumes / "data"),
    ]
    found = checkpoint.load(
        finetune.main(
            [*init, *TINY_FINETUNING, "--run.threads", "1", "--run.device", "cpu", "--out", str(tmp_path / "a")]
        )
    ).metadata
    assert found["data"]["sequences"] == ["t1", "flair"] and found["size"] == 32 and found["model"]["channels"] == 2


@pytest.mark.parametrize(
    "init, message",
    [
        ("nothing", "nothing does not exist"),
        ("text", "not a whole safetensors file"),
        ("state", "--init is a state checkpoint"),
    ],
)
def test_what_to_begin_from_is_looked_at_before_the_images(runs, tmp_path, monkeypatch, init, message):
    monkeypatch.setattr(finetune, "open_data", lambda *_: pytest.fail("images were read first"))
    (tmp_path / "text").write_text("nothing")
    path = {"nothing": "/nothing", "text": tmp_path / "text", "state": runs / "seg" / "state.safetensors"}[init]
    with pytest.raises(ValueError, match=message):
        finetune.main(["--data.name", "phantom", "--init", str(path), "--out", str(tmp_path / "o")])


def test_an_evaluation_without_a_folder_says_which_option_is_missing(tmp_path, runs):
    for command in (evaluate.main,):
        with pytest.raises(ValueError, match="needs --data.root DIR"):
            command(["--weights", str(runs / "seg" / "weights.safetensors"), "--data.name", "folder", "--split", "all"])
    for command in (pack.main, pretrain.main, finetune.main, leakage.main):
        for name in ("folder", "busi", "brats", "hecktor"):
            with pytest.raises(ValueError, match="needs --data.root DIR"):
                command(["--data.name", name])


def test_an_evaluation_of_other_weights_makes_no_card(shipped):
    shipped[1].with_suffix(".json").write_text(json.dumps({"sha256": "of something else"}))
    with pytest.raises(ValueError, match="measured another checkpoint"):
        publish.main(["--weights", str(shipped[1].parent)])


# Volumes


SEQUENCES = ["--data.sequences", '["t1", "flair"]']
VOLUMES = ["--data.name", "brats", "--data.size", "32", "--run.threads", "1", "--run.device", "cpu", *SEQUENCES]
TINY_PRETRAINING = [
    "--model.width",
    "2",
    "--optim.epochs",
    "2",
    "--optim.batch",
    "16",
    "--method.patch",
    "8",
    "--run.picture_every",
    "0",
]
TINY_FINETUNING = [
    "--labels",
    "0.5",
    "--recipe.epochs",
    "2",
    "--recipe.lr",
    "0.01",
    "--validate_every",
    "1",
    "--data.slice_stride",
    "2",
]


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    """Ten patients of two sequences: pretrained and fine-tuned once from their folder and once from a pack of it."""
    top = tmp_path_factory.mktemp("volumes")
    made_volumes.brats(top / "data", high=5, low=5, sequences=("t1", "flair"), shape=(5, 20, 26))
    pack.main(
        [
            "--data.name",
            "brats",
            "--data.root",
            str(top / "data"),
            "--data.size",
            "32",
            *SEQUENCES,
            "--out",
            str(top / "pack"),
        ]
    )
    # a pack knows its sequences
    for name, root, options in (("direct", top / "data", VOLUMES), ("packed", top / "pack", VOLUMES[:-2])):
        data = [*options, "--data.root", str(root)]
        first = pretrain.main([*data, *TINY_PRETRAINING, "--out", str(top / name / "pre")])
        finetune.main([*data, *TINY_FINETUNING, "--init", str(first), "--out", str(top / name / "seg")])
    return top


def test_training_on_a_pack_is_training_on_the_folder(volumes):
    for stage in ("pre", "seg"):
        one, other = (checkpoint.load(volumes / name / stage / "weights.safetensors") for name in ("direct", "packed"))
        assert one.tensors.keys() == other.tensors.keys()
        assert all(torch.equal(one.tensors[key], other.tensors[key]) for key in one.tensors)
        assert one.metadata["data"] == other.metadata["data"] and one.metadata["split"] == other.metadata["split"]
        losses = [
            [row.get("loss") for row in jsonl.read(volumes / name / stage / "records.jsonl", "epoch")]
            for name in ("direct", "packed")
        ]
        assert losses[0] == losses[1] and len(losses[0]) == 2
    start = checkpoint.load(volumes / "direct" / "pre" / "weights.safetensors")
    assert not torch.equal(
        start.tensors["head.weight"], one.tensors["head.weight"][: len(start.tensors["head.weight"])]
    )


def test_checkpoints_of_volumes_speak_of_patients_and_channels(volumes):
    pre, seg = (checkpoint.load(volumes / "packed" / name / "weights.safetensors") for name in ("pre", "seg"))
    patients = {f"Brats18_{'HGG' if k < 5 else 'LGG'}_{k}" for k in range(10)}
    split = splits.restore(seg.metadata["split"])
    assert set(split.part("all")) == patients and (len(split.train), len(split.val), len(split.test)) == (8, 1, 1)
    assert split == splits.restore(pre.metadata["split"])
    # without the slices of air
    assert pre.metadata["data"]["patients"] == 10 and pre.metadata["data"]["images"] == 10 * 3
    # all slices; half of the patients, every other slice
    assert (pre.metadata["seen"], seg.metadata["seen"]) == (8 * 3, 4 * 2)
    assert len(seg.metadata["labelled"]) == 4 and set(seg.metadata["labelled"]) < set(split.train)
    assert (pre.metadata["model"]["channels"], pre.metadata["model"]["classes"]) == (2, 2)
    assert (seg.metadata["model"]["channels"], seg.metadata["model"]["classes"]) == (2, 1)


def test_another_number_of_channels_than_the_pretrainings_is_refused(volumes):
    init = ["--init", str(volumes / "direct" / "pre" / "weights.safetensors"), "--data.root", str(volumes / "data")]
    with pytest.raises(ValueError, match="the pretraining has 2 channels, the images have 1; use one data.sequences"):
        finetune.main([*VOLUMES[:-2], "--data.sequences", '["t1"]', *init, "--out", str(volumes / "wrong")])


def test_evaluation_of_volumes_is_per_slice_and_per_volume(volumes):
    path, out = volumes / "packed" / "seg" / "weights.safetensors", volumes / "all.json"
    network = inference.open_network(path, "float32")
    dataset = datasets.open_dataset("brats", volumes / "data", ("t1", "flair"))
    probabilities = {sample.case: inference.probability(network, sample.unit) for sample in dataset}
    threshold = float(np.quantile(np.stack(list(probabilities.values())), 0.9))  # so that there is something to count
    means = evaluate.main(
        [
            "--weights",
            str(path),
            "--data.root",
            str(volumes / "data"),
            "--split",
            "all",
            "--threshold",
            str(threshold),
            "--json",
            str(out),
        ]
    )
    written = json.loads(out.read_text())
    assert set(written["cases"]) == set(dataset.cases) and set(written["volumes"]) == set(dataset.groups)
    assert (
        written["images"] == 10 * 5 == means["images"]
        and written["per_volume"]["images"] == 10 == written["per_volume"]["lesions"]
    )
    for sample in list(dataset)[:10]:
        expected = slow_case(probabilities[sample.case] >= threshold, sample.mask, made_volumes.SPACING[1:])
        assert written["cases"][sample.case] == pytest.approx(expected, abs=1e-4), sample.case
    for patient in dict.fromkeys(dataset.groups):
        own = list(dataset.of([patient]))
        pred, truth = (
            np.stack([probabilities[sample.case] >= threshold for sample in own]),
            np.stack([sample.mask for sample in own]),
        )
        assert written["volumes"][patient] == pytest.approx(slow_case(pred, truth, made_volumes.SPACING), abs=1e-4), (
            patient
        )
    rows = list(written["volumes"].values())
    assert len({row["dsc"] for row in rows}) > 3
    for name in ("dsc", "ppv", "sen", "hd95", "assd"):
        assert written["per_volume"][name] == pytest.approx(np.mean([row[name] for row in rows]))
    true_pos, pred, truth_pos = (sum(row[name] for row in rows) for name in ("hit", "said", "real"))
    assert (
        written["dsc_pooled"] == written["per_volume"]["dsc_pooled"] == pytest.approx(2 * true_pos / (pred + truth_pos))
    )


def test_distances_of_very_large_outlines_are_left_out_and_written_as_null(volumes, monkeypatch, capsys):
    monkeypatch.setattr(metrics, "MOST_SURFACE", 0)
    out, path = volumes / "large.json", volumes / "packed" / "seg" / "weights.safetensors"
    command = ["--weights", str(path), "--data.root", str(volumes / "data"), "--split", "test", "--json", str(out)]
    evaluate.main([*command, "--threshold", "0.01"])  # so that something is outlined everywhere
    written = json.loads(out.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    volumes_left_out = [row for row in written["volumes"].values() if row["hd95"] is None]
    assert volumes_left_out and written["per_volume"]["distances"] == len(written["volumes"]) - len(volumes_left_out)
    assert f"HD95 and ASSD were not measured for {len(volumes_left_out)} volume" in capsys.readouterr().out


def test_evaluation_of_a_part_measures_its_patients_with_all_their_slices(volumes):
    path = volumes / "direct" / "seg" / "weights.safetensors"
    for part in ("test", "val"):
        out = volumes / f"{part}.json"
        evaluate.main(
            ["--weights", str(path), "--data.root", str(volumes / "data"), "--split", part, "--json", str(out)]
        )
        patients = splits.load(volumes / "direct" / "pre" / "split.json").part(part)
        written = json.loads(out.read_text())
        assert tuple(written["volumes"]) == patients and list(written["cases"]) == [
            f"{name}/{k:03d}" for name in patients for k in range(5)
        ]


def test_evaluation_looks_where_training_looked(tmp_path):
    """CT: a square around the body, or the challenge's box; outside of it nothing is said, and what lies there is
    missed.
    """
    made_volumes.hecktor_2020(tmp_path, patients=2)
    made_volumes.boxes(tmp_path / "bbox.csv", {"CHGJ001": ((2, 3, 4), (4, 8, 20))})
    dataset = datasets.open_dataset("hecktor", tmp_path)
    torch.manual_seed(0)
    network = inference.Network(UNet(width=2).eval(), {"size": 32}, "", None)
    probabilities = {
        sample.case: inference.probability(network, transforms.crop(sample.unit, sample.box)) for sample in dataset
    }
    threshold = float(np.median(np.concatenate([probability.ravel() for probability in probabilities.values()])))
    found = evaluate.measure(network, dataset, threshold)
    assert list(found["image"]) == list(dataset.cases) and list(found["volume"]) == ["CHGJ000", "CHGJ001"]
    masks = {}
    for sample in dataset:
        predicted = transforms.paste(probabilities[sample.case] >= threshold, sample.box, sample.mask.shape)
        assert found["image"][sample.case] == pytest.approx(
            slow_case(predicted, sample.mask, made_volumes.SPACING[1:]), abs=1e-4
        )
        masks.setdefault(sample.case.split("/")[0], []).append((predicted, sample.mask))
    for patient, slices in masks.items():
        predicted, truth = (np.stack(each) for each in zip(*slices))
        assert found["volume"][patient] == pytest.approx(slow_case(predicted, truth, made_volumes.SPACING), abs=1e-4)
    assert len(masks["CHGJ001"]) == 3 and found["volume"]["CHGJ001"]["said"] <= 3 * 6 * 17
    assert 0 < found["volume"]["CHGJ001"]["hit"] < found["volume"]["CHGJ001"]["real"]


def test_pictures_have_no_volumes(runs):
    out = runs / "pictures.json"
    evaluate.main(["--weights", str(runs / "seg" / "weights.safetensors"), "--split", "val", "--json", str(out)])
    assert not {"per_volume", "volumes"} & json.loads(out.read_text()).keys()


def test_evaluation_says_what_the_reader_notes_and_takes_a_modality(tmp_path, runs, capsys):
    made_volumes.folder(tmp_path)
    (tmp_path / "images" / "Thumbs.db").write_bytes(b"no image")
    options = [
        "--weights",
        str(runs / "seg" / "weights.safetensors"),
        "--data.name",
        "folder",
        "--data.root",
        str(tmp_path),
        "--split",
        "all",
    ]
    evaluate.main([*options, "--data.modality", "ct", "--json", str(tmp_path / "a.json")])
    printed = capsys.readouterr().out
    for note in (
        "Passed over in images/, being no images: Thumbs.db.",
        "The checkpoint was trained on ultrasound; these images are ct.",
    ):
        assert printed.count(f"note: {note}") == 1 and note in json.loads((tmp_path / "a.json").read_text())["notes"]
    evaluate.main([*options, "--json", str(tmp_path / "b.json")])
    assert "trained on" not in capsys.readouterr().out


def test_a_folder_without_masks_serves_for_pretraining_only(tmp_path, runs):
    source = np.random.default_rng(0)
    for k in range(12):
        made_volumes.picture(tmp_path / "images" / f"{k}.png", source.integers(0, 256, (32, 32), dtype=np.uint8))
    data = ["--data.name", "folder", "--data.root", str(tmp_path), "--data.size", "32", "--run.threads", "1"]
    found = checkpoint.load(pretrain.main([*data, *TINY_PRETRAINING, "--out", str(tmp_path / "pre")]))
    assert found.metadata["data"]["target"] == "" and found.metadata["data"]["patients"] == 12
    with pytest.raises(ValueError, match="'folder' at .* has no masks to learn from; it serves for pretraining only"):
        finetune.main([*data, "--out", str(tmp_path / "seg")])
    with pytest.raises(ValueError, match="'folder' at .* has no masks to measure against"):
        evaluate.main(
            [
                "--weights",
                str(runs / "seg" / "weights.safetensors"),
                "--data.name",
                "folder",
                "--data.root",
                str(tmp_path),
                "--split",
                "all",
            ]
        )
