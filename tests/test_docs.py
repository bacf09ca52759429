"""The documentation against the product: links, commands, options, names, doors, seconds of an effort.

Whatever a page names must be there, and whatever is there must be named on the page that lists it.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import test_house

import flopscope
from flopscope.commands.porch import porch
from flopscope.diagnosis import Why
from flopscope.records import Evidence
from flopscope.render.rows import COLUMNS, ON_REQUEST

ROOT = Path(flopscope.__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md"), ROOT / "benchmarks" / "README.md"])

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="the documentation is in the checkout only")


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to headings: lower case, signs dropped, a hyphen for each blank."""
    headings = re.findall(r"^#+ +(.*)$", without_code(text), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(path: Path) -> Iterator[tuple[Path, str]]:
    """The files, and anchors or "", to which a page links within the project."""
    text = re.sub(r"`[^`\n]*`", "", without_code(path.read_text(encoding="utf-8")))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" not in target and not target.startswith("mailto:"):
            file, _, anchor = target.partition("#")
            yield (path.parent / file).resolve() if file else path, anchor


def section(text: str, heading: str) -> str:
    """What stands below a heading, up to the next one of its level."""
    found = re.search(
        rf"^## {re.escape(heading)}$(.*?)(?=^## |\Z)", without_code(text), re.DOTALL | re.MULTILINE
    )
    assert found is not None, f"there is no section {heading!r}"
    return found[1]


def cells(text: str) -> list[list[str]]:
    """The rows of all tables, without headings' rules."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [row for row in rows if not all(set(cell) <= {"-", ":"} for cell in row)]


def coded(text: str) -> set[str]:
    """The words that stand in backquotes."""
    return {word for span in re.findall(r"`([^`\n]+)`", text) for word in re.findall(r"\w+", span)}


# --------------------------------------------------------------------------- links


def test_the_rule_for_anchors_is_known_from_an_example() -> None:
    assert anchors("# A page\n## The allocator's three states\n```\n# no heading\n```\n") == {
        "a-page",
        "the-allocators-three-states",
    }


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path: Path) -> None:
    lost = []
    for file, anchor in links(path):
        if not file.exists():
            lost.append(f"no file {file.relative_to(ROOT)}")
        elif anchor and file.suffix == ".md" and anchor not in anchors(file.read_text(encoding="utf-8")):
            lost.append(f"no heading #{anchor} in {file.relative_to(ROOT)}")
    assert not lost


def test_every_page_can_be_reached_from_the_index() -> None:
    """From it, or from the index of a folder that it links."""
    reached = {file for file, _ in links(DOCS / "index.md")}
    for index in [file for file in reached if file.name == "index.md"]:
        reached |= {file for file, _ in links(index)}
    assert set(DOCS.rglob("*.md")) - reached == {DOCS / "index.md"}


# --------------------------------------------------------------------------- the command line


def options_of(command: click.Command) -> set[str]:
    return {name for item in command.params for name in item.opts if name.startswith("-")}


def test_every_command_has_its_section_and_every_option_its_mention() -> None:
    text = page("cli.md")
    for name, command in porch.commands.items():
        assert section(text, name).strip(), name
        missing = {option for option in options_of(command) if not re.search(rf"`[^`\n]*{option}\b", text)}
        assert not missing, f"{name}: {sorted(missing)} are not in docs/cli.md"


def test_no_option_is_named_that_does_not_exist() -> None:
    known = {"--help", "-h"} | options_of(porch)
    for command in porch.commands.values():
        known |= options_of(command)
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page("cli.md")))
    assert named <= known, f"unknown: {sorted(named - known)}"


def test_a_command_is_shown_only_with_options_that_it_has() -> None:
    """In examples, and in the sections of single commands."""
    for line in re.findall(r"^(?:\$ )?(flopscope .+)$", page("cli.md"), flags=re.MULTILINE):
        for call in line.split("&&"):
            words = call.partition("   ")[0].split()
            if len(words) > 1 and words[1] in porch.commands:
                used = {word.strip("[]") for word in words if word.strip("[]").startswith("--")}
                assert used <= options_of(porch.commands[words[1]]), line


def test_every_exit_code_is_listed() -> None:
    listed = {int(row[0]) for row in cells(section(page("cli.md"), "Exit codes")) if row[0].isdigit()}
    errors = [getattr(flopscope, name) for name in flopscope.__all__ if name.endswith("Error")]
    assert listed == {0, 2, 130} | {error.exit_code for error in errors}


# --------------------------------------------------------------------------- the reference


def test_every_public_name_is_in_the_reference() -> None:
    text = page("reference.md")
    told = coded(section(text, "Functions")) | coded(section(text, "Errors"))
    assert set(flopscope.__all__) <= told


def test_the_keywords_of_profile_are_those_that_it_has() -> None:
    rows = cells(section(page("reference.md"), "Keywords of profile"))[1:]
    told = {name for row in rows for name in coded(row[0])}
    assert told == set(inspect.signature(flopscope.profile).parameters) - {"model", "inputs"}


def test_errors_are_listed_with_their_exit_codes() -> None:
    rows = cells(section(page("reference.md"), "Errors"))[1:]
    told = {name: int(row[1]) for row in rows for name in coded(row[0])}
    errors = {name for name in flopscope.__all__ if name.endswith("Error")} - {"FlopscopeError"}
    assert told == {name: getattr(flopscope, name).exit_code for name in errors}


def test_the_columns_are_listed_in_their_order() -> None:
    rows = cells(section(page("reference.md"), "Columns"))[1:]
    told = [name for row in rows for name in re.findall(r"`(\w+)`", row[0])]
    assert told == list(COLUMNS)
    assert set(ON_REQUEST) <= coded(section(page("reference.md"), "Columns"))


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")} | {
        item.name for item in dataclasses.fields(kind)
    }


@pytest.mark.parametrize(
    ("heading", "kind"),
    [
        ("Attributes of a report", flopscope.Report),
        ("Attributes of a report", Evidence),
        ("Why", Why),
        ("Machine", flopscope.Machine),
    ],
)
def test_every_attribute_is_in_the_reference(heading: str, kind: type) -> None:
    missing = public(kind) - coded(section(page("reference.md"), heading))
    assert not missing, f"{kind.__name__}: {sorted(missing)}"


# --------------------------------------------------------------------------- the house


def test_the_doors_are_those_of_the_plan() -> None:
    rows = cells(section(page("architecture.md"), "Doors"))[1:]
    told = {room.strip("`"): set(re.findall(r"`(\w+)`", opened)) for room, opened in rows}
    inside = {name: doors for name, doors in test_house.DOORS.items() if not name.startswith("__")}
    assert told == inside


def test_every_room_is_in_the_plan_with_its_relation_to_torch() -> None:
    rows = cells(section(page("architecture.md"), "Rooms"))[1:]
    told = {name: row[1] for row in rows for name in re.findall(r"`(\w+)`", row[0])}
    rooms = {test_house.room_of(path) for path in test_house.FILES} - {"__init__", "__main__"}
    assert set(told) == rooms
    wet = {name for name, word in told.items() if word == "yes"}
    assert (wet, {name for name, word in told.items() if word == "late"}) == (
        test_house.WET,
        test_house.LATE,
    )


# --------------------------------------------------------------------------- measuring


def test_the_seconds_of_an_effort_are_those_of_the_code() -> None:
    from flopscope.profiling.walk import PROCESSES, REPLAY_SECONDS
    from flopscope.timing import SECONDS

    rows = {row[0].strip("`"): row for row in cells(section(page("measuring.md"), "The order of events"))[1:]}
    assert set(rows) == set(SECONDS)
    for effort, (_, sampling, alone, others, _) in rows.items():
        assert sampling.startswith(f"{SECONDS[effort]:g} s")
        assert alone == (f"{REPLAY_SECONDS[effort]:g} s" if REPLAY_SECONDS[effort] else "no")
        assert others == {0: "no", 2: "two"}[PROCESSES.get(effort, 0)]


# --------------------------------------------------------------------------- the tutorial


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tutorial's file, where a reader would save it."""
    found = re.search(r"^```python\n(.*?)^```", page("tutorial.md"), re.DOTALL | re.MULTILINE)
    assert found is not None
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "net.py"
    file.write_text(found[1], encoding="utf-8")
    return file


def test_the_tutorial_prints_the_counts_that_it_shows(network: Path) -> None:
    shown = re.search(r"^## 2\..*?^```text\n(.*?)^```", page("tutorial.md"), re.DOTALL | re.MULTILINE)
    assert shown is not None
    model = flopscope.load_model(f"{network.name}:build")
    printed = str(flopscope.count(model, (1, 64, 56, 56))).splitlines()
    assert [line for line in shown[1].splitlines() if line not in printed] == []


def test_the_tutorials_budgets_are_kept(network: Path) -> None:
    line = re.search(r"^\$ flopscope (check .*)$", page("tutorial.md"), re.MULTILINE)
    assert network.exists()
    assert line is not None
    with pytest.raises(SystemExit) as done:
        porch.main(shlex.split(line[1]), prog_name="flopscope")
    assert done.value.code == 0
