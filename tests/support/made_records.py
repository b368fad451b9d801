"""Made-up records in the form of train.reproduce, from a seeded generator, for tests of tables, plots,
report and app.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

METHODS = ("scratch", "simclr", "byol", "swav", "mae", "simmim", "base", "base_ams", "base_mps", "mps_ams")
GAIN = {
    "scratch": 0.0,
    "simclr": 0.03,
    "byol": 0.035,
    "swav": 0.015,
    "mae": 0.06,
    "simmim": 0.05,
    "base": 0.045,
    "base_ams": 0.05,
    "base_mps": 0.055,
    "mps_ams": 0.08,
}
COLUMNS = ("dsc", "ppv", "sen", "hit", "said", "real")
CASES = tuple(
    f"{kind} ({n})" for kind, count in (("benign", 22), ("malignant", 12), ("normal", 8)) for n in range(1, count + 1)
)


def write(
    path: Path,
    methods: Sequence[str] = METHODS,
    seeds: Sequence[int] = (0, 1),
    draws: Sequence[int] = (0, 1, 2),
    labels: Sequence[float] = (0.05, 0.1),
    recipes: Sequence[str] = ("strong", "paper"),
    plan: str = "made-up",
    data: str = "busi",
    gain: Mapping[str, float] = GAIN,
    more_scratch: Sequence[float] = (0.5, 1.0),
    patients: int = 0,
) -> Path:
    """Write pretrainings and results as JSON lines and return the path.

    gain: what a method adds to the mean DSC of a lesion. more_scratch: label shares at which only scratch was run.
    patients: more than 0 makes slices "p00/000", … of so many patients, with the same numbers per volume. The numbers
    of a run depend only on what the run is, not on which others are written.
    """
    rows = [pretraining(method, seed, plan, data) for method in methods if method != "scratch" for seed in seeds]
    for method in methods:
        for seed in [None] if method == "scratch" else seeds:
            shares = [*labels, *(more_scratch if method == "scratch" else ())]
            keys = [(method, seed, draw, share, recipe) for recipe in recipes for share in shares for draw in draws]
            rows += [result(*key, plan, data, gain.get(method, 0.0), patients) for key in keys]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def pretraining(method: str, seed: int, plan: str = "made-up", data: str = "busi") -> dict:
    """One row of a pretraining whose loss falls."""
    source = np.random.default_rng([seed, METHODS.index(method)])
    epochs = np.arange(30 if method in ("simclr", "byol", "swav") else 60)
    loss = 0.2 + GAIN[method] + np.exp(-epochs / 12) + source.normal(0, 0.015, len(epochs))
    facts = {
        "effective_rank": (
            (4 + (2 + METHODS.index(method) / 3) * np.log1p(epochs) + source.normal(0, 0.2, len(epochs)))
            .round(3)
            .tolist()
        )
    }
    if method in ("base_ams", "mps_ams"):
        facts = {"hidden": (0.25 + np.log(epochs + 1) / 12).round(4).tolist()}
    return {
        "event": "pretraining",
        "time": 1.0 + seed,
        "plan": plan,
        "data": data,
        "method": method,
        "seed": seed,
        "size": 64,
        "width": 16,
        "patch": 4,
        "epochs": len(epochs),
        "steps": 18 * len(epochs),
        "seconds": 600.0 + seed,
        "sha256": f"{METHODS.index(method):02d}{seed:02d}" * 16,
        "images": 562,
        "loss": loss.round(5).tolist(),
        "facts": facts,
    }


def result(
    method: str,
    seed: int | None,
    draw: int,
    labels: float,
    recipe: str,
    plan: str = "made-up",
    data: str = "busi",
    gain: float = 0.0,
    patients: int = 0,
) -> dict:
    """One row of a fine-tuning: lesions of differing difficulty, some missed; normals, some with a false alarm."""
    same = np.random.default_rng(7)  # what is the same in all runs: the images
    by_draw = np.random.default_rng([11, draw, int(1000 * labels)])  # what all methods share: the labelled images
    own = np.random.default_rng(
        [13, METHODS.index(method), 0 if seed is None else seed + 1, draw, int(1000 * labels), len(recipe)]
    )
    names = CASES if not patients else tuple(f"p{p:02d}/{k:03d}" for p in range(patients) for k in range(6))
    hard, sizes = same.normal(0, 1.3, len(names)), same.integers(900, 9000, len(names))
    level = (
        -0.8
        + np.log10(100 * labels)
        + 6 * gain
        + 0.25 * by_draw.normal()
        + 0.1 * own.normal()
        - 0.5 * (recipe == "paper")
    )
    cases = {}
    for k, name in enumerate(names):
        chance, tilt, alarm = (
            1 / (1 + np.exp(-(level - hard[k] + 0.5 * own.normal()))),
            own.uniform(0.75, 1.3),
            own.random(),
        )
        truth = 0 if name.startswith("normal") or (patients and k % 6 in (0, 5)) else int(sizes[k])
        predicted = int(truth * tilt) if chance > 0.12 else 0
        predicted = predicted if truth else int(700 * alarm) * bool(alarm > 0.35 + 2 * gain)
        cases[name] = numbers(int(min(truth, predicted) * min(1.0, chance + 0.1)), predicted, truth)
    row = {
        "event": "result",
        "time": 100.0 + draw,
        "plan": plan,
        "data": data,
        "method": method,
        "seed": seed,
        "draw": draw,
        "labels": labels,
        "recipe": recipe,
        "size": 64,
        "width": 16,
        "epochs": 100,
        "steps": 700,
        "seconds": 130.2,
        "labelled": int(562 * labels),
        "split": "5b1f" * 16,
        "weights": f"{own.integers(10**8):08d}" * 8,
        "init": None if seed is None else "ab" * 32,
        "threshold": 0.5,
        "loss": np.exp(-np.arange(20) / 8).round(4).tolist(),
        "columns": list(COLUMNS),
        "cases": cases,
    }
    if patients:
        sums = {
            f"p{p:02d}": np.sum([cases[name][3:] for name in names if name.startswith(f"p{p:02d}/")], axis=0)
            for p in range(patients)
        }
        row["volumes"] = {name: numbers(*map(int, counts)) for name, counts in sums.items()}
    return row


def numbers(true_pos: int, pred_pos: int, truth_pos: int) -> list[float]:
    """dsc, ppv, sen, hit, said, real of one image, as the protocol defines them."""
    shares = (
        (1.0, 1.0, 1.0)
        if pred_pos + truth_pos == 0
        else (2 * true_pos / (pred_pos + truth_pos), true_pos / max(pred_pos, 1), true_pos / max(truth_pos, 1))
    )
    return [*(round(share, 4) for share in shares), true_pos, pred_pos, truth_pos]
