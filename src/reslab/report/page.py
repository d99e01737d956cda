"""What all pages have in common: templates, style, colours, and files inside the page. Nothing is loaded by a page."""

from __future__ import annotations

import base64
from importlib import resources

import jinja2

from reslab.report import view as views
from reslab.report import words


def template(name: str) -> jinja2.Template:
    """A page in ``assets``; it may build on another, and words numbers as the terminal does."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(asset), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    said = (words.count, words.fact, words.label, words.moment, words.percent, words.plural, words.signs)
    environment.globals.update({each.__name__: each for each in (*said, words.spread, words.to_threshold)})
    return environment.get_template(name)


def palette() -> str:
    """The colours of `views` as CSS properties ``--c0`` … and classes ``c0`` …, for both schemes."""
    light = "".join(f"--c{i}:{color};" for i, color in enumerate(views.LIGHT))
    dark = "".join(f"--c{i}:{color};" for i, color in enumerate(views.DARK))
    classes = "".join(f".c{i}{{--c:var(--c{i})}}" for i in range(len(views.LIGHT)))
    screen = f"@media screen and (prefers-color-scheme: dark){{:root{{{dark}}}}}"
    return f"\n:root{{{light}}}\n{screen}\n{classes}\n"


def data_uri(kind: str, content: bytes) -> str:
    """A file inside the page."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def asset(name: str) -> str:
    """The text of a file in ``assets``."""
    return resources.files(__package__).joinpath("assets", name).read_text(encoding="utf-8")
