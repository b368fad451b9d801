"""A file with the progress of a run for the page that waits for it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from mpsams.annotation import retraining_run
from mpsams.datasets import Stack
from mpsams.splits import Split
from train.finetune import Finetune

SHARES = {"reading": (0.0, 0.05), "before": (0.05, 0.15), "learning": (0.15, 0.9), "after": (0.9, 1.0)}  # of the whole


class ProgressReporter:
    """Writes how far a run is into its folder, at most once a second; ends the process when the run is cancelled."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.share, self.written = folder, 0.0, -math.inf

    def __call__(self, part: str, done: float, words: str) -> None:
        """Write the progress at most once a second. part: one of ``SHARES``. done: share of the part that is done.
        words: a sentence on it. SystemExit when the run was cancelled.
        """
        if (self.folder / "cancelled").exists():
            raise SystemExit("cancelled")
        low, high = SHARES[part]
        self.share = low + (high - low) * done
        if time.monotonic() - self.written >= 1 or done == 0:
            self.write(words)
            self.written = time.monotonic()

    def write(self, words: str, failed: bool = False) -> None:
        """Write the progress at once, however short ago it was last written."""
        retraining_run.write(
            self.folder / retraining_run.PROGRESS, {"share": round(self.share, 4), "words": words, "failed": failed}
        )

    def count(self, part: str, words: str) -> Callable[[Iterable], Iterator]:
        """Return a function that wraps a sequence and reports which of its values is being worked on."""

        def each(values: Sequence) -> Iterator:
            for number, value in enumerate(values):
                self(part, number / len(values), f"{words}: {number + 1} of {len(values)}")
                yield value

        return each  # type: ignore[return-value]

    def steps(self, options: Finetune, stack: Stack, split: Split) -> Callable[[float], None]:
        """Return a function for the training to call after each step with the share that is done."""
        total = options.recipe.epochs * math.ceil(
            len(stack.of(split.train, options.data.slice_stride)) / options.recipe.batch
        )
        began = time.monotonic()

        def watch(done: float) -> None:
            left = (time.monotonic() - began) * (1 - done) / done
            more = f"about {left / 60:.0f} minutes left" if left >= 90 else f"about {left:.0f} seconds left"
            self("learning", done, f"learning: step {round(done * total)} of {total}, {more}")

        return watch
