"""Training runs where only the packages of a GPU machine are installed, and two small wheels more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from mpsams import tables
from tests.support.small_plan import PLAN

ROOT = Path(__file__).resolve().parents[2]
# packages of the machine, with what they themselves import
THERE = {"torch", "numpy", "scipy", "sklearn", "PIL", "matplotlib", "safetensors", "tqdm", "yaml", "pytest"}
BROUGHT = {"jsonargparse", "docstring_parser", "typeshed_client", "monai"}  # by docs/train/many-gpus.md
MISSING = {"gradio", "nibabel", "pydicom", "SimpleITK", "skimage", "statsmodels", "pandas", "fastapi", "tifffile"}
RUN = """
import json, runpy, sys
from importlib.machinery import PathFinder
missing = set(json.loads(sys.argv[1]))
class Installed(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in missing else super().find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(PathFinder)] = Installed
for sys.argv in json.loads(sys.argv[2]):
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        assert not end.code, (sys.argv, end.code)
"""


def run_without(*commands: list[str], cwd: Path) -> str:
    """Run modules with their arguments in one process with packages missing; returns what they printed."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", RUN, json.dumps(sorted(MISSING)), json.dumps(commands)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_pack_reproduce_and_report_need_few_packages(tmp_path):
    (tmp_path / "small.toml").write_text(PLAN, encoding="utf-8")
    data = ["--data.name", "phantom", "--data.cases", "14", "--data.size", "32"]
    given = ["--plan", "small.toml", "--data.root", "pack", "--out", "out", "--draws", "0", "--labels", "0.1"]
    printed = run_without(
        ["train.pack", *data, "--out", "pack"],
        ["train.reproduce", "table1", *given],
        ["train.report", "out/records.jsonl"],
        cwd=tmp_path,
    )
    assert "5 of 5 runs done" in printed
    assert tables.read(tmp_path / "out" / "records.jsonl").methods == ("scratch", "mae", "mps_ams")


def test_every_command_starts_with_few_packages(tmp_path):
    names = ("pretrain", "finetune", "evaluate", "prompt", "calibrate", "publish")
    printed = run_without(*([f"train.{name}", "--help"] for name in names), cwd=tmp_path)
    assert printed.count("usage:") == len(names)


def test_what_is_brought_is_named_in_the_docs():
    text = (ROOT / "docs" / "train" / "many-gpus.md").read_text(encoding="utf-8")
    assert all(name.replace("_", "-") in text for name in BROUGHT)
