"""The three linked planes of a volume and the surface of the lesion in it, below the pictures of a tab.

Everything is drawn in the browser by the files of static/ in SCRIPTS; voxels and outlines are sent once, when the
section comes into sight.
"""

from __future__ import annotations

import gradio as gr

from mpsams.app.components import viewer, volume_data
from mpsams.app.components.templates import read_scripts, render
from mpsams.app.components.volume_report import Whole
from mpsams.app.events import event_values, on_event
from mpsams.app.session import Session
from mpsams.inference.case import Case
from mpsams.inference.comparison import SlicePredictions, Thresholds

# parts of one script, in this order
SCRIPTS = ("viewbox", "planes", "surface", "volume_view", "surface_view", "volume_input")
TITLES = (("axial", "Axial"), ("coronal", "Coronal"), ("sagittal", "Sagittal"))


class VolumePlanes:
    """The section and its events. predictions, thresholds, whole: states of the tab that choose the outline shown."""

    def __init__(self, session: Session, predictions: gr.State, thresholds: gr.State, whole: gr.State) -> None:
        self.inputs, self.whole = [predictions, thresholds, whole], whole
        self.about = gr.HTML("", elem_classes="planes-data")
        view = gr.HTML(render("planes", planes=TITLES), js_on_load=read_scripts(*SCRIPTS))
        volume, outlines = (gr.HTML("", elem_classes="planes-data") for _ in range(2))
        session.on_case(self._describe, self.inputs, self.about, may_lose=[whole])
        on_event(view.ask, self._send, [session.case, *self.inputs], [volume, outlines], may_lose=[whole])
        viewer.listen_to_window(session, view.window)
        self.case = session.case

    def follow(self, *changes) -> None:
        """Show another outline after each of these events."""
        for change in changes:
            on_event(change, self._describe, [self.case, *self.inputs], self.about, may_lose=[self.whole])

    def _describe(self, case: Case, predictions: SlicePredictions, thresholds: Thresholds, whole: Whole | None) -> str:
        return volume_data.describe(case, whole, choose_network(case, predictions, whole), thresholds.on(case))

    def _send(
        self,
        case: Case,
        predictions: SlicePredictions,
        thresholds: Thresholds,
        whole: Whole | None,
        event: gr.EventData,
    ) -> tuple:
        wanted, network = event_values(event), choose_network(case, predictions, whole)
        volume = volume_data.encode_volume(case) if wanted.get("volume") else gr.skip()
        outlines = (
            volume_data.encode_outlines(case, whole, network, thresholds.on(case))
            if wanted.get("outlines")
            else gr.skip()
        )
        return volume, outlines


def choose_network(case: Case, predictions: SlicePredictions, whole: Whole | None) -> str:
    """Return the network whose outline is shown: the large one if it saw the volume, else the first that did, or ""."""
    if whole is None or whole.scan is not case.scan:
        return ""
    return predictions.shown if predictions.shown in whole.predictions else next(iter(whole.predictions), "")
