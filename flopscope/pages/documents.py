"""Template, style, script and texts -> one HTML document, which its own policy keeps to itself."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from flopscope.pages import embedded
from flopscope.records import KINDS
from flopscope.render.grid import printable


def document(template: str, *, what: str, carried: Mapping[str, str], style: str = "", **context: Any) -> str:
    """Fill a template.

    Args:
        template: Its name in `templates`.
        what: "report" or "comparison", for the first line.
        carried: Names -> texts that the page carries, compressed.
        style: Rules that this page needs besides.
        context: What the template says; every text in it is escaped.
    """
    style, script = _style() + style, _part("page.js")
    elements = [(name, Markup(embedded.element(name, text))) for name, text in carried.items()]
    return (
        _environment()
        .get_template(template)
        .render(
            what=what,
            signature=Markup(embedded.signature(what)),
            policy=policy(style, script),
            style=Markup(style),
            script=Markup(script),
            carried=elements,
            **context,
        )
    )


def policy(style: str, script: str) -> str:
    """The Content-Security-Policy of a page: its own style and its own script, and nothing from anywhere."""
    return (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("flopscope.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_shown,
    )


def _shown(value: Any) -> Any:
    """A text with its control characters spelled out, as in a terminal: reports may come from anybody."""
    return printable(value) if type(value) is str else value


@cache
def _style() -> str:
    """The style sheet, and the colours of the kinds and of the five parts."""
    return _part("page.css") + _colours()


def _part(name: str) -> str:
    return resources.files("flopscope.pages").joinpath("templates", name).read_text(encoding="utf-8")


def _colours() -> str:
    """A variable for each colour of the pictures, in both themes, and the mark of each kind in a table."""
    from flopscope.pictures.palette import NAMED

    values = ";".join(f"--{name}:light-dark({colour.light},{colour.dark})" for name, colour in NAMED.items())
    marks = "".join(f"[data-kind={kind}]{{--mark:var(--kind-{kind})}}" for kind in KINDS)
    return f":root{{{values}}}\n{marks}\n"
