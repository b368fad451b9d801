"""README.md and docs/: tables are those of the records, and links, paths, commands and options exist."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from benchmarks import command_reference, docs
from mpsams import datasets

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (*docs.PAGES, *ROOT.glob("C*.md"), ROOT / "benchmarks" / "README.md")
}
EACH = pytest.mark.parametrize("name", PAGES)
TOP = "app\\.py|mpsams|train|weights|results|benchmarks|tests|docs"
OTHERS = {"--help", "--method.noise"}  # of every command, and of the example of a method
EXAMPLES = ("mpsams/methods/denoise.py", "mpsams/datasets/arrays.py")  # written by the tests below


def headings(text: str) -> set[str]:
    """The anchors that GitHub and mkdocs make of the headings of a page."""
    found = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in found}


def commands_in(text: str) -> list[tuple[str, str]]:
    """Each of our commands in a page's code, such as ("-m train.pack", its arguments)."""
    code = re.findall(r"^```(?:bash|text)\n(.*?)^```", text, re.MULTILINE | re.DOTALL) + re.findall(
        r"`([^`\n]+)`", text
    )
    lines = [line for block in code for line in block.replace("\\\n", " ").splitlines()]
    lines = [line.partition(" #")[0].rstrip() for line in lines]
    return [
        (found[1], " ".join(["", *found[2].split()]))
        for line in lines
        if (found := re.search(r"(?:python|torchrun[^…]*?) (app\.py|-m (?:mpsams|train|benchmarks)[\w.]*)(.*)", line))
    ]


@functools.cache
def known_options(command: str) -> set[str]:
    return command_reference.options(command, command_reference.commands()[command])


def test_the_tables_are_those_of_the_records():
    for path in docs.PAGES:
        text = path.read_text(encoding="utf-8")
        assert docs.rewrite(text) == text, f"{path.relative_to(ROOT)} is out of date: run python -m benchmarks.docs"


def test_every_table_is_on_one_page():
    there = re.findall(r"<!-- table: (\w+) -->\n", "\n".join(PAGES.values()))
    assert sorted(there) == sorted(docs.TABLES)


@EACH
def test_links_lead_somewhere(name):
    text = re.sub(r"^```.*?^```", "", PAGES[name], flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        path = (ROOT / name).parent / file if file else ROOT / name
        assert path.is_file() or path.is_dir(), f"{name} links to {target}, which does not exist"
        assert not anchor or anchor in headings(path.read_text(encoding="utf-8")), (
            f"{name} links to {target}, which has no such heading"
        )


@pytest.mark.parametrize("name", sorted(PAGES.keys() - {"CHANGELOG.md"}))
def test_paths_exist(name):
    for path in re.findall(rf"`((?:{TOP})(?:/[\w.*{{}}-]+)*/?)`", PAGES[name]):
        assert path in EXAMPLES or list(ROOT.glob(path.rstrip("/"))), f"{name} names {path}, which does not exist"


@EACH
def test_commands_and_their_options_exist(name):
    known = command_reference.commands()
    for command, arguments in commands_in(PAGES[name]):
        if command.endswith(".COMMAND"):
            continue
        module = ROOT / command.removeprefix("-m ").replace(".py", "").replace(".", "/")
        assert module.with_suffix(".py").is_file() or (module / "__main__.py").is_file(), (
            f"{name}: there is no command {command}"
        )
        for file in re.findall(r"--(?:config|plan) (\S+\.toml)", arguments):
            assert (ROOT / file).is_file() or "FILE" in file, f"{name}: there is no {file}"
        if command in known:
            strange = (
                {option.partition("=")[0] for option in re.findall(r"(?<!\S)--[a-z][\w.-]*", arguments)}
                - known_options(command)
                - OTHERS
            )
            assert not strange, f"{name}: {command} has no option {', '.join(sorted(strange))}"


def test_the_checks_see_what_is_written():
    assert ("-m train.pack", " --out x --data.size 3") in commands_in(
        "```bash\npython -m train.pack --out x \\\n--data.size 3\n```"
    )
    assert ("-m train.pretrain", " --resume") in commands_in("`torchrun --nproc-per-node=8 -m train.pretrain --resume`")
    assert sum(len(commands_in(text)) for text in PAGES.values()) > 60 and "--method.target" in known_options(
        "-m train.pretrain"
    )
    assert headings("# A title: of (two)\n\n```bash\n# no title\n```\n") == {"a-title-of-two"}


def blocks_of(name: str) -> list[str]:
    """The Python code of a page, block by block."""
    return re.findall(r"^```python\n(.*?)^```", PAGES[name], re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def examples(tmp_path_factory) -> str:
    """The names of contract tests that passed for the examples of pages in a copy of the code."""
    copy = tmp_path_factory.mktemp("copy")
    for name in ("mpsams", "train", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    (method,) = blocks_of("docs/develop/add-a-method.md")
    dataset, writer = blocks_of("docs/develop/add-a-data-set.md")
    (copy / "mpsams" / "methods" / "denoise.py").write_text(method, encoding="utf-8")
    (copy / "mpsams" / "datasets" / "arrays.py").write_text(dataset, encoding="utf-8")
    made = copy / "tests" / "support" / "made_volumes.py"
    made.write_text(made.read_text(encoding="utf-8") + "\n\n" + writer, encoding="utf-8")
    (copy / "tests" / "test_training.py").write_text(TRAINING, encoding="utf-8")
    files = "tests/contract/test_methods_contract.py tests/contract/test_datasets_contract.py tests/test_training.py"
    command = [sys.executable, *"-m pytest -n 0 -rp".split(), *files.split(), "-k", "denoise or arrays"]
    run = subprocess.run(command, cwd=copy, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


TRAINING = """
from train import pretrain

def test_denoise_is_trained(tmp_path):
    options = (
        "--method.name denoise --method.noise 3 --data.name phantom --data.cases 12 --data.size 16 --model.width 2"
        " --optim.epochs 1"
    )
    pretrain.main([*options.split(), "--out", str(tmp_path)])
"""


def test_the_example_of_a_method_keeps_the_contract_and_is_trained(examples):
    assert len(re.findall(r"PASSED tests/contract/test_methods_contract.*denoise", examples)) >= 9
    assert re.search(r"PASSED tests/test_training.*denoise", examples)


def test_the_example_of_a_data_set_keeps_the_contract(examples):
    assert len(re.findall(r"PASSED tests/contract/test_datasets_contract.*arrays", examples)) >= 6


def test_the_example_folder_of_ones_own_images_is_a_data_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = blocks_of("docs/train/your-own-images.md")
    exec(code.replace("[:40]", "[:4]"), {})
    dataset = datasets.open_dataset("folder", "mine")
    assert len(dataset) == 4 and dataset[0].mask.any() and dataset.modality == "ultrasound"


def test_the_readme_is_short_and_its_second_block_runs_the_tests():
    blocks = re.findall(r"^```\w*\n(.*?)^```", PAGES["README.md"], re.MULTILINE | re.DOTALL)
    assert README.stat().st_size <= 10_000
    assert blocks[0].strip().endswith("/python app.py") and blocks[1].strip().endswith("/python -m pytest")


def test_the_tree_in_the_readme_exists():
    tree = PAGES["README.md"].split("## The code\n\n```\n")[1].split("```")[0]
    folder = ROOT
    for indent, entry in re.findall(r"^( *)(\S+)", tree, re.MULTILINE):
        path = (folder if indent else ROOT) / entry
        assert path.exists(), f"README.md names {path.relative_to(ROOT)}, which does not exist"
        folder = folder if indent else path
    inside = {entry for indent, entry in re.findall(r"^( +)(\S+/)", tree, re.MULTILINE)}
    assert inside == {f"{path.parent.name}/" for path in (ROOT / "mpsams").glob("*/__init__.py")}


def test_the_page_on_architecture_shows_the_layers_that_are_tested():
    layers = re.search(
        r"^LAYERS = \(\n(.*?)^\)",
        (ROOT / "tests" / "contract" / "test_architecture.py").read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    assert "```text\n" + "\n".join(re.findall(r'"(.+)"', layers[1])) + "\n```" in PAGES["docs/develop/architecture.md"]


def test_the_tests_of_faults_exist():
    """docs/develop/faults.md names files, and after each its tests."""
    text, defined, missing = (ROOT / "docs" / "develop" / "faults.md").read_text(encoding="utf-8"), "", []
    names = re.findall(r"`([\w/.]+)`", text.split("\n## ", 1)[1])
    for name in names:
        if name.endswith(".py"):
            path = ROOT / "tests" / name
            defined = path.read_text(encoding="utf-8") if path.is_file() else ""
            missing += [name] * (not defined)
        elif f"def {name}(" not in defined:
            missing.append(name)
    assert not missing and len(names) > 150


def test_the_site_lists_every_page():
    def pages(entries: list) -> list[str]:
        return [
            page
            for entry in entries
            for value in entry.values()
            for page in ([value] if isinstance(value, str) else pages(value))
        ]

    listed = pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    assert sorted(listed) == sorted(
        path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")
    )


def test_the_citation_names_the_paper_and_its_authors():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    paper = citation["preferred-citation"]
    assert (
        paper["title"].startswith("MPS-AMS")
        and [author["family-names"] for author in paper["authors"]][:2] == ["Wang", "Wang"]
        and len(paper["authors"]) == 8
    )
