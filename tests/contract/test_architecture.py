"""The architecture as a test: imports go strictly down, and some libraries only enter where they belong."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LAYERS = (
    "distributed precision renames arguments remote",
    "patches schedule metrics unet transforms views jsonl imaging",
    "selectors uncertainty splits losses distortions calibration",
    "clusters masking datasets checkpoint",
    "methods tables plots packs",
    "inference",
    "annotation",
    "app train",
    "app.py",
)
LAYER_OF = {area: layer for layer, areas in enumerate(LAYERS) for area in areas.split()}
# whose files may import each other
FREE_AREAS = ("annotation", "app", "imaging", "inference", "plots", "selectors", "tables", "train")
# whose files never import each other, except names with an underscore
SIBLINGS = ("mpsams.methods", "mpsams.datasets", "mpsams.app.tabs")
PARSERS = ("argparse", "jsonargparse", "optparse", "getopt", "click", "typer")
HEAVY = (
    "monai",
    "matplotlib",
    "gradio",
    "jsonargparse",
    "nibabel",
    "pydicom",
    "pandas",
    "skimage",
    "cv2",
    "torchvision",
    "onnx",
    "onnxruntime",
)
PICKLES = ("pickle", "cPickle", "_pickle", "cloudpickle", "dill", "shelve", "marshal", "joblib")
# modules that may use multiprocessing, which pickles what processes send each other
PROCESSES = ("mpsams.remote", "mpsams.app.server.workers")
# modules that may look above their package, and why
OUTSIDE = {"mpsams.app.main": "weights/ and results/ of a clone stand beside app.py"}
STARTED = {
    (
        "mpsams.annotation.retraining",
        "train.retrain",
    ): "a retraining runs in a process of its own, which may end without the app"
}
VAGUE_NAMES = ("utils", "util", "helpers", "helper", "common", "misc")


def sources() -> dict[str, str]:
    """Module name -> source, of everything that ships as code."""
    files = [*ROOT.glob("mpsams/**/*.py"), *ROOT.glob("train/**/*.py"), *ROOT.glob("app.py")]
    return {name_of(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in sorted(files)}


def name_of(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def area_of(module: str) -> str:
    """mpsams.datasets.busi -> datasets; train.loop -> train; app -> app.py; mpsams itself -> ""."""
    first, *rest = module.split(".")
    return {"mpsams": (rest or [""])[0], "app": "app.py"}.get(first, first)


def imports(name: str, source: str, known: set[str], is_package: bool) -> Iterator[tuple[str, int, bool]]:
    """Each import of a file: the module meant, its line, and whether it happens when the file is imported."""
    tree = ast.parse(source)
    for_types = [
        part
        for outer in ast.walk(tree)
        if isinstance(outer, ast.If) and ast.unparse(outer.test) == "TYPE_CHECKING"
        for part in outer.body
    ]
    functions = [
        outer for outer in ast.walk(tree) if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    ]
    later = {id(node) for outer in (*functions, *for_types)
             for node in ast.walk(outer)}  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno, id(node) not in later
        if isinstance(node, ast.ImportFrom):
            here = name.split(".") if is_package else name.split(".")[:-1]
            above = here[: len(here) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield (inner if inner in known else base), node.lineno, id(node) not in later


def allowed(source: str, target: str) -> bool:
    """True if module ``source`` may import module ``target``, both of this project."""
    here, there = area_of(source), area_of(target)
    if target == "mpsams":  # it holds nothing but the version
        return source != "mpsams"
    if here != there:
        return there in LAYER_OF and here in LAYER_OF and LAYER_OF[there] < LAYER_OF[here]
    parent = next((parent for parent in SIBLINGS if f"{target}.".startswith(f"{parent}.")), None)
    if parent is None or not f"{source}.".startswith(f"{parent}."):
        return here in FREE_AREAS or source == target
    depth = parent.count(".") + 1
    inside, own = target.split(".")[depth : depth + 1], source.split(".")[depth : depth + 1]
    return not inside or inside == own or inside[0].startswith("_")


def violations(files: dict[str, str]) -> list[str]:
    """Everything in these files that the layers forbid."""
    packages = {name for name in files if any(other.startswith(f"{name}.") for other in files)}
    found = []
    for name, source in files.items():
        area = area_of(name)
        if area and area not in LAYER_OF:
            found.append(f"{name} belongs to no layer; add it to LAYERS and to docs/develop/architecture.md")
        if set(name.split(".")) & set(VAGUE_NAMES):
            found.append(f"{name} has a vague name; name it after what it holds")
        if (
            not source.startswith(('"""', 'r"""'))
            or not (ast.get_docstring(ast.parse(source)) or "").split("\n")[0].strip()
        ):
            found.append(f"{name} does not say in its first line what it holds")
        for target, line, at_once in imports(name, source, set(files), name in packages):
            top, at = target.split(".")[0], f"{name}, line {line}:"
            if top in ("mpsams", "train", "app", "tests") and not (target in files and allowed(name, target)):
                found.append(f"{at} {target} is not below it")
            if top == "gradio" and area != "app":
                found.append(f"{at} gradio belongs to mpsams/app")
            if top in PARSERS and area not in ("train", "app", "arguments") and not name.endswith(".__main__"):
                found.append(f"{at} {top} belongs to train, mpsams/app, mpsams/arguments.py and __main__.py")
            if top in HEAVY and at_once and name.startswith("mpsams") and (top, area) != ("gradio", "app"):
                found.append(f"{at} {top} must be imported where it is used")
            if top == "multiprocessing" and name not in PROCESSES:
                found.append(f"{at} multiprocessing belongs to {' and '.join(PROCESSES)}")
            if top in PICKLES or target in ("torch.load", "torch.save"):
                found.append(f"{at} {target}: no pickle")
        for node in ast.walk(ast.parse(source)):
            found += [f"{name}, line {node.lineno}: {text}: no pickle" for text in pickling(node)]
            target = module_started(node)
            if target and not (target in files and (allowed(name, target) or (name, target) in STARTED)):
                found.append(f"{name}, line {node.lineno}: it starts {target}, which is not below it")
            if name not in OUTSIDE and steps_up(node) > name.count(".") + (name in packages):
                found.append(
                    f"{name}, line {node.lineno}: it reaches above its package; read data with importlib.resources"
                )
    return list(dict.fromkeys(found))


def pickling(node: ast.AST) -> list[str]:
    """torch.load, torch.save, from torch import load, and numpy's allow_pickle=True."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "torch":
        return [f"torch.{node.attr}"] * (node.attr in ("load", "save"))
    if isinstance(node, ast.ImportFrom) and node.module in ("torch", "torch.serialization") and not node.level:
        return [f"torch.{alias.name}" for alias in node.names if alias.name in ("load", "save")]
    if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
        return ["allow_pickle"] * (getattr(node.value, "value", True) is not False)
    return []


def module_started(node: ast.AST) -> str:
    """NAME of a list or tuple [..., "-m", NAME, ...] that holds sys.executable; "" of anything else."""
    if not isinstance(node, ast.List | ast.Tuple) or not any(
        ast.unparse(each) == "sys.executable" for each in node.elts
    ):
        return ""
    words = [each.value if isinstance(each, ast.Constant) else None for each in node.elts]
    return next((str(after) for word, after in zip(words, words[1:]) if word == "-m"), "")


def steps_up(node: ast.AST) -> int:
    """Number of folders that an expression goes up from its module's file: 1 of Path(__file__).parent, 3 of
    Path(__file__).parents[2].

    resources.files(...) stands for the folder of the module's top-level package; its parent is always too high.
    """
    if isinstance(node, ast.Attribute) and node.attr == "parent":
        inner = steps_up(node.value)
        return (
            inner + 1
            if inner or "__file__" in ast.unparse(node.value)
            else 99 * ("resources.files(" in ast.unparse(node.value))
        )
    if (
        isinstance(node, ast.Subscript)
        and isinstance(node.value, ast.Attribute)
        and node.value.attr == "parents"
        and "__file__" in ast.unparse(node.value)
    ):
        return node.slice.value + 1 if isinstance(node.slice, ast.Constant) else 99
    return 0


def test_imports_go_down_only():
    found = violations(sources())
    assert not found, "\n".join(found)


def test_the_checker_sees_all_modules():
    names = set(sources())
    assert {
        "mpsams",
        "mpsams.clusters",
        "mpsams.methods.mps_ams",
        "mpsams.datasets.phantom.paint",
        "train.loop",
    } <= names
    assert len(names) >= 25
    total = sum(len(list(imports(name, source, names, False))) for name, source in sources().items())
    assert total > 100


DOC = '"""Words."""\n'
EXAMPLE = dict.fromkeys(
    (
        "mpsams mpsams.patches mpsams.clusters mpsams.uncertainty mpsams.inference mpsams.methods mpsams.methods.mae"
        " mpsams.methods.byol mpsams.datasets mpsams.datasets.busi mpsams.datasets.phantom"
        " mpsams.datasets.phantom.brain mpsams.datasets.phantom.paint mpsams.imaging mpsams.imaging.raster mpsams.app"
        " mpsams.app.page mpsams.inference.case mpsams.app.tabs mpsams.app.tabs.tour mpsams.app.tabs.masks train"
        " train.loop train.options app"
    ).split(),
    DOC,
)


@pytest.mark.parametrize(
    "module, line, message",
    [
        ("mpsams.patches", "from mpsams.clusters import split", "mpsams.clusters is not below"),
        ("mpsams.patches", "from mpsams import clusters", "mpsams.clusters is not below"),
        ("mpsams.patches", "def f():\n    import mpsams.clusters", "mpsams.clusters is not below"),
        ("mpsams.patches", "from . import clusters", "mpsams.clusters is not below"),
        ("mpsams.patches", "from .clusters import split", "mpsams.clusters is not below"),
        ("mpsams.selectors.geodesic", "from mpsams import uncertainty", "mpsams.uncertainty is not below"),
        ("mpsams", "from mpsams import patches", "mpsams.patches is not below"),
        ("mpsams.methods.mae", "from mpsams.methods.byol import Config", "mpsams.methods.byol is not below"),
        ("mpsams.methods.mae", "from mpsams.methods import byol", "mpsams.methods.byol is not below"),
        ("mpsams.methods.mae", "from . import byol", "mpsams.methods.byol is not below"),
        ("mpsams.methods", "from mpsams.methods import mae", "mpsams.methods.mae is not below"),
        (
            "mpsams.datasets.busi",
            "from mpsams.datasets.phantom.paint import x",
            "mpsams.datasets.phantom.paint is not below",
        ),
        ("mpsams.inference", "import train.loop", "train.loop is not below"),
        ("mpsams.app.tabs.tour", "from train import loop", "train.loop is not below"),
        ("mpsams.app.tabs.tour", "from mpsams.app.tabs.masks import x", "mpsams.app.tabs.masks is not below"),
        ("mpsams.inference.case", "from mpsams.app.tabs import tour", "mpsams.app.tabs.tour is not below"),
        ("train.loop", "from mpsams.app.tabs import tour", "mpsams.app.tabs.tour is not below"),
        ("train.loop", "import app", "app is not below"),
        ("mpsams.inference", "from tests.conftest import ROOT", "tests.conftest is not below"),
        ("mpsams.inference", "def f():\n    import gradio", "gradio belongs to"),
        ("train.loop", "import gradio as gr", "gradio belongs to"),
        ("mpsams.inference", "def f():\n    from argparse import ArgumentParser", "argparse belongs to"),
        ("mpsams.patches", "import matplotlib.pyplot as plt", "matplotlib must be imported where"),
        ("mpsams.patches", "class A:\n    from monai.losses import DiceLoss", "monai must be imported where"),
        ("mpsams.patches", "if True:\n    import nibabel", "nibabel must be imported where"),
        ("train.loop", "import pickle", "no pickle"),
        ("train.loop", "import torch\ntorch.save({}, 'x')", "torch.save: no pickle"),
        ("mpsams.patches", "from torch import load", "torch.load: no pickle"),
        (
            "mpsams.patches",
            "run([sys.executable, '-m', 'mpsams.clusters'])",
            "it starts mpsams.clusters, which is not below",
        ),
        (
            "mpsams.app.page",
            "run((sys.executable, '-u', '-m', 'train.loop', 'x'))",
            "it starts train.loop, which is not below",
        ),
        ("train.loop", "run([sys.executable, '-m', 'benchmarks.app'])", "it starts benchmarks.app, which is not below"),
        ("mpsams.patches", "open(Path(__file__).parents[1] / 'x')", "reaches above its package"),
        ("mpsams.app.page", "open(Path(__file__).resolve().parent.parent.parent / 'x')", "reaches above its package"),
        ("mpsams.datasets.phantom.paint", "open(Path(__file__).parents[3] / 'x')", "reaches above its package"),
        ("mpsams.methods", "open(Path(__file__).parents[2] / 'x')", "reaches above its package"),
        ("train.loop", "open(Path(__file__).parent.parent / 'x')", "reaches above its package"),
        ("mpsams.app.page", "open(resources.files('mpsams').parent / 'x')", "reaches above its package"),
        ("mpsams.patches", "import numpy as np\nnp.load('x', allow_pickle=True)", "allow_pickle: no pickle"),
    ],
)
def test_the_checker_catches_a_planted_violation(module, line, message):
    assert violations(EXAMPLE) == []
    found = violations(EXAMPLE | {module: DOC + line})
    assert len(found) >= 1 and all(module in text for text in found) and any(message in text for text in found), found


@pytest.mark.parametrize("name, source, message", [
    ("mpsams.utils", DOC, "vague"), ("mpsams.datasets.common", DOC, "vague"), ("mpsams.cellar", DOC, "no layer"),
    ("mpsams.unet", "import torch\n", "first line"), ("mpsams.unet", "# note\n" + DOC, "first line"),
    ("mpsams.unet", '"""\nToo late."""\n', None),
])  # fmt: skip
def test_the_checker_catches_misnamed_and_silent_modules(name, source, message):
    found = violations(EXAMPLE | {name: source})
    assert (len(found) == 0) if message is None else any(message in text for text in found)


@pytest.mark.parametrize(
    "module, line",
    [
        ("mpsams.inference", "from mpsams import clusters, patches\nfrom mpsams.methods import Batch"),
        ("mpsams.methods.mae", "from mpsams.methods import Method\nfrom mpsams import clusters"),
        ("mpsams.datasets.phantom", "from mpsams.datasets import Sample\nfrom mpsams.datasets.phantom.brain import t1"),
        ("mpsams.datasets.phantom.brain", "from mpsams.datasets.phantom import paint\nfrom .paint import x"),
        ("mpsams.imaging", "def f():\n    from . import raster"),
        ("mpsams.imaging.raster", "from mpsams.imaging import Scan"),
        ("mpsams.app.page", "from mpsams.inference.case import x\nfrom mpsams.app import tabs"),
        ("mpsams.app.tabs.tour", "import gradio as gr\nfrom mpsams import inference\nfrom mpsams.app.page import page"),
        ("train.options", "import argparse\nfrom jsonargparse import ArgumentParser\nfrom train.loop import fit"),
        ("mpsams.app.page", "open(Path(__file__).parents[1] / 'x')\nopen(Path(__file__).with_name('x'))"),
        ("mpsams.methods", "open(Path(__file__).parent.parent / 'x')"),
        ("train.loop", "run([sys.executable, '-m', 'train.options'])"),
        ("mpsams.patches", "if TYPE_CHECKING:\n    from matplotlib.figure import Figure"),
        ("mpsams.app.page", "from mpsams import __version__"),
        ("mpsams.app.page", "import argparse\nimport gradio\nfrom mpsams import inference"),
        ("app", "from mpsams.app.page import page"),
        (
            "mpsams.patches",
            (
                "import torch, numpy\ndef f():\n    from monai.losses import DiceLoss\n    np.load('x',"
                " allow_pickle=False)"
            ),
        ),
    ],
)
def test_the_checker_lets_pass_what_is_allowed(module, line):
    assert violations(EXAMPLE | {module: DOC + line}) == []


def test_the_package_imports_without_the_heavy_libraries():
    """torch, numpy, scikit-learn, safetensors and pillow are enough for ``import mpsams``."""
    names = [name for name in sources() if name.startswith("mpsams") and area_of(name) != "app"]
    code = (
        "import importlib, sys\n"
        f"sys.modules.update(dict.fromkeys({[*HEAVY, 'tqdm']!r}))\n"  # None there makes an import fail
        f"for name in {names!r}: importlib.import_module(name)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
