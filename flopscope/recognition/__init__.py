"""`Trace` -> what each op, stretch and block is: by what it does, never by a class name."""

from __future__ import annotations

from .blocks import blocks
from .kinds import kind_of_op, kinds

__all__ = ["blocks", "kind_of_op", "kinds"]
