"""OpCall <-> plain values that JSON can hold: an operator on its way to a child process."""

from __future__ import annotations

from typing import Any

from flopscope.records import Input, OpCall, TensorSpec

THIS = "this"
"""The name under which a layer as it is stands in a child."""


def written(op: OpCall) -> dict[str, Any]:
    """An operator as plain values."""
    return {
        "op": op.op,
        "inputs": [_spec(spec) for spec in op.inputs],
        "outputs": [_spec(spec) for spec in op.outputs],
        "arguments": {name: _argument(value) for name, value in op.arguments.items()},
        "signature": op.signature,
        "written": list(op.written),
        "tags": sorted(op.tags),
        "phase": op.phase,
    }


def read(letter: dict[str, Any]) -> OpCall:
    """The operator again; which module called it is not told."""
    return OpCall(
        op=letter["op"],
        call=0,
        inputs=tuple(_as_spec(spec) for spec in letter["inputs"]),
        outputs=tuple(_as_spec(spec) for spec in letter["outputs"]),
        arguments={name: _as_argument(value) for name, value in letter["arguments"].items()},
        signature=letter["signature"],
        written=tuple(letter["written"]),
        tags=frozenset(letter["tags"]),
        phase=letter["phase"],
    )


def _spec(spec: TensorSpec) -> list[Any]:
    return [list(spec.shape), spec.dtype, spec.itemsize, list(spec.strides), spec.offset, spec.storage]


def _as_spec(given: list[Any]) -> TensorSpec:
    shape, dtype, itemsize, strides, offset, storage = given
    return TensorSpec(tuple(shape), dtype, itemsize, tuple(strides), offset, storage)


def _argument(value: Any) -> Any:
    if isinstance(value, Input):
        return {"input": value.index}
    if isinstance(value, tuple | list):
        return [_argument(item) for item in value]
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    return value  # infinities and NaN too: Python's JSON writes and reads them


def _as_argument(value: Any) -> Any:
    if isinstance(value, dict):
        return Input(value["input"]) if "input" in value else complex(*value["complex"])
    if isinstance(value, list):
        return tuple(_as_argument(item) for item in value)
    return value
