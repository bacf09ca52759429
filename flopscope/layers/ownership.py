"""`Trace` and `Block`s -> which layer owns each op, each call and each parameter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from flopscope.records import Block, Parameter, Trace

OPS = "(ops)"
LOSS, OPTIMIZER = "(loss)", "(optimizer)"

# A layer's identity: its path and its type. A container's own ops, and the blocks written inline
# in its forward, share its path and differ by type: "(ops)", "(se)", "(pconv)". Of a training step what
# belongs to no module has the root's path: "(loss)", "(optimizer)".
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Ownership:
    """The layer of every op, of every call (for what runs in it directly), and of every parameter.

    `ops` is parallel to `Trace.ops`, `calls` to `Trace.calls`, `parameters` to `Trace.parameters`.
    `idle` lists the keys of modules that own parameters and never ran.
    """

    ops: tuple[Key, ...]
    calls: tuple[Key, ...]
    parameters: tuple[Key, ...]
    idle: tuple[Key, ...]


def owners(trace: Trace, blocks: Sequence[Block] = ()) -> Ownership:
    """Give every op, call and parameter of a run to exactly one layer.

    A backward op goes where the forward op is whose gradient it computes.
    """
    inline = {index: (block.path, block.type) for block in blocks if block.inline for index in block.ops}
    calls = _call_keys(trace, blocks)
    _give_to_inline(trace, inline, calls)
    ops = tuple(
        ("", op.outside)
        if op.outside
        else inline.get(index if op.source is None else op.source, calls[op.call])
        for index, op in enumerate(trace.ops)
    )
    parameters, idle = _parameter_keys(trace, calls)
    return Ownership(ops, tuple(calls), parameters, idle)


def ancestors(path: str) -> Iterator[str]:
    """The paths above `path` by its dots, nearest first, down to the root's ""."""
    while path:
        path = path.rpartition(".")[0]
        yield path


def _call_keys(trace: Trace, blocks: Sequence[Block]) -> list[Key]:
    """A leaf's calls are the leaf's, a block's the block's, a container's own ops its "(ops)"."""
    containers = {trace.calls[call.parent].path for call in trace.calls if call.parent is not None}
    whole = {_call_of(trace, block): (block.path, block.type) for block in blocks if not block.inline}
    inside: list[Key | None] = []
    keys: list[Key] = []
    for index, call in enumerate(trace.calls):
        above = inside[call.parent] if call.parent is not None else None
        block = above or whole.get(index)
        inside.append(block)
        keys.append(block or (call.path, OPS if call.path in containers else call.type))
    return keys


def _call_of(trace: Trace, block: Block) -> int:
    """The module call that a block is: the innermost of its path round its first op."""
    index: int | None = trace.ops[block.ops[0]].call
    while index is not None:
        if trace.calls[index].path == block.path:
            return index
        index = trace.calls[index].parent
    return 0


def _give_to_inline(trace: Trace, inline: dict[int, Key], calls: list[Key]) -> None:
    """Give a call to an inline block where all that it did is part of that block."""
    touched: set[int] = set()
    for index in inline:
        above: int | None = trace.ops[index].call
        while above is not None and above not in touched:
            touched.add(above)
            above = trace.calls[above].parent
    for index in touched:
        call = trace.calls[index]
        does = [at for at in range(call.first_op, call.end_op) if not trace.ops[at].view]
        found = {inline.get(at) for at in does or range(call.first_op, call.end_op)}
        key = found.pop() if len(found) == 1 else None
        if key is not None and key[0] != call.path:
            calls[index] = key


def _parameter_keys(trace: Trace, calls: Sequence[Key]) -> tuple[tuple[Key, ...], tuple[Key, ...]]:
    """A parameter is its owner's; below a leaf or a block, where the owner did not run, that one's."""
    types = {module.path: module.type for module in trace.modules}
    ran: dict[str, Key] = {}
    for call, key in zip(trace.calls, calls, strict=True):
        ran.setdefault(call.path, key)
    found: dict[str, Key] = {}
    idle: dict[Key, None] = {}
    keys = []
    for parameter in trace.parameters:
        owner = parameter.owner
        if owner not in found:
            found[owner] = _home(parameter, ran, types)
            if owner not in ran and found[owner][0] == owner:
                idle[found[owner]] = None
        keys.append(found[owner])
    return tuple(keys), tuple(idle)


def _home(parameter: Parameter, ran: dict[str, Key], types: dict[str, str]) -> Key:
    """The layer of the parameter's owner, or of the leaf or block that it is registered under."""
    owner = parameter.owner
    if owner in ran:
        return ran[owner]
    for path in ancestors(owner):
        if path in ran:
            if ran[path][1] != OPS:
                return ran[path]
            break
    return (owner, types.get(owner, "Parameter"))
