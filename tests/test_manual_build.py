"""The manual as sphinx builds it: no warning, every page, every public name, no link that leads nowhere."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import flopscope
from flopscope.diagnosis import Why

ROOT = Path(flopscope.__file__).parent.parent
DOCS = ROOT / "docs"
NEEDED = ("sphinx", "myst_nb", "furo")

pytestmark = [
    pytest.mark.skipif(not DOCS.is_dir(), reason="the manual is in the checkout only"),
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in NEEDED),
        reason="the manual takes sphinx, myst-nb and furo: pip install '.[docs]'",
    ),
]


class Page(HTMLParser):
    """The ids of a page, what it links and what it shows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.targets: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.ids.add(value)
            if (tag, name) in {("a", "href"), ("img", "src"), ("script", "src"), ("link", "href")} and value:
                self.targets.append(value)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the pages."""
    folder = tmp_path_factory.mktemp("manual")
    line = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "-d", folder / "read"]
    done = subprocess.run([*line, DOCS, folder / "html"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return folder / "html"


@pytest.fixture(scope="module")
def pages(built: Path) -> dict[Path, Page]:
    return {path: Page(path.read_text(encoding="utf-8")) for path in sorted(built.rglob("*.html"))}


def test_every_page_and_notebook_is_built(built: Path) -> None:
    sources = [path for path in DOCS.rglob("*.md") if "_build" not in path.parts]
    sources += [
        *(ROOT / "notebooks").glob("*.ipynb"),
        ROOT / "CHANGELOG.md",
        ROOT / "benchmarks" / "README.md",
    ]
    assert len(sources) > 100
    lost = [path for path in sources if not (built / path.relative_to(ROOT).with_suffix(".html")).exists()]
    assert not lost


def test_the_first_page_is_found_from_the_top_folder(built: Path) -> None:
    assert 'url=docs/index.html"' in (built / "index.html").read_text(encoding="utf-8")


def test_every_page_can_be_reached_in_the_navigation(built: Path, pages: dict[Path, Page]) -> None:
    first = built / "docs" / "index.html"
    shown = {(first.parent / urlsplit(target).path).resolve() for target in pages[first].targets}
    for name in (
        "docs/tutorial",
        "docs/columns/verdicts",
        "docs/findings/no-gemm",
        "docs/howto/gpu",
        "docs/api/report",
    ):
        assert built / f"{name}.html" in shown, name
    assert built / "notebooks" / "01_first_look.html" in shown
    assert built / "CHANGELOG.html" in shown


def test_no_link_within_the_manual_leads_nowhere(built: Path, pages: dict[Path, Page]) -> None:
    lost = []
    for path, page in pages.items():
        for target in page.targets:
            there = urlsplit(target)
            if there.scheme or there.netloc:
                continue
            file = (path.parent / unquote(there.path)).resolve() if there.path else path
            if not file.exists():
                lost.append(f"{path.relative_to(built)}: {target}")
            elif there.fragment and file in pages and unquote(there.fragment) not in pages[file].ids:
                lost.append(f"{path.relative_to(built)}: no {target}")
    assert not lost


def public(kind: type) -> set[str]:
    return {
        name
        for name, value in vars(kind).items()
        if not name.startswith("_") and (callable(value) or isinstance(value, property))
    }


def test_every_public_name_has_its_entry(built: Path, pages: dict[Path, Page]) -> None:
    entries = {name for path, page in pages.items() if path.parent.name == "api" for name in page.ids}
    wanted = {f"flopscope.{name}" for name in flopscope.__all__ if not name.startswith("__")}
    kinds = {
        "flopscope.Report": flopscope.Report,
        "flopscope.Layer": flopscope.Layer,
        "flopscope.Machine": flopscope.Machine,
        "flopscope.Comparison": flopscope.Comparison,
        "flopscope.diagnosis.Why": Why,
    }
    wanted |= {f"{name}.{attribute}" for name, kind in kinds.items() for attribute in public(kind)}
    assert len(wanted) > 60
    assert wanted - entries == set()
