"""The annotation store with several at work: nobody waits for another's image, masks are decoded once, and the disk
serves all together.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
from pathlib import Path

import numpy as np
import pytest

from mpsams.annotation import caches, log, masks
from mpsams.annotation.project import Project
from tests.support.projects import FLAT, drawn, item, picture, project  # noqa: F401


def lines_of(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_one_fsync_serves_the_lines_of_several_threads(tmp_path, monkeypatch):
    path, lock_, synchronise, calls, go = (
        tmp_path / "log.jsonl",
        threading.RLock(),
        log.synchronise,
        [],
        threading.Event(),
    )
    commits = log.GroupCommit(path, lock_, lambda: None)

    def slow(file: Path) -> None:
        calls.append(file.stat().st_size)
        go.wait(30)
        synchronise(file)

    monkeypatch.setattr(log, "synchronise", slow)
    positions = [commits.append([{"line": number}]) for number in range(2)]
    threads = [threading.Thread(target=commits.commit, args=(positions[0],))]
    threads[0].start()
    while not calls:
        assert threads[0].is_alive()
    positions += [commits.append([{"line": number}]) for number in range(2, 9)]
    threads += [threading.Thread(target=commits.commit, args=(position,)) for position in positions[1:]]
    for thread in threads[1:]:
        thread.start()
    go.set()
    for thread in threads:
        thread.join(30)
    assert (
        len(calls) == 2
        and calls[1] == path.stat().st_size
        and [row["line"] for row in lines_of(path)] == list(range(9))
    )


def test_a_common_fsync_that_fails_keeps_nothing_that_was_not_on_the_disk(tmp_path, monkeypatch):
    path, cut, synchronise = tmp_path / "log.jsonl", [], log.synchronise
    commits = log.GroupCommit(path, threading.RLock(), lambda: cut.append(1))
    commits.append_now([{"line": 0}])
    first, second = (commits.append([{"line": number}]) for number in (1, 2))

    def full(file: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(log, "synchronise", full)
    with pytest.raises(OSError, match="No space left"):
        commits.commit(first)
    with pytest.raises(OSError, match="could not be written"):
        commits.commit(second)
    assert [row["line"] for row in lines_of(path)] == [0] and cut == [1]
    monkeypatch.setattr(log, "synchronise", synchronise)
    commits.commit(commits.append([{"line": 3}]))
    with pytest.raises(OSError, match="could not be written"):
        commits.commit(second)  # though the log is that long again
    assert [row["line"] for row in lines_of(path)] == [0, 3]


def test_a_save_waits_for_no_other_image(project, tmp_path, monkeypatch):
    one, other = (project.add(picture(tmp_path / f"{number}.png", number)) for number in range(2))
    encode, entered, go = masks.encode, threading.Event(), threading.Event()

    def slow(scan, mask_xyz):
        if threading.current_thread() is thread:
            entered.set()
            assert go.wait(30)
        return encode(scan, mask_xyz)

    monkeypatch.setattr(masks, "encode", slow)
    thread = threading.Thread(target=lambda: project.save(one.id, drawn(1, FLAT)))
    thread.start()
    assert entered.wait(30)
    assert project.save(other.id, drawn(2, FLAT)).status == "in work" and project.accept(other.id).status == "accepted"
    assert (
        project.scan(other.id) is not None
        and project.item(one.id).status == "new"
        and project.counts()["accepted"] == 1
    )
    go.set()
    thread.join(30)
    assert project.item(one.id).status == "in work"


def test_a_save_decodes_no_file_of_a_mask(project, item, monkeypatch):
    project.propose(item.id, drawn(7, FLAT), "net", "abc")
    project.save(item.id, drawn(1, FLAT))
    monkeypatch.setattr(masks, "read", lambda *_: pytest.fail("a mask was decoded"))
    project.save(item.id, drawn(2, FLAT))
    row = project.log()[-1]
    assert (row["pixels_added"], row["pixels_removed"]) == masks.changes(drawn(1, FLAT), drawn(2, FLAT))
    assert row["dsc_proposal"] == pytest.approx(masks.agreement(drawn(7, FLAT), drawn(2, FLAT)))
    assert (project.mask(item.id) == drawn(2, FLAT)).all() and len(project.log()) == 4
    project.save(item.id, drawn(2, FLAT))
    assert len(project.log()) == 4  # the same mask writes nothing


@pytest.mark.parametrize("shape", [(3, 5, 7), (16, 8, 1), (1, 1, 1)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_packed_masks_are_the_same_masks(shape, order):
    one, other = (np.asarray(np.random.default_rng(seed).random(shape) < 0.4, order=order) for seed in range(2))
    bits, more = masks.pack(one), masks.pack(other)
    assert (masks.unpack(bits, shape) == one).all() and masks.unpack(bits, shape).flags.writeable
    assert masks.changes(bits, more) == masks.changes(one, other) and masks.agreement(bits, more) == masks.agreement(
        one, other
    )


def test_what_is_kept_in_memory_stays_within_its_bound():
    kept = caches.Recent(100, len)
    for key in "abc":
        kept.put(key, b"x" * 40)
    assert [kept.get(key) is not None for key in "abc"] == [False, True, True] and kept.used == 80
    kept.put("large", b"x" * 500)
    assert kept.get("large") and kept.get("c") is None
    kept.make_room(40)
    assert kept.used == 0


def test_a_table_that_was_not_closed_is_made_again(project, item):
    project.save(item.id, drawn(1, FLAT))
    table, copy = project.folder / "index.sqlite", project.folder / "copy.sqlite"
    shutil.copy(table, copy)
    with sqlite3.connect(copy) as db:
        db.execute("UPDATE items SET status = 'skipped'")  # as if a part of it had not come to the disk
    project.close()
    copy.replace(table)
    with Project(project.folder) as reopened:
        assert reopened.item(item.id).status == "in work"
    made = table.stat().st_mtime_ns
    with sqlite3.connect(table) as db:
        db.execute("UPDATE items SET seconds = 77")
    with Project(project.folder) as reopened:
        assert reopened.item(item.id).seconds == 77  # one that was closed is taken as it is
    assert table.stat().st_mtime_ns > made
