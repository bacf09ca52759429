"""Notebooks: pairs that agree, outputs made in order, a question and an answer, and every cell runs.

They are executed from their `.py` with quick effort, in this interpreter and in a folder of their own. What
they assert about counts and orderings stands in them.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

jupytext = pytest.importorskip("jupytext")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytest.importorskip("matplotlib")

ROOT = Path(__file__).parents[1]
NOTEBOOKS = ROOT / "notebooks"
SOURCES = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.py"))
NAMES = [source.stem for source in SOURCES]
PLACES = re.compile(r"(?<![\w.:/-])(/(root|home|Users|tmp|work|mnt|var|private)/|[A-Z]:\\)")
MADE_ON = re.compile(
    r"^.+, \d+ threads?; torch \d+\.\d+\S*, flopscope \d+\.\d+\S*; timing [a-z/]+, (roofs [a-z]+, )?"
    r"effort (quick|normal|thorough); \d{4}-\d\d-\d\d$",
    re.MULTILINE,
)


def loaded() -> ModuleType:
    """`notebooks/build.py`, which is a script and in no package."""
    spec = importlib.util.spec_from_file_location("notebooks_build", NOTEBOOKS / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


build = loaded()


def kept(source):
    """The notebook with its outputs, as it is committed."""
    return nbformat.read(source.with_suffix(".ipynb"), as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook):
    return [output for cell in code(notebook) for output in cell.outputs]


def mimes(cells):
    """The richest form of what cells show: "text/html" of a table, "image/png", "text/markdown", "stream"."""
    ranked = ("text/html", "image/png", "image/svg+xml", "text/markdown", "text/plain")
    found = []
    for output in (output for cell in cells for output in cell.get("outputs", ())):
        has = output.get("data", {})
        found.append(next((kind for kind in ranked if kind in has), output.output_type))
    return found


def ends_as_said(notebook):
    """The last outputs are a table, a figure, where it was made, and one sentence."""
    heads = [place for place, cell in enumerate(notebook.cells) if "## The answer" in cell.source]
    assert len(heads) == 1
    shown = [mime for mime in mimes(notebook.cells[heads[0] :]) if mime != "text/plain"]
    assert shown in (
        ["text/html", "image/png", "stream", "text/markdown"],
        ["text/html", "image/svg+xml", "stream", "text/markdown"],
    )
    last = notebook.cells[-1].outputs
    assert MADE_ON.search(last[0].text), last[0].text
    sentence = last[1].data["text/markdown"]
    assert re.fullmatch(r"\*\*[A-Z][^*]+[.”]\*\*", sentence), sentence
    assert not re.search(r"[.] [A-Z]", sentence), "one sentence"
    assert not re.search(r"\bnan\b|\bNone\b", sentence)


def test_there_are_seven():
    assert [name[:2] for name in NAMES] == ["01", "02", "03", "04", "05", "06", "07"]


# --------------------------------------------------------------------------- the pairs


@pytest.mark.parametrize("source", SOURCES, ids=NAMES)
def test_a_pair_has_the_same_cells(source):
    written = jupytext.read(source)
    assert written.metadata["jupytext"]["formats"] == "ipynb,py:percent"
    ran = kept(source)
    assert ran.metadata["jupytext"]["formats"] == "ipynb,py:percent"
    pairs = [[(cell.cell_type, cell.source) for cell in notebook.cells] for notebook in (written, ran)]
    assert pairs[0] == pairs[1], f"run: python notebooks/build.py {source.name[:2]}"


@pytest.mark.parametrize("source", SOURCES, ids=NAMES)
def test_outputs_were_made_in_order_and_without_an_error(source):
    notebook = kept(source)
    nbformat.validate(notebook)
    cells = code(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    kinds = {output.output_type for output in outputs(notebook)}
    assert "error" not in kinds
    assert {"stream", "execute_result", "display_data"} & kinds
    assert not [output.text for output in outputs(notebook) if output.get("name") == "stderr"]


@pytest.mark.parametrize("source", SOURCES, ids=NAMES)
def test_outputs_name_no_place_and_are_not_large(source):
    path = source.with_suffix(".ipynb")
    assert path.stat().st_size < build.LARGEST
    for output in outputs(kept(source)):
        for text in build.texts(output):
            assert not PLACES.search(text), PLACES.search(text)


@pytest.mark.parametrize("source", SOURCES, ids=NAMES)
def test_metadata_say_nothing_of_a_run(source):
    notebook = kept(source)
    assert set(notebook.metadata) == {"jupytext", "kernelspec", "language_info"}
    assert notebook.metadata["kernelspec"] == build.KERNEL
    assert all(not cell.metadata for cell in notebook.cells)
    assert [cell.id for cell in notebook.cells] == [f"cell-{n:02}" for n in range(1, len(notebook.cells) + 1)]


# --------------------------------------------------------------------------- what they teach


@pytest.mark.parametrize("source", SOURCES, ids=NAMES)
def test_it_begins_with_a_question(source):
    first = jupytext.read(source).cells[0]
    assert first.cell_type == "markdown"
    heading = first.source.partition("\n")[0]
    assert heading.startswith("# ")
    assert heading.endswith("?")


@pytest.mark.parametrize("source", SOURCES, ids=NAMES)
def test_it_ends_with_a_table_a_figure_and_a_sentence(source):
    ends_as_said(kept(source))


@pytest.mark.parametrize("source", SOURCES, ids=NAMES)
def test_counts_are_asserted_and_no_time_is(source):
    text = source.read_text(encoding="utf-8")
    assert re.search(r"^ *assert .*==.*\d_\d{3}", text, re.MULTILINE), "no count worked out by hand"
    for line in re.findall(r"^ *assert (.*?)(?:  #.*)?$", text, re.MULTILINE):
        if re.search(
            r"latency|\"ms|GFLOP/s", line
        ):  # held against another measurement, never against a number
            assert re.search(r"[<>]", line), line
            assert not re.search(r"[<>=]=? *[\d._e-]+$", line), line


@pytest.mark.parametrize(
    "page", [NOTEBOOKS / "README.md", ROOT / "docs" / "notebooks.md"], ids=lambda p: p.name
)
def test_every_notebook_is_listed_with_its_question(page):
    text = page.read_text(encoding="utf-8")
    for source in SOURCES:
        question = jupytext.read(source).cells[0].source.partition("\n")[0].removeprefix("# ")
        rows = [line for line in text.splitlines() if f"{source.stem}.ipynb" in line]
        assert len(rows) == 1, source.stem
        assert question in rows[0]


# --------------------------------------------------------------------------- they run


@pytest.mark.parametrize("source", SOURCES, ids=NAMES)
def test_it_runs_with_quick_effort_and_writes_nothing_here(source, tmp_path):
    before = sorted((path.name, path.stat().st_mtime_ns) for path in NOTEBOOKS.iterdir())
    notebook = build.executed(source, effort="quick", folder=tmp_path)
    ends_as_said(notebook)
    assert not [output.text for output in outputs(notebook) if output.get("name") == "stderr"]
    assert sorted((path.name, path.stat().st_mtime_ns) for path in NOTEBOOKS.iterdir()) == before


def notebook_of(folder, *cells):
    """A notebook of code cells, written as percent format."""
    source = folder / "01_made.py"
    head = jupytext.read(SOURCES[0]).metadata
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells], metadata=head)
    jupytext.write(made, source, fmt="py:percent")
    return source


def test_the_kernel_is_this_interpreter_whatever_kernels_there_are(tmp_path, monkeypatch):
    """Another kernel of the same name, first on the search path, is not taken."""
    other = tmp_path / "share" / "kernels" / "python3"
    other.mkdir(parents=True)
    other.joinpath("kernel.json").write_text(
        '{"argv": ["/bin/false"], "display_name": "x", "language": "python"}'
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share"))
    source = notebook_of(tmp_path, f"import sys\nprint(sys.executable == {sys.executable!r})")
    ran = build.executed(source, effort="quick", folder=tmp_path)
    assert ran.cells[0].outputs[0].text == "True\n"


def test_a_cell_that_fails_is_told_and_the_old_outputs_stay(tmp_path, monkeypatch, capsys):
    source = notebook_of(tmp_path, "1 + 1", "raise KeyError('lost')")
    source.with_suffix(".ipynb").write_text("old")
    monkeypatch.setattr(build, "HERE", tmp_path)
    assert build.main(["01", "--effort", "quick"]) == 1
    told = capsys.readouterr()
    assert "lost" in told.err
    assert "python notebooks/build.py 01" in told.out
    assert source.with_suffix(".ipynb").read_text() == "old"


@pytest.mark.parametrize("text", ["saved to {home}/x.json", "see {root}/flopscope/units.py", "in {tmp}/abc"])
def test_an_output_that_names_a_place_is_refused(text):
    import tempfile

    said = text.format(home=Path.home(), root=ROOT, tmp=tempfile.gettempdir())
    with pytest.raises(ValueError, match="names a place"):
        build.refuse_places(said)
    build.refuse_places("Intel(R) Xeon(R) Processor, 1 thread; docs/findings/no-gemm.md; 2/3 of 1x3x224x224")


def test_a_build_goes_into_the_notebook_beside_it(tmp_path, monkeypatch, capsys):
    source = notebook_of(tmp_path, "print('seen')")
    monkeypatch.setattr(build, "HERE", tmp_path)
    assert build.main(["01", "--effort", "quick"]) == 0
    made = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    assert made.cells[0].outputs[0].text == "seen\n"
    assert re.search(r"01_made +\d+ s +\d+ kB", capsys.readouterr().out)
    assert not list(tmp_path.glob("*.new"))


def test_a_name_that_fits_no_notebook_is_refused():
    with pytest.raises(SystemExit, match="no notebook begins with '99'"):
        build.sources(["99"])


def test_its_help_is_told():
    done = subprocess.run(
        [sys.executable, NOTEBOOKS / "build.py", "--help"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )
    assert done.returncode == 0
    assert "--effort" in done.stdout
