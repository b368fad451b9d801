"""The quiz of the Learn tab in words and pictures. No gradio here."""

from __future__ import annotations

import torch

from mpsams.app.components import html
from mpsams.app.learn import pictures
from mpsams.app.learn.layout import StepPage
from mpsams.app.learn.quiz import PICKS, Quiz, Round
from mpsams.app.learn.steps import film
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
        key = html.key(("truth", "true lesion"), ("guess", "your picks"), ("was-hidden", "what was hidden"))
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
        key = html.key(("flat", "hidden"), ("guess", "your picks"), ("picked", "frame of the keyboard"))
    return StepPage(
        "Guess where the lesion is hidden",
        film(picture, key),
        question(quiz, of, hidden),
        tries(quiz, is_over) + score(quiz),
        "what did you use to guess?",
        "Probably what is still visible: an outline that stops, a shadow below, and the middle of the image. The"
        " clustering uses none of this; it only compares patches with each other.",
    )


def question(quiz: Quiz, of: Round, hidden: int) -> list[str]:
    """Return the question as paragraphs, or sentences on the result once a guess is made."""
    count = int(of.truth_1l.sum())
    if not quiz.picks:
        return [
            (
                f"Round {quiz.round + 1}: a new synthetic {of.title} image. <strong>{hidden} patches are"
                f" hidden</strong> ({html.percent(of.ratio)}), and the whole lesion is among them: {count} patches."
            ),
            f"Pick the {PICKS} hidden patches where you would look for it. More is hidden from round to round.",
        ]
    hit = sum(bool(of.truth_1l[0, pick]) for pick in quiz.picks)
    by = [sum(bool(of.truth_1l[0, pick]) for pick in picks) for picks in (of.clustering, of.middle)]
    well = (
        "None of your picks is lesion.",
        "One of your picks is lesion.",
        "Two of your picks are lesion.",
        "All three are lesion!",
    )[hit]
    return [
        f'<span role="status"><strong>{hit} of {PICKS}. {well}</strong></span>',
        (
            f"Of the hidden patches, the {PICKS} most lesion-like by the clustering hit {by[0]}, the {PICKS} nearest to"
            f" the middle {by[1]}."
        ),
    ]


def tries(quiz: Quiz, is_over: bool) -> str:
    """Return the buttons below the picture, as HTML: to reveal the lesion, or to go on to another image."""
    if is_over:
        return (
            '<h4>Go on</h4><p>The next image is another one, and more of it is hidden.</p><button type="button"'
            ' class="do" data-again>Another image</button>'
        )
    return (
        f'<h4>Your picks</h4><p><output data-picked aria-live="polite">0 of {PICKS} picked.</output></p>'
        '<button type="button" class="do" data-reveal aria-disabled="true">Show the lesion</button>'
        "<p>With the keyboard: Tab to the picture, arrow keys, space to pick; then Tab to the button.</p>"
    )


def score(quiz: Quiz) -> str:
    """Return a table of the score so far, as HTML; "" before the first round is done."""
    if not quiz.done:
        return ""
    most = PICKS * quiz.done
    rows = [
        [name, f"{value:.0f} of {most}" if name != PLAYERS[-1] else f"{value:.1f} of {most}"]
        for name, value in zip(PLAYERS, quiz.scores, strict=True)
    ]
    return html.table([f"Score after {quiz.done} round{'s' * (quiz.done > 1)}", "hits"], rows)
