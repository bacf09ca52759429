"""The manual: Markdown pages, notebooks and docstrings -> HTML, by `sphinx-build -W docs docs/_build/html`.

Pages are written to be read as plain Markdown, so nothing in them is there for Sphinx alone. Links lead from
file to file, and the navigation is made from the lists of links on the index pages.
"""

from __future__ import annotations

import inspect
import posixpath
import re
import sys
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the docstrings of this checkout, not those of an installation

from flopscope.version import __version__  # noqa: E402

project = "flopscope"
author = "The flopscope authors"
project_copyright = author
release = version = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/index"
include_patterns = ["docs/**", "benchmarks/**.md", "notebooks/*.ipynb", "notebooks/*.md", "CHANGELOG.md"]
exclude_patterns = ["**/_build", "**/jupyter_execute", "**/.*", ".*", "flopscope", "tests", "build", "dist"]
nitpicky = True

myst_heading_anchors = 4
myst_links_external_new_tab = False
nb_execution_mode = "off"  # notebooks come with their outputs; notebooks/build.py runs them
highlight_language = "none"
smartquotes = False  # `--effort` is no dash, and "" no pair of curls
default_role = "code"  # in docstrings, `x` is code, as in the pages

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
# Types in signatures are links where the manual has the thing. What is Python's, torch's or pandas' is not in
# it, and neither are aliases, which say what they stand for.
nitpick_ignore_regex = [
    ("py:class", r"(collections\.abc|os|torch|nn|pandas|pd|matplotlib)\..*"),
    ("py:class", r"(flopscope\..*\.)?(Trace|Function|Figures|Renderer|Judge|PathLike|Axes)"),
]

html_theme = "furo"
html_title = f"flopscope {release}"
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b5cad", "color-brand-content": "#0b5cad"},
    "dark_css_variables": {"color-brand-primary": "#7db8f0", "color-brand-content": "#7db8f0"},
}
html_copy_source = False
html_show_sourcelink = False

INDEXES = {
    root_doc: "docs", "docs/api/index": "docs/api", "docs/columns/index": "docs/columns",
    "docs/findings/index": "docs/findings", "docs/howto/index": "docs/howto", "docs/notebooks": "notebooks",
    "benchmarks/README": "benchmarks",
}  # fmt: skip
"""Pages whose lists of links are the navigation, and the folders whose pages they list."""
MADE_BY_USERS = {"flopscope.Spec", "flopscope.Inputs", "flopscope.costs.Work", "flopscope.records.Cost"}
LINK = re.compile(r"\]\(([^)#:\s]+\.(?:md|ipynb))(?:#[^)\s]*)?\)")
GROUP = re.compile(r"^\*\*(.+)\*\*$|^##+ (.+)$")


def setup(app: Any) -> None:
    """Make the project the folder of sources, and the index pages the navigation."""
    # The folder of conf.py would be it. With the project's own, a link from a page to a notebook, to the
    # benchmarks or to the changelog is the same here and where the files are read as they are.
    app.srcdir = type(app.srcdir)(ROOT)
    app.connect("source-read", add_navigation)
    app.connect("autodoc-process-signature", drop_signature)
    app.connect("autodoc-process-docstring", read_as_markdown, priority=600)
    app.connect("build-finished", add_front_door)


def add_navigation(app: Any, docname: str, source: list[str]) -> None:
    """Put what an index page links into hidden toctrees, one for each of its groups."""
    if docname in INDEXES:
        known = {name for name in app.env.found_docs - {docname} if home_of(name) == docname}
        source[0] += "".join(toctree(caption, names) for caption, names in groups(source[0], docname, known))


def home_of(name: str) -> str:
    """The index page below which the navigation shows a page: its folder's; of an index page the first."""
    folder = posixpath.dirname(name)
    homes = [
        page for page, below in INDEXES.items() if page not in (name, root_doc) and folder.startswith(below)
    ]
    return root_doc if name in INDEXES or not homes else homes[0]


def groups(text: str, docname: str, known: set[str]) -> Iterator[tuple[str, list[str]]]:
    """The captions and pages of an index page's lists, each page where it is linked first."""
    caption, names, seen = "", list[str](), set[str]()
    for line in [*re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE).splitlines(), "## end"]:
        if heading := GROUP.match(line):
            if names:
                yield caption, names
            caption, names = heading[1] or heading[2], []
        for target in LINK.findall(line):
            path = posixpath.join(posixpath.dirname(docname), posixpath.splitext(target)[0])
            name = posixpath.normpath(path)
            if name in known - seen:
                names.append(name)
                seen.add(name)


def toctree(caption: str, names: list[str]) -> str:
    """A hidden toctree of absolute names."""
    head = f":caption: {caption}\n" if caption else ""
    return "\n\n```{toctree}\n:hidden:\n" + head + "\n" + "\n".join(f"/{name}" for name in names) + "\n```\n"


def drop_signature(_: Any, what: str, name: str, thing: Any, *__: Any) -> tuple[str, None] | None:
    """Leave out how a record is made that nobody makes but flopscope: its fields are listed below it."""
    return ("", None) if what == "class" and is_dataclass(thing) and name not in MADE_BY_USERS else None


def read_as_markdown(_: Any, what: str, __: str, thing: Any, ___: Any, lines: list[str]) -> None:
    """Let docstrings mean here what they mean as plain text."""
    if what == "property":  # napoleon takes the words before a colon for its type
        lines[:] = (inspect.getdoc(thing) or "").splitlines()
    lines[:] = [re.sub(r"(?<!`)(`[^`\n]+`)(?=\w)", r"\1\\ ", line) for line in lines]  # `Spec`s


def add_front_door(app: Any, failure: Exception | None) -> None:
    """Lead from the top folder to the first page."""
    if failure is None and app.builder.format == "html":
        to = f"{root_doc}.html"
        head = (
            f'<meta charset="utf-8"><meta http-equiv="refresh" content="0; url={to}"><title>{project}</title>'
        )
        page = f'<!DOCTYPE html>\n{head}\n<a href="{to}">{html_title}</a>\n'
        (Path(app.outdir) / "index.html").write_text(page, encoding="utf-8")
