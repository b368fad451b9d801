"""Actions on many images of a project at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from mpsams.annotation import disk
from mpsams.annotation.index import OPEN
from mpsams.annotation.project import Project

NOTHING = "nothing is outlined"
MOST = 100_000  # images of one request


def _accept(project: Project, id: str, user: str) -> str:
    if project.item(id).status not in OPEN:
        return ""
    saved = project.labels(id)
    mask_xyz = project.proposed_labels(id) if saved is None else saved
    if mask_xyz is None or not mask_xyz.any():
        return NOTHING
    project.accept(id, mask_xyz, user)
    return ""


def _skip(project: Project, id: str, user: str) -> str:
    if project.item(id).status in OPEN:
        project.skip(id, user)
    return ""


def _reopen(project: Project, id: str, user: str) -> str:
    if project.item(id).status not in OPEN:
        project.reopen(id, user)
    return ""


def _delete(project: Project, id: str, user: str) -> str:
    project.remove(id, user)
    return ""


ACTIONS: dict[str, Callable[[Project, str, str], str]] = {
    "accept": _accept,
    "skip": _skip,
    "reopen": _reopen,
    "delete": _delete,
}
DONE = {"accept": "accepted", "skip": "skipped", "reopen": "reopened", "delete": "deleted"}


def parse(message: object) -> tuple[str, list[str]]:
    """Return action and ids of what the page sent, which may be anything. ValueError says what is allowed."""
    action, ids = (message.get("action"), message.get("items")) if isinstance(message, Mapping) else (None, None)
    if not isinstance(action, str) or action not in ACTIONS:
        raise ValueError(f"action {str(action)[:40]!r}; allowed are {', '.join(ACTIONS)}")
    if not isinstance(ids, list) or not 0 < len(ids) <= MOST or not all(isinstance(id, str) for id in ids):
        raise ValueError(f"items are a list of 1 to {MOST} ids of images")
    return action, list(dict.fromkeys(ids))


def run(project: Project, action: str, ids: Sequence[str], user: str) -> Iterator[tuple[int, str]]:
    """Accept, skip, reopen or delete images; yield the number done so far and the reason why the last one was not
    changed ("" if it was).

    Accepted is the saved mask, else the proposal, but never an empty one. Images that are accepted or skipped already,
    or open already, stay as they are. An error of the disk ends it.
    """
    for done, id in enumerate(ids, start=1):
        try:
            problem = ACTIONS[action](project, id, user)
        except ValueError as error:
            problem = str(error)
        except OSError as error:
            yield done, disk.sentence(error)
            return
        yield done, problem


def summary(action: str, tried: int, problems: Sequence[str]) -> list[str]:
    """Return sentences on what was done. tried: images. problems: why some were left as they are."""
    done = tried - len(problems)
    sentences = [f"{done} image{'s' * (done != 1)} {DONE[action]}."]
    for problem in dict.fromkeys(problems):
        count = problems.count(problem)
        sentences.append(f"{count} left as {'it was' if count == 1 else 'they were'}: {problem}.".replace("..", "."))
    return sentences
