"""The wheel: what it holds, what it needs, and that it runs from a folder where no clone is; the Dockerfile's copies
exist.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from train import __main__ as dispatcher

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
# files of data that the code reads
CARRIED = ("*.safetensors", "*.jsonl", "*.json", "*.toml", "*.js", "*.css", "*.html")
SOURCES = ("mpsams", "train", "results")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of this tree with two of its checkpoints, built without network."""
    try:
        version = importlib.metadata.version("setuptools")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("setuptools is not installed; it builds the wheel")
    if int(version.partition(".")[0]) < 77:
        pytest.skip(f"setuptools {version} is older than 77, which reads our pyproject.toml")
    top = tmp_path_factory.mktemp("tree")
    for name in SOURCES:
        shutil.copytree(ROOT / name, top / name, ignore=shutil.ignore_patterns("__pycache__"))
    (top / "weights").mkdir()
    for path in [*(ROOT / "weights").glob("busi-mps_ams-*"), *(ROOT / "weights").glob("busi-scratch-seg-10.*")]:
        shutil.copy(path, top / "weights")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, top)
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-q",
        "-w",
        top / "dist",
        top,
    ]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (path,) = (top / "dist").iterdir()
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The folder of commands of an environment with this wheel; its other libraries are this environment's."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    paths = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", "venv", vars=paths))
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    scripts = Path(sysconfig.get_path("scripts", "venv", vars=paths))
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        scripts / "python",
        "install",
        "--no-deps",
        "--no-index",
        "-q",
        wheel,
    ]
    done = subprocess.run(install, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return scripts


def test_the_listed_packages_are_the_folders():
    folders = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for top in ("mpsams", "train")
        for path in (ROOT / top).rglob("__init__.py")
    }
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == folders | {"mpsams.results", "mpsams.weights"}


def test_the_wheel_holds_the_code_and_every_file_it_reads(wheel):
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    wanted = {path for top in ("mpsams", "train") for kind in ("*.py", *CARRIED) for path in (ROOT / top).rglob(kind)}
    wanted = {str(path.relative_to(ROOT)) for path in wanted} | {
        f"mpsams/results/{path.name}" for path in (ROOT / "results").glob("*.jsonl")
    }
    assert wanted <= held and "mpsams/weights/busi-mps_ams-seg-10.safetensors" in held
    assert {name.partition("/")[0] for name in held} == {"mpsams", "train"}


def test_what_is_needed_is_in_the_lock_file():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    locked = dict(
        re.fullmatch(r"([\w-]+)(?:\[\w+\])?==([\w.]+)", line).groups()
        for line in lines
        if line and not line.startswith(("#", " "))
    )
    extras = PROJECT["project"]["optional-dependencies"]
    needed = [
        *PROJECT["project"]["dependencies"],
        *(each for extra in extras.values() for each in extra if not each.startswith("mps-ams[")),
    ]
    lowest = dict(re.match(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)", line).groups() for line in needed)
    assert lowest.keys() >= locked.keys()
    for name in locked:
        assert locked[name].startswith(f"{lowest[name]}"), (
            f"{name}: {lowest[name]} is not what requirements.txt pins, {locked[name]}"
        )


INSTALLED = """
import json, runpy, sys
from fastapi.testclient import TestClient
from mpsams.app import application, main
client = TestClient(application.create(main.shipped("weights"), main.shipped("results")), base_url="http://localhost")
found = [client.get("/healthz").json(), client.get("/").status_code, str(main.shipped("results")), main.__file__]
print(json.dumps(found), flush=True)
sys.argv = [sys.argv[1], "--help"]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_the_installed_app_finds_weights_and_records(installed, tmp_path):
    command = [installed / "python", "-I", "-c", INSTALLED, installed / "mps-ams"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found, _, help_text = done.stdout.partition("\nusage: ")
    health, status, results, module = json.loads(found.splitlines()[-1])
    assert health["ok"] and status == 200 and "busi-mps_ams-seg-10" in health["weights"] and not health["left_out"]
    assert Path(module).is_relative_to(installed.parent) and list(Path(results).glob("*.jsonl"))
    assert "--weights DIR" in help_text


def test_the_installed_training_commands_run(installed, tmp_path):
    done = subprocess.run(
        [installed / "mps-ams-train", "pretrain", "--help"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0 and "usage: python -m train.pretrain" in done.stdout, done.stderr[-2000:]


def test_the_dispatcher_lists_commands_and_refuses_others(capsys):
    dispatcher.main([])
    listed = re.findall(r"^  (\w+) +\S", capsys.readouterr().out, flags=re.MULTILINE)
    assert {"pretrain", "finetune", "evaluate", "reproduce", "report"} <= set(listed) and "loop" not in listed
    for name, hint in (("pretrian", "did you mean pretrain?"), ("x" * 9, "allowed are calibrate, ")):
        with pytest.raises(SystemExit, match=re.escape(hint)):
            dispatcher.main([name])


def test_the_dockerfile_copies_what_there_is():
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    copies = [
        line.split()[1:-1]
        for line in (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
        if line.startswith("COPY ")
    ]
    sources = [source for line in copies for source in line if not source.startswith("--")]
    assert {"app.py", "mpsams", "train", "weights", "results", "requirements.txt"} <= set(sources)
    for source in sources:
        assert list(ROOT.glob(source)), f"the Dockerfile copies {source}, which is not there"
        assert source not in ignored, f"the Dockerfile copies {source}, which .dockerignore leaves out"
