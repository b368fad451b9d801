"""The endpoint /prompt: boxes and points of a request become prompts, and its answer is the prompt network's."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from mpsams import inference
from mpsams.annotation import run_lengths
from mpsams.app import prompt_endpoint
from mpsams.app.prompt_endpoint import group, parse_boxes, parse_points
from mpsams.datasets import phantom
from mpsams.imaging import raster
from mpsams.inference.prompts import Prompt, segment_prompt
from mpsams.transforms import Box

ROOT = Path(__file__).parents[2]


def test_boxes_and_points_are_parsed_one_or_several():
    assert parse_boxes("") == [] and parse_points("  ") == []
    assert parse_boxes("[1, 2, 3, 4]") == [(1, 2, 3, 4)] and parse_boxes("[[1, 2, 3, 4], [0, 0, 2.5, 9]]") == [
        (1, 2, 3, 4),
        (0, 0, 2.5, 9),
    ]
    assert parse_points("[5, 6]") == [(5, 6, 1)] and parse_points("[[5, 6, 0], [7, 8]]") == [(5, 6, 0), (7, 8, 1)]


@pytest.mark.parametrize(
    "parse, text, words",
    [
        (parse_boxes, "box", "no JSON"),
        (parse_boxes, "{}", "a list"),
        (parse_boxes, "[[1, 2, 3]]", "4 finite numbers"),
        (parse_boxes, "[[3, 2, 1, 4]]", "left must be less"),
        (parse_boxes, "[[1, 2, 3, NaN]]", "finite"),
        (parse_boxes, "[[1, 2, 3, Infinity]]", "finite"),
        (parse_boxes, f"[[{10**400}, 2, 3, 4]]", "finite"),
        (parse_points, f"[[1, -{10**400}]]", "finite"),
        (parse_boxes, "[[true, 2, 3, 4]]", "finite"),
        (parse_boxes, json.dumps([[0, 0, 1, 1]] * 101), "at most 100"),
        (parse_points, "[[1, 2, 3]]", "label must be 1"),
        (parse_points, "[[1]]", "2 or 3 finite"),
        (parse_points, "[" * 100_000, "no JSON"),
    ],
)
def test_what_is_no_prompt_is_refused_with_what_is_allowed(parse, text, words):
    with pytest.raises(ValueError, match=words):
        parse(text)


def test_points_go_to_the_nearest_box_and_without_boxes_mark_one_object():
    one, other = group([(0, 0, 10, 10), (50, 50, 60, 60)], [(9, 9, 1), (12, 3, 0), (45, 70, 1)])
    assert one.points == ((9, 9, 1), (12, 3, 0)) and other.points == ((45, 70, 1),)
    assert one.prompt() == Prompt(Box(0, 0, 10, 10), positive=((9, 9),), negative=((3, 12),))
    (alone,) = group([], [(4, 5, 1), (6, 7, 0)])
    assert alone.prompt() == Prompt(None, positive=((5, 4),), negative=((7, 6),))
    for points in ([], [(1, 1, 0)]):
        with pytest.raises(ValueError, match="marks no object"):
            group([], points)


def test_a_box_keeps_left_top_right_bottom_in_their_places():
    (marks,) = group([(40, 30, 90, 80)], [])
    assert marks.prompt().box == Box(top=30, left=40, height=50, width=50)


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("prompt") / "image.png"
    image_hw, _ = phantom.ultrasound(18)
    Image.fromarray((image_hw * 255).round().astype(np.uint8)).save(path)
    return str(path)


def test_the_answer_is_the_prompt_network_s_for_each_object(app_address, image, small_weights):
    client = Client(app_address, verbose=False)
    answer = client.predict(
        handle_file(image), "[[60, 50, 140, 120], [10, 10, 30, 40]]", "[[100, 90, 1], [20, 60, 0]]", api_name="/prompt"
    )
    network = inference.open_network(small_weights / "prompt.safetensors")
    unit_hw = raster.read(Path(image).read_bytes(), "ultrasound").slice(0)
    expected = segment_prompt(
        network, unit_hw / 255 if unit_hw.max() > 1 else unit_hw, Prompt(Box(50, 60, 70, 80), positive=((90, 100),))
    )
    first, second = answer["objects"]
    assert (
        answer["weights"] == "prompt"
        and [answer["height"], answer["width"]] == list(unit_hw.shape)
        and "notes" in answer
    )
    assert np.array_equal(
        run_lengths.decode(np.array(first["mask"]["counts"]), tuple(first["mask"]["size"])), expected.mask
    )
    assert (
        first["confidence"] == pytest.approx(expected.confidence, abs=1e-4)
        and first["pixels"] == expected.mask.sum()
        and second["points"] == [[20, 60, 0]]
    )
    both = [run_lengths.decode(np.array(each["mask"]["counts"]), unit_hw.shape) for each in (first, second, answer)]
    assert np.array_equal(both[0] | both[1], both[2])


def test_the_documented_program_outlines_thirty_boxes_of_a_table(app_address, small_weights, tmp_path):
    rng = np.random.default_rng(0)
    boxes = []
    for number in range(3):
        image_hw, _ = phantom.ultrasound(number)
        Image.fromarray((image_hw * 255).round().astype(np.uint8)).save(tmp_path / f"{number}.png")
        for _ in range(10):
            left, top = rng.integers(0, [image_hw.shape[1] - 40, image_hw.shape[0] - 40])
            boxes.append((f"{number}.png", *(int(value) for value in (left, top, left + 30, top + 25))))
    boxes = [boxes[index] for index in rng.permutation(30)]  # the rows of an image need not follow one another
    with open(tmp_path / "boxes.csv", "w", newline="") as file:
        csv.writer(file).writerows([("image", "left", "top", "right", "bottom"), *boxes])
    text = (ROOT / "docs" / "user" / "api.md").read_text(encoding="utf-8")
    (program,) = (code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "boxes.csv" in code)
    subprocess.run([sys.executable, "-c", program, app_address], cwd=tmp_path, check=True, timeout=300)
    with open(tmp_path / "masks" / "masks.csv", newline="") as file:
        rows = {row["mask"]: row for row in csv.DictReader(file)}
    assert sorted(rows) == [f"{number:04d}.png" for number in range(1, 31)]
    network = inference.open_network(small_weights / "prompt.safetensors")
    for number, (name, left, top, right, bottom) in enumerate(boxes[:4], start=1):
        mask_hw = np.asarray(Image.open(tmp_path / "masks" / f"{number:04d}.png")) > 0
        unit_hw = raster.read((tmp_path / name).read_bytes(), "ultrasound").slice(0) / 255
        expected = segment_prompt(network, unit_hw, Prompt(Box(top, left, bottom - top, right - left)))
        row = rows[f"{number:04d}.png"]
        assert row["image"] == name and int(row["pixels"]) == mask_hw.sum() and np.array_equal(mask_hw, expected.mask)


def test_a_wrong_prompt_gets_a_sentence(app_address, image):
    client = Client(app_address, verbose=False)
    for boxes, points, words in [
        ("", "", "marks no object"),
        ("[1, 2]", "", "4 finite numbers"),
        ("[[900, 900, 950, 950]]", "", "overlap the image"),
    ]:
        with pytest.raises(AppError, match=words):
            client.predict(handle_file(image), boxes, points, api_name="/prompt")


def test_masks_are_run_lengths_of_coco():
    mask_hw = np.zeros((3, 4), bool)
    mask_hw[1, 2] = True
    assert prompt_endpoint.coco(mask_hw) == {"size": [3, 4], "counts": [7, 1, 4]}
