"""Lines of oneDNN's log -> Kernels: the steps of a library call, and what is laid out anew for it.

A line of `ONEDNN_VERBOSE=1` holds, separated by commas: the name, in later versions "v1" and
"primitive", then "exec", engine, primitive, implementation, kind of propagation, memory
descriptors, attributes, further settings, sizes, milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

from flopscope.records import Kernel

_NAMES = ("onednn_verbose", "dnnl_verbose")
_ITEMSIZE = {"f64": 8, "f32": 4, "s32": 4, "tf32": 4, "bf16": 2, "f16": 2, "s8": 1, "u8": 1}
_REORDER = "reorder"


@dataclass(frozen=True, slots=True)
class _Step:
    primitive: str
    implementation: str
    memory: dict[str, tuple[str, str]]  # operand -> (dtype, layout)
    sizes: tuple[int, ...]
    seconds: float


def kernels_of(lines: Iterable[str], weights: Sequence[tuple[int, ...]] = ()) -> tuple[Kernel, ...]:
    """The steps that these lines tell of; lines of another kind are passed over.

    A reorder is of the weights where the computing step takes its weights in the layout that it
    makes, and of the source or the result by whether it stands before or after that step.
    `nbytes` is the size of the tensor that is laid out anew, padding left out.

    Args:
        lines: the log of one operator's call.
        weights: shapes of the operator's weights, which decide where layouts do not.
    """
    steps = [step for step in map(_step, lines) if step is not None]
    main = next((place for place, step in enumerate(steps) if step.primitive != _REORDER), len(steps))
    return tuple(
        Kernel(
            primitive=step.primitive,
            implementation=step.implementation,
            latency_s=step.seconds,
            operand=_operand(step, steps[main:], weights, place < main) if step.primitive == _REORDER else "",
            layout=" -> ".join(step.memory[name][1] for name in ("src", "dst") if name in step.memory)
            if step.primitive == _REORDER
            else "",
            nbytes=_nbytes(step) if step.primitive == _REORDER else None,
        )
        for place, step in enumerate(steps)
    )


def _step(line: str) -> _Step | None:
    fields = line.strip().split(",")
    if fields[0] not in _NAMES or "exec" not in fields[:5]:
        return None
    parts = fields[fields.index("exec") + 1 :]
    if len(parts) < 6:
        return None
    try:
        seconds = float(fields[-1]) * 1e-3
    except ValueError:
        return None
    return _Step(parts[1], parts[2], _memory(parts[4]), _sizes(fields[-2]), seconds)


def _memory(text: str) -> dict[str, tuple[str, str]]:
    """Read descriptors ("src:f32:a:blocked:aBcd16b::f0 dst:..."): operand -> its dtype and layout."""
    found = {}
    for item in text.split():
        words = item.split(":")
        if len(words) > 4:
            found[words[0]] = (words[1], words[4])
    return found


def _sizes(text: str) -> tuple[int, ...]:
    words = text.split("x")
    return tuple(int(word) for word in words) if all(word.isdigit() for word in words) else ()


def _operand(step: _Step, after: Sequence[_Step], weights: Sequence[tuple[int, ...]], before: bool) -> str:
    if not before:
        return "result"
    made = step.memory.get("dst")
    wanted = after[0].memory if after else {}
    of_weights, of_source = made == wanted.get("wei"), made == wanted.get("src")
    if of_weights != of_source:
        return "weights" if of_weights else "source"
    return "weights" if any(_same(step.sizes, shape) for shape in weights) else "source"


def _same(sizes: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether sizes are those of a weight: as it is, transposed, or with its groups apart."""
    if not sizes:
        return False
    apart = (sizes[0] * sizes[1], *sizes[2:]) if len(sizes) == len(shape) + 1 else sizes
    return shape in (apart, apart[::-1])


def _nbytes(step: _Step) -> int | None:
    itemsize = _ITEMSIZE.get(step.memory.get("src", ("", ""))[0])
    return prod(step.sizes) * itemsize if step.sizes and itemsize else None
