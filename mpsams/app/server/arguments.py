"""The arguments of a named endpoint as a request gives them, checked before gradio makes values of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import gradio as gr
from pydantic import ValidationError

LONGEST = 200  # characters of a text, where its component states no ``max_length``
_FILE = (
    'files uploaded to this page, {"path": …, "meta": {"_type": "gradio.FileData"}} with the path that'
    " /gradio_api/upload answered"
)


def check_arguments(
    endpoint: str, parameters: Sequence[tuple], components: Sequence[gr.components.Component], values: list
) -> list:
    """Return the values with the defaults in place of those that are missing or null.

    parameters: (name, whether it has a default, the default) of each, as ``gradio.utils.get_function_params`` gives
    them. ValueError names an argument that is missing, one too many or of a wrong kind, and what is allowed.
    """
    names = [name for name, *_ in parameters]
    if len(values) > len(names):
        raise ValueError(
            f"/{endpoint} takes no more than {len(names)} arguments, {', '.join(names)}; {len(values)} were given"
        )
    found = []
    for index, ((name, has_default, default, *_), component) in enumerate(zip(parameters, components, strict=True)):
        value = values[index] if index < len(values) else None
        if value is None and not has_default:
            raise ValueError(f"{name} is missing; /{endpoint} takes {', '.join(names)}")
        found.append(default if value is None else _value(name, component, value))
    return found


def _value(name: str, component: gr.components.Component, value: object) -> object:
    """Return a value of the component's kind. ValueError for any other."""
    if isinstance(component, gr.File):
        try:
            component.data_model.model_validate(value, context={"validate_meta": True})
        except ValidationError:
            raise ValueError(f"{name} {quoted(value)} is no file; allowed are {_FILE}") from None
        return value
    if isinstance(component, gr.Number):
        whole = component.precision == 0
        try:
            number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
        except (ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number) or (whole and number != int(number)):
            raise ValueError(f"{name} {quoted(value)} is no {'whole ' * whole}number; allowed is: {component.label}")
        return int(number) if whole else number if isinstance(value, str) else value
    longest = getattr(component, "max_length", None) or LONGEST
    if not isinstance(value, str) or len(value) > longest:
        raise ValueError(
            f"{name} {quoted(value)} is no text of up to {longest} characters; allowed is: {component.label}"
        )
    return value


def quoted(value: object) -> str:
    """Return a value as it stands in a sentence, cut short."""
    text = repr(value[:LONGEST] if isinstance(value, str) else value)
    return text if len(text) <= 60 else f"{text[:60]}…"
