"""Host -> Checkup: memory left, the allocator and its habits, large pages."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence

from flopscope.records import Checkup

from .hosts import Host
from .trials import Trial

LEAST_BYTES, LEAST_SHARE = 1_000_000_000, 0.05
"""Less than this, or than this share of all memory, and the system may start to swap."""
SIZES_MB = (16, 64)
ALLOCATORS = ("jemalloc", "tcmalloc", "mimalloc")
_TUNED = (
    *("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_TOP_PAD_"),
    "GLIBC_TUNABLES",
)
_POOL = (
    "to see what page faults cost, keep buffers (glibc):"
    " MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000 flopscope ..."
)

# Run in a process of its own, which has its own malloc: touch a buffer, hand it back, and again.
_CHILD = """
import ctypes, json, resource, sys
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
def faults(size):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    place = libc.malloc(size)
    libc.memset(place, 1, size)
    libc.free(place)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(json.dumps([[faults(int(size)) for _ in range(6)] for size in sys.argv[1:]]))
"""


def memory_checkup(host: Host, trials: Sequence[Trial]) -> Checkup:
    """Memory that is left, by the system and by the control group; swap in use; pages swapped just now."""
    held = host.numbers("proc/meminfo")
    if "MemAvailable" not in held or "MemTotal" not in held:
        return Checkup("memory", "unknown", "no /proc/meminfo tells how much memory is left")
    total, left = 1024 * held["MemTotal"], 1024 * held["MemAvailable"]
    for limit, used in _limits(host):
        if limit < total:
            total, left = limit, min(left, max(0, limit - used))
    swap = 1024 * (held.get("SwapTotal", 0) - held.get("SwapFree", 0))
    found = f"{left / 1e9:.1f} of {total / 1e9:.1f} GB left, {swap / 1e9:.1f} GB in swap"
    then, now = trials[0].before.swapped, trials[-1].after.swapped
    if then is not None and now is not None and now > then:
        return Checkup("memory", "doubtful", f"{found}; {now - then} pages swapped just now", "free memory")
    if left < max(LEAST_SHARE * total, min(LEAST_BYTES, total / 2)):
        return Checkup("memory", "doubtful", found, "free memory, or use a smaller batch")
    return Checkup("memory", "good", found)


def _limits(host: Host) -> list[tuple[int, int]]:
    """Limit and use of each control group that has a limit (version 2, then version 1)."""
    found = []
    for group in host.groups("memory"):
        for limit_name, used_name in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            limit, used = host.number(f"{group}/{limit_name}"), host.number(f"{group}/{used_name}")
            if limit is not None and used is not None:
                kept = host.numbers(f"{group}/memory.stat").get("inactive_file", 0)  # given up when asked for
                found.append((limit, max(0, used - kept)))
    return found


def allocator_checkup(host: Host, measured: Callable[[], list[list[int]] | None] | None = None) -> Checkup:
    """Which allocator is in force, and what a large buffer costs when it is allocated again.

    A habit that is no fault: it is told so that nobody takes page faults for a slow kernel.

    Args:
        host: for the environment, and the libraries that are loaded.
        measured: gives page faults by size and repetition, None where they cannot be measured.
    """
    name = _loaded(host)
    tuned = [variable for variable in _TUNED if variable in host.environ]
    found = name + (f" with {', '.join(tuned)} set" if tuned else "")
    rounds = (measured or faults_of_buffers)()
    if rounds is None:
        return Checkup("allocator", "unknown", f"{found}; page faults cannot be counted here")
    habits = [
        f"{size} MB buffer: {faults[0]} page faults when new, {faults[-1]} when allocated again"
        for size, faults in zip(SIZES_MB, rounds, strict=True)
    ]
    handed_back = any(faults[-1] > 0.5 * faults[0] > 0 for faults in rounds)
    return Checkup("allocator", "good", f"{found}; {'; '.join(habits)}", _POOL if handed_back else "")


def faults_of_buffers(command: Sequence[str] | None = None) -> list[list[int]] | None:
    """Page faults of buffers that a child process allocates, touches and frees, six times each size.

    This process's malloc stays as it is: what it has freed decides how it behaves from then on.
    """
    if not command and (not sys.executable or getattr(sys, "frozen", False)):
        return None  # there is no Python to start: the program would start itself
    command = command or (sys.executable, "-I", "-S", "-c", _CHILD)
    sizes = [str(size * 1_000_000) for size in SIZES_MB]
    try:
        done = subprocess.run([*command, *sizes], capture_output=True, text=True, timeout=20, check=True)
        return [[int(count) for count in counts] for counts in json.loads(done.stdout)]
    except (OSError, subprocess.SubprocessError, ValueError, TypeError):
        return None


def _loaded(host: Host) -> str:
    """The allocator that is preloaded or mapped, else the C library's."""
    places = f"{host.environ.get('LD_PRELOAD', '')} {host.text('proc/self/maps') or ''}"
    return next((name for name in ALLOCATORS if name in places), "the C library's malloc")


def pages_checkup(host: Host) -> Checkup:
    """Transparent huge pages: whether one fault may bring in much more than one small page."""
    setting = host.word("sys/kernel/mm/transparent_hugepage/enabled")
    if setting is None or "[" not in setting:
        return Checkup("huge pages", "unknown", "no transparent_hugepage in /sys")
    chosen = setting.partition("[")[2].partition("]")[0]
    meaning = {
        "always": "given to every large buffer where memory is not fragmented: faults vary with its history",
        "madvise": "given to programs that ask for them, which torch by default does not",
        "never": "not given",
    }
    return Checkup("huge pages", "good", f"{chosen}: {meaning.get(chosen, 'unknown setting')}")
