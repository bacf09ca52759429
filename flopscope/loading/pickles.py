"""The bytes of a pickle -> what it would do: names it fetches, calls it makes. Nothing is run.

A pickle is a program for a small stack machine without jumps, so it can be read through once,
with a symbol in place of every value, and every call it would make is then known beforehand.
Only the instructions that torch.save writes are known here; any other is refused. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

MAX_BYTES = 64 * 2**20
"""Of one pickle. ResNet-152 as a whole module needs 0.4 MB."""

MAX_STEPS = 10_000_000
"""Instructions of one pickle; a step makes at most one small object."""


class PickleRefusedError(Exception):
    """The pickle does what no file of torch.save does. The text completes "it ..."."""


@dataclass(frozen=True, slots=True)
class Name:
    """A global that the pickle fetches."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True, slots=True)
class Storage:
    """A block of numbers that the archive holds: record `data/<key>`."""

    type: Name
    key: str
    location: str
    numel: int


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """What a call (or `cls.__new__`) would give. `args` are symbols."""

    by: Name
    args: tuple[Any, ...]
    new: bool


@dataclass(slots=True, eq=False)
class Mapping:
    """A dict; its content is not followed, but its keys are checked."""

    length: int = 0


@dataclass(slots=True)
class Reading:
    """Everything that a pickle would do.

    `made` lists calls in order; `built` the (object, state) pairs of `__setstate__`;
    `storages` each record that is looked at.
    """

    result: Any = None
    names: set[Name] = field(default_factory=set)
    made: list[Made] = field(default_factory=list)
    built: list[tuple[Made, Any]] = field(default_factory=list)
    storages: dict[str, Storage] = field(default_factory=dict)


def read_pickle(code: bytes) -> Reading:
    """Read a pickle through without running it.

    Raises:
        PickleRefusedError: It is damaged, too long, or does something that torch.save never writes.
    """
    if len(code) > MAX_BYTES:
        raise PickleRefusedError(f"has {len(code)} bytes of instructions; at most {MAX_BYTES} are read")
    machine = _Machine(code)
    try:
        return machine.run()
    except (IndexError, KeyError, UnicodeDecodeError) as error:
        raise PickleRefusedError("is cut short or inconsistent") from error


_MARK = object()

# Pickle protocol 2 writes Python 2's module names. torch renames more of them; a file that uses
# those others is refused, since no list here has them.
_RENAMED = {"__builtin__": "builtins", "copy_reg": "copyreg"}


class _Machine:
    """The stack machine, with symbols for values."""

    def __init__(self, code: bytes) -> None:
        self.code = code
        self.at = 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.reading = Reading()

    def run(self) -> Reading:
        steps = _STEPS
        for _ in range(MAX_STEPS):
            opcode = self.code[self.at]
            self.at += 1
            if opcode == 0x2E:  # STOP
                self.reading.result = self.stack.pop()
                return self.reading
            step = steps.get(opcode)
            if step is None:
                raise PickleRefusedError(
                    f"uses the pickle instruction {opcode:#04x}, which torch.save never writes"
                )
            step(self)
        raise PickleRefusedError(f"has more than {MAX_STEPS} instructions")

    def take(self, count: int) -> bytes:
        piece = self.code[self.at : self.at + count]
        if len(piece) < count:
            raise PickleRefusedError("is cut short")
        self.at += count
        return piece

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "little")

    def line(self) -> str:
        end = self.code.index(b"\n", self.at) if b"\n" in self.code[self.at : self.at + 1024] else -1
        if end < 0:
            raise PickleRefusedError("names a global of more than 1000 letters")
        piece = self.code[self.at : end]
        self.at = end + 1
        return piece.decode()

    def since_mark(self) -> list[Any]:
        for place in range(len(self.stack) - 1, -1, -1):
            if self.stack[place] is _MARK:
                items = self.stack[place + 1 :]
                del self.stack[place:]
                return items
        raise PickleRefusedError("is inconsistent")


def _fetch(machine: _Machine) -> None:
    module = machine.line()
    name = Name(_RENAMED.get(module, module), machine.line())
    machine.reading.names.add(name)
    machine.stack.append(name)


def _call(machine: _Machine, *, new: bool) -> None:
    args = machine.stack.pop()
    called = machine.stack.pop()
    if not isinstance(called, Name):
        raise PickleRefusedError("calls something that it made itself")
    if not isinstance(args, tuple):
        raise PickleRefusedError("makes a call without a tuple of arguments")
    made = Made(called, args, new)
    machine.reading.made.append(made)
    machine.stack.append(made)


def _build(machine: _Machine) -> None:
    state = machine.stack.pop()
    target = machine.stack[-1]
    if not isinstance(target, Made):
        raise PickleRefusedError("sets the state of something that is no object")
    machine.reading.built.append((target, state))


def _persistent(machine: _Machine) -> None:
    given = machine.stack.pop()
    match given:
        case ("storage", Name() as kind, str(key), str(location), int(numel)) if numel >= 0:
            storage = Storage(kind, key, location, numel)
        case _:
            raise PickleRefusedError("refers to something that is no storage")
    held = machine.reading.storages.setdefault(key, storage)
    if storage.numel > held.numel or storage.type != held.type:
        raise PickleRefusedError(f"describes storage {key} in two ways")
    machine.stack.append(storage)


def _append(machine: _Machine) -> None:
    item = machine.stack.pop()
    _extend(machine, [item])


def _extend(machine: _Machine, items: list[Any]) -> None:
    if not isinstance(machine.stack[-1], list):
        raise PickleRefusedError("appends to something that is no list")
    machine.stack[-1].extend(items)


def _set_item(machine: _Machine) -> None:
    value = machine.stack.pop()
    key = machine.stack.pop()
    _set_items(machine, [key, value])


def _set_items(machine: _Machine, items: list[Any]) -> None:
    target = machine.stack[-1]
    known = isinstance(target, Mapping) or (isinstance(target, Made) and target.by.module == "collections")
    if not known or len(items) % 2:
        raise PickleRefusedError("sets an item of something that is no dict")
    for key in items[::2]:
        check_key(key)


def check_key(key: Any) -> None:
    """Refuse dict keys and set members whose hash could take forever (nested tuples, huge ints)."""
    parts = key if isinstance(key, tuple) else (key,)
    for part in parts:
        if isinstance(part, (tuple, list, Mapping)) or (isinstance(part, int) and abs(part) >= 2**60):
            raise PickleRefusedError("uses a dict key that no model has")


def _tuple(machine: _Machine, count: int) -> None:
    if len(machine.stack) < count or any(item is _MARK for item in machine.stack[-count:]):
        raise PickleRefusedError("is inconsistent")
    items = tuple(machine.stack[-count:])
    del machine.stack[-count:]
    machine.stack.append(items)


def _text(machine: _Machine) -> str:
    return str(machine.take(machine.number(4)), "utf-8", "surrogatepass")


def _long(machine: _Machine) -> int:
    return int.from_bytes(machine.take(machine.number(1)), "little", signed=True)


def _put(machine: _Machine, place: int) -> None:
    if machine.stack[-1] is _MARK:
        raise PickleRefusedError("is inconsistent")
    machine.memo[place] = machine.stack[-1]


def _push(value: Callable[[_Machine], Any]) -> Callable[[_Machine], None]:
    return lambda machine: machine.stack.append(value(machine))


_STEPS: dict[int, Callable[[_Machine], Any]] = {
    ord(opcode): step
    for opcode, step in {
        "\x80": lambda machine: machine.take(1),  # PROTO
        "c": _fetch,  # GLOBAL
        "R": lambda machine: _call(machine, new=False),  # REDUCE
        "\x81": lambda machine: _call(machine, new=True),  # NEWOBJ
        "b": _build,  # BUILD
        "Q": _persistent,  # BINPERSID
        "(": _push(lambda machine: _MARK),  # MARK
        "t": _push(lambda machine: tuple(machine.since_mark())),  # TUPLE
        "\x85": lambda machine: _tuple(machine, 1),  # TUPLE1
        "\x86": lambda machine: _tuple(machine, 2),  # TUPLE2
        "\x87": lambda machine: _tuple(machine, 3),  # TUPLE3
        "N": _push(lambda machine: None),  # NONE
        "\x88": _push(lambda machine: True),  # NEWTRUE
        "\x89": _push(lambda machine: False),  # NEWFALSE
        ")": _push(lambda machine: ()),  # EMPTY_TUPLE
        "]": _push(lambda machine: []),  # EMPTY_LIST
        "}": _push(lambda machine: Mapping()),  # EMPTY_DICT
        "\x8f": _push(lambda machine: Mapping()),  # EMPTY_SET
        "a": _append,  # APPEND
        "e": lambda machine: _extend(machine, machine.since_mark()),  # APPENDS
        "s": _set_item,  # SETITEM
        "u": lambda machine: _set_items(machine, machine.since_mark()),  # SETITEMS
        "J": _push(lambda machine: int.from_bytes(machine.take(4), "little", signed=True)),  # BININT
        "K": _push(lambda machine: machine.number(1)),  # BININT1
        "M": _push(lambda machine: machine.number(2)),  # BININT2
        "G": _push(lambda machine: (machine.take(8), 0.0)[1]),  # BINFLOAT: the value is of no use here
        "X": _push(_text),  # BINUNICODE
        "U": _push(lambda machine: machine.take(machine.number(1))),  # SHORT_BINSTRING
        "\x8a": _push(_long),  # LONG1
        "q": lambda machine: _put(machine, machine.number(1)),  # BINPUT
        "r": lambda machine: _put(machine, machine.number(4)),  # LONG_BINPUT
        "h": _push(lambda machine: machine.memo[machine.number(1)]),  # BINGET
        "j": _push(lambda machine: machine.memo[machine.number(4)]),  # LONG_BINGET
    }.items()
}
