"""Messages between server and canvas: run lengths, 16-bit pictures, sheets, answers, and the page's markup."""

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mpsams.annotation import protocol
from mpsams.app.annotate import canvas, markup


def runs_slowly(mask_hw: np.ndarray) -> str:
    """Down the columns, one pixel at a time."""
    counts, value = [0], False
    for x in range(mask_hw.shape[1]):
        for y in range(mask_hw.shape[0]):
            if mask_hw[y, x] != value:
                counts.append(0)
                value = not value
            counts[-1] += 1
    return " ".join(map(str, counts))


@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (17, 5), (1, 9), (40, 30)])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_masks_travel_as_run_lengths_and_come_back(shape, share):
    mask_hw = np.random.default_rng(1).random(shape) < share
    text = protocol.pack(mask_hw)
    assert text == runs_slowly(mask_hw)
    assert (protocol.unpack(text, shape) == mask_hw).all() and protocol.unpack(text, shape).shape == shape


def test_known_texts():
    assert protocol.pack(np.zeros((3, 2), bool)) == "6" and protocol.pack(np.ones((3, 2), bool)) == "0 6"
    assert protocol.unpack("1 2 3", (3, 2)).tolist() == [[False, False], [True, False], [True, False]]


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "5",
        "7",
        "6 ",
        " 6",
        "3  3",
        "3,3",
        "0 0 6",
        "3 0 3",
        "6 0",
        "-1 7",
        "1 2 3.0",
        "1e0 5",
        "0x6",
        "+6",
        "\u0663 3",
        "\u00b3 3",
        "3\t3",
        "3 3\n",
        "99999999999999999999",
        "6 18446744073709551616",
        "0 " * 9,
        "1 " * 5 + "x",
        None,
        6,
        b"6",
        ["6"],
    ],
)
def test_what_is_no_mask_of_that_shape_is_refused(text):
    with pytest.raises(ValueError, match="3 x 2 pixels"):
        protocol.unpack(text, (3, 2))


def codes_of(uri: str) -> np.ndarray:
    """The 16-bit values of a picture, as the browser reads them."""
    head, _, body = uri.partition(",")
    assert head == "data:image/png;base64"
    image = Image.open(io.BytesIO(base64.b64decode(body)))
    assert image.mode == "RGB" and image.format == "PNG" and not set(image.info) & {"gamma", "icc_profile", "srgb"}
    rgb = np.asarray(image).astype(int)
    assert (rgb[..., 2] == 0).all()
    return rgb[..., 0] * 256 + rgb[..., 1]


def test_whole_numbers_come_back_exactly_and_others_to_a_part_in_65535():
    generator = np.random.default_rng(0)
    for values_hw in (
        generator.integers(-1024, 3072, (30, 40)),
        generator.integers(0, 256, (5, 1)).astype(np.uint8),
        np.array([[0, 65535, 7]]),
    ):
        uri, low, high = protocol.encode_picture(values_hw)
        assert (low, high) == (values_hw.min(), values_hw.max())
        assert (np.rint(low + codes_of(uri) / protocol.TOP * (high - low)) == values_hw).all()
    values_hw = generator.normal(0, 1e-3, (9, 9)).astype(np.float32)
    uri, low, high = protocol.encode_picture(values_hw)
    assert (
        np.abs(low + codes_of(uri) / protocol.TOP * (high - low) - values_hw).max()
        <= (high - low) / protocol.TOP / 2 * 1.001
    )


def test_flat_and_extreme_pictures_and_those_that_are_none():
    uri, low, high = protocol.encode_picture(np.full((2, 3), 7.5))
    assert (low, high) == (7.5, 7.5) and not codes_of(uri).any()
    largest = np.finfo(np.float32).max
    assert codes_of(protocol.encode_picture(np.array([[-largest, 0, largest]], np.float32))[0]).tolist() == [
        [0, 32768, 65535]
    ]
    for wrong in (np.zeros((0, 3)), np.zeros(3), np.array([[np.nan]]), np.array([[1, np.inf]])):
        with pytest.raises(ValueError, match="shape|finite"):
            protocol.encode_picture(wrong)


def test_a_sheet_says_what_the_protocol_asks_and_survives_json():
    values_hw, mask_hw = np.arange(12.0).reshape(3, 4), np.eye(3, 4, dtype=bool)
    sheet = json.loads(
        json.dumps(
            protocol.SliceView(
                "a/1",
                "An image",
                values_hw,
                mask_hw,
                proposal_hw=~mask_hw,
                window=(2, 5),
                aspect=2.5,
                unit="HU",
                pixel_mm2=2.5,
                voxel_mm3=12.5,
            ).encode()
        )
    )
    plain = protocol.SliceView("k", "t", values_hw, mask_hw).encode()
    assert (sheet["pixel_mm2"], sheet["voxel_mm3"]) == (2.5, 12.5)
    assert plain["pixel_mm2"] is plain["voxel_mm3"] is None
    assert (sheet["width"], sheet["height"], sheet["aspect"], sheet["window"], sheet["unit"]) == (
        4,
        3,
        2.5,
        [2, 5],
        "HU",
    )
    assert (
        sheet["mask"] == runs_slowly(mask_hw) and sheet["proposal"] == runs_slowly(~mask_hw) and sheet["truth"] is None
    )
    assert (sheet["low"], sheet["high"]) == (0, 11) and plain["window"] == [0, 11]
    for wrong in ({"truth_hw": mask_hw.T}, {"aspect": 0.0}, {"aspect": np.nan}):
        with pytest.raises(ValueError, match="shape|aspect"):
            protocol.SliceView("k", "t", values_hw, mask_hw, **wrong)


def test_an_answer_says_what_the_protocol_asks():
    answer = json.loads(
        protocol.Reply(
            3, "a/1", protocol.State("in work", 2, 5, 7, True, "me"), saved="disk", mask_hw=np.ones((2, 2), bool)
        ).encode()
    )
    state = {
        "status": "in work",
        "slice": 2,
        "slices": 5,
        "queue_left": 7,
        "proposal": True,
        "user": "me",
        "prompts": False,
        "can_reopen_last": False,
        "voxels_elsewhere": 0,
        "slices_to_undo": 0,
        "propagating": False,
        "structures": [],
        "can_define": False,
        "free_keys": "",
    }
    assert answer == {
        "request_id": 3,
        "key": "a/1",
        "saved": "disk",
        "message": "",
        "error": "",
        "mask": "0 4",
        "preview": None,
        "slice_view": None,
        "state": state,
    }
    with pytest.raises(ValueError, match="'gone'"):
        protocol.Reply(1, "k", protocol.State(), saved="gone")
    for wrong in ({"status": "done"}, {"slice": 1}, {"slice": -1, "slices": 3}):
        with pytest.raises(ValueError, match="allowed|does not exist"):
            protocol.State(**wrong)


def test_the_markup_is_not_read_by_gradios_templates_and_every_button_says_what_it_is():
    text = markup.markup()
    assert not re.search(r"\$|`|\\|\{\{", text)
    buttons = re.findall(r"<button type=\"button\" (.*?)>(.*?)</button>", text, re.S)
    unnamed = [(tag, words) for tag, words in buttons if not ('aria-label="' in tag and 'title="' in tag)]
    assert len(buttons) > 30 and [words for _, words in unnamed] == ["Add a structure"]  # whose words change
    assert all(f"({keys})" in text for _, _, keys in markup.TOOLS)


def test_every_button_and_place_of_the_page_is_known_to_the_script_and_the_other_way_round():
    text, script = markup.markup(), canvas.canvas().js_on_load
    parts, selected = (
        set(re.findall(r'data-part="([\w-]+)"', text)),
        set(re.findall(r"(?<!\w)(?:part|text)\('([\w-]+)'", script)),
    )
    assert selected <= parts and len(selected) > 12
    does = re.search(r"const ACTIONS = \{(.*?)\n\};", script, re.S).group(1)
    known = set(re.findall(r"(\w+)(?=[,:])", does))
    assert set(re.findall(r'data-action="(\w+)"', text)) <= known
    assert all(name in script for name, _, _ in markup.TOOLS)


def test_each_part_of_the_script_says_in_its_first_line_what_lives_in_it():
    files = [Path(canvas.__file__).parents[1] / "static" / f"{name}.js" for name in canvas.SCRIPTS]
    for file in files:
        lines = file.read_text(encoding="utf-8").splitlines()
        assert re.match(r"// \w.{20,}\.$", lines[0]) and len(lines) < 360
