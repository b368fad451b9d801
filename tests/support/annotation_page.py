"""A page of the annotation session, its project and its networks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mpsams import checkpoint
from mpsams.annotation import protocol
from mpsams.annotation.project import Project
from mpsams.annotation.session import AnnotationSession
from mpsams.inference.registry import ModelRegistry
from mpsams.unet import UNet

SIZE = (40, 56)  # rows and columns of the pictures


@pytest.fixture(scope="module")
def registry(tmp_path_factory) -> ModelRegistry:
    """Two tiny untrained networks for each modality."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    for data, modality in (("busi", "ultrasound"), ("hecktor", "ct"), ("brats", "mri")):
        metadata = {
            "kind": "segmentation",
            "size": 64,
            "model": {"channels": 1, "classes": 1, "width": 2, "norm": "batch"},
        }
        metadata |= {"data": {"name": data, "modality": modality, "target": "lesion", "images": 9}}
        for method in ("mps_ams", "scratch"):
            checkpoint.save(
                folder / f"{data}-{method}-seg-10.safetensors",
                UNet(width=2).state_dict(),
                metadata | {"method": method},
            )
    return ModelRegistry(folder)


@pytest.fixture
def project(tmp_path):
    with Project(tmp_path / "project") as opened:
        yield opened


def picture(folder: Path, seed: int = 0) -> Path:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    lesion = (rows - 18) ** 2 + (columns - 25 - seed) ** 2 < 60
    pixels = np.where(lesion, 60, 150) + np.random.default_rng(seed).normal(0, 8, SIZE)
    path = folder / f"picture {seed}.png"
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return path


def folder(path: Path) -> Path:
    path.mkdir()
    return path


class Page:
    """A browser tab: an annotation session and the sheet it was last given."""

    def __init__(self, registry: ModelRegistry, project: Project | None, user: str = "Dr. A") -> None:
        self.session, self.user, self.request_id, self.slice_view, self.mask = (
            AnnotationSession(registry, project),
            user,
            0,
            {},
            None,
        )

    def hear(self, text: str | None) -> dict:
        reply = json.loads(text)
        self.slice_view = reply["slice_view"] or self.slice_view
        mask = reply["mask"] or (reply["slice_view"] or {}).get("mask")
        if mask is not None:
            map_hw = protocol.unpack_labels(mask, self.shape)
            self.mask = map_hw if map_hw.max() > 1 else map_hw.view(bool)
        return reply

    def open(self, id: str) -> dict:
        return self.hear(self.session.open(id, self.user))

    @property
    def shape(self) -> tuple[int, int]:
        return self.slice_view["height"], self.slice_view["width"]

    def send(self, action: str, mask: np.ndarray | None = None, **params) -> dict:
        """mask: what was drawn since; None is nothing. params: override any part of the command."""
        self.request_id += 1
        now = self.mask if mask is None else mask
        command = {
            "action": action,
            "key": self.slice_view["key"],
            "request_id": self.request_id,
            "mask": protocol.pack_labels(now),
            "changed": mask is not None,
            "seconds": 1.5,
        }
        if mask is not None:
            self.mask = mask
        answer = self.hear(self.session.handle(command | params, self.session.case, self.user))
        assert answer["request_id"] == max(self.request_id, 0) or "request_id" in params
        return answer


@pytest.fixture
def page(registry, project, tmp_path):
    project.add(picture(tmp_path))
    page = Page(registry, project)
    page.open("")
    return page


def drawn(shape: tuple[int, int], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(shape) < 0.3


def save_with(page: Page, wrong: dict) -> dict:
    """Send a save command with a new mask and the given fields replaced; returns the reply."""
    right = {
        "action": "save",
        "key": page.slice_view["key"],
        "request_id": 1,
        "mask": protocol.pack(drawn(page.shape, 9)),
        "changed": True,
        "seconds": 1,
    }
    return json.loads(page.session.handle(right | wrong, page.session.case, ""))
