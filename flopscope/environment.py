"""This process -> Environment: where a measurement is made, as far as it bears on the result."""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path

import torch

from flopscope.records import Environment
from flopscope.version import __version__

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "KMP_AFFINITY", "OMP_PROC_BIND")


def environment() -> Environment:
    """Describe the software and the machine of this process. Nothing names user or host."""
    return Environment(
        flopscope=__version__,
        python=platform.python_version(),
        torch=torch.__version__,
        platform=f"{platform.system()} {platform.machine()}",
        cpu=_cpu(),
        cores=os.cpu_count() or 1,
        capability=torch.backends.cpu.get_cpu_capability(),
        threads=torch.get_num_threads(),
        allocator=_allocator(),
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        other=_other(),
    )


def _cpu() -> str:
    """The processor's name; its architecture where the system does not tell."""
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _allocator() -> str:
    """The allocator in force: a preloaded one, else the C library's."""
    preloaded = os.environ.get("LD_PRELOAD", "")
    for name in ("jemalloc", "tcmalloc", "mimalloc"):
        if name in preloaded:
            return name
    library = platform.libc_ver()[0] or platform.system()
    return f"{library} malloc"


def _other() -> dict[str, str]:
    """Whatever else may explain a difference; what a platform lacks is left out."""
    found = {name: os.environ[name] for name in _THREAD_VARIABLES if name in os.environ}
    if hasattr(os, "sched_getaffinity"):
        found["affinity"] = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    if hasattr(os, "getloadavg"):
        found["load_1min"] = f"{os.getloadavg()[0]:.2f}"
    found["interop_threads"] = str(torch.get_num_interop_threads())
    found["mkldnn"] = str(torch.backends.mkldnn.is_available())
    return found
