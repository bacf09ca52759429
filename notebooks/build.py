"""Notebooks as `.py` -> executed `.ipynb` beside them.

    python notebooks/build.py                   all, one after the other
    python notebooks/build.py 02 05             these
    python notebooks/build.py --effort quick    a trial: what is measured means little

Each runs in a fresh process of this interpreter and in an empty folder. Its `.ipynb` is replaced only when
every cell has run, so that a run that was broken off can be taken up where it ended.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

HERE = Path(__file__).parent
CELL_SECONDS = 900
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
LARGEST = 1_000_000
"""Bytes of a notebook with its outputs, so that hosts still show it."""


class ThisInterpreter(KernelSpecManager):
    """Knows one kernel: the interpreter that runs this file, whatever kernels the machine has besides."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """The kernel, whatever it is asked for by."""
        quiet = "--IPKernelApp.log_level=40"  # it warns of TCP, which stays on this machine
        argv = [sys.executable, "-m", "ipykernel_launcher", quiet, "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name=kernel_name, language="python")


def sources(names: Sequence[str] = ()) -> list[Path]:
    """The notebooks whose names begin with one of `names`; all without any.

    Raises:
        SystemExit: a name fits none.
    """
    known = sorted(HERE.glob("[0-9][0-9]_*.py"))
    lost = [name for name in names if not any(path.name.startswith(name) for path in known)]
    if lost:
        raise SystemExit(f"no notebook begins with {lost[0]!r}; there are {', '.join(p.stem for p in known)}")
    return [path for path in known if not names or path.name.startswith(tuple(names))]


def executed(source: Path, *, effort: str, folder: Path) -> nbformat.NotebookNode:
    """Run a notebook in `folder` and give it back with its outputs.

    Raises:
        CellExecutionError: a cell failed.
    """
    notebook = jupytext.read(source)
    kernels = ThisInterpreter()
    manager = AsyncKernelManager(kernel_spec_manager=kernels, kernel_name=KERNEL["name"])
    manager.connection_file = str(folder / "kernel.json")
    client = NotebookClient(
        notebook,
        km=manager,
        timeout=CELL_SECONDS,
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    )
    inline = "module://matplotlib_inline.backend_inline"
    settings = {"FLOPSCOPE_EFFORT": effort, "MPLBACKEND": inline, "IPYTHONDIR": str(folder / "ipython")}
    # A manager that is given is left running unless told otherwise, and each kernel holds a whole torch.
    client.execute(cleanup_kc=True, env={**os.environ, **settings})
    return cleaned(notebook)


def cleaned(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook without what differs from run to run and tells nothing.

    Raises:
        ValueError: an output names a folder or the machine, which do not belong in a repository.
    """
    notebook.metadata = {"jupytext": notebook.metadata["jupytext"], "kernelspec": dict(KERNEL)}
    notebook.metadata["jupytext"].pop("main_language", None)
    notebook.metadata["language_info"] = {"name": "python"}
    for number, cell in enumerate(notebook.cells, 1):
        cell.id = f"cell-{number:02}"
        cell.metadata = {}
        for output in cell.get("outputs", ()):
            output.pop("metadata" if output.output_type == "stream" else "transient", None)
            for text in texts(output):
                refuse_places(text)
    return notebook


def texts(output: nbformat.NotebookNode) -> list[str]:
    """What an output says in words: all but its images."""
    said = {**output.get("data", {}), "stream": output.get("text", "")}
    said["error"] = "\n".join(output.get("traceback", ()))
    return [text for kind, text in said.items() if isinstance(text, str) and not kind.startswith("image/png")]


def refuse_places(text: str) -> None:
    """Refuse a text that names a folder of this machine or the machine itself.

    Raises:
        ValueError: it does; the message has the spot.
    """
    folders = [str(HERE.parent), str(Path.home()), sys.prefix, tempfile.gettempdir()]
    named = [re.escape(folder) for folder in folders if len(folder) > 3]
    host = socket.gethostname()
    if not host.isalpha():  # one that is a plain word may stand in any text
        named.append(rf"(?<![\w.-]){re.escape(host)}(?![\w.-])")
    found = re.search("|".join(named), text)
    if found is not None:
        spot = text[max(0, found.start() - 60) : found.end() + 60]
        raise ValueError(f"an output names a place: …{spot}…")


def written(notebook: nbformat.NotebookNode, target: Path) -> int:
    """Write the notebook whole or not at all; its size in bytes.

    Raises:
        ValueError: it is too large to be shown by the usual hosts.
    """
    text = nbformat.writes(notebook, version=4) + "\n"
    size = len(text.encode())
    if size > LARGEST:
        raise ValueError(f"{target.name} would have {size:,} bytes, more than {LARGEST:,}")
    fresh = target.with_suffix(".ipynb.new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(target)
    return size


def build(source: Path, *, effort: str) -> None:
    """Execute one notebook, write it and say how long it took."""
    begun = time.monotonic()
    print(f"{source.stem:28}", end="", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        notebook = executed(source, effort=effort, folder=Path(folder))
    size = written(notebook, source.with_suffix(".ipynb"))
    print(f"{time.monotonic() - begun:6.0f} s  {size / 1000:5.0f} kB", flush=True)


def main(given: Sequence[str] | None = None) -> int:
    """Build what was asked for; 1 if a notebook failed, after all others were tried."""
    parser = argparse.ArgumentParser(description="Execute the notebooks, one after the other.")
    parser.add_argument("names", nargs="*", help="how their names begin; all by default")
    parser.add_argument("--effort", default="normal", choices=("quick", "normal", "thorough"))
    asked: Any = parser.parse_args(given)
    failed = []
    for source in sources(asked.names):
        try:
            build(source, effort=asked.effort)
        except (CellExecutionError, ValueError) as error:
            print(f"failed\n{error}", file=sys.stderr, flush=True)
            failed.append(source.name[:2])
    if failed:
        print(f"failed: {', '.join(failed)}; again:  python notebooks/build.py {' '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
