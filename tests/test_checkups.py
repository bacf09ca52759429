"""Checkups on planted /proc and /sys trees and on hand-made trials; then one real look, without figures."""

from __future__ import annotations

import dataclasses
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from flopscope import checkups as room
from flopscope.checkups import (
    Host,
    Moment,
    Trial,
    checkups,
    company,
    devices,
    hosts,
    memory,
    processors,
    trials,
)
from flopscope.records import Checkup

WORDS = {"good", "doubtful", "bad", "unknown"}
Plant = Callable[..., Host]


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    """Write files below a root of their own, and give the host that sees them."""

    def planted(files: dict[str, str] | None = None, **given: Any) -> Host:
        for name, text in (files or {}).items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return Host(root=tmp_path, **{"processors": (0, 1), **given})

    return planted


BEFORE = Moment(
    at_s=10.0,
    cpu_s=5.0,
    run_delay_s={1: 2.0},
    switches=0,
    busy_s=0.0,
    stolen_s=0.0,
    throttled=0,
    hot=0,
    swapped=0,
)


def made(threads: int = 1, seconds: tuple[float, ...] = (1e-3,) * 20, **later: Any) -> Trial:
    """A trial of one second that kept one processor busy; `later` is what counters say at its end."""
    after = dataclasses.replace(BEFORE, **{"at_s": 11.0, "cpu_s": 6.0, "busy_s": 1.0, **later})
    return Trial(threads, 1000, seconds, BEFORE, after)


# --------------------------------------------------------------------------- reading


def test_a_host_reads_what_is_there_and_none_otherwise(plant: Plant) -> None:
    host = plant(
        {"a/word": " tsc\n", "a/number": "42\n", "a/empty": "", "a/list": "Mem:  7 kB\nswap 3\nodd x\n"}
    )
    assert host.word("a/word") == "tsc"
    assert host.word("a/empty") is None
    assert host.word("a/none") is None
    assert host.number("a/number") == 42
    assert host.number("a/word") is None
    assert host.numbers("a/list") == {"Mem": 7, "swap": 3}
    assert host.names("a") == ["empty", "list", "number", "word"]
    assert host.names("b") == []


PROC_STAT = """\
cpu  9999 0 0 0 0 0 0 0 0 0
cpu0 100 20 30 5000 60 7 8 9 50 0
cpu1 1 2 3 4 5 6 7 8 0 0
cpu2 500 500 500 500 500 500 500 500 0 0
intr 12345
"""


def test_processor_seconds_are_those_of_the_usable_processors(plant: Plant) -> None:
    # user nice system irq softirq: 100+20+30+7+8 = 165 and 1+2+3+6+7 = 19 ticks of 10 ms; steal 9 + 8
    now = hosts.moment(plant({"proc/stat": PROC_STAT}))
    assert now.busy_s == pytest.approx(1.84)
    assert now.stolen_s == pytest.approx(0.17)
    assert now.switches is None or now.switches >= 0
    alone = hosts.moment(plant(processors=(1,), tick_s=0.001))
    assert alone.busy_s == pytest.approx(0.019)


def test_counters_of_threads_groups_heat_and_swap(plant: Plant) -> None:
    throttle = "sys/devices/system/cpu/cpu{}/thermal_throttle/{}_throttle_count"
    host = plant(
        {
            "proc/self/task/7/schedstat": "1000 2000000000 5\n",
            "proc/self/task/8/schedstat": "0 500000000 5\n",
            "proc/self/cgroup": "0::/inner\n",
            "sys/fs/cgroup/inner/cpu.stat": "usage_usec 9\nnr_throttled 3\n",
            "sys/fs/cgroup/cpu.stat": "usage_usec 9\n",
            throttle.format(0, "core"): "2\n",
            throttle.format(0, "package"): "5\n",
            throttle.format(2, "core"): "100\n",  # not one of ours
            "proc/vmstat": "pgfault 1\npswpin 20\npswpout 30\n",
        }
    )
    now = hosts.moment(host)
    assert now.run_delay_s == {7: 2.0, 8: 0.5}
    assert (now.throttled, now.hot, now.swapped) == (3, 7, 50)


def test_a_kernel_that_leaves_schedstat_at_nought_tells_nothing(plant: Plant) -> None:
    assert hosts.moment(plant({"proc/self/task/7/schedstat": "0 0 0\n"})).run_delay_s is None


def test_other_processes_are_known_by_name_alone(plant: Plant) -> None:
    rest = "R 1 1 1 0 -1 4194304 100 0 0 0 {user} {system} 0 0 20 0 1 0 5"
    host = plant(
        {
            "proc/5/stat": f"5 (odd) name) {rest.format(user=150, system=50)}\n",
            "proc/9/stat": f"9 (me) {rest.format(user=1, system=1)}\n",
            "proc/11/stat": "gone",
            "proc/self/stat": "x",
        },
        pid=9,
    )
    assert hosts.moment(host).processes == {5: ("odd) name", 2.0)}


def test_an_empty_system_tells_nothing_and_breaks_nothing(plant: Plant) -> None:
    """As on macOS and Windows: no /proc, no /sys, no affinity, no load."""
    host = plant(pinned=False, load=None, environ={})
    now = hosts.moment(host)
    assert (now.busy_s, now.stolen_s, now.run_delay_s, now.throttled, now.hot, now.swapped) == (None,) * 6
    assert now.processes == {}
    blank = Trial(1, 1000, (1e-3,) * 20, dataclasses.replace(now, switches=None), dataclasses.replace(
        now, at_s=now.at_s + 1, switches=None))  # fmt: skip
    found = {item.name: item for item in room.judged(host, [blank], threads=1)}
    known = {"threads", "repeatability (1 thread)"}
    assert {name for name, item in found.items() if item.word != "unknown"} == known
    assert all(item.found for item in found.values())
    assert "not told here" in found["threads"].found


# --------------------------------------------------------------------------- processors


def test_threads_against_processors(plant: Plant) -> None:
    host = plant(environ={"OMP_NUM_THREADS": "8"})
    assert processors.threads_checkup(host, 2).word == "good"
    assert "OMP_NUM_THREADS=8" in processors.threads_checkup(host, 2).found
    over = processors.threads_checkup(host, 3)
    assert (over.word, over.remedy) == ("bad", "no more threads than processors: --threads 2")


@pytest.mark.parametrize(
    ("files", "allowed"),
    [
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        # the tightest of the group and those round it
        (
            {
                "proc/self/cgroup": "0::/pod/box\n",
                "sys/fs/cgroup/pod/box/cpu.max": "400000 100000\n",
                "sys/fs/cgroup/pod/cpu.max": "300000 100000\n",
            },
            3.0,
        ),
        # the path of the host, not of the container: only the outermost group is there
        ({"proc/self/cgroup": "0::/../else\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 0.5),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/x\n3:memory:/y\n",
                "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us": "250000\n",
                "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            2.5,
        ),
        (
            {
                "proc/self/cgroup": "1:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "50000\n",
            },
            2.0,
        ),
        ({}, None),
    ],
)
def test_the_quota_of_the_control_groups(plant: Plant, files: dict[str, str], allowed: float | None) -> None:
    assert processors.quota(plant(files)) == allowed


def test_a_quota_limits_the_threads_and_may_hold_them_back(plant: Plant) -> None:
    host = plant({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "100000 100000\n"})
    assert processors.threads_checkup(host, 1).word == "good"
    assert processors.threads_checkup(host, 2).word == "bad"
    assert processors.quota_checkup(host, [made()]).word == "good"
    held = processors.quota_checkup(host, [made(throttled=4)])
    assert held.word == "bad"
    assert held.found == "1 processors; held back in 4 periods just now"


def test_processors_that_share_a_core(plant: Plant) -> None:
    path = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    apart = plant({path.format(0): "0\n", path.format(1): "1\n"})
    assert processors.cores_checkup(apart, 2).word == "good"
    shared = plant({path.format(n): f"{n % 2},{n % 2 + 2}\n" for n in range(4)}, processors=(0, 1, 2, 3))
    assert processors.cores_checkup(shared, 4).word == "doubtful"
    assert processors.cores_checkup(shared, 4).found == "4 processors on 2 cores: threads share cores"
    free = processors.cores_checkup(shared, 2)
    assert free.word == "good"
    assert "taskset -c 0,1 " in free.remedy


@pytest.mark.parametrize(("governor", "word"), [("performance", "good"), ("powersave", "doubtful")])
def test_the_clock(plant: Plant, governor: str, word: str) -> None:
    base = "sys/devices/system/cpu"
    host = plant(
        {
            f"{base}/cpu0/cpufreq/scaling_governor": f"{governor}\n",
            f"{base}/cpu0/cpufreq/scaling_cur_freq": "2400000\n",
            f"{base}/cpu1/cpufreq/scaling_cur_freq": "3100000\n",
            f"{base}/intel_pstate/no_turbo": "0\n",
        }
    )
    found = processors.clock_checkup(host)
    assert found.word == word
    assert found.found == f"governor {governor}, boost on, 2.40 to 3.10 GHz now"
    plant({f"{base}/intel_pstate/no_turbo": "1\n"})
    assert "boost off" in processors.clock_checkup(host).found


def test_virtual_machines_and_containers(plant: Plant) -> None:
    host = plant({"proc/cpuinfo": "processor: 0\nflags\t\t: fpu sse avx\n"})
    assert processors.virtual_checkup(host).word == "good"
    plant({"proc/cpuinfo": "processor: 0\nflags\t\t: fpu hypervisor\n"})
    assert processors.virtual_checkup(host).found.startswith("a virtual machine:")
    plant({".dockerenv": ""})
    assert processors.virtual_checkup(host).found.startswith("a container in a virtual machine:")
    plant({"proc/cpuinfo": "processor: 0\nFeatures: fp asimd\n"})
    (host.root / ".dockerenv").unlink()
    assert processors.virtual_checkup(host).word == "unknown"


def test_hardware_counters(plant: Plant) -> None:
    host = plant(
        {"proc/sys/kernel/perf_event_paranoid": "4\n", "sys/bus/event_source/devices/software/type": "1"}
    )
    assert "no hardware counters" in processors.counters_checkup(host).found
    plant({"sys/bus/event_source/devices/cpu/type": "4"})
    assert "closed to users" in processors.counters_checkup(host).found
    plant({"proc/sys/kernel/perf_event_paranoid": "2\n"})
    assert processors.counters_checkup(host).word == "good"


# --------------------------------------------------------------------------- company


def test_the_load_average(plant: Plant) -> None:
    assert company.load(plant(load=1.9)).word == "good"
    assert company.load(plant(load=2.1)).word == "doubtful"


@pytest.mark.parametrize(
    ("busy_s", "threads", "word"),
    [
        (1.05, 2, "good"),  # others 0.05
        (1.2, 1, "doubtful"),  # 0.2: 1.8 left for one thread
        (1.2, 2, "doubtful"),  # 0.2 short for two
        (1.3, 2, "bad"),  # 0.3 short
        (2.0, 1, "doubtful"),  # one busy beside us on the other processor
        (2.4, 1, "bad"),  # 1.4: 0.6 left
    ],
)
def test_other_work_and_who_does_it(plant: Plant, busy_s: float, threads: int, word: str) -> None:
    found = company.other_work(plant(), made(busy_s=busy_s), threads)
    assert found.word == word
    assert f"kept {busy_s - 1:.2f} of 2 processors busy" in found.found


def test_the_busiest_are_named_and_the_idle_are_not(plant: Plant) -> None:
    alone = made(
        busy_s=1.9,
        processes={5: ("make", 0.6), 6: ("idle", 0.01), 7: ("python3", 0.3)},
    )
    before = dataclasses.replace(alone.before, processes={5: ("make", 0.1)})
    alone = dataclasses.replace(alone, before=before)
    assert company.busiest(alone) == [("make", 0.5), ("python3", 0.3)]
    assert company.other_work(plant(), alone, 2).found.endswith("busy: make 0.50, python3 0.30")
    assert "none of them is visible" in company.other_work(plant(), made(busy_s=1.9), 2).found
    # 0.9 taken of 2: one whole processor is left
    assert company.other_work(plant(), made(busy_s=1.9), 2).remedy.endswith("(--threads 1)")


def test_waiting_adds_up_threads_and_counts_new_ones_from_nought() -> None:
    assert company.waiting(made(run_delay_s={1: 2.01})).word == "good"
    found = company.waiting(made(2, run_delay_s={1: 2.04, 9: 0.06}))
    assert found == Checkup(
        "waiting (2 threads)",
        "doubtful",
        "threads waited for a processor 10.0 % of the time",
        "stop other work, or use fewer threads",
    )
    assert company.waiting(made(run_delay_s={1: 2.3})).word == "bad"
    assert "100.0 %" in company.waiting(made(run_delay_s={1: 2.9, 2: 0.9})).found


def test_stolen_time_is_a_share_of_all_processors(plant: Plant) -> None:
    assert company.stolen(plant(), [made(stolen_s=0.01)]).word == "good"  # 0.5 %
    assert company.stolen(plant(), [made(stolen_s=0.1)]).found.startswith("the host took 5.0 %")
    assert company.stolen(plant(), [made(stolen_s=0.1)]).word == "doubtful"
    assert company.stolen(plant(), [made(stolen_s=0.3)]).word == "bad"


def test_switches_are_per_second_and_thread() -> None:
    assert company.switches([made(switches=49)]).word == "good"
    assert company.switches([made(switches=60)]).word == "doubtful"
    # 60 + 60 in one second of one thread and one of two
    assert company.switches([made(switches=60), made(2, switches=60)]).found.startswith("40 involuntary")


def test_repeatability_is_spread_and_drift() -> None:
    calm = company.repeatability(made(seconds=(1e-3,) * 20))
    assert (calm.word, calm.found) == ("good", "20 equal products: p90/p10 1.00, drift 0 %")
    assert company.repeatability(made(seconds=(1e-3, 1.2e-3) * 12)).word == "doubtful"
    assert company.repeatability(made(2, seconds=(1e-3, 1.2e-3) * 12)).word == "good"
    assert company.repeatability(made(seconds=(1e-3, 2.1e-3) * 12)).word == "bad"
    # Quarters of 5: medians 1.0, 1.0, 1.0, 1.12 ms
    drifting = company.repeatability(made(seconds=(*(1e-3,) * 15, *(1.12e-3,) * 5)))
    assert (drifting.word, drifting.found) == ("doubtful", "20 equal products: p90/p10 1.12, drift 12 %")


def test_threads_that_make_it_slower_are_bad() -> None:
    alone = made(seconds=(1e-3,) * 20)
    assert company.repeatability(made(2, seconds=(0.5e-3,) * 20), alone).found.endswith(
        "2.0 times the rate of 1 thread"
    )
    slower = company.repeatability(made(2, seconds=(1.25e-3,) * 20), alone)
    assert slower.word == "bad"
    assert "0.8 times" in slower.found


def test_heat_is_bad_only_while_it_slows_down() -> None:
    assert company.throttling([made(hot=0)]).word == "good"
    assert company.throttling([made(hot=2)]).word == "bad"


# --------------------------------------------------------------------------- memory

MEMINFO = (
    "MemTotal: {total} kB\nMemFree: 5 kB\nMemAvailable: {left} kB\nSwapTotal: 100 kB\nSwapFree: 100 kB\n"
)


def test_memory_left(plant: Plant) -> None:
    host = plant({"proc/meminfo": MEMINFO.format(total=16_000_000, left=8_000_000)})
    found = memory.memory_checkup(host, [made()])
    # 8e6 kB of 1024 bytes: 8.192 GB
    assert (found.word, found.found) == ("good", "8.2 of 16.4 GB left, 0.0 GB in swap")
    assert memory.memory_checkup(host, [made(swapped=7)]).word == "doubtful"
    plant({"proc/meminfo": MEMINFO.format(total=16_000_000, left=900_000)})
    assert memory.memory_checkup(host, [made()]).word == "doubtful"


def test_memory_left_by_the_control_group(plant: Plant) -> None:
    host = plant(
        {
            "proc/meminfo": MEMINFO.format(total=16_000_000, left=8_000_000),
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/memory.max": "4000000000\n",
            "sys/fs/cgroup/memory.current": "3900000000\n",
        }
    )
    found = memory.memory_checkup(host, [made()])
    assert (found.word, found.found[:24]) == ("doubtful", "0.1 of 4.0 GB left, 0.0 ")
    plant({"sys/fs/cgroup/memory.stat": "anon 5\ninactive_file 2000000000\n"})  # 0.1 + 2.0 GB
    assert memory.memory_checkup(host, [made()]).found.startswith("2.1 of 4.0 GB left")


def test_the_allocator_and_its_habits(plant: Plant) -> None:
    host = plant({"proc/self/maps": "7f00 r-xp /usr/lib/libc.so.6\n"})
    kept = memory.allocator_checkup(host, lambda: [[3900, 0, 0], [15600, 0, 0]])
    assert (kept.word, kept.remedy) == ("good", "")
    assert "16 MB buffer: 3900 page faults when new, 0 when allocated again" in kept.found
    handed = memory.allocator_checkup(host, lambda: [[3900, 0, 0], [15600, 15600, 15600]])
    assert "MALLOC_MMAP_MAX_=0" in handed.remedy
    assert memory.allocator_checkup(host, lambda: None).word == "unknown"
    jemalloc = plant(environ={"LD_PRELOAD": "/usr/lib/libjemalloc.so.2", "GLIBC_TUNABLES": "x"})
    assert memory.allocator_checkup(jemalloc, lambda: None).found.startswith(
        "jemalloc with GLIBC_TUNABLES set"
    )


def test_a_child_that_fails_tells_nothing() -> None:
    assert memory.faults_of_buffers(("/no/such/program",)) is None
    assert memory.faults_of_buffers((sys.executable, "-c", "raise SystemExit(3)")) is None
    assert memory.faults_of_buffers((sys.executable, "-c", "print('no numbers')")) is None


@pytest.mark.skipif(sys.platform != "linux", reason="the page faults of Linux")
def test_a_child_counts_the_pages_of_a_new_buffer() -> None:
    found = memory.faults_of_buffers()
    assert found is not None
    assert [len(counts) for counts in found] == [6, 6]
    # 16 MB are 3906.25 pages of 4 kB; with larger pages, fewer. A new buffer takes at least one.
    assert all(
        1 <= counts[0] < 1.1 * size * 1e6 / 4096 for counts, size in zip(found, memory.SIZES_MB, strict=True)
    )


def test_large_pages(plant: Plant) -> None:
    host = plant({"sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n"})
    assert memory.pages_checkup(host).found.startswith("madvise: ")


# --------------------------------------------------------------------------- timer, devices


@pytest.mark.parametrize(
    ("step_s", "cost_s", "word"),
    [(6e-8, 9e-8, "good"), (6e-8, 2e-6, "doubtful"), (2e-6, 1e-7, "doubtful"), (1e-3, 1e-7, "bad")],
)
def test_the_timer(step_s: float, cost_s: float, word: str) -> None:
    assert trials.timer_checkup(step_s, cost_s, "tsc").word == word
    assert trials.timer_checkup(step_s, cost_s, None).found.startswith("perf_counter_ns steps by")


def test_denormals_are_tried_out() -> None:
    assert "torch's default" in trials.denormals().found
    if torch.set_flush_denormal(True):
        try:
            assert "flushed" in trials.denormals().found
        finally:
            torch.set_flush_denormal(False)


class Cuda:
    """A stand-in for torch.cuda with one device."""

    def __init__(self, *, busy: int = 0, told: bool = True) -> None:
        self.busy, self.told = busy, told

    def is_available(self) -> bool:
        return True

    def device_count(self) -> int:
        return 1

    def get_device_name(self, index: int) -> str:
        return f"Card {index}"

    def clock_rate(self, index: int) -> int:
        return self._say(1410)

    def utilization(self, index: int) -> int:
        return self._say(self.busy)

    def temperature(self, index: int) -> int:
        return self._say(40)

    def _say(self, value: int) -> int:
        if not self.told:
            raise ModuleNotFoundError("pynvml does not seem to be installed")
        return value


class Nvml:
    """A stand-in for pynvml."""

    class NVMLError(Exception):
        pass

    nvmlInit = staticmethod(lambda: None)
    nvmlSystemGetDriverVersion = staticmethod(lambda: b"570.1")


def test_accelerators() -> None:
    absent = types.SimpleNamespace(is_available=lambda: False)
    present = types.SimpleNamespace(is_available=lambda: True)
    assert devices.accelerators(absent, absent) == Checkup("GPU", "good", "no GPU")
    assert devices.accelerators(absent, present).word == "unknown"
    idle = devices.accelerators(Cuda(), absent, Nvml)
    assert idle.word == "good"
    assert idle.found.startswith("Card 0, 1410 MHz, 0 % busy, 40 °C; CUDA ")
    assert idle.found.endswith("driver 570.1")
    assert devices.accelerators(Cuda(busy=80), absent, Nvml).word == "doubtful"
    silent = devices.accelerators(Cuda(told=False), absent, Nvml)
    assert (silent.word, silent.found[:6]) == ("unknown", "Card 0")


# --------------------------------------------------------------------------- the real thing


def test_this_machine_is_looked_at_and_left_as_it_was() -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    found = checkups(seconds=0.1, threads=2)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    names = [item.name for item in found]
    assert len(set(names)) == len(names)
    assert {"waiting (1 thread)", "waiting (2 threads)", "repeatability (2 threads)"} <= set(names)
    assert {item.word for item in found} <= WORDS
    assert all(item.found for item in found)


def test_at_one_thread_nothing_runs_at_two() -> None:
    names = [item.name for item in checkups(seconds=0.05, threads=1)]
    assert [name for name in names if "thread" in name] == [
        "threads",
        "waiting (1 thread)",
        "repeatability (1 thread)",
    ]


def test_the_threads_are_given_back_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(host: Host) -> Moment:
        raise KeyboardInterrupt

    before = torch.get_num_threads()
    monkeypatch.setattr(trials, "moment", fail)
    with pytest.raises(KeyboardInterrupt):
        trials.trial(hosts.this_host(), before + 1, seconds=0.01)
    assert torch.get_num_threads() == before


def test_the_limits_of_doctor_are_those_of_reports() -> None:
    from flopscope import quality

    assert (company.WAITED, company.WAITED_BAD) == (quality.DELAYED, quality.DELAYED_VOID)
    assert company.SWITCHES_PER_S == quality.SWITCHES_PER_S
    assert (company.SPREAD_OF_MANY, company.SPREAD_OF_MANY_BAD) == (quality.SPREAD, quality.SPREAD_VOID)
    assert (company.DRIFT, company.DRIFT_BAD) == (quality.DRIFT, quality.DRIFT_VOID)
