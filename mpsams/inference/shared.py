"""Results kept by what they were computed from and shared by all visitors: the same question is computed once.

No gradio here.

A key is made of hashes of all that a result depends on (pixels, networks, seed, selector, epoch), so that a result is
never that of another image. The results that were asked for least recently make room.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import fields, is_dataclass
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
from torch import Tensor

from mpsams import inference, uncertainty
from mpsams.inference import Network, Study
from mpsams.transforms import Box

LIMIT = 2**28  # bytes, unless the app says otherwise
OVERHEAD = 512  # bytes of a result beside its arrays and texts


class Store:
    """Results by key, within ``limit`` bytes; may be asked from several threads. Nobody may change a result."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self._results: OrderedDict[tuple, tuple[Any, int]] = OrderedDict()  # with its bytes
        self._pending: dict[tuple, Future] = {}
        self._used = self._hits = self._waits = self._misses = 0
        self._lock = Lock()

    def get(self, key: tuple, compute: Callable[[], Any]) -> Any:
        """Return the result for a key; it is computed if it is not there.

        Of simultaneous calls one computes and the others wait.

        An error of ``compute`` is raised in all of them, and not kept.
        """
        with self._lock:
            if key in self._results:
                self._hits += 1
                self._results.move_to_end(key)
                return self._results[key][0]
            waiting_for = self._pending.get(key)
            if waiting_for is None:
                self._misses += 1
                mine: Future = Future()
                self._pending[key] = mine
            else:
                self._waits += 1
        if waiting_for is not None:
            return waiting_for.result()
        try:
            result = compute()
        except BaseException as error:
            self._finish(key)
            mine.set_exception(error)
            raise
        self._finish(key, result)
        mine.set_result(result)
        return result

    def __contains__(self, key: object) -> bool:
        with self._lock:
            return key in self._results

    def usage(self) -> dict[str, int]:
        """Return bytes used and allowed, results, and how many calls were answered, waited for others, and computed."""
        with self._lock:
            counts = {"hits": self._hits, "waits": self._waits, "misses": self._misses}
            return {"used": self._used, "limit": self.limit, "results": len(self._results)} | counts

    def clear(self) -> None:
        """Forget all results."""
        with self._lock:
            self._results.clear()
            self._used = 0

    def _finish(self, key: tuple, result: Any = None) -> None:
        """Keep a result, if there is one, and let those that were asked for least recently make room."""
        size = OVERHEAD + size_of(result)
        with self._lock:
            del self._pending[key]
            if result is None or size > self.limit // 4:
                return
            self._results[key] = result, size
            self._used += size
            while self._used > self.limit:
                _, (_, freed) = self._results.popitem(last=False)
                self._used -= freed


results = Store()  # of this process


def size_of(result: object) -> int:
    """Return the bytes of the arrays, tensors and texts in a result."""
    if isinstance(result, np.ndarray):
        return result.nbytes
    if isinstance(result, Tensor):
        return result.untyped_storage().nbytes()
    if isinstance(result, str | bytes):
        return len(result)
    if isinstance(result, list | tuple):
        return sum(map(size_of, result))
    if is_dataclass(result) and not isinstance(result, type):
        return sum(size_of(getattr(result, part.name)) for part in fields(result))
    return 0


def digest(array: np.ndarray | Tensor) -> bytes:
    """Return a hash of an array's shape, type and values."""
    values = np.ascontiguousarray(array.numpy() if isinstance(array, Tensor) else array)
    return hashlib.sha256(f"{values.shape}{values.dtype}".encode() + values.tobytes()).digest()


def is_known(key: object) -> bool:
    """Return True if the result for a key is in the store now."""
    return key in results


def grid_probability(network: Network, unit: np.ndarray, box: Box | None = None) -> np.ndarray:
    """Return ``inference.grid_probability``, from the store if it is there."""
    (key,) = probability_keys([network], unit, box)
    return results.get(key, partial(inference.grid_probability, network, unit, box))


def probability_keys(networks: Sequence[Network], unit: np.ndarray, box: Box | None = None) -> tuple:
    """Return the keys by which ``grid_probability`` of each network is kept."""
    seen = digest(unit)
    return tuple(("probability", *_name(network), seen, box) for network in networks)


def study(image_11ss: Tensor, **options) -> Study:
    """Return ``inference.study``, from the store if it is there."""
    key = "study", digest(image_11ss), *sorted(options.items())
    return results.get(key, partial(inference.study, image_11ss, **options))


def reconstruction_keys(
    networks: Sequence[Network], image_11ss: Tensor, hidden_1l: Tensor, patch: int, truth_11ss: Tensor | None = None
) -> tuple:
    """Return the keys by which the pictures of ``inference.reconstruct`` of each network are kept."""
    seen = digest(image_11ss), digest(hidden_1l), patch, None if truth_11ss is None else digest(truth_11ss)
    return tuple(("reconstruct", *_name(network), *seen) for network in networks)


def information_curve(covariance_ll: Tensor, order_bl: Tensor) -> Tensor:
    """Return ``uncertainty.information_curve``, from the store if it is there."""
    key = "curve", digest(covariance_ll), digest(order_bl)
    return results.get(key, partial(uncertainty.information_curve, covariance_ll, order_bl))


def picture(kind: str, values_hw: np.ndarray, draw: Callable[[np.ndarray], str]) -> str:
    """Return a picture of an array as text, from the store if it is there. kind: names what ``draw`` does."""
    return results.get((kind, digest(values_hw)), partial(draw, values_hw))


def _name(network: Network) -> tuple:
    """Return a name for a network and its precision; a file that is opened once more gets another one."""
    return network.sha256, id(network.unet), network.unet.encoder.precision
