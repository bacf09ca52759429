"""Claims of papers about layers and networks -> Markdown: what they come to on this machine.

    python benchmarks/claims.py --out benchmarks/results/claims.md
    python benchmarks/claims.py --only blocks --seconds 8

Every table is one `flopscope.compare`: its models are timed in turns of one run, on one thread, at batch 1
unless the table says otherwise. Every section has a process of its own, for what was allocated before
changes the latency of what follows. Some come twice: with the allocator as it is, and, as
`table1-pooled`, with glibc told by its environment to keep freed memory. The sections are in
`claims_sections.py`; docs/claims.md says what follows from them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TWICE = ("table1", "mbconv")
POOLED = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 25),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 32),
    "MALLOC_TOP_PAD_": str(1 << 28),
}
"""What keeps glibc from handing memory back to the system, which costs page faults at the next allocation."""


def main() -> None:
    sys.path[:0] = [str(HERE.parent), str(HERE)]
    from claims_sections import SECTIONS

    options = _options(tuple(SECTIONS))
    if options.child:
        print("\n".join(SECTIONS[options.child](options.seconds)))
        return
    text = ""
    for part in _parts(options):
        text += part + "\n"
        if options.out is not None:
            Path(options.out).write_text(text, encoding="utf-8")
    if options.out is None:
        print(text)


def _options(sections: tuple[str, ...]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [name for section in sections for name in _states(section)]
    parser.add_argument("--only", action="append", choices=names, help="a section; repeatable (default all)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of sampling for a comparison (default 4)")
    parser.add_argument("--out", help="write the Markdown here, not to stdout")
    parser.add_argument("--child", choices=sections, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.only = options.only or names
    return options


def _states(section: str) -> tuple[str, ...]:
    return (section, f"{section}-pooled") if section in TWICE else (section,)


def _parts(options: argparse.Namespace) -> Iterator[str]:
    """The header, then section by section, as they are done."""
    yield "\n".join(_header(options))
    for name in options.only:
        start = time.perf_counter()
        yield _section(name, options.seconds)
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr)


def _section(name: str, seconds: float) -> str:
    """What a section prints in a process of its own, or that it failed."""
    section = name.removesuffix("-pooled")
    pooled = section != name
    done = subprocess.run(
        [sys.executable, __file__, "--child", section, "--seconds", str(seconds)],
        env={**os.environ, **(POOLED if pooled else {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        return f"## {name}\n\nnot measured: the section ended with an error\n"
    names = ", ".join(f"`{name}={value}`" for name, value in POOLED.items())
    state = f"\nAllocator: glibc malloc, told to keep freed memory: {names}.\n"
    return f"## {name}\n{state if pooled else ''}\n{done.stdout}"


def _header(options: argparse.Namespace) -> Iterator[str]:
    from flopscope.environment import environment

    here: Any = environment()
    yield "# What claims come to on this machine"
    yield ""
    yield (
        f"- {here.date}, {here.cpu} ({here.capability}), 1 of {here.cores} cores, {here.platform}, "
        f"Python {here.python}, torch {here.torch}, flopscope {here.flopscope}"
    )
    yield f"- allocator: {here.allocator}, as it is but where a section says otherwise; float32, eval mode"
    yield f"- `python benchmarks/claims.py --seconds {options.seconds:g}`, 1 thread, batch 1 but where said"
    yield (
        "- *ratio* is latency over that of the first row, measured in turns of one run, with its interval "
        "and verdict; *ms* the median of a bare pass; *faults* page faults of a pass; *moved* what the "
        "operators read and write, *formula* what the paper's formula says"
    )
    yield ""


if __name__ == "__main__":
    main()
