"""The notebook docs/learn/method.ipynb: its cells run in order without jupyter, and its own lines give what the library
gives.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mpsams import clusters, masking, schedule

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "learn" / "method.ipynb"
CELLS = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


@pytest.fixture(scope="module")
def names() -> dict:
    """All names that the cells define, run in order as in a notebook."""
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    found: dict = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(NOTEBOOK.parent)
        patch.setattr("matplotlib.pyplot.show", lambda: matplotlib.pyplot.close("all"))
        for cell in CELLS:
            if cell["cell_type"] == "code":
                exec(compile("".join(cell["source"]), cell["id"], "exec"), found)
    return found


def test_its_lines_give_the_clusters_the_order_and_the_masks_of_the_library(names):
    image_11ss, options = names["image"][None, None], clusters.default_options("mri")
    assert (
        options["temperature"] == 0.1 and options["similarity"] == "cosine" and options["normalise"] == "standardised"
    )
    lesion_1l = clusters.lesion_patches(image_11ss, 16, **options)
    assert torch.equal(names["lesion"], lesion_1l[0]) and 0 < int(lesion_1l.sum()) <= 128
    order_1l = masking.order(lesion_1l, torch.Generator().manual_seed(0))
    assert torch.equal(names["order"], order_1l[0])
    for epoch in (1, 10, 100, 800):
        assert names["mask_ratio"](epoch) == pytest.approx(schedule.mask_ratio(epoch))
        assert torch.equal(names["hide"](epoch), masking.cut(order_1l, schedule.mask_ratio(epoch))[0])


def test_it_shows_a_lesion_that_is_found_and_a_filling_better_than_grey(names):
    assert names["lift"] > 1.5 and names["lift"] == pytest.approx(names["shown"].agreement.lift)
    hidden = names["pixels"]
    grey = float((names["image"].mean() - names["image"]).abs()[hidden].mean())
    assert names["error"] < grey and torch.equal(
        names["masked_image"](names["hidden"]), names["result"].masked_11ss[0, 0]
    )


def test_it_is_a_notebook_without_outputs_whose_method_takes_about_thirty_lines():
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4 and len({cell["id"] for cell in CELLS}) == len(CELLS)
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in CELLS if cell["cell_type"] == "code")
    steps = [cell["source"] for cell in CELLS if cell["cell_type"] == "code"][1:6]  # patches to masks
    lines = [
        line
        for source in steps
        for line in source
        if line.strip() and not line.lstrip().startswith(("show(", "print("))
    ]
    assert len(lines) <= 35
