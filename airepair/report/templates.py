"""The templates of this folder (Jinja2): the page and the picture.

What is filled in is escaped; an unknown name is an error.
"""

from __future__ import annotations

from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template


def template(name: str) -> Template:
    """Returns the template of that file name."""
    loader = FunctionLoader(lambda file: files("airepair.report").joinpath(file).read_text(encoding="utf-8"))
    return Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).get_template(name)
