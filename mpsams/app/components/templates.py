"""HTML from the Jinja2 templates in app/templates, which escape every value that is not marked as HTML, and scripts of
app/static. No gradio here.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined


@cache
def environment() -> Environment:
    """Return the environment of the templates, in which a name that a template does not know is an error."""
    return Environment(
        loader=PackageLoader("mpsams.app"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, **values: object) -> str:
    """Return the HTML of ``templates/<template>.html``; values that are HTML are marked there with ``safe``."""
    return environment().get_template(f"{template}.html").render(values)


def read_scripts(*names: str) -> str:
    """Return the files ``static/<name>.js`` as one script, in this order."""
    folder = resources.files("mpsams.app").joinpath("static")
    return "\n".join(folder.joinpath(f"{name}.js").read_text(encoding="utf-8") for name in names)
