"""A model, inputs and settings -> Report: trace, measure where that was asked for, explain.

subjects, inputs -> tracing -> timing -> assembly (draft) -> machines, experiments -> assembly (report)
"""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes

from flopscope import assembly, clocks, costs, diagnosis, experiments, inputs, machines, timing, tracing
from flopscope.environment import environment
from flopscope.errors import InputError, MeasurementError
from flopscope.inputs import Inputs, Made
from flopscope.progress import Progress
from flopscope.records import Evidence, Layer, Machine, Replay, Settings, Timings, Trace
from flopscope.reports import Report
from flopscope.subjects import Subject

from .training import TrainingStep

REPLAY_SECONDS = {"quick": 0.0, "normal": 4.0, "thorough": 12.0}
PROCESSES = {"thorough": 2}
COUNTERFACTUAL_SECONDS = 15.0
EXPLAINED_LAYERS = 3
_PAGE_BYTES = 4096


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """What `profile` was asked for besides its settings: what is no plain value."""

    inputs: Any
    machine: Machine | str | bool | None = None
    explain: str | None = None
    step: TrainingStep | None = None


class Walk:
    """One run of the conductor: what was asked for, and what was found out on the way."""

    def __init__(self, subject: Subject, settings: Settings, asked: Asked, progress: Progress) -> None:
        self.subject = subject
        self.settings = settings
        self.asked = asked
        self.progress = progress
        self.given = None if asked.inputs is None else inputs.describe(asked.inputs)
        self.call = Inputs()
        self.notes = list(subject.notes)
        self.said_of_replays: list[str] = []
        self.warnings: list[str] = []

    def report(self) -> Report:
        """Trace, measure where that was asked for, and put it together."""
        with self.conditions():
            trace = self.traced()
            measurable = self.is_measurable()
            if self.asked.explain and measurable:
                self._refuse_unknown_layer(trace)
            given = isinstance(self.asked.machine, str | Machine)
            roofs = self._roofs() if measurable or given else None
            return self.finished(trace, self._timed() if measurable else None, roofs)

    @contextmanager
    def conditions(self) -> Iterator[None]:
        """What is in force while this model is traced and timed."""
        compiled = self.subject.is_compiled()
        with (
            torch.compiler.set_stance("force_eager") if compiled else nullcontext(),
            _disable_current_modes(),
            timing.threads_of(self.settings.threads),
            torch.inference_mode(False)
            if self.asked.step
            else nullcontext(),  # inference tensors have no gradients
        ):
            yield

    @staticmethod
    @contextmanager
    def conditions_of_all() -> Iterator[None]:
        """What is in force while several models are timed in turns, whatever each of them asks for."""
        with _disable_current_modes():
            yield

    def finished(self, trace: Trace, timings: Timings | None, roofs: Machine | None) -> Report:
        """Put together what was traced and, where there are timings, measured; explain it by the roofs."""
        draft = assembly.draft(trace, settings=self.settings, timings=timings)
        replays = self._replays(draft) if timings and roofs and roofs.form == "measured" else {}
        report = assembly.assemble(
            draft,
            model=self.subject.name,
            settings=dataclasses.replace(self.settings, inputs=inputs.text(self.call)),
            environment=environment(),
            machine=roofs,
            replays=replays,
            notes=self.notes,
            warnings=self.warnings,
        )
        return self._done_otherwise(report, trace) if timings else report

    def run(self) -> timing.Run:
        """What is timed: a private copy, and arguments made for it."""
        made = self._made(self.call, self.subject.device)
        private = self.subject.private()
        step = self.asked.step.timed(private, self.subject.model) if self.asked.step else None
        return timing.Run(private, made.args, made.kwargs, step, self.settings.threads)

    # ----------------------------------------------------------------- counting

    def traced(self) -> Trace:
        """Trace the model, on no data if that can be, and settle what its inputs are."""
        self.progress("counting", 0.0)
        candidates = [self.given] if self.given is not None else inputs.infer(self.subject.model)
        if not candidates:
            raise InputError(
                f"the input of {self.subject.name} is not known, and its layers do not tell",
                hint="give its shape, e.g. (1, 3, 224, 224); on the command line -i 1,3,224,224",
            )
        failures: list[tracing.TraceError] = []
        for call in candidates:
            try:
                return self._settled(call, *self._trace(call, meta=True))
            except tracing.TraceError as failure:
                failures.append(failure)
            reason = failures[-1].__cause__
            if (
                self.subject.has_data
                and reason is not None
                and (inputs.needs_values(reason) or (self.asked.step is not None and self.given is not None))
            ):
                # Nothing is wrong with this input; it only cannot do without values.
                return self._traced_for_real([call], failures[-1])
        if not self.subject.has_data:
            raise self._explained(candidates[0], failures[0]) from failures[0].__cause__
        return self._traced_for_real(candidates, failures[0])

    def _traced_for_real(self, candidates: list[Inputs], without: tracing.TraceError) -> Trace:
        """The cheap route failed: run a private copy, or say why the model rejects the call."""
        failures: list[tracing.TraceError] = []
        for call in candidates:
            try:
                trace = self._settled(call, *self._trace(call, meta=False))
            except tracing.TraceError as failure:
                failures.append(failure)
                continue
            reason = without.__cause__
            where = f"the {without.stage} stopped at {without.path or 'the top'}"
            self.warnings.append(
                f"counted on a real run, for without data {where} "
                f"({type(reason).__name__}: {_first_line(reason)}); they hold for the values of this input"
            )
            return trace
        raise self._explained(candidates[0], failures[0]) from failures[0].__cause__

    def _trace(self, call: Inputs, *, meta: bool) -> tuple[Trace, Made]:
        model = self.subject.traced() if meta else self.subject.private()
        if self.subject.lazy:
            settle = self._made(call, self.subject.device)
            tracing.run_once(model, settle.args, settle.kwargs)
            self.subject.lazy = False
        made = self._made(call, "meta" if meta else self.subject.device)
        device = self.subject.device
        if self.asked.step is None:
            keep = costs.has_formula
            trace = tracing.trace(model, made.args, made.kwargs, keep=keep, meta=meta, device=device)
        else:
            given = self.subject.model
            trace = self.asked.step.traced(
                model, made.args, made.kwargs, given=given, meta=meta, device=device
            )
        return trace, made

    def _settled(self, call: Inputs, trace: Trace, made: Made) -> Trace:
        self.call = call
        self.notes += made.notes
        if self.given is None:
            self.notes.append(f"no input was given; {inputs.text(call)} was inferred from the model")
        return trace

    def _explained(self, call: Inputs, failure: tracing.TraceError) -> Exception:
        def works(other: Inputs) -> bool:
            try:
                self._trace(other, meta=True)
            except (tracing.TraceError, InputError):
                return False
            return True

        cause = failure.__cause__ or failure
        return inputs.explain(self.subject.model, cause, inputs=call, path=failure.path, works=works)

    # ----------------------------------------------------------------- measuring

    def is_measurable(self) -> bool:
        """Whether latency was asked for and can be measured; a warning says why not."""
        if not self.settings.latency:
            return False
        if not self.subject.has_data:
            self.warnings.append(
                "the model is on the meta device: it has no weights to run, so nothing was timed"
            )
            return False
        if clocks.clock_for(self.subject.device) is None:
            self.warnings.append(f"flopscope has no clock for {self.subject.device}: nothing was timed")
            return False
        return True

    def _refuse_unknown_layer(self, trace: Trace) -> None:
        """Raise before anything is timed where the layer to explain is none of the model's."""
        counted = assembly.assemble(
            assembly.draft(trace, settings=self.settings),
            model=self.subject.name,
            settings=self.settings,
            environment=environment(),
        )
        diagnosis.worth_explaining(counted, self.asked.explain or "", count=1)

    def _roofs(self) -> Machine | None:
        """The machine that was given, or this one's roofs: known, or measured now in a process apart."""
        if isinstance(self.asked.machine, Machine):
            return self.asked.machine
        if isinstance(self.asked.machine, str):
            return machines.from_sheet(self.asked.machine)
        if self.asked.machine is False:
            return None
        kind, threads = torch.device(self.subject.device).type, torch.get_num_threads()
        known, reason = machines.known(kind, threads), machines.refused(kind, threads)
        if known is None and reason is None:
            try:
                known = machines.machine(kind, threads, progress=self.progress, strict=True)
            except MeasurementError as refusal:
                reason = str(refusal)
        if known is None:
            self.warnings.append(
                f"latencies are not taken apart, for this machine's roofs are not known: {reason}; "
                "flopscope machine measures them once it is at rest"
            )
        return known

    def _timed(self) -> Timings:
        clock = clocks.clock_for(self.subject.device)
        assert clock is not None
        run = self.run()
        private = run.model
        seconds = self.settings.max_seconds or timing.SECONDS[self.settings.effort]
        others = PROCESSES.get(self.settings.effort, 0) if self.asked.step is None else 0
        try:
            with tracing.borrowed(private, evaluating=self.asked.step is None):
                (timings,) = timing.measure_in_turns(
                    [run],
                    clock=clock,
                    sampling=timing.Sampling(seconds / (1 + others)),
                    device=self.subject.device,
                    progress=self.progress,
                )
        except MeasurementError:
            raise
        except Exception as failure:  # whatever the model may raise
            raise inputs.explain(self.subject.model, failure, inputs=self.call) from failure
        if not others:
            return timings
        found, reason = timing.repeats(
            private,
            run.args,
            run.kwargs,
            count=others,
            seconds=seconds / (1 + others),
            device=self.subject.device,
            progress=self.progress,
        )
        if reason is not None:
            self.notes.append(f"intervals are those of one process: {reason}")
        return dataclasses.replace(timings, repeats=found)

    def _replays(self, draft: assembly.Draft) -> Mapping[int, Replay]:
        """Every operator alone and hot, those of the layers that take most first."""
        seconds = REPLAY_SECONDS[self.settings.effort]
        if not seconds:
            return {}
        return experiments.replays(
            draft.by_time(),
            seconds=seconds,
            device=self.subject.device,
            log=True,
            progress=self.progress,
            notes=self.said_of_replays,
        )

    def _done_otherwise(self, report: Report, trace: Trace) -> Report:
        """Do the layers that were asked for otherwise, and measure that beside them, in other processes.

        After all timing: they take the processors.
        """
        asked = self.asked.explain is not None or self.settings.effort == "thorough"
        if not asked or torch.device(self.subject.device).type != "cpu":
            return report
        wanted = diagnosis.worth_explaining(report, self.asked.explain or "", count=EXPLAINED_LAYERS)
        notes: list[str] = []
        found = experiments.counterfactuals(
            [[trace.ops[op] for op in report.layers[index].ops] for index in wanted],
            seconds=COUNTERFACTUAL_SECONDS,
            freed=_freed(trace),
            keeps=[_keeps(report.layers[index], report.evidence[index]) for index in wanted],
            progress=self.progress,
            notes=notes,
        )
        evidence = list(report.evidence)
        for index, others in zip(wanted, found, strict=True):
            evidence[index] = dataclasses.replace(evidence[index], counterfactuals=others)
        told = dataclasses.replace(report, evidence=tuple(evidence), notes=(*report.notes, *notes))
        return diagnosis.with_verdicts(told)

    def _made(self, call: Inputs, device: str) -> Made:
        settings = self.settings
        made = inputs.make(
            call, model=self.subject.model, device=device, dtype=settings.dtype, seed=settings.seed
        )
        arguments, named = self.subject.arguments(made.args), self.subject.arguments(made.kwargs)
        return dataclasses.replace(made, args=arguments, kwargs=named)


def _freed(trace: Trace) -> list[int]:
    """Sizes of the activations that the run frees on its way, each once, in the order of their birth."""
    freed = (held for held in trace.storages if held.role == "activation" and held.died is not None)
    return list(dict.fromkeys(held.nbytes for held in freed))


def _keeps(layer: Layer, evidence: Evidence) -> bool:
    """Whether the allocator keeps the layer's memory: few pages of what it writes are faulted in."""
    return evidence.faults is not None and 2 * _PAGE_BYTES * evidence.faults < layer.bytes_written


def _first_line(failure: BaseException | None) -> str:
    lines = str(failure).strip().splitlines() or ["no message"]
    return textwrap.shorten(lines[0], 120, placeholder=" …")
