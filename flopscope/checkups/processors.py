"""Host -> Checkup: how many processors there are for us, of what kind, and what is in force on them."""

from __future__ import annotations

from collections.abc import Sequence

from flopscope.records import Checkup

from .hosts import Host
from .trials import Trial

_CPU = "sys/devices/system/cpu"
_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_ALLOWANCE = 0.95  # of a quota's processors: an unlimited one reads as none, 1.99 of 2 is 2
_CONTAINER_FILES = (".dockerenv", "run/.containerenv")
_CONTAINER_GROUPS = ("docker", "kubepods", "containerd", "lxc", "libpod")


def threads_checkup(host: Host, threads: int) -> Checkup:
    """Threads of torch against processors that we may use."""
    count, allowed = len(host.processors), quota(host)
    usable = count if allowed is None else min(count, allowed)
    found = f"{_plural(threads, 'thread')}; {_plural(count, 'processor')} may be used"
    found += "" if allowed is None else f", a quota of {allowed:.3g}"
    found += "" if host.pinned else " (affinity is not told here)"
    named = [f"{name}={host.environ[name]}" for name in _VARIABLES if name in host.environ]
    found += f"; {', '.join(named)}" if named else ""
    if threads * _ALLOWANCE > usable:
        return Checkup(
            "threads", "bad", found, f"no more threads than processors: --threads {max(1, int(usable))}"
        )
    return Checkup("threads", "good", found)


def quota(host: Host) -> float | None:
    """Processors that the control groups of this process allow, the tightest; None where there is no limit.

    Version 2 keeps "quota period" in cpu.max ("max" for none), version 1 two files (-1 for none).
    """
    found = []
    for group in host.groups("cpu"):
        limit, period, *_ = [*(host.text(f"{group}/cpu.max") or "").split(), "", ""]
        if not limit:
            limit = host.word(f"{group}/cpu.cfs_quota_us") or ""
            period = host.word(f"{group}/cpu.cfs_period_us") or ""
        if limit.isdigit() and period.isdigit() and int(period):
            found.append(int(limit) / int(period))
    return min(found, default=None)


def quota_checkup(host: Host, trials: Sequence[Trial]) -> Checkup:
    """Whether the control group held us back: all threads then stand still until its next period."""
    if not any(True for _ in host.groups("cpu")):
        return Checkup("quota", "unknown", "no control groups are told (/proc/self/cgroup)")
    allowed = quota(host)
    then, now = trials[0].before.throttled, trials[-1].after.throttled
    found = "none" if allowed is None else f"{allowed:.3g} processors"
    if then is not None and now is not None and now > then:
        found += f"; held back in {now - then} periods just now"
        return Checkup("quota", "bad", found, "use fewer threads than the quota allows, or raise it")
    return Checkup("quota", "good", found)


def cores_checkup(host: Host, threads: int) -> Checkup:
    """Hardware threads that share a core among the processors that we may use."""
    path = f"{_CPU}/cpu{{}}/topology/thread_siblings_list"
    siblings = [host.word(path.format(number)) for number in host.processors]
    if None in siblings:
        return Checkup("cores", "unknown", "which processors share a core is not told")
    count, cores = len(siblings), len(set(siblings))
    if cores == count:
        return Checkup("cores", "good", f"{_plural(count, 'processor')}, no two of them on one core")
    found = f"{count} processors on {_plural(cores, 'core')}"
    if threads > cores:
        return Checkup(
            "cores", "doubtful", f"{found}: threads share cores", f"one thread per core: --threads {cores}"
        )
    first = sorted({siblings.index(name) for name in siblings})
    pinned = ",".join(str(host.processors[place]) for place in first)
    return Checkup(
        "cores", "good", found, f"to keep threads on cores of their own: taskset -c {pinned} flopscope ..."
    )


def clock_checkup(host: Host) -> Checkup:
    """The frequency governor, boost, and the clocks as they are now."""
    base = f"{_CPU}/cpu{host.processors[0]}/cpufreq"
    governor = host.word(f"{base}/scaling_governor")
    if governor is None:
        return Checkup("clock", "unknown", "no cpufreq in /sys: governor, boost and clock are not told")
    facts = [f"governor {governor}", *_boost(host)]
    path = f"{_CPU}/cpu{{}}/cpufreq/scaling_cur_freq"
    clocks = [host.number(path.format(number)) for number in host.processors]
    known = [clock / 1e6 for clock in clocks if clock is not None]
    if known:
        facts.append(f"{min(known):.2f} to {max(known):.2f} GHz now")
    if governor == "performance":
        return Checkup("clock", "good", ", ".join(facts))
    return Checkup("clock", "doubtful", ", ".join(facts), "sudo cpupower frequency-set -g performance")


def _boost(host: Host) -> list[str]:
    """Whether processors may go above their nominal clock, which depends on heat and on the others."""
    turned_off = host.number(f"{_CPU}/intel_pstate/no_turbo")
    boost = host.number(f"{_CPU}/cpufreq/boost") if turned_off is None else 1 - turned_off
    return [] if boost is None else [f"boost {'on' if boost else 'off'}"]


def virtual_checkup(host: Host) -> Checkup:
    """Whether this is a container or a virtual machine: neighbours then cannot be seen."""
    listing = host.text("proc/cpuinfo")
    if listing is None:
        return Checkup("virtual", "unknown", "no /proc/cpuinfo tells whether this is a virtual machine")
    flags = next((line for line in listing.splitlines() if line.startswith("flags")), "").split()
    kinds = ["a virtual machine"] if "hypervisor" in flags or host.word("sys/hypervisor/type") else []
    kinds += ["a container"] if _contained(host) else []
    if kinds:
        found = f"{' in '.join(reversed(kinds))}: what its neighbours do cannot be seen from here"
        return Checkup("virtual", "unknown", found, "compare runs of different hours")
    if not flags:
        return Checkup("virtual", "unknown", "this processor does not tell whether it is virtual")
    return Checkup("virtual", "good", "neither a virtual machine nor a container")


def _contained(host: Host) -> bool:
    groups = host.text("proc/1/cgroup") or ""
    named = "container" in host.environ or "KUBERNETES_SERVICE_HOST" in host.environ
    marked = any(host.text(path) is not None for path in _CONTAINER_FILES)
    return named or marked or any(word in groups for word in _CONTAINER_GROUPS)


def counters_checkup(host: Host) -> Checkup:
    """Whether the processor's own counters could tell of cache misses; flopscope does without."""
    devices = host.names("sys/bus/event_source/devices")
    level = host.number("proc/sys/kernel/perf_event_paranoid")
    if not any(name.startswith(("cpu", "armv")) for name in devices):
        return Checkup("counters", "unknown", "no hardware counters: cache misses cannot be counted here")
    if level is not None and level > 2:
        found = f"closed to users (perf_event_paranoid {level})"
        return Checkup(
            "counters", "unknown", found, "to use perf beside flopscope: sysctl kernel.perf_event_paranoid=2"
        )
    return Checkup("counters", "good", f"hardware counters are there (perf_event_paranoid {level})")


def _plural(count: int, one: str) -> str:
    return f"{count} {one}" + ("" if count == 1 else "s")
