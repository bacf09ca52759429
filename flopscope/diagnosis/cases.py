"""Report -> Case: everything that a rule may look at, of one measured layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flopscope.records import Counterfactual, Environment, Evidence, Layer, Machine, OpRow, Quality, Settings

if TYPE_CHECKING:
    from flopscope.reports import Report

ITEMSIZES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int8": 1, "uint8": 1, "qint8": 1, "quint8": 1,
}  # fmt: skip
CONVOLUTIONS = ("conv", "pointwise_conv", "depthwise_conv", "group_conv", "transposed_conv")
CONTRACTIONS = (*CONVOLUTIONS, "pconv", "se", "linear", "matmul", "attention", "recurrent")


@dataclass(frozen=True, slots=True)
class Case:
    """One measured layer, and what is known of its surroundings.

    `quality` is the report's; `preceding` and `following` are the neighbours in `Report.layers`;
    `ops` the layer's op calls; `whole_s` the sum of all layers' latencies. `explained` names the parts
    of the time that rules asked before have explained: only rules that are asked last see it.
    """

    layer: Layer
    evidence: Evidence
    settings: Settings
    environment: Environment
    total: Layer
    whole_s: float
    ops: tuple[OpRow, ...] = ()
    machine: Machine | None = None
    quality: Quality | None = None
    preceding: Layer | None = None
    following: Layer | None = None
    explained: frozenset[str] = frozenset()

    @property
    def seconds(self) -> float:
        """The undisturbed time of all calls; the observed one where that is not known."""
        return seconds_of(self.layer)

    @property
    def nbytes(self) -> int:
        """Bytes read and written."""
        return self.layer.bytes_read + self.layer.bytes_written

    @property
    def flops(self) -> int:
        """FLOPs that are really done: without taps on padding, where that is known."""
        done = self.evidence.executed_flops
        return self.layer.flops if done is None else done

    @property
    def working_set_bytes(self) -> int:
        """Bytes that one call works on."""
        return self.evidence.working_set_bytes or self.nbytes // max(self.layer.calls, 1)

    @property
    def least_s(self) -> float:
        """The least time by the roofs: of each op the greater of both; where not known, of the sums."""
        known = self.evidence.least_s
        return max(self.evidence.compute_s or 0.0, self.evidence.memory_s or 0.0) if known is None else known

    @property
    def replayed(self) -> bool:
        """Whether the parts come from replays of this very layer, not from roofs alone."""
        return self.evidence.form == "replayed"

    @property
    def weights_s(self) -> float:
        """What of the overhead is spent on a convolution's weights: its tiny twin keeps them all.

        Reading them at the bandwidth of their size, and laying them out anew by the library's log.
        """
        bandwidth = self.machine.bytes_per_s(self.layer.param_bytes) if self.machine else None
        if not self.replayed or self.evidence.convolution is None or not bandwidth:
            return 0.0
        steps = [step for step in self.evidence.kernels if step.primitive == "reorder"]
        spent = sum(step.latency_s for step in steps if step.operand == "weights" and self.uses_onednn)
        spent += self.layer.param_bytes * self.layer.calls / bandwidth
        return min(spent, max(0.0, self.part("overhead") - (self.evidence.idle_s or 0.0)))

    @property
    def uses_onednn(self) -> bool:
        """Whether oneDNN, whose log there is, runs the convolution; True where the backend is not known."""
        return "mkldnn" in (self.evidence.backend or "mkldnn").lower()

    @property
    def threads(self) -> int:
        """Threads of one operator."""
        return self.settings.threads or self.environment.threads

    @property
    def processors(self) -> int:
        """Processors that the process may use."""
        affinity = [name for name in self.environment.other.get("affinity", "").split(",") if name]
        return len(affinity) or self.environment.cores

    @property
    def whole_share(self) -> float:
        """The layer's share of all layers' time."""
        return (self.layer.latency_s or 0.0) / self.whole_s if self.whole_s else 0.0

    def share(self, seconds: float | None) -> float:
        """So many seconds as a share of the layer's own time; unknown ones as 0."""
        return (seconds or 0.0) / self.seconds if self.seconds > 0 else 0.0

    def part(self, name: str) -> float:
        """Seconds of one of the five parts; 0 where the time was not taken apart."""
        found: float | None = getattr(self.layer, f"{name}_s")
        return found or 0.0

    def counterfactual(self, *codes: str) -> Counterfactual | None:
        """The first measured alternative with one of these codes."""
        return next((found for found in self.evidence.counterfactuals if found.code in codes), None)


def cases(report: Report) -> Iterator[tuple[int, Case]]:
    """The measured layers of a report, each with its place in `Report.layers`."""
    layers = report.layers
    whole_s = sum(layer.latency_s or 0.0 for layer in layers)
    for place, layer in enumerate(layers):
        if layer.latency_s is None or layer.latency_s < 0:
            continue
        yield (
            place,
            Case(
                layer=layer,
                evidence=evidence_of(report, place),
                settings=report.settings,
                environment=report.environment,
                total=report.total,
                whole_s=whole_s,
                ops=tuple([report.ops[index] for index in layer.ops if index < len(report.ops)]),
                machine=report.machine,
                quality=report.quality,
                preceding=layers[place - 1] if place else None,
                following=layers[place + 1] if place + 1 < len(layers) else None,
            ),
        )


def evidence_of(report: Report, place: int) -> Evidence:
    """What is known of the layer at this place; nothing where the report has no evidence."""
    return report.evidence[place] if place < len(report.evidence) else Evidence()


def seconds_of(layer: Layer) -> float:
    """The undisturbed time of a layer; the observed one, or 0, where that is not known."""
    return layer.latency_floor_s or layer.latency_s or 0.0


def far_bytes_per_s(machine: Machine | None) -> float | None:
    """The bandwidth over the largest measured working set: that of main memory."""
    return machine.bandwidth[-1].bytes_per_s if machine and machine.bandwidth else None
