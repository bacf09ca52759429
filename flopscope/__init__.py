"""flopscope: what each layer of a PyTorch model costs, what it takes, and why the two differ.

    report = flopscope.profile(model, (1, 3, 224, 224))    # counts and measured latency
    report = flopscope.count(model, (1, 3, 224, 224))      # counts only, on no data
    report.why("features.1.conv")                          # why a layer takes what it takes

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
    from flopscope.machines import machine
    from flopscope.profiling import count, explain, profile
    from flopscope.records import Layer, Machine
    from flopscope.reports import Report, load

_HOMES = {
    "BudgetError": "errors",
    "FlopscopeError": "errors",
    "ForwardError": "errors",
    "InputError": "errors",
    "Inputs": "inputs",
    "Layer": "records",
    "Machine": "records",
    "MeasurementError": "errors",
    "ModelLoadError": "errors",
    "Report": "reports",
    "Spec": "inputs",
    "UntrustedModelError": "errors",
    "count": "profiling",
    "crosscheck": "crosschecks",
    "explain": "profiling",
    "load": "reports",
    "load_model": "loading",
    "machine": "machines",
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
    "Machine",
    "MeasurementError",
    "ModelLoadError",
    "Report",
    "Spec",
    "UntrustedModelError",
    "__version__",
    "count",
    "crosscheck",
    "explain",
    "load",
    "load_model",
    "machine",
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
