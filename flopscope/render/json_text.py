"""Report -> JSON: all of it, one record a line; and JSON values -> records, for `flopscope.load`."""

from __future__ import annotations

import functools
import json
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import TYPE_CHECKING, Any

from flopscope.records import Layer
from flopscope.render.registry import Options, renderer
from flopscope.render.rows import COLUMNS, Whole, layer_row, whole_of

if TYPE_CHECKING:
    from flopscope.reports import Report

FORMAT = "flopscope-report"
VERSION = 1


@renderer("json")
def render_json(report: Report, options: Options) -> str:
    """The whole report, whatever the options; `schema/report.schema.json` describes it.

    Raises:
        ValueError: A number is NaN or infinite, which no part of flopscope may make.
    """
    del options
    whole = whole_of(report)
    top: dict[str, Any] = {"format": FORMAT, "version": VERSION}
    top |= {field.name: _plain(getattr(report, field.name), whole) for field in fields(report)}
    return "{\n" + ",\n".join(_entries(top)) + "\n}\n"


def restored(hint: Any, value: Any, where: str) -> Any:
    """Give a JSON value the type that a field declares: lists become tuples, objects records.

    Raises:
        ValueError: It has another type.
    """
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (types.UnionType, typing.Union):
        return None if value is None else restored(parts[0], value, where)
    if is_dataclass(hint):
        return _record(typing.cast(type, hint), value, where)
    if origin is tuple and isinstance(value, list):
        members = [parts[0]] * len(value) if parts[-1] is Ellipsis else parts
        pairs = zip(members, value, strict=True)
        return tuple(restored(member, item, f"{where}[{k}]") for k, (member, item) in enumerate(pairs))
    if origin is Mapping and isinstance(value, dict):
        return {key: restored(parts[1], item, f"{where}.{key}") for key, item in value.items()}
    if origin is None and _fits(value, hint):
        return value
    raise ValueError(f"{where}: expected {getattr(hint, '__name__', hint)}, got {value!r:.40}")


def _plain(value: Any, whole: Whole) -> Any:
    """Records as objects, layers with their derived columns, tuples as lists."""
    if isinstance(value, Layer):
        row = layer_row(value, whole)
        own = {field.name: getattr(value, field.name) for field in fields(value)}
        value = {name: row[name] for name in COLUMNS} | own
    elif is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, Mapping):
        return {name: _plain(item, whole) for name, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item, whole) for item in value]
    return value


def _entries(top: Mapping[str, Any]) -> Iterator[str]:
    """One entry of the outermost object at a time; a list of records gets a line for each."""
    for name, value in top.items():
        text = _dumps(value)
        if isinstance(value, list) and value and isinstance(value[0], dict):
            text = "[\n  " + ",\n  ".join(_dumps(item) for item in value) + "\n ]"
        yield f" {_dumps(name)}: {text}"


def _dumps(value: Any) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False)


@functools.cache
def _hints(record: type) -> Mapping[str, Any]:
    return typing.get_type_hints(record)


def _record(record: type, value: Any, where: str) -> Any:
    """Build a record from a JSON object; keys that it does not have, as derived ones, are ignored."""
    if not isinstance(value, dict):
        raise ValueError(f"{where}: expected an object, got {value!r:.40}")
    given = {}
    for item in fields(record):
        if item.name in value:
            hint = _hints(record)[item.name]
            given[item.name] = restored(hint, value[item.name], f"{where}.{item.name}")
        elif item.default is MISSING and item.default_factory is MISSING:
            raise ValueError(f"{where}: {item.name} is missing")
    return record(**given)


def _fits(value: Any, hint: type) -> bool:
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, (int, float) if hint is float else hint)
