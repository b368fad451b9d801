"""The quiz of the Learn tab: a new synthetic image each round, its lesion hidden among others, three guesses.

No gradio here.

Axes: L patches, row-major. In masks True = hidden or lesion.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from mpsams import inference, masking, patches, schedule, transforms
from mpsams.app.learn import lesson
from mpsams.datasets import phantom
from mpsams.inference.case import SIDE

PICKS = 3
EPOCHS = (20, 50, 100, 200, 400)  # how much is hidden from round to round; then as in the last
GENERATORS = (("ultrasound", "ultrasound", phantom.ultrasound), ("T1 brain", "mri", phantom.t1))


@dataclass(frozen=True)
class Quiz:
    """Rounds and score so far.

    seed: of the first image; None before the first round. round: from 0. picks: of this round, empty while it is open.
    scores: hits over the rounds that are done, of you, of the clustering, of the patches nearest to the middle, and
    expected of random guesses. done: rounds that are done.
    """

    seed: int | None = None
    round: int = 0
    picks: tuple[int, ...] = ()
    scores: tuple[float, float, float, float] = (0, 0, 0, 0)
    done: int = 0


@dataclass(frozen=True)
class Round:
    """One image of the quiz.

    hidden_1l, truth_1l: bool (1, L). clustering, middle: the patches these two would pick of the hidden ones.
    """

    title: str
    image_11ss: Tensor
    truth_11ss: Tensor
    hidden_1l: Tensor
    truth_1l: Tensor
    clustering: list[int]
    middle: list[int]
    ratio: float

    def picture_11ss(self, is_open: bool) -> Tensor:
        """Return the image as it is shown: while the round is open hidden patches are grey, also in what is sent to the
        page.
        """
        if not is_open:
            return self.image_11ss
        hidden = patches.to_pixels(self.hidden_1l, SIDE // round(self.truth_1l.shape[1] ** 0.5), SIDE, SIDE)
        return torch.where(hidden, self.image_11ss.mean(), self.image_11ss)


def start(quiz: Quiz) -> Quiz:
    """Return the quiz with a seed for its first image."""
    return quiz if quiz.seed is not None else replace(quiz, seed=secrets.randbelow(100_000))


def make_round(seed: int, number: int, clustering: Callable[[str], dict]) -> Round:
    """Draw the image of a round and hide its lesion and as many other patches as the epoch asks for.

    clustering: modality -> how its patches are clustered, as ``inference.study`` takes it.
    """
    title, modality, draw = GENERATORS[number % len(GENERATORS)]
    options = clustering(modality)
    for image_seed in itertools.count(100 + seed + 1000 * number):  # until the lesion is large enough for three picks
        image_hw, mask_hw = draw(image_seed)
        truth_11ss = transforms.resize_mask(mask_hw, SIDE, SIDE)
        truth_1l = patches.is_lesion(truth_11ss, options["patch"])
        if int(truth_1l.sum()) >= PICKS:
            break
    unit_hw = transforms.to_unit(image_hw, transforms.window(image_hw, modality))
    study = inference.study(inference.to_grid(unit_hw, SIDE), **options)
    ratio = schedule.mask_ratio(EPOCHS[min(number, len(EPOCHS) - 1)])
    hidden_1l = masking.cut(masking.order(truth_1l, torch.Generator().manual_seed(image_seed)), ratio)
    pick = partial(lesson.top_patches, allowed_l=hidden_1l[0], count=PICKS)
    by_score, by_middle = pick(study.clusters.score_bl[0]), pick(lesson.centre_proximity(study.length))
    return Round(title, study.image_11ss, truth_11ss, hidden_1l, truth_1l, by_score, by_middle, ratio)


def submit_guess(quiz: Quiz, picks: object, round_: Round) -> Quiz:
    """Return the quiz after a guess.

    ValueError unless three different hidden patches are picked while the round is open.
    """
    if not isinstance(picks, list | tuple):
        raise ValueError(f"picks {str(picks)[:80]!r} must be a list")
    if quiz.picks:
        raise ValueError("this round is over; ask for another image")
    hidden = set(torch.nonzero(round_.hidden_1l[0])[:, 0].tolist())
    chosen = {pick for pick in picks if type(pick) is int and pick in hidden}
    if len(chosen) != PICKS or len(picks) != PICKS:
        raise ValueError(f"pick {PICKS} different hidden patches; got {str(list(picks))[:80]}")
    truth_l = round_.truth_1l[0]
    found = (
        lesson.count_hits(sorted(chosen), truth_l),
        lesson.count_hits(round_.clustering, truth_l),
        lesson.count_hits(round_.middle, truth_l),
        lesson.expected_random_hits(round_.hidden_1l[0], truth_l, PICKS),
    )
    own, clustering, middle, random = (before + now for before, now in zip(quiz.scores, found, strict=True))
    scores = own, clustering, middle, random
    return replace(quiz, picks=tuple(sorted(chosen)), scores=scores, done=quiz.done + 1)


def next_round(quiz: Quiz) -> Quiz:
    """Return the quiz at its next round."""
    return replace(quiz, round=quiz.round + 1, picks=())
