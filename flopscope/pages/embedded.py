"""Report or Comparison <-> the text that a page carries inside itself: JSON, compressed.

A page stands open to whoever changes it: what is read back is checked as a JSON report is.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import json
import re
import zlib
from typing import TYPE_CHECKING, Any

from flopscope.version import __version__

if TYPE_CHECKING:
    from flopscope.comparison import Comparison
    from flopscope.reports import Report

LARGEST = 512_000_000
"""Bytes that the text of a page may have when unpacked: a small file can hold a very large one."""

_SIGNED = re.compile(rb"\s*<!doctype html><!-- flopscope \d\S* (report|comparison) -->", re.IGNORECASE)
_DERIVED = ("arithmetic_intensity", "flops_share", "latency_share", "flops_per_s", "bytes_per_s")
"""Columns of a layer that a report makes from the others: they would be two fifths of the text."""
_TABLES = ("layers", "tree", "ops", "evidence")
"""Lists of records that all have the same fields."""


def signature(what: str) -> str:
    """The first line of a page, by which it is known: `what` is "report" or "comparison"."""
    return f"<!doctype html><!-- flopscope {__version__} {what} -->"


def signed(head: bytes) -> str | None:
    """What a file that begins so is a page of: "report", "comparison"; None where it is no page of ours."""
    found = _SIGNED.match(head)
    return None if found is None else found[1].decode().lower()


def report_text(report: Report) -> str:
    """All of a report as JSON for a page: without what is derived, long lists by columns to pack better."""
    top = json.loads(report.to_json())
    for row in (*top["layers"], *top["tree"], top["total"]):
        for name in _DERIVED:
            row.pop(name, None)
    for name in _TABLES:
        rows = top[name]
        top[name] = {key: [row[key] for row in rows] for key in rows[0]} if rows else []
    return _dumps(top)


def comparison_text(comparison: Comparison) -> str:
    """A comparison as JSON for a page, without blanks."""
    return _dumps(json.loads(comparison.to_json()))


def element(name: str, text: str) -> str:
    """A text as the content of a script element of JSON: packed, it has no sign that ends an element."""
    packed = gzip.compress(text.encode(), 9, mtime=0)
    top = {"format": name, "encoding": "gzip+base64", "text": base64.b64encode(packed).decode()}
    return _dumps(top)


def json_in(text: str, name: str) -> str:
    """The JSON of a saved report: the text itself, or what it carries where it is a page.

    Raises:
        ValueError: A page carries nothing of this name, or something damaged.
    """
    if signed(text[:200].encode()) is None:
        return text
    top = json.loads(extracted(text, name))
    for table in _TABLES:
        columns = top.get(table) if isinstance(top, dict) else None
        if isinstance(columns, dict):
            cells = zip(*columns.values(), strict=True)
            top[table] = [dict(zip(columns, row, strict=True)) for row in cells]
    return json.dumps(top)


def extracted(page: str, name: str) -> str:
    """The text that a page carries under this name.

    Raises:
        ValueError: It carries none, or a damaged one.
    """
    opening = f'<script type="application/json" id="{name}">'
    start = page.find(opening)
    if start < 0:
        raise ValueError(f"it carries no {name}")
    content = page[start + len(opening) : page.find("</script>", start)]
    try:
        return _unpacked(base64.b64decode(json.loads(content)["text"], validate=True))
    except (KeyError, TypeError, binascii.Error, zlib.error, EOFError) as error:
        raise ValueError(f"the {name} in it cannot be unpacked") from error


def _unpacked(packed: bytes) -> str:
    """Unpack gzip, and no more than is plausible."""
    unpacking = zlib.decompressobj(wbits=31)
    text = unpacking.decompress(packed, LARGEST)
    if unpacking.unconsumed_tail or not unpacking.eof:
        raise ValueError("the text in it is cut off, or larger than any report")
    return text.decode()


def _dumps(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
