"""A whole annotation project from Python, without the page: images in, proposals, corrections, masks out, a run of
retraining.
"""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from mpsams.annotation import proposals, protocol, retraining, retraining_run, transfer
from mpsams.annotation.project import Project
from mpsams.annotation.session import AnnotationSession
from tests.support.annotation_page import picture, registry  # noqa: F401

pytestmark = pytest.mark.filterwarnings("ignore")


def command(view: dict, action: str, mask_hw: np.ndarray, request_id: int) -> dict:
    mask = protocol.pack(mask_hw)
    return {
        "action": action,
        "key": view["key"],
        "request_id": request_id,
        "mask": mask,
        "changed": True,
        "seconds": 1.0,
    }


def test_a_script_annotates_a_project_exports_it_and_prepares_retraining(registry, tmp_path):  # noqa: F811
    with Project(tmp_path / "project") as project:
        added, notes = transfer.add(
            project, [picture(tmp_path, seed) for seed in range(retraining.MIN_ACCEPTED)], "ultrasound", "script"
        )
        assert added == retraining.MIN_ACCEPTED and not notes
        assert [problem for *_, problem in proposals.propose_all(project, registry, "script")] == [""] * added
        session, drawn = AnnotationSession(registry, project), {}
        view = json.loads(session.open("", "script"))["slice_view"]
        for number in range(added):
            mask_hw = protocol.unpack(view["mask"], (view["height"], view["width"]))
            mask_hw[5:15, 5 + number : 20] = True
            drawn[session.case.item] = mask_hw
            reply = json.loads(session.handle(command(view, "accept", mask_hw, number + 1), session.case, "script"))
            assert reply["saved"] == "disk" and not reply["error"]
            view = reply["slice_view"] or view
        assert project.counts()["accepted"] == added and project.next() is None
        exported = transfer.write(project, "folder", "accepted", "lesion", tmp_path / "export")
        for id, place in exported.places.items():
            assert np.array_equal(np.asarray(Image.open(tmp_path / "export" / place)) > 0, drawn[id])
        name = registry.segmenters("ultrasound")[0]
        run, lock = retraining.prepare(project.folder, registry.path(name), name, epochs=1)
        lock.close()
        plan = json.loads((run.folder / retraining_run.PLAN).read_text())
        assert (
            sorted(plan["learn"] + plan["held_back"]) == sorted(drawn)
            and len(plan["held_back"]) >= retraining.MIN_HOLDOUT
        )


def test_the_service_imports_no_page():
    code = (
        "import sys, mpsams.annotation.session, mpsams.annotation.transfer, mpsams.annotation.retraining; assert not"
        " {'gradio', 'mpsams.app'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
