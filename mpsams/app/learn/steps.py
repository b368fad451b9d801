"""The first steps of the lesson as values for its templates: patches, similarity, covariance, clusters, order, ratio.

No gradio here.
"""

from __future__ import annotations

import torch

from mpsams import clusters, schedule
from mpsams.app.components import html
from mpsams.app.components.mask_maps import curve_x, ticks
from mpsams.app.learn import lesson, pictures
from mpsams.app.learn.context import LessonContext
from mpsams.app.learn.layout import StepPage, step_page

MARKS = (1, 2, 10, 100, 800)
TICKS = ticks(1, 200, 400, 600, 800)
PAPER_TITLES = {"covariance-of-softmax": "Covariance of softmax", "softmax-of-covariance": "Softmax of covariance"}
SELECTORS = PAPER_TITLES | {clusters.GEODESIC: "Geodesic"}


def signed_number(value: float) -> str:
    """Return a number of either sign as text, with a real minus sign."""
    return html.number(value).replace("-", "−")


def cut(context: LessonContext) -> StepPage:
    """Return the page of step 1: the image is cut into patches."""
    return step_page(
        "cut",
        context,
        picture=pictures.cut(context),
        pixels=pictures.pixels(context),
        bright=lesson.patch_means(context.image_11ss, context.study.patch)[context.patch],
        mean=float(context.image_11ss.mean()),
    )


def similarity(context: LessonContext) -> StepPage:
    """Return the page of step 2: how similar each patch is to the chosen one."""
    values_l = context.similarity_l
    others_l = torch.arange(len(values_l)) != context.patch
    most, least = (
        {"place": context.where(index), "value": signed_number(float(values_l[index]))}
        for index in (lesson.top_patches(one_l, others_l, 1)[0] for one_l in (values_l, -values_l))
    )
    return step_page(
        "similarity",
        context,
        picture=pictures.similarity(context),
        similarity=context.clustering_options["similarity"],
        most=most,
        least=least,
        low=signed_number(float(values_l.min())),
        high=signed_number(float(values_l.max())),
    )


def covariance(context: LessonContext) -> StepPage:
    """Return the page of step 3: the matrices from the similarities to the covariance."""
    names, length = list(context.stages), context.study.length
    return step_page(
        "covariance",
        context,
        picture=pictures.matrix(context, names[-1], True),
        ticks_at=(1, *(length * part // 4 for part in range(1, 5))),
        matrices=[(name, pictures.matrix(context, name)) for name in names],
        picker=pictures.picker(context),
        selectors=PAPER_TITLES,
        selector=context.clustering_options["selector"],
        is_paper=context.case.selector in clusters.PAPER_SELECTORS,
    )


def two_clusters(context: LessonContext) -> StepPage:
    """Return the page of step 4: the patches are split into two clusters."""
    is_paper, found = context.case.selector in clusters.PAPER_SELECTORS, context.study.clusters
    return step_page(
        "clusters",
        context,
        picture=pictures.clusters(context),
        a=int(context.rounds[context.round].sum()),
        round=context.round,
        last=len(context.rounds) - 1,
        is_paper=is_paper,
        fall=None if is_paper else float(found.rows_bln[0, context.patch, 0]),
        agreement=context.agreement,
        inside=int((found.lesion_bl & context.truth_1l).sum()),
        selectors=SELECTORS,
        selector=context.case.selector,
    )


def order(context: LessonContext) -> StepPage:
    """Return the page of step 5: the order in which patches are hidden."""
    shown = "random" if context.state.way == "random" else "first"
    order_1l = context.study.random_1l if shown == "random" else context.study.lesion_first_1l
    return step_page(
        "order",
        context,
        picture=pictures.order(context),
        shown=shown,
        rank=lesson.hiding_ranks(order_1l)[context.patch],
        seed=context.case.seed,
    )


def ratio(context: LessonContext) -> StepPage:
    """Return the page of step 6: the share of hidden patches grows over the epochs."""
    at = context.masked
    return step_page(
        "ratio",
        context,
        picture=pictures.played(context),
        shares={epoch: schedule.mask_ratio(epoch) for epoch in MARKS},
        hidden=at.hidden,
        inside=int((at.lesion_first_1l & context.study.clusters.lesion_bl).sum()),
        curve=pictures.curve(context),
        x=f"{curve_x(context.state.epoch):.2f}",
        ticks=TICKS,
    )
