"""The quiz of the Learn tab as values for its template. No gradio here."""

from __future__ import annotations

import torch

from mpsams.app.learn import pictures
from mpsams.app.learn.layout import StepPage
from mpsams.app.learn.quiz import PICKS, Quiz, Round
from mpsams.plots import images

PLAYERS = ("You", "The clustering", "Nearest to the middle", "Random guesses")


def guess(quiz: Quiz, of: Round) -> StepPage:
    """Return the page of the quiz while a round is open, and after the guess."""
    columns = round(of.truth_1l.shape[1] ** 0.5)
    hidden, is_over = int(of.hidden_1l.sum()), bool(quiz.picks)
    layers = [pictures.grey(of.picture_11ss(not is_over)), pictures.lines(columns)]
    if is_over:
        lesion = images.shrunk_mask(of.truth_11ss[0, 0].numpy())
        mask_1l = torch.zeros_like(of.hidden_1l)
        mask_1l[0, list(quiz.picks)] = True
        layers += [
            pictures.cells(of.hidden_1l, columns, "was-hidden", True),
            images.layer(images.edge_path(lesion), "truth", lesion.shape, pictures.SIZE),
            pictures.cells(mask_1l, columns, "guess", True),
        ]
        text = f"The whole image, true lesion outlined; you picked {len(quiz.picks)} patches"
        picture = images.svg(text, pictures.SIZE, layers)
    else:
        hidden_at = torch.nonzero(of.hidden_1l[0])[:, 0].tolist()
        start = hidden_at[len(hidden_at) // 2]
        layers += [
            pictures.cells(of.hidden_1l, columns, "flat-edge", True),
            '<g class="guesses"></g>',
            pictures.spot(start, columns),
        ]
        text = (
            f"{of.title} image with {hidden} patches hidden in grey. Arrow keys move the frame, space or Enter picks"
            " the patch in it."
        )
        places, mean = ",".join(map(str, hidden_at)), float(of.image_11ss.mean())
        extra = f'role="application" tabindex="0" data-guess="{places}" data-columns="{columns}" data-patch="{start}"'
        extra += f' data-round="{quiz.round}" style="--flat:{mean:.3f}"'
        picture = images.svg(text, pictures.SIZE, layers, extra)
    return StepPage(
        "quiz",
        {
            "picture": picture,
            "is_over": is_over,
            "picks": PICKS,
            "hits": hits(quiz, of),
            "round": quiz.round + 1,
            "kind": of.title,
            "hidden": hidden,
            "ratio": of.ratio,
            "count": int(of.truth_1l.sum()),
            "done": quiz.done,
            "scores": score(quiz),
        },
    )


def hits(quiz: Quiz, of: Round) -> dict[str, int]:
    """Count the picks that are lesion: those of the user, of the clustering and those nearest to the middle."""
    by = {"picks": quiz.picks, "clustering": of.clustering, "middle": of.middle}
    return {name: sum(bool(of.truth_1l[0, pick]) for pick in picks) for name, picks in by.items()}


def score(quiz: Quiz) -> list[list[str]]:
    """Return the rows of the score so far; none before the first round is done."""
    if not quiz.done:
        return []
    most = PICKS * quiz.done
    return [
        [name, f"{value:.0f} of {most}" if name != PLAYERS[-1] else f"{value:.1f} of {most}"]
        for name, value in zip(PLAYERS, quiz.scores, strict=True)
    ]
