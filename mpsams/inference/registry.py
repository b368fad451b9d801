"""The networks of a weights folder and of project folders, opened when first needed, and the records of results."""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from mpsams import checkpoint, clusters, inference, tables
from mpsams.imaging import MODALITIES
from mpsams.inference import Network, membership
from mpsams.inference.checkpoint_metadata import channels, has_whole_network, training_data, verify

# networks open at a time: one of each method, and the assistants; one of width 16 takes 8 MB, of width 64 124 MB
KEPT = len(tables.METHODS) + len(MODALITIES)
LONGEST = 300  # characters of why a file cannot be used
ASSISTANT = "-assist"  # how the names of networks to work with end
SETTLED = 10**9  # nanoseconds after which a folder's time of change tells whether it changed again
PATCH = 16  # pixels; side of a patch of the app's grid image


class ModelRegistry:
    """Read access to the checkpoints of a folder and to records of results, safe to share between threads.

    Files that arrive while the app runs are found; a file that changed is opened again; one that cannot be used is left
    out. results: a folder of ``*.jsonl``; None is none. more: further folders of checkpoints, such as those trained in
    a project; they come last.
    """

    def __init__(self, folder: str | Path, results: str | Path | None = None, more: Sequence[str | Path] = ()) -> None:
        self.folder, self.more = Path(folder), tuple(map(Path, more))
        self.results = None if results is None else Path(results)
        self._open: OrderedDict[tuple[str, int], Network] = OrderedDict()
        self._metadata: dict[tuple[Path, int, int], dict | str] = {}
        self._measured: dict[tuple[str, int, int], dict] = {}
        # folder -> when it was changed (ns) and its checkpoints
        self._listed: dict[Path, tuple[int, dict[str, Path]]] = {}
        self._lock = threading.Lock()

    def names(self, ending: str = "") -> list[str]:
        """Return the names of the checkpoints, sorted by folder; only those with one ending, such as "-pretrain".

        A pretraining of the encoder alone (SimCLR, BYOL, SwAV, MAE, SimMIM) is left out: what stands in its decoder
        was never trained, or thrown away.
        """
        found = {name: self._read(path) for name, path in self._catalogue().items() if name.endswith(ending)}
        return [name for name, about in found.items() if isinstance(about, dict) and has_whole_network(about)]

    def unusable_files(self) -> dict[str, str]:
        """Return the unusable checkpoint files with the reason, which names no folder; training states are left out."""
        found = {name: self._read(path) for name, path in self._catalogue().items()}
        return {name: about for name, about in found.items() if isinstance(about, str) and about}

    def network(self, name: str) -> Network:
        """Open the network of that name. ValueError lists the names there are, or says what is wrong with the file."""
        path = self.path(name)
        with self._lock:
            key = (name, _stamp(path)[0])
            if key not in self._open:
                self._open[key] = inference.open_network(path)
            self._open.move_to_end(key)
            while len(self._open) > KEPT:
                self._open.popitem(last=False)
            return self._open[key]

    def path(self, name: str) -> Path:
        """Return the path of the checkpoint of that name. ValueError as for ``network``."""
        found = self._catalogue()
        if name not in found:
            raise ValueError(f"no weights are named {name!r}; there are: {', '.join(self.names()) or 'none at all'}")
        about = self._read(found[name])
        if isinstance(about, str):
            raise ValueError(f"the weights {name!r} cannot be used: {about or 'they are the state of a training'}")
        return found[name]

    def metadata(self, name: str) -> dict:
        """Return the metadata of a checkpoint without opening its network; empty when the file is not usable."""
        path = self._catalogue().get(name)
        about = "" if path is None else self._read(path)
        return about if isinstance(about, dict) else {}

    def find(self, ending: str, modality: str) -> str | None:
        """Return a checkpoint whose name has an ending, one trained on the modality if there is; None without any.

        Networks of several channels are passed over: what is opened here has one.
        """
        names = [name for name in self.names(ending) if channels(self.metadata(name)) == 1]
        fitting = [name for name in names if training_data(self.metadata(name))[0] == modality]
        return next(iter(fitting or names), None)

    def segmenters(self, modality: str) -> list[str]:
        """Return the segmentation networks of one channel that were trained on the modality, sorted.

        When there is none, those of one data set of another modality.
        """
        metadata = {name: self.metadata(name) for name in self.names()}
        names = [
            name for name, about in metadata.items() if about.get("kind") == "segmentation" and channels(about) == 1
        ]
        fitting = [name for name in names if training_data(metadata[name])[0] == modality]
        return fitting or [name for name in names if training_data(metadata[name]) == training_data(metadata[names[0]])]

    def assistant(self, modality: str) -> str | None:
        """Return the assistant that was trained on the modality, such as "busi-assist"; None where there is none."""
        names = [name for name in self.segmenters(modality) if name.endswith(ASSISTANT)]
        return next((name for name in names if training_data(self.metadata(name))[0] == modality), None)

    def prompt_network(self) -> str | None:
        """Return the name of the network that segments from boxes and clicks; None where there is none."""
        return next((name for name in self.names() if self.metadata(name).get("kind") == "prompt"), None)

    def evaluation(self, name: str) -> dict:
        """Return the results that train.evaluate wrote beside a checkpoint; empty without any or if of another file.

        Those of each case and volume are left out, but ``volume_dsc`` is the list of the DSC of each volume.
        """
        path = self.path(name)
        record = path.with_suffix(".json")
        try:
            key = (name, path.stat().st_mtime_ns, record.stat().st_mtime_ns)
            if key not in self._measured:
                found = json.loads(record.read_text(encoding="utf-8"))
                ours = isinstance(found, dict) and found.get("sha256") == self.network(name).sha256
                self._measured[key] = _summarise(found) if ours else {}
            return self._measured[key]
        except (OSError, ValueError):
            return {}

    def membership(self, name: str, content: str) -> str:
        """Return the part of its data set that an image was in when a network was trained: a key of
        ``membership.MEANING``.

        content: ``Scan.content_sha256``. A file of hashes that cannot be read counts as none.
        """
        try:
            tables = membership.read_tables(self.folder)
        except (OSError, ValueError, KeyError):
            tables = {}
        return membership.part_of(self.metadata(name), membership.find_cases(tables, content))

    def clustering(self, modality: str = "ultrasound", selector: str | None = None) -> dict:
        """Return how the app clusters patches: ``clusters.default_options`` and the side of a patch, which gives the
        grid image 16 × 16 patches.
        """
        return {"patch": PATCH} | clusters.default_options(modality, selector)

    def records(self) -> tuple[Path, ...]:
        """Return the files of records, sorted; empty without a results folder."""
        return () if self.results is None else tuple(sorted(self.results.glob("*.jsonl"), key=lambda path: path.stem))

    def _catalogue(self) -> dict[str, Path]:
        """Return the checkpoints of all folders by name; taken names get the folder's number first: "2-busi-…"."""
        found: dict[str, Path] = {}
        for number, folder in enumerate((self.folder, *self.more), 1):
            for name, path in self._list(folder).items():
                found[name if name not in found else f"{number}-{name}"] = path
        return found

    def _list(self, folder: Path) -> dict[str, Path]:
        """List the checkpoints of a folder, anew when it has changed or may have done so within the last second."""
        changed = _stamp(folder)[0]
        known, found = self._listed.get(folder, (0, {}))
        if not changed or changed != known:
            found = inference.list_checkpoints(folder)
            if changed and time.time_ns() - changed > SETTLED:
                self._listed[folder] = changed, found
        return found

    def _read(self, path: Path) -> dict | str:
        """Read a checkpoint's metadata, or why it is unusable ("" for a training's state), once for each version."""
        key = (path, *_stamp(path))
        if key not in self._metadata:
            try:
                is_state = path.is_file() and checkpoint.metadata(path).get("kind") == "state"
                self._metadata[key] = "" if is_state else verify(path)
            except ValueError as error:
                self._metadata[key] = (
                    str(error).replace(str(path), path.name).encode("utf-8", "backslashreplace").decode()[:LONGEST]
                )
        return self._metadata[key]


def _summarise(measured: dict) -> dict:
    """Return the results without those of each case and volume; ``volume_dsc``: the list of the DSC of each volume."""
    volumes = measured.get("volumes") or {}
    rest = {name: value for name, value in measured.items() if name not in ("cases", "volumes")}
    return rest | ({"volume_dsc": [volume["dsc"] for volume in volumes.values()]} if volumes else {})


def _stamp(path: Path) -> tuple[int, int]:
    """Return the modification time (ns) and size (bytes) of a file; (0, 0) for a broken link or the like."""
    try:
        about = path.stat()
    except OSError:
        return 0, 0
    return about.st_mtime_ns, about.st_size
