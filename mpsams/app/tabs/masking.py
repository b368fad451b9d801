"""Masking: which patches look like lesion, and which are hidden at an epoch, lesion first beside at random."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
import torch

from mpsams import clusters, inference, schedule
from mpsams.app import endpoints as answers
from mpsams.app.components import mask_maps, viewer
from mpsams.app.events import endpoint, on_event
from mpsams.app.session import FIRST_EPOCH, Session
from mpsams.inference.case import MODALITIES, Case, set_truth
from mpsams.inference.registry import ModelRegistry

TITLE = "Masking"
PLACE = 1

MARKS = (1, 10, 100, 800)
INTRO = """<p class="lead"><strong>What you see.</strong> The image is cut into 256 patches, and the patches into two
clusters; one (orange) is taken for lesion. MPS-AMS hides those first, and hides more each epoch: σ = 25% + ln(epoch) /
12. Drag the epoch and watch. Click a patch to ask about it.</p>"""
PICK_PATCH = """
const at = event => {
    const map = event.target.closest('svg[data-columns]');
    if (!map) return null;
    const box = map.getBoundingClientRect(), n = Number(map.dataset.columns);
    const seen = map.viewBox.baseVal;  // of 256 units
    const cell = (share, low, side) => Math.min(n - 1, Math.max(0, Math.floor((low + share * side) / 256 * n)));
    const row = cell((event.clientY - box.top) / box.height, seen.y, seen.height);
    return row * n + cell((event.clientX - box.left) / box.width, seen.x, seen.width);
};
element.addEventListener('click', event => {
    const index = at(event);
    if (index !== null) trigger('pick', {index});
});
element.addEventListener('keydown', event => {
    const map = event.target.closest('svg[data-columns]');
    const n = map && Number(map.dataset.columns);
    const step = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -n, ArrowDown: n}[event.key];
    if (!map || !step || event.shiftKey) return;
    event.preventDefault();
    const from = Number(map.dataset.picked), index = from + step;
    const wraps = Math.abs(step) === 1 && Math.floor(index / n) !== Math.floor(from / n);
    if (index < 0 || index >= n * n || wraps) return;
    element.querySelectorAll('svg[data-columns]').forEach(other => other.dataset.picked = index);
    trigger('pick', {index});
});"""


def build(session: Session) -> None:
    """Lay out the tab and register its events and the endpoints /clusters and /mask."""
    registry = session.registry

    def show(case: Case, epoch: float, picked: tuple[str, int], version: str) -> str:
        index = picked[1] if picked[0] == version else most_lesion(case)
        return mask_maps.view(case, epoch, index, covariance(registry, case.modality))

    def pick(case: Case, epoch: float, version: str, event: gr.EventData) -> tuple[tuple[str, int], str]:
        picked = version, min(max(int(event.index), 0), case.study.length - 1)
        return picked, show(case, epoch, picked, version)

    def play(playing: bool) -> tuple:
        return not playing, gr.Timer(active=not playing), gr.Button("Play" if playing else "Pause")

    def tick(case: Case, epoch: float, *which) -> tuple:
        following = after(epoch)
        ended = following >= schedule.HORIZON
        stop = (False, gr.Timer(active=False), gr.Button("Play")) if ended else (gr.skip(),) * 3
        return following, show(case, following, *which), *stop

    picked = gr.State(("", 0))  # the version of the case it belongs to, and the patch
    playing, clock = gr.State(False), gr.Timer(0.2, active=False)
    gr.HTML(INTRO)
    with gr.Row(elem_classes="controls scrub", equal_height=True):
        epoch = gr.Slider(
            1, schedule.HORIZON, FIRST_EPOCH, step=1, label="Epoch of pretraining", min_width=240, buttons=[]
        )
        marks = [gr.Button(str(mark), size="sm", scale=0, min_width=46, elem_classes="mark") for mark in MARKS]
        player = gr.Button("Play", size="sm", scale=0, min_width=76, variant="primary", elem_classes="mark")
    viewer.build(session)
    stage = gr.HTML("", js_on_load=PICK_PATCH, elem_classes="stage")

    which = [picked, session.version]
    on_event(epoch.input, show, [session.case, epoch, *which], stage)
    on_event(stage.pick, pick, [session.case, epoch, session.version], [picked, stage])
    for mark, button in zip(MARKS, marks, strict=True):
        on_event(
            button.click, lambda case, *which, mark=mark: (mark, show(case, mark, *which)),
            [session.case, *which], [epoch, stage],
        )  # fmt: skip
    on_event(player.click, play, [playing], [playing, clock, player])
    on_event(clock.tick, tick, [session.case, epoch, *which], [epoch, stage, playing, clock, player])
    session.link_epoch(epoch)
    session.on_case(show, [session.epoch, *which], stage)
    endpoints(registry)


def endpoints(registry: ModelRegistry) -> None:
    """Register /clusters and /mask."""
    image, truth = (gr.File(type="filepath", visible=False, label=name) for name in ("image", "truth"))
    modality = gr.Textbox(
        "", visible=False, label=f"modality, one of {', '.join(MODALITIES)}; empty for what the file says"
    )
    number = gr.Number(0, precision=0, visible=False, label="slice of a volume, from 1; 0 for the middle")
    selector = gr.Textbox(
        "", visible=False, label=f"selector, one of {', '.join(clusters.SELECTORS)}; empty for the default"
    )
    earlier = gr.Textbox("", visible=False, label="selector, under the name that it had in earlier versions")
    seed, epoch = (
        gr.Number(0, precision=0, visible=False, label="seed of the random order, from 0 to 2147483647"),
        gr.Number(FIRST_EPOCH, visible=False, label=f"epoch, from 1 to {answers.LAST_EPOCH}"),
    )

    def clusters_of(image, truth=None, modality="", seed=0, selector="", slice=0, reading=""):
        """Return the two clusters of an image's patches; with a truth mask also how well they agree with it."""
        case = answers.case_of(registry, image, modality, slice, seed, selector or reading)
        return answers.clusters(set_truth(case, Path(truth)) if truth else case)

    def mask(image, epoch=FIRST_EPOCH, modality="", seed=0, selector="", slice=0, reading=""):
        """Return the patches hidden at an epoch, lesion first and at random, with ratio and uncertainty."""
        case = answers.case_of(registry, image, modality, slice, seed, selector or reading)
        return answers.mask(case, inference.mask_at(case.study, answers.epoch_of(epoch)))

    endpoint("clusters", clusters_of, [image, truth, modality, seed, selector, number, earlier], gr.JSON(visible=False))
    endpoint("mask", mask, [image, epoch, modality, seed, selector, number, earlier], gr.JSON(visible=False))


def covariance(registry: ModelRegistry, modality: str) -> torch.Tensor | None:
    """Return the covariance of the patches of the training images; None if no MPS-AMS checkpoint here has it."""
    name = registry.find("-mps_ams-pretrain", modality)
    return None if name is None else registry.network(name).patch_covariance


def most_lesion(case: Case) -> int:
    """Return the patch nearest to the lesion centre, by the clusters' score."""
    return int(case.study.clusters.score_bl[0].argmax())


def after(epoch: float) -> int:
    """Return the next epoch of the animation, a tenth further on; the first after the last."""
    return 1 if epoch >= schedule.HORIZON else min(schedule.HORIZON, max(int(epoch) + 1, round(epoch * 1.1)))
