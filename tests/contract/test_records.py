"""Records come back as written; a broken line is named."""

import json
import time

import pytest

from mpsams import jsonl


def test_what_is_appended_is_read(tmp_path):
    path = tmp_path / "records.jsonl"
    before = time.time()
    jsonl.append(path, "start", config={"a": [1, 2]}, name="größer\u2028x")
    jsonl.append(path, "epoch", epoch=1, loss=0.25)
    jsonl.append(path, "epoch", epoch=2, loss=0.125)
    rows = jsonl.read(path)
    assert [row["event"] for row in rows] == ["start", "epoch", "epoch"]
    assert rows[0]["config"] == {"a": [1, 2]} and rows[0]["name"] == "größer\u2028x"
    assert before - 0.01 <= rows[0]["time"] <= time.time() + 0.01
    assert [row["loss"] for row in jsonl.read(path, "epoch")] == [0.25, 0.125]
    assert len(path.read_text().splitlines()) == 3 and all(json.loads(line) for line in path.read_text().splitlines())


def test_a_broken_line_is_named(tmp_path):
    path = tmp_path / "records.jsonl"
    jsonl.append(path, "epoch", epoch=1)
    with path.open("a") as file:
        file.write('{"event": "epo\n')
    jsonl.append(path, "epoch", epoch=2)
    with pytest.raises(ValueError, match=r"records\.jsonl, line 2"):
        jsonl.read(path)


def test_what_a_killed_run_left_half_written_or_has_to_do_again_is_dropped(tmp_path):
    path = tmp_path / "records.jsonl"
    for epoch in (1, 2, 3):
        jsonl.append(path, "epoch", epoch=epoch)
    with path.open("a") as file:
        file.write('{"event": "epo')
    assert [row["epoch"] for row in jsonl.read(path)] == [1, 2, 3]
    jsonl.keep(path, lambda row: row["epoch"] <= 2)
    jsonl.append(path, "epoch", epoch=3)
    assert [row["epoch"] for row in jsonl.read(path)] == [1, 2, 3] and path.read_text().count("\n") == 3


def test_nothing_to_drop_where_there_is_no_file(tmp_path):
    jsonl.keep(tmp_path / "records.jsonl", lambda row: True)
    assert not (tmp_path / "records.jsonl").exists()
