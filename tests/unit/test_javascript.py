"""The tests of the page's JavaScript, in tests/javascript, run by node."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted((ROOT / "tests" / "javascript").glob("*.test.mjs"))
NODE = shutil.which("node")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name.partition(".")[0])
def test_a_script_of_the_page_does_what_its_tests_say(script):
    if NODE is None:
        pytest.skip("node is not installed; it runs the tests of the JavaScript")
    done = subprocess.run([NODE, "--test", "--test-reporter=spec", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]


def test_there_are_tests_of_scripts():
    assert "pixels.test.mjs" in {path.name for path in SCRIPTS}
