"""torch's view of accelerators -> Checkup: which there are, and what they do besides."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch

from flopscope.records import Checkup

_BUSY_PERCENT = 5


def accelerators(cuda: Any = None, mps: Any = None, nvml: Any = None) -> Checkup:
    """Name, driver, clock and load of each CUDA device; stand-ins may be given for torch's modules."""
    cuda, mps = cuda or torch.cuda, mps or torch.backends.mps
    if cuda.is_available():
        nvml = nvml or (import_module("pynvml") if find_spec("pynvml") else None)
        return _cuda(cuda, nvml)
    if mps.is_available():
        return Checkup("GPU", "unknown", "an Apple GPU (MPS); torch tells neither its clock nor its load")
    return Checkup("GPU", "good", "no GPU")


def _cuda(cuda: Any, nvml: Any) -> Checkup:
    devices: list[str] = []
    loads: list[int | None] = []
    for index in range(cuda.device_count()):
        clock, load, heat = (
            _asked(getattr(cuda, name), index, nvml) for name in ("clock_rate", "utilization", "temperature")
        )
        facts = [
            f"{value} {unit}"
            for value, unit in ((clock, "MHz"), (load, "% busy"), (heat, "°C"))
            if value is not None
        ]
        devices.append(", ".join([cuda.get_device_name(index), *facts]))
        loads.append(load)
    driver = _driver(nvml)
    found = "; ".join(
        [*devices, f"CUDA {torch.version.cuda}", f"driver {driver}" if driver else "driver unknown"]
    )
    known = [load for load in loads if load is not None]
    if len(known) < len(loads):
        missing = f"{found}; clock and load are not told (pip install nvidia-ml-py)"
        return Checkup("GPU", "unknown", missing)
    if max(known) > _BUSY_PERCENT:
        return Checkup("GPU", "doubtful", found, "end what else runs on the GPU (nvidia-smi lists it)")
    return Checkup("GPU", "good", found)


def _asked(question: Any, index: int, nvml: Any) -> int | None:
    """The answer of the driver; None where nobody can ask it or it does not know."""
    with suppress(ImportError, RuntimeError, AssertionError, AttributeError, *_errors(nvml)):
        return int(question(index))
    return None


def _driver(nvml: Any) -> str | None:
    if nvml is None:
        return None
    with suppress(AttributeError, *_errors(nvml)):
        nvml.nvmlInit()
        version = nvml.nvmlSystemGetDriverVersion()
        return version.decode() if isinstance(version, bytes) else str(version)
    return None


def _errors(nvml: Any) -> tuple[type[BaseException], ...]:
    return () if nvml is None else (nvml.NVMLError,)
