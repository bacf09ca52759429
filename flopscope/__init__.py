"""flopscope: what each layer of a PyTorch model costs, what it takes, and why the two differ.

    report = flopscope.profile(model, (1, 3, 224, 224))    # counts and measured latency
    report = flopscope.count(model, (1, 3, 224, 224))      # counts only, on no data

Nothing heavy is imported until it is needed: `import flopscope` does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from flopscope.version import __version__

if TYPE_CHECKING:
    from flopscope.costs import register_formula
    from flopscope.crosschecks import crosscheck
    from flopscope.errors import (
        BudgetError,
        FlopscopeError,
        ForwardError,
        InputError,
        MeasurementError,
        ModelLoadError,
        UntrustedModelError,
    )
    from flopscope.inputs import Inputs, Spec
    from flopscope.loading import load_model
    from flopscope.profiling import count, profile
    from flopscope.records import Layer
    from flopscope.reports import Report, load

_HOMES = {
    "BudgetError": "errors",
    "FlopscopeError": "errors",
    "ForwardError": "errors",
    "InputError": "errors",
    "Inputs": "inputs",
    "Layer": "records",
    "MeasurementError": "errors",
    "ModelLoadError": "errors",
    "Report": "reports",
    "Spec": "inputs",
    "UntrustedModelError": "errors",
    "count": "profiling",
    "crosscheck": "crosschecks",
    "load": "reports",
    "load_model": "loading",
    "profile": "profiling",
    "register_formula": "costs",
}

__all__ = [
    "BudgetError",
    "FlopscopeError",
    "ForwardError",
    "InputError",
    "Inputs",
    "Layer",
    "MeasurementError",
    "ModelLoadError",
    "Report",
    "Spec",
    "UntrustedModelError",
    "__version__",
    "count",
    "crosscheck",
    "load",
    "load_model",
    "profile",
    "register_formula",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'flopscope' has no attribute {name!r}")
    module = importlib.import_module(f"flopscope.{home}")
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
