"""Models, or ways to run and rewrite one -> Comparison: the conductor of what is timed in turns."""

from __future__ import annotations

from .comparing import compare
from .supposing import Early, whatif

__all__ = ["Early", "compare", "whatif"]
