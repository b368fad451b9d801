"""HTML from the Jinja2 templates in app/templates, which escape every value that is not marked as HTML. No gradio here."""

from __future__ import annotations

from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined


@cache
def environment() -> Environment:
    """The templates. A name that a template does not know is an error."""
    return Environment(loader=PackageLoader("mpsams.app"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def render(template: str, **values: object) -> str:
    """Return the HTML of ``templates/<template>.html``; values that are HTML themselves are marked there with ``safe``."""
    return environment().get_template(f"{template}.html").render(values)


def read_static(*names: str) -> str:
    """Return the text of these files of app/static, one after the other."""
    folder = resources.files("mpsams.app").joinpath("static")
    return "\n".join(folder.joinpath(name).read_text(encoding="utf-8") for name in names)
