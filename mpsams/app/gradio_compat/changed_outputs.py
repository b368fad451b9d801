"""The outputs of an event as the page gets them, without work on those that nothing changes."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy

import gradio as gr
from gradio.blocks import Block


async def postprocess_changed(postprocess: Callable, block_fn, predictions, *args, **kwargs) -> list:
    """Return what ``postprocess``, gradio's ``postprocess_data``, returns.

    It is left out for HTML that is text, and for components that stay as they are: it would make each of them anew, and
    hand each value to a thread (6.31).
    """
    outputs = block_fn.outputs
    if _is_skip(predictions):
        predictions = [gr.skip()] * len(outputs)
    elif isinstance(predictions, dict) and predictions and all(block in outputs for block in predictions):
        predictions = [predictions.get(block, gr.skip()) for block in outputs]
    elif len(outputs) == 1 and not block_fn.batch:
        predictions = [predictions]
    if block_fn.batch or not isinstance(predictions, list | tuple) or len(predictions) != len(outputs):
        return await postprocess(block_fn, predictions, *args, **kwargs)
    sent = [
        None if block.stateful and _is_skip(value) else value for block, value in zip(outputs, predictions, strict=True)
    ]
    rest = [index for index, block in enumerate(outputs) if not _is_sent_as_it_is(block, predictions[index])]
    if rest:
        part = copy(block_fn)
        part.outputs, values = [outputs[index] for index in rest], [predictions[index] for index in rest]
        done = await postprocess(part, values if len(rest) > 1 else values[0], *args, **kwargs)
        for index, value in zip(rest, done, strict=True):
            sent[index] = value
    return sent


def replace_changed(before: object, after: object) -> list:
    """Return the edits that make a step's value of an output from the step's before, as ``gradio.utils.diff`` does, but
    only ever of the whole value.

    gradio's client makes edits within a value in the object of the step before, which the page may not have read yet,
    so that the page would never see what only that step changed (6.31).
    """
    return [] if before == after else [["replace", [], after]]


def _is_skip(value: object) -> bool:
    return isinstance(value, dict) and value == gr.skip()


def _is_sent_as_it_is(block: Block, value: object) -> bool:
    """Return True for a value of an output that gradio would send unchanged: text of HTML, or that nothing changes."""
    return (type(block) is gr.HTML and isinstance(value, str)) or _is_skip(value)
