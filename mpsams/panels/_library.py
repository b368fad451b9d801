"""The networks of a weights folder: listed at once, opened when first needed, a few kept open."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path

from mpsams import inference
from mpsams.inference import Network

KEPT = 6  # networks open at a time; one of width 64 takes 124 MB
CLUSTERING = {"patch": 16, "reading": "covariance-of-softmax", "normalise": "standardised", "temperature": 1.0}


class Library:
    """Read access to the checkpoints of a folder, safe to share between threads.

    Files that arrive while the app runs are found; a file that changed is opened again.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._open: OrderedDict[tuple[str, int], Network] = OrderedDict()
        self._lock = threading.Lock()

    def names(self, ending: str = "") -> list[str]:
        """Names of the checkpoints, sorted; only those that end so ("-pretrain")."""
        return [name for name in inference.catalogue(self.folder) if name.endswith(ending)]

    def network(self, name: str) -> Network:
        """The network of that name. ValueError lists the names there are, or says what is wrong with the file."""
        found = inference.catalogue(self.folder)
        if name not in found:
            raise ValueError(f"no weights are named {name!r}; there are: {', '.join(found) or 'none at all'}")
        with self._lock:
            key = (name, found[name].stat().st_mtime_ns)
            if key not in self._open:
                self._open[key] = inference.open_network(found[name])
            self._open.move_to_end(key)
            while len(self._open) > KEPT:
                self._open.popitem(last=False)
            return self._open[key]

    def find(self, ending: str, modality: str) -> str | None:
        """A checkpoint whose name ends so, one trained on the modality if there is; None when there is none.

        Networks of several channels are passed over: what is opened here has one.
        """
        names = [name for name in self.names(ending) if self.network(name).channels == 1]
        fitting = [name for name in names if seen(self.network(name))[0] == modality]
        return (fitting or names or [None])[0]

    def clustering(self, modality: str = "ultrasound") -> dict:
        """How patches were clustered in the MPS-AMS pretraining of this modality, else the paper's reading as we take it.

        The size of patches is not taken over: the app's grid image has as many patches as any network's.
        """
        name = self.find("-mps_ams-pretrain", modality)
        fits = name is not None and seen(self.network(name))[0] == modality
        stated = self.network(name).metadata.get("config", {}).get("method", {}) if fits else {}
        return CLUSTERING | {key: stated[key] for key in CLUSTERING if key in stated and key != "patch"}


def seen(network: Network) -> tuple[str, str, int]:
    """What a network was trained on: modality, what was outlined, and how many images (0 when not stated)."""
    data = network.metadata.get("data", {})
    return data.get("modality", "unknown"), data.get("target", "unknown"), int(data.get("images", 0))
