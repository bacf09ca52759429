"""A device and a number of threads -> what identifies the machine for a calibration, and its fingerprint."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping

import torch

from flopscope.environment import environment
from flopscope.errors import InputError

METHOD = 1  # grows whenever the way of measuring changes: what was measured the old way is then forgotten


def identity(device: str, threads: int) -> dict[str, str]:
    """Everything on which the roofs depend, as texts; nothing names user or host."""
    here = environment()
    found = {
        "method": str(METHOD),
        "device": device,
        "name": here.cpu,
        "capability": here.capability,
        "cores": str(here.cores),
        "allowed": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else here.cores),
        "threads": str(threads),
        "torch": here.torch,
    }
    if torch.device(device).type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        found["name"] = torch.cuda.get_device_name(device)
        found["capability"] = f"{major}.{minor}, CUDA {torch.version.cuda}"
    return found


def fingerprint(identity: Mapping[str, str]) -> str:
    """Sixteen hexadecimal digits that differ where any part of the identity does."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def settled(device: str, threads: int | None) -> tuple[str, int]:
    """The device and the number of threads as they are meant.

    Raises:
        InputError: There is no such device here, none whose roofs are measured, or no such number.
    """
    if threads is not None and threads < 1:
        raise InputError(f"threads is {threads}, expected 1 or more", hint="leave it out for torch's own")
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise InputError(f"no such device: {device!r}", hint="cpu, or cuda:0") from error
    if kind not in ("cpu", "cuda"):
        raise InputError(
            f"the roofs of {kind!r} devices are not measured",
            hint="describe it in a sheet: --machine FILE.toml",
        )
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "torch sees no CUDA device here", hint="a sheet stands in for one: --machine FILE.toml"
        )
    if kind == "cuda":
        index = torch.device(device).index
        kind = f"cuda:{torch.cuda.current_device() if index is None else index}"
    return kind, threads or torch.get_num_threads()
