"""The choice of the paper's selectors' parameters: what the app uses is what was measured, and how the
choice is made.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import selector_parameters
from mpsams import clusters

RECORDS = Path(selector_parameters.__file__).parent
MODALITIES = {"busi": "ultrasound", "hecktor": "ct", "brats": "mri"}


@pytest.mark.parametrize("data, modality", MODALITIES.items())
def test_the_app_uses_the_parameters_that_were_chosen(data, modality):
    record = json.loads((RECORDS / f"selector_parameters-{data}.json").read_text(encoding="utf-8"))
    assert selector_parameters.choose(record["train"]["combinations"]) == record["best"]
    assert [{"selector": name, **values} for name, values in clusters.CHOSEN[modality].items()] == record["best"]
    assert clusters.default_options(modality) == record["best"][0]
    assert clusters.default_options(modality, record["best"][1]["selector"]) == record["best"][1]


def test_other_selectors_have_no_parameters_and_unknown_names_are_refused():
    assert (
        clusters.default_options("ct", "geodesic")
        == clusters.default_options("ct", "descent")
        == {"selector": "geodesic"}
    )
    with pytest.raises(ValueError, match="'pet'.*ultrasound, ct, mri"):
        clusters.default_options("pet")
    with pytest.raises(ValueError, match="'softmax'"):
        clusters.default_options("ct", "softmax")


def row(selector, auc, lift=2.0, size=0.2, temperature=1.0):
    return {
        "selector": selector,
        "normalise": "raw",
        "temperature": temperature,
        "similarity": "cosine",
        "auc": auc,
        "lift": lift,
        "size": size,
    }


def test_the_highest_auc_counts_among_clusters_that_find_something():
    first, second = clusters.PAPER_SELECTORS
    found = selector_parameters.choose(
        [
            row(first, 0.9, lift=0.9),
            row(first, 0.8, size=0.01, temperature=0.1),
            row(first, 0.6, temperature=0.2),
            row(first, 0.55, temperature=0.5),
            row(second, 0.7, lift=0.5),
        ]
    )
    assert [(each["selector"], each["temperature"]) for each in found] == [(first, 0.2), (second, 1.0)]


def test_every_combination_is_measured_on_a_data_set(tmp_path, monkeypatch, quick_phantom):
    monkeypatch.setattr(selector_parameters, "keep", lambda name, values, quick: kept.append((name, values, quick)))
    monkeypatch.setattr(selector_parameters, "TEMPERATURES", (0.5, 1.0))
    kept = []
    selector_parameters.main(
        ["--data.name", "phantom", "--data.size", "64", "--data.cases", "24", "--patch", "8", "--images", "6"]
    )
    ((name, values, quick),) = kept
    assert name == "selector_parameters-phantom" and not quick
    grid = values["train"]["combinations"]
    assert len(grid) == 2 * (2 * 3 + 2 * 2) and len(
        {tuple(each[key] for key in selector_parameters.DEFAULT) for each in grid}
    ) == len(grid)
    assert all(0 <= each["auc"] <= 1 and each["lift"] >= 0 and 0 <= each["size"] <= 1 for each in grid)
    assert values["best"] == selector_parameters.choose(grid)
    assert [each["selector"] for each in values["rest"]["selectors"][2:]] == [
        "covariance-of-softmax",
        "geodesic",
        "distance to the image centre",
    ]
