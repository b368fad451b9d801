"""Candidates of a comparison, each in a process of its own, that work in turns: what else the machine does meanwhile
hits all of them alike.

A candidate is a function of this package, ``work(turn, **options)``. It prepares, calls ``turn()``, does a piece of
work, calls ``turn()``, does the next, for ever; ``turn`` waits until it may go on, and ends the process when the
last piece is done.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import torch

Work = Callable[..., None]
EXIT_TIMEOUT = 20.0  # seconds for a process to end by itself


def interleave(candidates: dict[str, tuple[Work, dict]], rounds: int, warm: int = 1) -> dict[str, list[dict]]:
    """Let candidates prepare one after the other, do ``warm`` pieces that do not count, and then ``rounds`` pieces in
    turns: A B A B ...

    Returns for each the records of its pieces, the preparation first, then those that count: "seconds", "cpu_s" (of
    its own process, all threads), and what it gave to ``turn``; the first also has "warm_s", the seconds of the pieces
    that do not count. RuntimeError when one of them fails; what went wrong stands above.
    """
    away = multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as ends:
        lines: dict[str, Connection] = {}
        pieces: dict[str, list[dict]] = {}
        for name, (work, options) in candidates.items():
            lines[name], other = away.Pipe()
            process = away.Process(target=take_part, args=(work, options, other))
            process.start()
            other.close()
            ends.callback(end, process, lines[name])
            pieces[name] = [receive(name, lines[name])]
            pieces[name][0]["warm_s"] = sum(piece(name, lines[name])["seconds"] for _ in range(warm))
        for _ in range(rounds):
            for name, line in lines.items():
                pieces[name].append(piece(name, line))
    return pieces


def piece(name: str, line: Connection) -> dict:
    """Let a candidate do its next piece of work; return its record."""
    line.send(True)
    return receive(name, line)


def receive(name: str, line: Connection) -> dict:
    """Return the next message of a candidate; RuntimeError when it has ended."""
    try:
        return line.recv()
    except EOFError:
        raise RuntimeError(f"the candidate {name!r} has failed") from None


def end(process, line: Connection) -> None:
    """Tell a candidate to end; kill it if it does not."""
    with contextlib.suppress(OSError):
        line.send(False)
    line.close()
    process.join(EXIT_TIMEOUT)
    if process.is_alive():
        process.kill()


def take_part(work: Work, options: dict, line: Connection) -> None:
    """Run a candidate in its own process."""
    began, worked = time.perf_counter(), time.process_time()

    def turn(**values) -> None:
        nonlocal began, worked
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        line.send({"seconds": time.perf_counter() - began, "cpu_s": time.process_time() - worked, **values})
        if not line.recv():
            raise SystemExit(0)
        began, worked = time.perf_counter(), time.process_time()

    with contextlib.suppress(EOFError):  # of a comparison that was broken off
        work(turn, **options)


def speeds(pieces: list[dict], images: int) -> list[float]:
    """Return the images/s of each piece that counts, when each is of ``images`` images."""
    return [images / each["seconds"] for each in pieces[1:]]


def by_cpu_time(mine: list[dict], theirs: list[dict]) -> float:
    """Return the median of theirs ÷ mine in seconds of the CPU: the ratio of speeds if nothing else ran on
    the machine.
    """
    return statistics.median(b["cpu_s"] / a["cpu_s"] for a, b in zip(mine[1:], theirs[1:], strict=True))
