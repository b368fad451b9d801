"""Count near-duplicates of a data set, and how many test images leak through them, by kind of split.

python -m train.leakage --data.root Dataset_BUSI_with_GT
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from tqdm import tqdm

from mpsams import splits
from train.command_line import parse, run
from train.options import Data, divide, read


@dataclass(frozen=True)
class Leakage:
    """Options of a leakage report."""

    data: Data = Data()


def main(argv: Sequence[str] | None = None) -> dict[str, dict[str, float | str]]:
    """Parse, divide both ways, print and return what leaks."""
    options = parse(Leakage, "train.leakage", argv)
    stack = read(options.data, partial(tqdm, desc="reading", unit="img"))
    report = {}
    for kind, grouped in (("grouped", True), ("random", False)):
        split, pairs = divide(replace(options.data, grouped=grouped), stack)
        report[kind] = splits.leakage(split, stack.cases, pairs) | {"sha256": split.sha256}
    print(json.dumps(report, indent=1))
    return report


if __name__ == "__main__":
    run(main, "train.leakage")
