"""Reconstruct: two pretrained networks fill in the same hidden patches; where and how much they err.

Axes: L patches, S side of the grid image.
"""

from __future__ import annotations

import gradio as gr
from markupsafe import Markup
from torch import Tensor

from mpsams import inference, schedule
from mpsams.app import endpoints
from mpsams.app.components import html, viewer
from mpsams.app.components.reconstruction_pictures import (
    MAX_ERROR,
    ROWS,
    ReconstructionImages,
    draw_reconstruction,
    input_pictures,
    network_pictures,
)
from mpsams.app.components.templates import render
from mpsams.app.events import endpoint, on_event
from mpsams.app.gradio_compat import save_to_cache
from mpsams.app.gradio_compat.fair_queue import Keys
from mpsams.app.server.lanes import NETWORK
from mpsams.app.session import FIRST_EPOCH, Session
from mpsams.inference import shared
from mpsams.inference.case import MODALITIES, NAMES, Case
from mpsams.inference.checkpoint_metadata import training_data_of
from mpsams.inference.registry import ModelRegistry
from mpsams.plots import images

TITLE = "Reconstruct"
PLACE = 2

WAYS = {"first": "Lesion first (MPS)", "random": "At random"}
INTRO = """<p class="lead"><strong>What you see.</strong> The patches are hidden and a network that was never told what
a lesion is fills them in. Both networks get the same hidden patches. The brighter the error map, the further off; good
filling means it has learnt how this tissue looks.</p>"""
MAKE = Markup("""<strong>No pretrained weights here.</strong> This panel needs {names} in the folder given by
<code>--weights</code>. Make them with <code>python -m train.pretrain --config train/configs/busi-mps_ams-cpu.toml
--data.root Dataset_BUSI_with_GT</code> (and <code>busi-base-cpu.toml</code>). The Masking tab works without any
weights.""")


def build(session: Session) -> None:
    """Lay out the tab and register its events and the endpoint /reconstruct."""
    registry = session.registry

    def show(case: Case, epoch: float, way: str) -> str:
        return view(case, epoch, way, registry)

    gr.HTML(INTRO)
    with gr.Row(elem_classes="controls scrub", equal_height=True):
        epoch = gr.Slider(
            1,
            schedule.HORIZON,
            FIRST_EPOCH,
            step=1,
            label="Epoch: how much is hidden",
            scale=5,
            min_width=240,
            buttons=[],
        )
        way = gr.Radio(
            [(label, name) for name, label in WAYS.items()],
            value="first",
            label="Which patches are hidden",
            scale=3,
            min_width=240,
        )
    viewer.build(session)
    stage = gr.HTML("", js_on_load=None, elem_classes="stage")

    inputs = [session.case, epoch, way]

    def needs(case: Case, epoch: float, way: str) -> Keys:
        return needed_results(case, epoch, way, registry)

    on_event(gr.on, show, inputs, stage, lane=NETWORK, needs=needs, triggers=[epoch.input, way.input])
    session.link_epoch(epoch)
    session.on_case(show, [session.epoch, way], stage, lane=NETWORK, needs=needs)
    add_endpoint(registry)


def add_endpoint(registry: ModelRegistry) -> None:
    """Register /reconstruct."""
    image = gr.File(type="filepath", visible=False, label="image")
    seed = gr.Number(0, precision=0, visible=False, label="seed of the random order, from 0 to 2147483647")
    at = gr.Number(FIRST_EPOCH, visible=False, label=f"epoch, from 1 to {endpoints.LAST_EPOCH}")
    modality = gr.Textbox(
        "", visible=False, label=f"modality, one of {', '.join(MODALITIES)}; empty for what the file says"
    )
    number = gr.Number(0, precision=0, visible=False, label="slice of a volume, from 1; 0 for the middle")
    weights = gr.Textbox("", visible=False, label="name of a pretrained network; empty for MPS-AMS")
    parts = [
        gr.JSON(visible=False),
        *(gr.File(visible=False, label=name) for name in ("masked", "reconstruction", "error")),
    ]

    def reconstruct(image, epoch=FIRST_EPOCH, modality="", seed=0, weights="", slice=0):
        """Hide patches lesion first at an epoch and fill them in: numbers, and three PNG files of 256 × 256."""
        case = endpoints.case_of(registry, image, modality, slice, seed)
        name, epoch = (
            endpoints.network_name(registry, weights, "-mps_ams-pretrain", case.modality),
            endpoints.epoch_of(epoch),
        )
        found = inference.reconstruct(
            registry.network(name),
            case.image_11ss,
            hidden_patches(case, epoch, "first"),
            case.study.patch,
            case.truth_11ss,
        )
        pictures = (found.masked_11ss, found.filled_11ss, found.error_11ss)
        files = [
            written(images.preview(t[0, 0].numpy()), part.label) for t, part in zip(pictures, parts[1:], strict=True)
        ]
        numbers = {"weights": name, "epoch": epoch, "hidden": inference.mask_at(case.study, epoch).hidden}
        return numbers | {"error": endpoints.finite(found.error_background), "notes": endpoints.notes(case)}, *files

    def written(picture, name: str) -> str:
        return save_to_cache(images.png(picture), f"{name}.png", parts[1])

    endpoint("reconstruct", reconstruct, [image, at, modality, seed, weights, number], parts, lane=NETWORK)


def hidden_patches(case: Case, epoch: float, way: str) -> Tensor:
    """Return the patches hidden at an epoch, lesion "first" or at "random": bool (1, L)."""
    if way not in WAYS:
        raise ValueError(f"unknown way {way!r} to hide patches; allowed are {', '.join(WAYS)}")
    at = inference.mask_at(case.study, epoch)
    return at.lesion_first_1l if way == "first" else at.random_1l


def networks_for(case: Case, registry: ModelRegistry) -> dict[str, str]:
    """Return the pretrained networks that are there for the modality of a case, by the endings of ``ROWS``."""
    names = {ending: registry.find(ending, case.modality) for ending in ROWS}
    return {ending: name for ending, name in names.items() if name}


def needed_results(case: Case, epoch: float, way: str, registry: ModelRegistry) -> tuple:
    """Return the keys of the shared results that ``view`` is drawn from."""
    networks = [registry.network(name) for name in networks_for(case, registry).values()]
    return shared.reconstruction_keys(
        networks, case.image_11ss, hidden_patches(case, epoch, way), case.study.patch, case.truth_11ss
    )


def view(case: Case, epoch: float, way: str, registry: ModelRegistry) -> Markup:
    """Return everything below the controls, as HTML."""
    there = networks_for(case, registry)
    if not there:
        names = Markup(" and ").join(Markup("<code>busi{}</code>").format(ending) for ending in ROWS)
        return html.note(MAKE.format(names=names), "warning")
    hidden_1l, networks = hidden_patches(case, epoch, way), [registry.network(name) for name in there.values()]
    try:
        drawn = [
            draw_reconstruction(network, case.image_11ss, hidden_1l, case.study.patch, case.truth_11ss)
            for network in networks
        ]
    except inference.NotFinite as refusal:
        return html.note(f"{' or '.join(there.values())}: {refusal}.", "error")
    found, at = dict(zip(there, drawn, strict=True)), inference.mask_at(case.study, epoch)
    original, given = input_pictures(case, hidden_1l)
    return render(
        "reconstruct",
        slice_data=viewer.slice_data(case, part=True),
        elsewhere=html.trained_elsewhere(map(training_data_of, networks), case.modality, NAMES),
        original=original,
        given=given,
        hidden=at.hidden,
        length=case.study.length,
        ratio=at.ratio,
        split=case.has_lesion,
        networks=[network_pictures(case, ending, result) for ending, result in found.items()],
        max_error=MAX_ERROR,
        numbers=numbers(case, found),
        missing=[ending for ending in ROWS if ending not in there],
    )


def numbers(case: Case, found: dict[str, ReconstructionImages]) -> list[list[str]]:
    """Return a table of the mean errors, split by truth where there is one; its first row is the head."""
    split, rows = case.has_lesion, []
    for ending, result in found.items():
        values = [result.error_lesion, result.error_background] if split else [result.error_background]
        rows.append([ROWS[ending][0], *(html.percent(value, 1) for value in values)])
    head = ["hidden lesion", "hidden background"] if split else ["hidden patches"]
    return [["Mean error, % of full brightness", *head], *rows]
