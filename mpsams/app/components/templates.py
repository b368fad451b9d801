"""HTML from the Jinja2 templates in app/templates, which escape every value that is not marked as HTML, and scripts of
app/static. No gradio here.
"""

from __future__ import annotations

import math
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mpsams.plots import images


def percent(share: float, digits: int = 0) -> str:
    """Return a share as text, 0.634 as "63%"; a dash for NaN."""
    return "–" if math.isnan(share) else f"{100 * share:.{digits}f}%"


def number(value: float, digits: int = 2) -> str:
    """Return a number as text with ``digits`` digits after the point; a dash for NaN, ∞ for infinity."""
    return "–" if math.isnan(value) else "∞" if math.isinf(value) else f"{value:.{digits}f}"


@cache
def environment() -> Environment:
    """Return the environment of the templates, compiled once, in which a name that a template does not know is an
    error.
    """
    found = Environment(
        loader=PackageLoader("mpsams.app"),
        autoescape=True,
        auto_reload=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"number": number, "percent": percent}
    found.globals["ramp"] = images.ramp_css()
    return found


def render(template: str, **values: object) -> Markup:
    """Return the HTML of ``templates/<template>.html``. Values are escaped unless they are HTML already."""
    return Markup(environment().get_template(f"{template}.html").render(values))


@cache
def pieces() -> Any:
    """Return the macros of ``templates/pieces.html``, which are called like functions and return HTML."""
    return environment().get_template("pieces.html").module


def read_scripts(*names: str) -> str:
    """Return the files ``static/<name>.js`` as one script, in this order."""
    folder = resources.files("mpsams.app").joinpath("static")
    return "\n".join(folder.joinpath(f"{name}.js").read_text(encoding="utf-8") for name in names)
