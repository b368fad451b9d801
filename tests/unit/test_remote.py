"""Calls of another process's objects: results, errors, contexts, and callers that go away."""

from __future__ import annotations

import errno
import threading
from contextlib import contextmanager
from multiprocessing.connection import Client

import numpy as np
import pytest

from mpsams.annotation.disk import ReadOnly
from mpsams.annotation.project import ConflictError
from mpsams.imaging import UnreadableImage
from mpsams.remote import Caller, SharedObjects

TARGET = ("counter",)


class Counter:
    """An object that is called from elsewhere."""

    def __init__(self) -> None:
        self.count, self.lock, self.left = 0, threading.RLock(), threading.Event()

    def add(self, number: int = 1) -> int:
        with self.lock:
            self.count += number
            return self.count

    def double(self, values: np.ndarray) -> np.ndarray:
        return 2 * values

    def fail(self, error: Exception) -> None:
        raise error

    def make(self):
        return lambda: None

    @contextmanager
    def alone(self):
        with self.lock:
            try:
                yield
            finally:
                self.left.set()

    def _hidden(self) -> None:
        self.count = -1


@pytest.fixture
def counter():
    return Counter()


@pytest.fixture
def objects(counter):
    made = SharedObjects({TARGET: counter}.__getitem__)
    yield made
    made.close()


@pytest.fixture
def caller(objects):
    return Caller(objects.address, objects.key)


def test_methods_and_attributes_of_another_process_s_object(counter, caller):
    assert caller.call(TARGET, "add") == 1 and caller.call(TARGET, "add", number=4) == 5
    assert caller.get(TARGET, "count") == counter.count == 5
    assert np.array_equal(caller.call(TARGET, "double", np.arange(6).reshape(2, 3)), [[0, 2, 4], [6, 8, 10]])


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        ConflictError("someone else"),
        UnreadableImage("no image"),
        ReadOnly(),
        OSError(errno.ENOSPC, "full"),
    ],
)
def test_an_error_arrives_as_it_was_raised_and_the_next_call_is_answered(caller, error):
    with pytest.raises(type(error)) as raised:
        caller.call(TARGET, "fail", error)
    assert str(raised.value) == str(error) and getattr(raised.value, "errno", 0) == getattr(error, "errno", 0)
    assert caller.call(TARGET, "add") == 1


def test_a_result_that_cannot_be_sent_is_an_error(caller):
    with pytest.raises(RuntimeError, match="cannot be sent"):
        caller.call(TARGET, "make")
    assert caller.call(TARGET, "add") == 1


@pytest.mark.parametrize("name", ["_hidden", "__class__", "missing"])
def test_only_public_names_are_found(counter, caller, name):
    with pytest.raises(AttributeError):
        caller.call(TARGET, name)
    assert counter.count == 0


def test_threads_are_apart_so_that_a_lock_held_in_one_keeps_the_other_out(counter, caller):
    done = []
    thread = threading.Thread(target=lambda: done.append(caller.call(TARGET, "add")))
    with caller.enter(TARGET, "alone"):
        assert not counter.lock.acquire(blocking=False)
        thread.start()
        assert caller.call(TARGET, "add", 10) == 10  # of the thread that holds it
    thread.join(20)
    assert done == [11] and counter.left.is_set()
    assert counter.lock.acquire(blocking=False)


def test_a_context_is_left_after_an_error_in_it(counter, caller):
    with pytest.raises(ZeroDivisionError), caller.enter(TARGET, "alone"):
        raise ZeroDivisionError
    assert counter.left.is_set()


def test_a_caller_that_ends_inside_a_context_leaves_it(counter, objects, caller):
    gone = Client(objects.address, authkey=objects.key)
    gone.send(("enter", TARGET, "alone", (), {}))
    assert gone.recv() == (True, None)
    gone.close()
    assert counter.left.wait(20) and caller.call(TARGET, "add") == 1


def test_a_wrong_key_is_refused_and_others_are_still_answered(objects, caller):
    with pytest.raises(Exception, match="digest|authentication"):
        Caller(objects.address, b"guessed").call(TARGET, "add")
    assert caller.call(TARGET, "add") == 1
