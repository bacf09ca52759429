"""The plan of the house, kept true: which room may open which door, and what may be large.

The table below *is* the plan that docs/architecture.md draws.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import flopscope

HOUSE = Path(flopscope.__file__).parent
HALL = {"records", "units", "errors", "version"}

# room -> the rooms that it may open besides the hall. Rooms that are not listed open none.
DOORS: dict[str, set[str]] = {
    "__init__": {
        "comparison", "contests", "costs", "crosschecks", "inputs", "loading", "machines", "profiling",
        "reports", "zoo",
    },
    "__main__": {"commands"},
    "records": {"render"},  # a machine's roofs are shown late, inside __str__
    "timing": {"clocks", "counters", "tracing"},  # a step is timed by the same nodes by which it is counted
    "machines": {"clocks", "counters", "environment"},
    "experiments": {"convolutions", "counters"},
    "roofline": {"convolutions"},
    "checkups": {"counters"},
    "comparison": {"pages", "render", "reports"},  # as `reports`; what it sets side by side
    "contests": {
        "clocks", "comparison", "costs", "counters", "inputs", "loading", "profiling", "progress", "reports",
        "rewrites", "subjects", "timing", "tracing",
    },
    "render": {"comparison", "diagnosis", "pictures", "reports"},  # a finding's wording stands by its tables
    "budgets": {"render", "reports"},  # sums by kind are those of the tables; the type of what is judged
    "testing": {"budgets", "comparison", "pages", "reports"},  # `pages`: the command that shows a report
    "pictures": {"comparison", "render", "reports", "roofline"},  # parts and levels are those of the tables
    "pages": {"comparison", "diagnosis", "pictures", "render", "reports"},  # tables, pictures, explanations
    "reports": {"budgets", "diagnosis", "pages", "pictures", "render"},  # data meets its display, in methods
    "diagnosis": {"render", "reports"},  # Why.text, late; the type of what is judged
    "assembly": {
        "conventions", "costs", "diagnosis", "layers", "liveness", "quality", "recognition", "reports",
        "roofline",
    },
    "profiling": {
        "assembly", "clocks", "costs", "diagnosis", "environment", "experiments", "inputs", "machines",
        "progress", "reports", "subjects", "timing", "tracing",
    },
    "loading": {"zoo"},
    "zoo": {"rewrites"},
    "crosschecks": {"costs", "inputs", "profiling", "reports", "subjects", "tracing"},
    "commands": {
        "budgets", "checkups", "comparison", "contests", "costs", "crosschecks", "diagnosis", "environment",
        "inputs", "loading", "machines", "pages", "profiling", "progress", "quality", "render", "reports",
        "zoo",
    },
}  # fmt: skip

WET = {
    "checkups", "clocks", "contests", "crosschecks", "environment", "experiments", "inputs", "loading",
    "machines", "profiling", "rewrites", "subjects", "timing", "tracing", "zoo",
}  # fmt: skip
LATE = {"commands"}  # may touch torch, but only inside functions
OUTSIDE = {"torch", "pandas", "numpy", "torchvision", "timm", "fvcore", "transformers"}

FILES = sorted(path for path in HOUSE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(HOUSE).with_suffix("").parts[0]


def imports(path: Path) -> list[tuple[str, bool]]:
    """Every absolute import of a file: (dotted name, whether it is at the top level at run time)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = set()
    for node in tree.body:
        if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            top.update(ast.walk(node) if not isinstance(node, ast.FunctionDef | ast.ClassDef) else [])
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [(name, node in top) for name in names]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_a_room_opens_only_its_own_doors(path: Path) -> None:
    room = room_of(path)
    allowed = HALL | DOORS.get(room, set()) | {room}
    opened = {
        name.split(".")[1]
        for name, _ in imports(path)
        if name.startswith("flopscope.") and name != "flopscope."
    }
    assert opened <= allowed, f"{room} opens {sorted(opened - allowed)}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_dry_rooms_do_not_touch_torch(path: Path) -> None:
    room = room_of(path)
    touched = {name.split(".")[0] for name, _ in imports(path)} & (OUTSIDE - {"pandas", "numpy"})
    if room not in WET | LATE | {"__init__"}:
        assert not touched, f"{room} is dry and imports {sorted(touched)}"
    heavy_at_top = {name.split(".")[0] for name, top in imports(path) if top} & OUTSIDE
    if room not in WET:
        assert not heavy_at_top, f"{room} imports {sorted(heavy_at_top)} at its top"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_norms_of_size(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 400
    long = [
        f"{node.name}: {node.end_lineno - node.lineno + 1}"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef) and node.end_lineno and node.end_lineno - node.lineno + 1 > 60
    ]
    assert not long


def test_the_plan_names_only_rooms_that_exist() -> None:
    rooms = {room_of(path) for path in FILES}
    assert set(DOORS) | WET | LATE | HALL <= rooms | {"__init__"}


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    """`import flopscope`, the reports room and the command line's help need no torch."""
    script = (
        "import sys, flopscope, flopscope.reports, flopscope.commands;"
        "heavy = sorted({'torch', 'pandas', 'numpy', 'fvcore'} & set(sys.modules));"
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
