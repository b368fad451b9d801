"""Scribble to segment: strokes are obeyed, act near and on what looks alike, and leave the rest;
against slow versions.
"""

import numpy as np
import pytest
from scipy import ndimage

from mpsams.annotation import scribble

SIDE = 64
ROWS, COLUMNS = np.mgrid[:SIDE, :SIDE]


def disc(row: int, column: int, radius: int) -> np.ndarray:
    return (ROWS - row) ** 2 + (COLUMNS - column) ** 2 <= radius**2


LEFT, RIGHT = disc(32, 16, 9), disc(32, 48, 9)


def image(lesion: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 0.02, (SIDE, SIDE))
    return np.clip(np.where(lesion, 0.2, 0.6) + noise, 0, 1).astype(np.float32)


def chance(lesion: np.ndarray) -> np.ndarray:
    return np.where(lesion, 0.9, 0.1).astype(np.float32)


def strokes(lesion: np.ndarray | None = None, background: np.ndarray | None = None) -> np.ndarray:
    found = np.zeros((SIDE, SIDE), np.int8)
    for kind, where in ((1, lesion), (-1, background)):
        if where is not None:
            found[where] = kind
    return found


def share(mask: np.ndarray, of: np.ndarray) -> float:
    return float(mask[of].mean())


@pytest.fixture
def both():
    """An image with two dark discs, of which the model proposes the left one."""
    return scribble.prepare(image(LEFT | RIGHT), chance(LEFT), image(LEFT | RIGHT)[None].repeat(3, axis=0))


def test_without_strokes_the_proposal_stands(both):
    found = scribble.refine(both, strokes())
    np.testing.assert_allclose(
        found,
        np.where(
            LEFT, scribble_chance(both.config.prior_logit_clip), 1 - scribble_chance(both.config.prior_logit_clip)
        ),
        atol=1e-6,
    )
    assert found.dtype == np.float32 and (found > 0.5).tolist() == LEFT.tolist()


def scribble_chance(logit: float) -> float:
    """A probability of 0.9, cut at a logit."""
    return float(1 / (1 + np.exp(-min(np.log(9), logit))))


def test_a_stroke_on_a_missed_lesion_adds_it_and_keeps_the_other(both):
    found = scribble.refine(both, strokes(lesion=disc(32, 48, 5))) > 0.5
    assert share(found, RIGHT) > 0.9 and share(found, LEFT) > 0.9 and share(found, ~(LEFT | RIGHT)) < 0.1


def test_a_stroke_on_a_false_lesion_removes_it_and_keeps_the_other():
    of = scribble.prepare(image(LEFT | RIGHT), chance(LEFT | RIGHT))
    found = scribble.refine(of, strokes(background=disc(32, 48, 5))) > 0.5
    assert share(found, RIGHT) < 0.1 and share(found, LEFT) > 0.9 and share(found, ~(LEFT | RIGHT)) < 0.05


def test_strokes_are_obeyed_exactly_even_against_everything(both):
    drawn = strokes(lesion=disc(8, 8, 4), background=disc(32, 16, 2) | disc(33, 47, 1))
    found = scribble.refine(both, drawn)
    assert (found[drawn == 1] == 1).all() and (found[drawn == -1] == 0).all()
    speckled = np.random.default_rng(1).integers(-1, 2, (SIDE, SIDE)).astype(np.int8)
    found = scribble.refine(both, speckled)
    assert (found[speckled == 1] == 1).all() and (found[speckled == -1] == 0).all()


def test_the_same_strokes_give_the_same_mask_and_nothing_given_is_changed(both):
    drawn, before = strokes(lesion=RIGHT, background=disc(10, 32, 9)), both.rows_pn.copy()
    kept = drawn.copy()
    np.testing.assert_array_equal(scribble.refine(both, drawn), scribble.refine(both, drawn))
    assert (drawn == kept).all() and (both.rows_pn == before).all()


@pytest.mark.parametrize("kind", [1, -1])
def test_strokes_all_over_are_the_mask(both, kind):
    found = scribble.refine(both, np.full((SIDE, SIDE), kind, np.int8))
    assert (found == (kind > 0)).all()


@pytest.mark.parametrize("features", [None, np.zeros((4, 16, 16), np.float32)])
def test_a_constant_image_without_proposal_follows_the_place_alone(features):
    of = scribble.prepare(np.full((SIDE, SIDE), 0.5, np.float32), np.zeros((SIDE, SIDE), np.float32), features)
    assert not (scribble.refine(of, strokes()) > 0.5).any()
    found = scribble.refine(of, strokes(lesion=disc(32, 32, 4)))
    assert np.isfinite(found).all() and found[32, 38] > found[32, 44] > found[32, 50] and not (found[0] > 0.5).any()
    background = scribble.refine(of, strokes(background=disc(32, 32, 4)))
    assert not (background > 0.5).any()


def test_features_carry_a_stroke_where_intensities_say_nothing():
    """Two halves that only the network tells apart: the stroke stops at their border."""
    even, half = np.full((SIDE, SIDE), 0.5, np.float32), (COLUMNS >= 32).astype(np.float32)
    drawn = strokes(lesion=disc(32, 22, 6))
    blind, seeing = (
        scribble.refine(scribble.prepare(even, even * 0, features), drawn) for features in (None, half[None, ::2, ::2])
    )
    assert seeing[32, 33] < 0.2 < 0.3 < blind[32, 33] and seeing[32, 30] > blind[32, 30] > 0.5


def test_looks_tell_lesion_from_background_as_scikit_learn_does(both):
    """Dark from bright, wherever they lie; the logits are those of the model on the same rows, cut."""
    from sklearn.linear_model import LogisticRegression

    drawn = strokes(lesion=disc(32, 16, 5), background=disc(10, 32, 5)).ravel()
    at = scribble.sample_stroke_pixels(drawn, 40)
    found = scribble.fit_logistic(both, at, drawn[at] > 0, np.ones(len(at)))
    rows = np.concatenate([both.rows_pn, both.logit_hw.reshape(-1, 1)], axis=1)
    rows[:, :2] *= both.config.kernel_sigma / both.config.logistic_sigma
    expected = LogisticRegression(max_iter=200).fit(rows[at], drawn[at] > 0).decision_function(rows).reshape(SIDE, SIDE)
    np.testing.assert_allclose(found, expected.clip(-both.config.logistic_clip, both.config.logistic_clip), atol=1e-3)
    assert found[LEFT].min() > found[:, 30:34].max() and np.abs(found).max() <= both.config.logistic_clip


def test_learning_is_the_ridge_by_hand():
    rng = np.random.default_rng(0)
    rows, targets, count, others = (
        rng.normal(size=(7, 3)),
        rng.normal(size=7),
        rng.uniform(0.1, 1, 7),
        rng.normal(size=(5, 3)),
    )
    between = np.array([[np.exp(-0.5 * sum((a - b) ** 2)) for b in rows] for a in rows])
    weights = np.linalg.solve(between + 0.3 * np.diag(1 / count), targets)
    slow = [sum(w * np.exp(-0.5 * sum((other - row) ** 2)) for w, row in zip(weights, rows)) for other in others]
    np.testing.assert_allclose(
        scribble.fit_kernel_ridge(rows.astype(np.float32), targets, count, 0.3, others.astype(np.float32)),
        slow,
        atol=1e-5,
    )


def test_anchors_are_the_clear_ones_of_a_raster_and_lessons_have_a_limit():
    clear_hw = ~disc(32, 32, 12)
    at = scribble.find_anchors(clear_hw, 8)
    raster = {(r, c) for r in range(4, 64, 8) for c in range(4, 64, 8)}
    clear = {(r, c) for r, c in raster if clear_hw[r, c]}
    assert {divmod(int(i), SIDE) for i in at} == clear and 0 < len(clear) < 64
    assert len(scribble.find_anchors(clear_hw, 0)) == 0 == len(scribble.find_anchors(clear_hw & False, 8))
    flat = np.repeat(np.int8([1, 0, -1]), [500, 20, 30])
    taught = scribble.sample_stroke_pixels(flat, 100)
    assert (flat[taught] == 1).sum() == 100 and (flat[taught] == -1).sum() == 30 and len(set(taught)) == 130


@pytest.mark.parametrize("shape", [(33, 47), (16, 100)])
def test_odd_and_oblong_grids(shape):
    rng = np.random.default_rng(0)
    unit, drawn = rng.random(shape, dtype=np.float32), np.zeros(shape, np.int8)
    drawn[5:9, 5:9] = 1
    found = scribble.refine(scribble.prepare(unit, unit * 0, rng.random((2, 8, 8), dtype=np.float32)), drawn)
    assert found.shape == shape and np.isfinite(found).all() and found.min() >= 0 and (found[5:9, 5:9] == 1).all()


@pytest.mark.parametrize("shape", [(SIDE, SIDE), (100, 150), (30, 200)])
def test_strokes_come_to_the_grid(shape):
    drawn = np.zeros(shape, np.int8)
    drawn[shape[0] // 2, :] = 1
    drawn[3, 5] = -1
    brought = scribble.to_grid(drawn, (SIDE, SIDE))
    assert brought.shape == (SIDE, SIDE) and set(np.unique(brought)) == {-1, 0, 1}
    assert (brought == 1).any(axis=0).all() and 1 <= (brought == -1).sum() <= 9


def test_a_crowded_cell_takes_what_most_of_its_pixels_say():
    drawn = np.zeros((4, 4), np.int8)
    drawn[0, :2], drawn[1, 0] = -1, 1
    drawn[2, 2] = 1
    assert scribble.to_grid(drawn, (2, 2)).tolist() == [[-1, 0], [0, 1]]
    np.testing.assert_array_equal(scribble.to_grid(drawn, (4, 4)), drawn)


@pytest.mark.parametrize("wrong, message", [
    (lambda of: scribble.refine(of, np.zeros((3, 3), np.int8)), "shape"),
    (lambda of: scribble.refine(of, np.full((SIDE, SIDE), 2, np.int8)), "allowed are 1"),
    (lambda of: scribble.prepare(np.zeros((8, 8)), np.zeros((8, 9))), "one shape"),
    (lambda of: scribble.prepare(np.zeros((8, 8)), np.full((8, 8), np.nan)), "finite"),
])  # fmt: skip
def test_what_is_refused(both, wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong(both)


def test_the_grounds_rows_are_even_numbers(both):
    """Intensities and features count as much as said: mean squares of 1 over all of each, before their deviations."""
    rows = both.rows_pn.reshape(SIDE, SIDE, -1)
    assert rows.shape[2] == 2 + len(both.config.blur) + 3
    bright, alike = rows[..., 2 : 2 + len(both.config.blur)], rows[..., -3:]
    assert (bright**2).sum(axis=2).mean() == pytest.approx(1, rel=1e-3)
    assert (alike**2).sum(axis=2).mean() == pytest.approx(1, rel=1e-3)
    assert rows[10, 0, 0] - rows[0, 0, 0] == pytest.approx(10 / SIDE / both.config.kernel_sigma, rel=1e-4)
    assert ndimage.label(LEFT | RIGHT)[1] == 2  # the picture these tests speak of
