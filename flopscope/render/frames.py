"""Rows -> data frame; pandas is imported here alone, and only when a frame is asked for."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flopscope.records import Layer, OpRow

if TYPE_CHECKING:
    import pandas as pd


def frame(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """Rows as a data frame, without pandas' own idea of what a column with gaps is."""
    import pandas as pd

    return pd.DataFrame(
        {name: pd.Series([row[name] for row in rows], dtype=_dtype(name)) for name in columns}
    )


def _dtype(name: str) -> str:
    hint = {**typing.get_type_hints(Layer), **typing.get_type_hints(OpRow)}.get(name, float)
    if hint in (int, int | None):
        return "Int64"
    return "float64" if hint in (float, float | None) else "object"
