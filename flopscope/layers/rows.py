"""A set of ops and parameters -> one `Layer`: the adding up that every row shares."""

from __future__ import annotations

from collections.abc import Sequence

from flopscope.records import Layer, OpCost, Parameter, Shape, Trace

from .ownership import Key

_FLOATS = ("float", "bfloat", "complex")


def row(
    key: Key,
    trace: Trace,
    costs: Sequence[OpCost],
    *,
    kind: str,
    calls: int,
    ops: tuple[int, ...],
    shapes: tuple[Shape | None, Shape | None],
    parameters: Sequence[Parameter],
    detail: str = "",
    formula_bytes: int | None = None,
) -> Layer:
    """Add up the costs of `ops` and the sizes of `parameters` into one Layer."""
    macs = flops = bytes_read = bytes_written = uncosted = 0
    for index in ops:
        priced = costs[index]
        cost = priced.cost
        macs += cost.macs
        flops += cost.flops
        bytes_read += cost.bytes_read
        bytes_written += cost.bytes_written
        uncosted += priced.priced_by == "uncosted"
    return Layer(
        path=key[0],
        type=key[1],
        kind=kind,
        calls=calls,
        input_shape=shapes[0],
        output_shape=shapes[1],
        dtype=_dtype(trace, ops, parameters),
        params=sum(parameter.numel for parameter in parameters),
        param_bytes=sum(parameter.nbytes for parameter in parameters),
        macs=macs,
        flops=flops,
        bytes_read=bytes_read,
        bytes_written=bytes_written,
        depth=key[0].count(".") + 1 if key[0] else 0,
        detail=detail,
        formula_bytes=formula_bytes,
        uncosted_ops=uncosted,
        ops=ops,
    )


def first_shapes(trace: Trace, calls: Sequence[int]) -> tuple[Shape | None, Shape | None]:
    """The first tensor that went into the first call, and the first that came out."""
    if not calls:
        return (None, None)
    call = trace.calls[calls[0]]
    return (
        call.input_shapes[0] if call.input_shapes else None,
        call.output_shapes[0] if call.output_shapes else None,
    )


def _dtype(trace: Trace, ops: Sequence[int], parameters: Sequence[Parameter]) -> str | None:
    """The dtype of the last floating output, else of the first parameter, else of any output."""
    other = None
    for index in reversed(ops):
        for spec in trace.ops[index].outputs:
            if spec.dtype.startswith(_FLOATS):
                return spec.dtype
            other = other or spec.dtype
    return parameters[0].dtype if parameters else other
