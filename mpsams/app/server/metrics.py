"""Metrics of the app in the text format of Prometheus: requests, memory, temporary disk and shared results."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "mpsams_"
STARTED = time.time()


def render(budget: Mapping, requests: Mapping[str, Mapping[str, int]], shared: Mapping[str, int]) -> str:
    """Return all metrics as text. budget, requests, shared: as under these and "shared_results" in /healthz."""
    lanes = (
        ("requests_running", "gauge", "Requests being worked on.", "running"),
        ("requests_waiting", "gauge", "Requests that wait for their turn.", "waiting"),
        ("requests_done_total", "counter", "Requests that were worked on.", "done"),
        ("requests_refused_total", "counter", "Requests answered with: the app is busy.", "refused"),
    )
    found = [
        _metric(name, kind, text, {f'lane="{lane}"': each[key] for lane, each in requests.items()})
        for name, kind, text, key in lanes
    ]
    held, most = ({f'kind="{kind}"': budget[kind][key] for kind in ("memory", "disk")} for key in ("used", "limit"))
    asked = {f'found="{each}"': shared[each] for each in ("hits", "waits", "misses")}
    found += [
        _metric("visitors_bytes", "gauge", "Bytes that visitors hold.", held),
        _metric("visitors_limit_bytes", "gauge", "Bytes that visitors may hold.", most),
        _metric("shared_results_bytes", "gauge", "Bytes of results that all visitors share.", {"": shared["used"]}),
        _metric("shared_results_limit_bytes", "gauge", "Bytes that shared results may take.", {"": shared["limit"]}),
        _metric(
            "shared_results_asked_total", "counter", "Results asked for: in the store, waited for, computed.", asked
        ),
        _metric("process_resident_bytes", "gauge", "Resident memory of the process.", {"": resident()}),
        _metric(
            "process_start_time_seconds", "gauge", "When the process was started, in seconds since 1970.", {"": STARTED}
        ),
    ]
    return "".join(found)


def resident() -> int:
    """Return the resident memory of this process in bytes; 0 where the system does not say."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmRSS:")), 0)


def _metric(name: str, kind: str, text: str, values: Mapping[str, float]) -> str:
    """Return the lines of one metric. values: by label, "" for a value without one."""
    lines = (f"{PREFIX}{name}{'{' + labels + '}' if labels else ''} {value}\n" for labels, value in values.items())
    return f"# HELP {PREFIX}{name} {text}\n# TYPE {PREFIX}{name} {kind}\n{''.join(lines)}"
