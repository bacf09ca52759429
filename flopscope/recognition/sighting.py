"""What a finder hands over: the ops of a block, before it is known which module they are."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sighting:
    """A block seen in the data flow.

    `core` are the ops without which there is no block; `around` are views and copies that
    prepare them, and belong to the block where they ran in its module or container.
    """

    kind: str
    core: frozenset[int]
    around: frozenset[int]
    formula_bytes: int | None = None
