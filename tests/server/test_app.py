"""The running app, asked through gradio_client as another program would: endpoints, refusals, offline,
memory of files.
"""

import asyncio
import errno
import io
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
import torch
from gradio.state_holder import StateHolder
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from mpsams import clusters, inference, metrics, transforms
from mpsams.annotation.project import Project
from mpsams.app import gradio_compat
from mpsams.app import page as panels
from mpsams.app.gradio_compat.blocks import GuardedBlocks
from mpsams.datasets import phantom
from mpsams.imaging import raster
from mpsams.inference.registry import ModelRegistry
from tests.support.server import ROOT, end_of


@pytest.fixture(scope="module")
def client(app_address):
    return Client(app_address, verbose=False)


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A phantom as PNG files: (image path, mask path, unit image as read back, mask)."""
    folder = tmp_path_factory.mktemp("case")
    image_hw, mask_hw = phantom.ultrasound(18)
    Image.fromarray((image_hw * 255).round().astype(np.uint8)).save(folder / "image.png")
    (folder / "mask.png").write_bytes(raster.write_mask(mask_hw))
    return (
        str(folder / "image.png"),
        str(folder / "mask.png"),
        raster.read((folder / "image.png").read_bytes(), "ultrasound").slice(0),
        mask_hw,
    )


def study_of(case, **more):
    how = clusters.default_options("ultrasound") | more
    return inference.study(inference.to_grid(case[2], 256), **how)


@pytest.mark.parametrize(
    "number, sentence",
    [
        (errno.ENOSPC, "The disk is full, so this was not written"),
        (errno.EROFS, "read-only"),
        (errno.EIO, "went wrong"),
    ],
)
def test_a_disk_that_takes_no_file_is_reported_wherever_it_happens(monkeypatch, number, sentence):
    """Downloads are written by gradio, after the function that made them."""

    def full(*_):
        raise OSError(number, os.strerror(number), "/secret/path")

    monkeypatch.setattr(gr.processing_utils, "save_bytes_to_cache", full)
    with GuardedBlocks() as page:
        file = gr.File()
        listener = gr.Button().click(lambda: gradio_compat.save_to_cache(b"mask", "mask.png", file), [], [file])
    page.queue()
    with pytest.raises(gr.Error, match=sentence) as error:
        asyncio.run(page.process_api(page.fns[listener["id"]], [], session_hash="a"))
    assert "secret" not in str(error.value)


def test_a_step_of_a_generator_leaves_the_values_of_the_step_before_as_they_are():
    """gradio's client makes edits within a value in an object that the page may not have read yet."""
    with GuardedBlocks() as page:
        column, numbers = gr.Column(visible=False), gr.HTML()

        def steps():
            yield {column: gr.Column(visible=True)}
            yield {numbers: "a table"}
            yield {numbers: "a table and a plot"}

        listener = gr.Button().click(steps, [], [column, numbers])
    page.queue()

    async def answers() -> list:
        iterator, sent = None, []
        for _ in range(3):
            about = {"session_hash": "a", "event_id": "b", "iterator": iterator, "state": page.state_holder["a"]}
            result = await page.process_api(page.fns[listener["id"]], [], **about)
            sent.append(result["data"])
            iterator = result["iterator"]
        return sent

    first, second, third = asyncio.run(answers())
    assert first[0]["visible"] is True
    assert second[1] == [["replace", [], "a table"]] and third[1] == [["replace", [], "a table and a plot"]]
    assert [edit[:2] for edit in second[0]] == [["replace", []]] and "visible" not in second[0][0][2]
    assert third[0] == []


def test_components_that_stay_as_they_are_are_not_made_anew(monkeypatch):
    with GuardedBlocks() as page:
        html, radio, state, box = gr.HTML("old"), gr.Radio(["a", "b"]), gr.State(1), gr.Textbox("old")
        outputs = [html, radio, state, box]
        answers = [
            lambda: {html: "new"},
            lambda: ("new", gr.skip(), 2, "new"),
            lambda: {radio: gr.Radio(["c"], value="c"), html: gr.HTML(visible=False)},
            gr.skip,
        ]
        listeners = [gr.Button().click(answer, [], outputs) for answer in answers]
        single = gr.Button().click(lambda: "alone", [], html)
    made, make = [], gr.Radio.__init__
    monkeypatch.setattr(gr.Radio, "__init__", lambda self, *args, **more: made.append(1) or make(self, *args, **more))

    def answer(listener) -> list:
        fn = page.fns[listener["id"]]
        return asyncio.run(page.process_api(fn, [], session_hash="a", state=page.state_holder["a"]))["data"]

    page.state_holder = StateHolder()
    page.state_holder.set_blocks(page)
    same = gr.skip()
    assert answer(listeners[0]) == ["new", same, None, same]
    assert answer(listeners[1]) == ["new", same, None, "new"] and page.state_holder["a"][state._id] == 2
    assert answer(listeners[3]) == [same, same, None, same] and page.state_holder["a"][state._id] == 2
    assert answer(single) == ["alone"] and made == []
    changed = answer(listeners[2])
    assert changed[1] == {"choices": [["c", "c"]], "value": "c", "__type__": "update"} and made
    assert changed[0]["visible"] is False and list(map(tuple, page.state_holder["a"][radio._id].choices)) == [
        ("c", "c")
    ]


def test_healthz_says_it_is_up_and_what_it_has(app_address):
    answer = json.load(urllib.request.urlopen(f"{app_address}/healthz"))
    assert answer["ok"] is True and "busi-mps_ams-seg-10" in answer["weights"]


def test_clusters_are_those_of_the_library_with_lift_and_auc(client, case):
    answer = client.predict(handle_file(case[0]), handle_file(case[1]), api_name="/clusters")
    study = study_of(case)
    assert answer["lesion"] == torch.nonzero(study.clusters.lesion_bl[0])[:, 0].tolist()
    found = inference.agreement(study, transforms.resize_mask(case[3], 256, 256))
    assert answer["agreement"]["lift"] == pytest.approx(found.lift, rel=1e-5)
    assert answer["agreement"]["auc"] == pytest.approx(found.auc, rel=1e-5)


def test_clusters_in_the_other_reading_differ(client, case):
    one, other = (
        client.predict(handle_file(case[0]), selector=r, api_name="/clusters")
        for r in ("covariance-of-softmax", "softmax-of-covariance")
    )
    assert one["lesion"] != other["lesion"] and "agreement" not in one


@pytest.mark.parametrize("epoch, count", [(1, 64), (10, 113), (100, 162), (800, 206)])
def test_mask_hides_what_the_schedule_says(client, case, epoch, count):
    answer = client.predict(handle_file(case[0]), epoch=epoch, seed=5, api_name="/mask")
    at = inference.mask_at(study_of(case, seed=5), epoch)
    assert answer["hidden"] == count and len(answer["lesion_first"]) == len(answer["random"]) == count
    assert sorted(answer["lesion_first"]) == torch.nonzero(at.lesion_first_1l[0])[:, 0].tolist()
    assert answer["bits"] == {"lesion_first": pytest.approx(at.bits), "random": pytest.approx(at.random_bits)}


def test_reconstruct_gives_numbers_and_three_pictures(client, case, small_weights):
    numbers, *files = client.predict(handle_file(case[0]), epoch=100, api_name="/reconstruct")
    network = inference.open_network(small_weights / "busi-mps_ams-pretrain.safetensors")
    study = study_of(case)
    found = inference.reconstruct(network, study.image_11ss, inference.mask_at(study, 100).lesion_first_1l, 16)
    assert numbers["hidden"] == 162 and numbers["error"] == pytest.approx(found.error_background, rel=1e-4)
    filled = np.asarray(Image.open(files[1]).convert("L")).astype(float) / 255
    assert filled.shape == (256, 256) and np.abs(filled - found.filled_11ss[0, 0].numpy()).max() < 0.003


def test_segment_and_export_agree_with_inference_at_the_original_size(client, case, small_weights):
    for name in ("busi-mps_ams-seg-10", "busi-scratch-seg-10", "busi-simclr-seg-10"):
        probability = inference.probability(inference.open_network(small_weights / f"{name}.safetensors"), case[2])
        threshold = float(np.quantile(probability, 0.7))
        how = {"threshold": threshold, "weights": name}
        answer = client.predict(handle_file(case[0]), handle_file(case[1]), **how, api_name="/segment")
        path, _ = client.predict(handle_file(case[0]), **how, api_name="/export")
        mask_hw = np.asarray(Image.open(path)) == 255
        assert mask_hw.shape == case[2].shape == (answer["height"], answer["width"])
        assert (mask_hw != (probability >= threshold)).mean() < 1e-3 and answer["lesion_pixels"] == mask_hw.sum()
        assert answer["dsc"] == pytest.approx(metrics.case(mask_hw, case[3])["dsc"], abs=1e-6)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "I;16"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG"])
def test_image_kinds_are_opened(client, case, tmp_path, kind, mode):
    if kind == "JPEG" and mode not in ("L", "RGB"):
        pytest.skip("JPEG knows no such mode")
    grey = Image.open(case[0])
    image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257) if mode == "I;16" else grey.convert(mode)
    image.save(tmp_path / "image.bin", kind)
    answer = client.predict(handle_file(str(tmp_path / "image.bin")), api_name="/mask")
    assert answer["hidden"] == 162


def refused(client, path, endpoint, **more) -> str:
    with pytest.raises(AppError) as refusal:
        client.predict(handle_file(str(path)), api_name=endpoint, **more)
    return str(refusal.value)


@pytest.mark.parametrize("endpoint", ["/clusters", "/mask", "/reconstruct", "/segment", "/export"])
def test_what_is_no_image_gets_a_sentence_everywhere(client, case, tmp_path, endpoint):
    whole = Path(case[0]).read_bytes()
    hostile = {
        "empty": (b"", "NIfTI and DICOM"),
        "text": (b"no image at all", "NIfTI and DICOM"),
        "cut": (whole[: len(whole) // 3], "PNG, JPEG or TIFF"),
        "dicom": (b"\0" * 128 + b"DICM" + b"\0" * 64, "DICOM"),
        "nifti": (b"\x5c\1\0\0" + b"\0" * 400, "NIfTI"),
        "gzip": (b"\x1f\x8b\x08" + b"\0" * 40, "NIfTI"),
        "zip": (b"PK\x03\x04" + b"\0" * 40, "zip"),
    }
    for name, (data, words) in hostile.items():
        (tmp_path / f"secret-{name}.png").write_bytes(data)
        sentence = refused(client, tmp_path / f"secret-{name}.png", endpoint)
        assert words in sentence and "secret" not in sentence and "Traceback" not in sentence, (name, sentence)
    assert client.predict(handle_file(case[0]), api_name="/mask")["hidden"] == 162  # and nothing is broken


def test_a_lying_header_is_refused(client, tmp_path):
    data = io.BytesIO()
    Image.new("L", (64, 64)).save(data, "PNG")
    lie = bytearray(data.getvalue())
    lie[16:24] = (60000).to_bytes(4, "big") * 2
    (tmp_path / "bomb.png").write_bytes(bytes(lie))
    assert "PNG, JPEG or TIFF" in refused(client, tmp_path / "bomb.png", "/segment")


@pytest.mark.parametrize(
    "endpoint, values, words",
    [
        ("/mask", {"epoch": 0}, "epoch"),
        ("/mask", {"modality": "xray"}, "ultrasound, ct, mri"),
        ("/mask", {"seed": -1}, "seed"),
        ("/clusters", {"selector": "tea leaves"}, "covariance-of-softmax"),
        ("/segment", {"threshold": 1.5}, "between 0 and 1"),
        ("/segment", {"weights": "busi-base-pretrain"}, "busi-scratch-seg-10"),
        ("/reconstruct", {"weights": "none"}, "busi-base-pretrain"),
        ("/reconstruct", {"weights": "busi-simclr-pretrain"}, "there are: busi-base-pretrain, busi-mps_ams-pretrain"),
    ],
)
def test_values_that_are_not_allowed_are_named_with_what_is(client, case, endpoint, values, words):
    assert words in refused(client, case[0], endpoint, **values)


def test_a_mask_of_another_size_is_refused(client, case, tmp_path):
    (tmp_path / "mask.png").write_bytes(raster.write_mask(np.zeros((20, 30), bool)))
    assert "30 × 20" in refused(client, case[0], "/segment", truth=handle_file(str(tmp_path / "mask.png")))


def test_files_of_the_server_cannot_be_read(app_address):
    for path in ("/gradio_api/file=/etc/passwd", "/gradio_api/file=app.py", "/gradio_api/file=weights"):
        with pytest.raises(urllib.error.HTTPError) as refusal:
            urllib.request.urlopen(app_address + path)
        assert refusal.value.code in (403, 404)


@pytest.mark.parametrize("path", ["LICENSE", "http://127.0.0.1:9/image.png"])
def test_a_raw_request_cannot_name_a_file_that_was_not_uploaded(app_address, path):
    path = path if ":" in path else str(Path(__file__).parents[2] / path)
    body = json.dumps(
        {"data": [{"path": path, "meta": {"_type": "gradio.FileData"}}, 100, "ultrasound", 0, ""]}
    ).encode()
    ask = urllib.request.Request(f"{app_address}/gradio_api/call/mask", body, {"Content-Type": "application/json"})
    event = json.load(urllib.request.urlopen(ask))["event_id"]
    answer = urllib.request.urlopen(f"{app_address}/gradio_api/call/mask/{event}").read().decode()
    assert "event: error" in answer and "JPEG" not in answer  # refused before it was opened


def test_the_page_names_nothing_outside(app_address):
    page = urllib.request.urlopen(app_address).read().decode()
    loaded = re.findall(r"""<(?:script|link|img)[^>]+(?:src|href)=["'](https?://[^"']+)""", page)
    assert [url for url in loaded if not url.startswith(app_address)] == []


def test_help_teaches_and_a_bad_port_is_refused(tmp_path):
    shown = subprocess.check_output([sys.executable, "app.py", "--help"], text=True, cwd=ROOT)
    assert "--weights" in shown and "--results" in shown and "examples" in shown
    code, refused = end_of(tmp_path / "printed", "--port", "0")
    assert code == 2 and "between 1 and 65535" in refused


def test_no_event_has_two_listeners_that_it_may_find_busy(small_weights, tmp_path):
    """gradio's page repeats an event that found a listener busy for all its listeners: two could go on for ever."""
    with Project(tmp_path / "project") as project:
        page = panels.page(ModelRegistry(small_weights), project)
    targets = Counter(
        target
        for event in page.fns.values()
        if event.fn is not None and event.trigger_mode == "always_last"
        for target in event.targets
        if target[0] is not None and target[1] != "load"  # chained after another, or of an event that comes once
    )
    assert len(targets) > 50 and [target for target, count in targets.items() if count > 1] == []


@pytest.mark.parametrize("label, listeners", [("", 4), ("Epoch of pretraining", 8), ("Epoch: how much is hidden", 2)])
def test_what_draws_into_one_picture_is_answered_in_the_order_asked(small_weights, label, listeners):
    page = panels.page(ModelRegistry(small_weights))
    (first,) = (part for part in page.blocks.values() if part.elem_id == "learn")  # drawn by no slider
    sliders = [part._id for part in page.blocks.values() if isinstance(part, gr.Slider) and part.label == label]
    drawn = [event.outputs for event in page.fns.values() if event.targets[0] in [(id, "input") for id in sliders]]
    ((stage,),) = drawn or [[first]]
    events = [event for event in page.fns.values() if stage in event.outputs and event.targets[0][1] != "load"]
    assert len(events) == listeners
    # in one lane, a visitor's requests are answered in turn
    assert len({page.lanes[event._id] for event in events}) == 1
