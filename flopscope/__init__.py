"""flopscope: what each layer of a PyTorch model costs, what it takes, and why the two differ.

    report = flopscope.profile(model, (1, 3, 224, 224))    # counts and measured latency
    report = flopscope.count(model, (1, 3, 224, 224))      # counts only, on no data
    report.why("features.1.conv")                          # why a layer takes what it takes
    flopscope.compare({"a": model, "b": other}, shape)     # side by side, timed in turns
    flopscope.whatif(model, shape, "fold-bn")              # the model rewritten, checked and measured

Nothing heavy is imported until it is needed: `import flopscope` does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from flopscope.version import __version__

if TYPE_CHECKING:
    from flopscope.comparison import Comparison
    from flopscope.contests import compare, whatif
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
    from flopscope.zoo import operator

_HOMES = {
    "BudgetError": "errors",
    "Comparison": "comparison",
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
    "compare": "contests",
    "count": "profiling",
    "crosscheck": "crosschecks",
    "explain": "profiling",
    "load": "reports",
    "load_model": "loading",
    "machine": "machines",
    "operator": "zoo",
    "profile": "profiling",
    "register_formula": "costs",
    "whatif": "contests",
}

__all__ = [
    "BudgetError",
    "Comparison",
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
    "compare",
    "count",
    "crosscheck",
    "explain",
    "load",
    "load_model",
    "machine",
    "operator",
    "profile",
    "register_formula",
    "whatif",
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
