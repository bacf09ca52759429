"""Report -> the top of its page: what ran where, how far to trust it, and the numbers of the whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flopscope.render.headers import FAULTS, allocator_text, dtype_of
from flopscope.render.parts import withheld
from flopscope.units import bytes_text, count_text, rate_text, seconds_text

if TYPE_CHECKING:
    from flopscope.reports import Report

_ROUTES = {
    "meta": "counted without data",
    "real": "counted in a real run",
    "exported": "read from an exported graph",
}
_LOADED = {
    "object": "given as an object",
    "import": "imported by its address",
    "allowlist": "built from a file without running its code",
    "static": "read from an exported graph as plain data",
    "trusted": "loaded from a file whose code was run (--trust)",
}


@dataclass(frozen=True, slots=True)
class Card:
    """One number of the whole: what it is called, its text, and what is to be known of it."""

    name: str
    text: str
    more: str = ""


@dataclass(frozen=True, slots=True)
class Badge:
    """How far the latencies can be trusted, in a word; why; what follows; what to do."""

    word: str
    reasons: tuple[str, ...]
    effect: str = ""
    remedy: str = ""


def badge(report: Report) -> Badge:
    """The quality of the measurement; "counts only" where there was none."""
    if report.total.latency_s is None and report.quality is None:
        return Badge("counts only", ("no latency was measured",))
    quality = report.quality
    if quality is None:
        return Badge("not judged", ("nothing is known of how far the latencies can be trusted",))
    if quality.word == "good":
        return Badge("good", quality.reasons)
    effect = (
        "All latencies are marked ~; limits and findings are withheld."
        if withheld(report)
        else "Latencies marked ~ were disturbed."
    )
    return Badge(quality.word, quality.reasons, effect, quality.remedy)


def facts(report: Report) -> list[tuple[str, str]]:
    """Input, machine, software, date: names and texts for the header."""
    here, settings = report.environment, report.settings
    threads = settings.threads or here.threads
    run = "one training step" if settings.train else "inference"
    place = [
        here.cpu,
        here.capability,
        f"{threads} thread{'s' if threads != 1 else ''} of {here.cores} cores",
    ]
    found = [
        ("Input", " ".join(word for word in (settings.inputs, dtype_of(report) or "") if word) or "none"),
        ("Run", ", ".join((run, _ROUTES.get(report.route, report.route)))),
        ("Machine", ", ".join(word for word in (*place, f"device {settings.device or 'cpu'}") if word)),
        ("Roofs", _roofs(report)),
        (
            "Software",
            f"flopscope {here.flopscope}, torch {here.torch}, Python {here.python}, {here.platform}",
        ),
        ("Date", here.date.replace("T", " ", 1).replace("+00:00", " UTC")),
    ]
    return [(name, text) for name, text in found if text]


def cards(report: Report) -> list[Card]:
    """Parameters, MACs, FLOPs, bytes, peak memory, latency, rate."""
    total, bound = report.total, "≥ " if report.uncosted else ""
    held = f"{bytes_text(report.param_bytes)}"
    held += f", buffers {bytes_text(report.buffer_bytes)}" if report.buffer_bytes else ""
    moved = total.bytes_read + total.bytes_written
    intensity = total.arithmetic_intensity
    found = [
        Card("Parameters", count_text(total.params), held),
        Card("MACs", bound + count_text(total.macs), f"{total.macs:,}"),
        Card("FLOPs", bound + count_text(total.flops), f"{total.flops:,}"),
        Card(
            "Bytes moved",
            bytes_text(moved),
            f"{bytes_text(total.bytes_read)} read, {bytes_text(total.bytes_written)} written",
        ),
        Card(
            "Peak activations",
            bytes_text(report.peak.nbytes),
            f"at {report.peak.path}" if report.peak.path else "",
        ),
    ]
    return [*found, *_timed(report, intensity)]


def _timed(report: Report, intensity: float | None) -> Iterator[Card]:
    total = report.total
    if total.latency_s is None:
        yield Card("Latency", "not measured", "counts only")
        yield Card(
            "Intensity", "-" if intensity is None else f"{intensity:.3g} FLOP/B", "FLOPs per byte moved"
        )
        return
    doubt = "~" if report.quality is not None and report.quality.word != "good" else ""
    rounds = total.samples or (len(report.whole.samples) if report.whole else 0)
    notes = []
    if total.latency_low_s is not None and total.latency_high_s is not None:
        notes.append(f"{seconds_text(total.latency_low_s)} to {seconds_text(total.latency_high_s)}")
    notes.append(f"median of {rounds} rounds" if rounds else "median")
    yield Card("Latency", doubt + seconds_text(total.latency_s), ", ".join(notes))
    rate, peak = total.flops_per_s, _peak(report)
    if rate is None:
        yield Card("Achieved", "not known")
        return
    share = (
        f"{100 * rate / peak:.0f} % of the {rate_text(peak)} roof" if peak else "no roof to hold it against"
    )
    yield Card("Achieved", doubt + rate_text(rate), share)


def _peak(report: Report) -> float | None:
    return None if report.machine is None else report.machine.peak(dtype_of(report))


def _roofs(report: Report) -> str:
    """The compute roof and the fastest and slowest bandwidth; "" where no roofs are known."""
    machine, peak = report.machine, _peak(report)
    if machine is None:
        return ""
    words = (
        [f"{rate_text(peak)} ({dtype_of(report)})"] if peak else [f"no compute roof for {dtype_of(report)}"]
    )
    rates = [point.bytes_per_s for point in machine.bandwidth]
    if rates:
        words.append(f"{rate_text(min(rates), 'B/s')} to {rate_text(max(rates), 'B/s')}")
    origin = "from a data sheet" if machine.form == "sheet" else f"measured, {machine.quality}"
    if machine.name not in ("", report.environment.cpu):
        origin = f"{machine.name}, {origin}"
    return ", ".join(words) + f" ({origin})"


def environment(report: Report) -> list[tuple[str, str]]:
    """Everything that is known of where the report was made."""
    here = report.environment
    found = [
        ("flopscope", here.flopscope), ("Python", here.python), ("torch", here.torch),
        ("platform", here.platform), ("processor", here.cpu), ("cores", str(here.cores)),
        ("instruction set", here.capability),
        ("threads", str(here.threads)), ("allocator", allocator_text(report)), ("date", here.date),
    ]  # fmt: skip
    found += [(name.replace("_", " "), value) for name, value in here.other.items() if name != FAULTS]
    return [(name, text) for name, text in found if text]


def settings(report: Report) -> list[tuple[str, str]]:
    """Every keyword as it was in force, and how the model was come by."""
    given = report.settings
    yes = {True: "yes", False: "no"}
    found = [
        ("model", report.model), ("loaded", _LOADED.get(report.loaded_by, report.loaded_by)),
        ("inputs", given.inputs or "none"), ("ops", _ROUTES.get(report.route, report.route)),
        ("device", given.device or "the model's own"), ("dtype", given.dtype or "the model's own"),
        ("threads", "torch's own" if given.threads is None else str(given.threads)),
        ("channels last", yes[given.channels_last]), ("training step", yes[given.train]),
        ("latency", yes[given.latency]),
        *([("effort", given.effort)] if given.latency else []),
        *([("seconds of sampling", f"{given.max_seconds:g}")] if given.max_seconds is not None else []),
        ("seed", str(given.seed)), ("strict", yes[given.strict]),
        *([("roofs of", given.machine)] if given.machine else []),
    ]  # fmt: skip
    return [(name, text) for name, text in found if text]
