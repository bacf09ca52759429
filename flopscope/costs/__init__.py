"""OpCall -> OpCost: what an operator costs in MACs, FLOPs and bytes. Never imports torch."""

from __future__ import annotations

from flopscope.costs import (
    attention,
    backward,
    contractions,
    elementwise,
    movement,
    normalisation,
    optimizers,
    quantised,
    recurrent,
    resampling,
    transforms,
)
from flopscope.costs.pricing import price, price_all
from flopscope.costs.registry import (
    NOTHING,
    Formula,
    Work,
    formula,
    has_formula,
    known_names,
    register_formula,
)

# Importing a family registers its formulas.
FAMILIES = (
    attention,
    backward,
    contractions,
    elementwise,
    movement,
    normalisation,
    optimizers,
    quantised,
    recurrent,
    resampling,
    transforms,
)

__all__ = [
    "FAMILIES",
    "NOTHING",
    "Formula",
    "Work",
    "formula",
    "has_formula",
    "known_names",
    "price",
    "price_all",
    "register_formula",
]
