"""The simulated annotator: its next stroke and its counts by hand, and that scribbles mend phantoms."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import annotator, annotator_sessions, annotator_strokes
from benchmarks.annotator_sessions import Effort
from mpsams import inference
from mpsams.annotation import scribble

RNG = np.random.default_rng


def rectangle(top: int, left: int, height: int, width: int, side: int = 64) -> np.ndarray:
    found = np.zeros((side, side), bool)
    found[top : top + height, left : left + width] = True
    return found


def test_the_middle_of_a_bar_is_its_middle_line():
    line, depth = annotator_strokes.middle(rectangle(20, 10, 7, 41), 4)
    assert depth == 4 and set(line[:, 0]) == {23} and sorted(line[:, 1]) == list(range(13, 48))
    assert annotator_strokes.middle(rectangle(20, 10, 1, 1), 4)[0].tolist() == [[20, 10]]
    shallow, depth = annotator_strokes.middle(rectangle(20, 10, 3, 30), 9)  # nowhere so deep: as deep as it is
    assert depth == 2 and set(shallow[:, 0]) == {21} and len(shallow) == 28


def test_the_line_stays_in_a_bent_region():
    bent = rectangle(10, 10, 40, 9) | rectangle(41, 10, 9, 40)
    line, _ = annotator_strokes.middle(bent, 5)
    assert bent[tuple(line.T)].all() and np.abs(np.diff(line, axis=0)).max() == 1
    ends = {tuple(line[0]), tuple(line[-1])}
    assert any(row < 16 for row, _ in ends) and any(column > 43 for _, column in ends)


def test_a_pen_is_round_and_a_hand_strays():
    line = np.array([[32, 32]])
    dot = annotator_strokes.draw_stroke(line, 2, (64, 64), 0, RNG(0))
    assert dot.sum() == 13  # |d| <= 2: 1 + 4 + 4 + 4
    long = np.stack([np.full(40, 32), np.arange(10, 50)], axis=1)
    still, strayed, again = (annotator_strokes.draw_stroke(long, 1, (64, 64), noise, RNG(3)) for noise in (0, 2.0, 2.0))
    assert still[31:34].sum() == still.sum() and (strayed == again).all() and strayed[31:34].sum() < strayed.sum()


def test_one_brush_stroke_fills_a_bar_and_one_takes_it_away():
    truth, nothing = rectangle(20, 10, 7, 41), np.zeros((64, 64), bool)
    stroke = annotator_strokes.brush(truth, nothing, 0, RNG(0))
    assert stroke.lesion and stroke.length == 35
    # radius 3: rounded ends
    assert not (stroke.pixels_hw & ~truth).any() and (stroke.pixels_hw & truth).sum() == 35 * 7 + 2 * (5 + 5 + 1)
    away = annotator_strokes.brush(nothing, truth, 0, RNG(0))
    assert not away.lesion and (away.pixels_hw == stroke.pixels_hw).all()
    assert annotator_strokes.brush(truth, truth, 0, RNG(0)) is None is annotator_strokes.pen(truth, truth, 0, RNG(0))


def test_strokes_are_counted_by_hand():
    """Two bars: the first stroke mends the longer (Dice 2 * 267 / (267 + 574)), the second the other."""
    truth = rectangle(5, 10, 7, 41) | rectangle(40, 10, 7, 41)
    session = annotator_sessions.annotate_by_brush(truth, np.zeros((64, 64), bool), Effort(0.9, 40, 0, 0))
    assert session.dsc == pytest.approx((0, 2 * 267 / (267 + 574), 2 * 534 / (534 + 574))) and session.lengths == (
        35,
        35,
    )
    assert (session.gestures(0.5), session.gestures(0.9), session.gestures(0.99)) == (1, 2, None)
    done = annotator_sessions.annotate_by_brush(truth, truth, Effort(0.9, 40, 0, 0))
    assert done.dsc == (1.0,) and done.gestures(0.9) == 0
    assert len(annotator_sessions.annotate_by_brush(truth, ~truth, Effort(1.0, 3, 0, 0)).lengths) == 3  # gives up


def test_a_later_scribble_goes_over_an_earlier_one_and_the_mask_is_what_is_followed():
    truth, seen = rectangle(20, 10, 20, 41), []

    def follow(strokes_hw):
        seen.append(strokes_hw.copy())
        return rectangle(0, 0, 64, 64) if len(seen) == 2 else truth if len(seen) == 3 else np.zeros((64, 64), bool)

    session = annotator_sessions.annotate_by_scribble(truth, follow, Effort(0.9, 40, 0, 0))
    assert session.gestures(0.9) == 2 and len(session.ms) == 2 and session.dsc[0] == 0
    assert (
        set(np.unique(seen[1])) == {0, 1}
        and (seen[2][seen[1] == 1] == 1).all()
        and set(np.unique(seen[2])) == {-1, 0, 1}
    )


def test_each_part_is_marked_once_and_then_the_largest_error_is_clicked():
    large, small = rectangle(5, 10, 20, 41), rectangle(40, 10, 7, 20)
    asked = []

    def answer(prompt):
        asked.append(prompt)
        return [large & ~rectangle(5, 40, 20, 11), small, large][len(asked) - 1]

    session = annotator_sessions.annotate_by_prompts(large | small, small, answer, True, Effort(0.99, 40, 0, 0))
    first, second, third = asked
    assert first.box and second.box and first.box.width > second.box.width and second.box.top >= 38
    assert third.box == first.box and third.positive == ((10, 45),) and third.mask is not None
    assert (
        session.gestures(0.99) == 3 and session.dsc[-1] == 1 and session.dsc[1] == pytest.approx(2 * 600 / (600 + 960))
    )
    assert session.lengths[0] == round(np.hypot(*first.box[2:])) and session.lengths[2] == 0
    clicked = annotator_sessions.annotate_by_prompts(large, large, answer, False, Effort(0.99, 40, 0, 0))
    assert clicked.gestures(0.99) == 0 and len(asked) == 3  # a good proposal stays


def test_seconds_are_those_of_the_keystroke_level_model_and_the_answers():
    click, box, line = 1.35 + 1.1 + 0.2, 1.35 + 1.1 + 0.2 + 1.1, 1.35 + 1.1 + 0.2 + 0.9 + 0.16 * 0.08 * 50
    seconds = annotator_sessions.gesture_seconds
    assert seconds(0, True) == pytest.approx(click) and seconds(50, True) == pytest.approx(box)
    assert seconds(50, False) == pytest.approx(line)
    asked = annotator_sessions.Session((0, 0.5, 0.9), (50, 0), (100.0, 300.0), drags=True)
    assert asked.seconds() == pytest.approx(box + click + 0.4)


def test_reported_numbers_are_counted_by_hand():
    found = [
        annotator_sessions.Session((0.1, 0.95), (10,), (5.0,)),
        annotator_sessions.Session((0.92,), (), ()),
        annotator_sessions.Session((0.1, 0.2, 0.3), (8, 8), (7.0, 9.0)),
    ]
    record = annotator.summarise_sessions(found, 0.9, 2)
    assert (record["median"], record["quartiles"], record["mean"], record["reached"], record["length"]) == (
        1,
        [0.5, 1.5],
        1.0,
        0.667,
        10,
    )
    assert (
        record["dsc_after"]["0"] == 0.1
        and record["dsc_after"]["1"] == 0.92
        and record["dsc_after"]["10"] == 0.92
        and record["ms"][0] == 7
    )


def test_scribbles_mend_phantoms_in_the_median(phantoms):
    """From nothing and with intensities alone: Dice does not fall in the median, and ends high."""
    runs = []
    for i in range(0, 6, 2):
        x, mask = phantoms.take(torch.tensor([i]))
        unit, truth = x[0, 0].numpy() / np.float32(255), mask[0, 0].numpy()
        of = scribble.prepare(unit, np.zeros_like(unit))
        session = annotator_sessions.annotate_by_scribble(
            truth, lambda strokes, of=of: scribble.refine(of, strokes) > 0.5, Effort(0.9, 8, 0.5, i)
        )
        runs.append([session.dsc[min(count, len(session.dsc) - 1)] for count in (0, 1, 4, 8)])
    medians = np.median(runs, axis=0)
    assert (np.diff(medians) >= 0).all() and medians[0] == 0 and medians[-1] > 0.8


def test_only_held_out_images_with_a_lesion_take_part(phantoms):
    class Made:
        def __init__(self, dataset, train, test):
            self.metadata = {
                "split": {"dataset": dataset, "seed": 0, "grouped": True, "train": train, "val": [], "test": test}
            }

    options, (a, b, c, normal) = annotator.Annotator(), phantoms.groups[:4]
    lesions = [0, 1, 2, 4, 5, 6, 8, 9, 10]
    one, other = Made("phantom", [a], [b, c, normal]), Made("phantom", [b], [c])
    assert annotator.choose_images(options, phantoms, [one]) == lesions[1:]  # those of no part are held out too
    assert annotator.choose_images(options, phantoms, [one, other]) == lesions[2:]
    assert annotator.choose_images(options, phantoms, [Made("busi", [a], [b])]) == lesions
    part = annotator.Annotator(part="val")
    assert annotator.choose_images(part, phantoms, [one]) == lesions[3:]  # not of the test part
    several = Made("busi", [a], [b])
    several.metadata = {"splits": [one.metadata["split"]]}  # as in a prompt network
    assert annotator.choose_images(options, phantoms, [several]) == lesions[1:]
    with pytest.raises(ValueError, match="no image"):
        annotator.choose_images(options, phantoms, [Made("phantom", list(phantoms.groups), [normal])])


def test_the_command_compares_all_ways_and_keeps_nothing_when_quick(capsys, quick_phantom, small_weights):
    before = {path: path.read_bytes() for path in Path(annotator.__file__).parent.glob("annotator-*.json")}
    one = str(small_weights / "busi-scratch-seg-10.safetensors")
    network = inference.open_network(one)
    assert "split" not in network.metadata
    options = [
        "--data.name",
        "phantom",
        "--images",
        "1",
        "--most",
        "2",
        "--weights",
        one,
        "--features",
        f'["{one}"]',
        "--quick",
        "true",
    ]
    annotator.main(options)
    text = capsys.readouterr().out
    record = json.loads(text[text.index("{") :])
    tools = ("brush", "box", "click", *(f"scribble, {{}}, {name}" for name in (annotator.NOTHING, Path(one).stem)))
    ways = {
        tool.format(start) if "{}" in tool else f"{tool}, {start}"
        for start in ("from nothing", "from proposal")
        for tool in tools
    }
    assert (
        set(record["ways"]) == ways
        and record["images"] == 1
        and "/" not in json.dumps({**record, "about": 0, "source": 0, "ways": list(record["ways"])})
    )
    assert all(
        0 <= way["reached"] <= 1 and way["quartiles"][0] <= way["median"] <= way["quartiles"][1]
        for way in record["ways"].values()
    )
    assert before == {path: path.read_bytes() for path in Path(annotator.__file__).parent.glob("annotator-*.json")}
