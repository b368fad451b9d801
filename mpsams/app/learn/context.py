"""One image as the steps of the Learn tab show it: everything a step draws, computed when it is asked for.

No gradio here.

Axes: L patches, S side of the grid image. In masks True = hidden or lesion.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import resources

import torch
from torch import Tensor

from mpsams import clusters, inference, metrics
from mpsams.app.components.reconstruction_pictures import ReconstructionImages, draw_reconstruction
from mpsams.app.learn import lesson
from mpsams.app.learn.state import LessonState
from mpsams.inference import Agreement, MaskedPatches, Network, Study
from mpsams.inference.case import SIDE, Case
from mpsams.inference.comparison import SliceComparison, predict_slice
from mpsams.inference.network_names import DEFAULT, is_assistant, parse_name
from mpsams.inference.registry import ModelRegistry

DATA = {"ultrasound": "busi", "ct": "hecktor", "mri": "brats"}
COMPARED = ("mps_ams", "scratch")
THRESHOLD = 0.5


@dataclass(frozen=True)
class LessonContext:
    """A case at a step of the lesson, with the networks at hand."""

    case: Case
    state: LessonState
    registry: ModelRegistry

    @cached_property
    def study(self) -> Study:
        """The study of the case, with the clusters swapped when the lesson's state says so."""
        if not self.state.swap:
            return self.case.study
        found, order = lesson.swap_clusters(self.case.study.clusters, self.case.seed)
        return replace(self.case.study, clusters=found, lesion_first_1l=order)

    @property
    def image_11ss(self) -> Tensor:
        """The grid image of the case, (1, 1, S, S)."""
        return self.case.image_11ss

    @property
    def columns(self) -> int:
        """Patches in a row."""
        return SIDE // self.study.patch

    @cached_property
    def patch(self) -> int:
        """The patch that is asked about."""
        return int(self.study.clusters.score_bl[0].argmax()) if self.state.patch is None else self.state.patch

    def where(self, index: int) -> str:
        """Return the place of a patch in words: its row and column."""
        return f"row {index // self.columns + 1}, column {index % self.columns + 1}"

    @cached_property
    def clustering_options(self) -> dict:
        """patch, selector, normalise, temperature and similarity of the matrices: the case's, or one of the paper's
        when it has another selector.
        """
        selector = self.case.selector if self.case.selector in clusters.PAPER_SELECTORS else None
        return self.registry.clustering(self.case.modality, selector)

    @cached_property
    def stages(self) -> dict[str, Tensor]:
        """The matrices behind the clusters, in the order they are made."""
        return lesson.relation_stages(self.image_11ss, **self.clustering_options)

    @cached_property
    def similarity_l(self) -> Tensor:
        """The similarity of every patch to the one that is asked about, (L,)."""
        options = {key: value for key, value in self.clustering_options.items() if key != "selector"}
        return lesson.scaled_similarity(self.image_11ss, **options)[self.patch]

    @cached_property
    def rounds(self) -> list[Tensor]:
        """The lesion cluster round by round; only the last where another selector found it."""
        if self.case.selector not in clusters.PAPER_SELECTORS:
            return [self.study.clusters.lesion_bl]
        found = lesson.two_means_rounds(self.image_11ss, self.case.study.clusters.rows_bln, self.study.patch)
        return [~one for one in found] if self.state.swap else found

    @property
    def round(self) -> int:
        """Index of the round on screen."""
        last = len(self.rounds) - 1
        return last if self.state.rounds is None else min(self.state.rounds, last)

    @cached_property
    def masked(self) -> MaskedPatches:
        """The patches hidden at the epoch."""
        return inference.mask_at(self.study, self.state.epoch)

    def hidden_patches(self, way: str) -> Tensor:
        """Return the hidden patches (1, L) of a way of ``WAYS``."""
        return {"first": self.masked.lesion_first_1l, "random": self.masked.random_1l, "own": self.state.own_1l}[way]

    @property
    def hidden_1l(self) -> Tensor:
        """Hidden patches of the way that is chosen."""
        return self.hidden_patches(self.state.way)

    def order(self, way: str) -> list[int]:
        """Return the patches in the order in which a way hides them."""
        return (self.study.random_1l if way == "random" else self.study.lesion_first_1l)[0].tolist()

    @cached_property
    def truth_1l(self) -> Tensor:
        """The truly lesion patches; none when nothing is known."""
        return (
            torch.zeros(1, self.study.length, dtype=torch.bool)
            if self.case.agreement is None
            else self.case.agreement.truth_1l
        )

    @cached_property
    def agreement(self) -> Agreement | None:
        """The agreement of the clusters, swapped or not, with the truth; None without a truth."""
        truth_11ss = self.case.truth_11ss
        return None if truth_11ss is None else inference.agreement(self.study, truth_11ss)

    @cached_property
    def centre_auc(self) -> float:
        """AUC of nearness to the middle of the image against the truth."""
        return metrics.auc(lesson.centre_proximity(self.study.length), self.truth_1l[0])

    @cached_property
    def autoencoder(self) -> Network | None:
        """The pretrained network that fills hidden patches in."""
        name = self.registry.find("-mps_ams-pretrain", self.case.modality)
        return None if name is None else self.registry.network(name)

    def reconstruct(self, way: str) -> ReconstructionImages:
        """Return the pictures of the reconstruction by that network, which must be there."""
        assert self.autoencoder is not None
        return draw_reconstruction(
            self.autoencoder, self.image_11ss, self.hidden_patches(way), self.study.patch, self.case.truth_11ss
        )

    @cached_property
    def compared(self) -> SliceComparison | None:
        """The slice as outlined by the network begun from the pretraining, the one begun from nothing and the
        assistant; None when none of the first two is there.
        """
        there = self.registry.segmenters(self.case.modality)
        wanted = [name for name in there if parse_name(name)[1] in COMPARED and parse_name(name)[2] == DEFAULT]
        if not wanted:
            return None
        *_, predictions = predict_slice(self.case, [*wanted, *filter(is_assistant, there)], self.registry)
        return SliceComparison(predictions, THRESHOLD)

    @cached_property
    def dataset_agreement(self) -> dict | None:
        """Results of ``benchmarks.lesion_ranking`` on images of this modality with the same clustering; None if there
        are none.

        lift, auc: means over images; centre: AUC of nearness to the middle; images: how many; target: what is outlined.
        """
        file = resources.files("mpsams.app.learn").joinpath(f"data/lesion_ranking-{DATA[self.case.modality]}.json")
        record = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"selectors": {}}
        selectors = record["selectors"]
        found = selectors.get(f"{self.case.selector} {self.clustering_options['normalise']}") or selectors.get(
            self.case.selector
        )
        if found is None:
            return None
        centre = selectors["distance to the image centre"]["auc"][0]
        return {
            "lift": found["lift"][0],
            "auc": found["auc"][0],
            "centre": centre,
            "images": record["images"],
            "target": record["target"],
        }
