"""The MODEL argument and the options of a run -> Report."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flopscope.commands.streams import reserved_stdout
from flopscope.commands.usage import Misuse
from flopscope.commands.voices import Voice, captured_warnings
from flopscope.errors import ForwardError, InputError, MeasurementError

if TYPE_CHECKING:
    from flopscope.inputs import Inputs
    from flopscope.loading import Opened
    from flopscope.reports import Report

_PICKLES = ("torch-save", "legacy-torch-save")


@dataclass(frozen=True, slots=True)
class Request:
    """What a command was asked to profile, and how: its options as they were given."""

    model: str
    inputs: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    key: str | None = None
    allow: tuple[str, ...] = ()
    trust: bool = False
    device: str | None = None
    dtype: str | None = None
    channels_last: bool = False
    seed: int = 0
    strict: bool = False
    latency: bool = False
    threads: int | None = None
    effort: str = "normal"
    max_seconds: float | None = None
    machine: str | None = None
    train: bool = False
    optimizer: str | None = None
    explain: str | None = None

    @classmethod
    def of(cls, model: str, given: Mapping[str, Any]) -> Request:
        """What a command's options ask for: measured where they can say `--no-latency`."""
        known = {item.name for item in fields(cls)}
        same = {name: value for name, value in given.items() if name in known}
        return cls(model=model, **{"latency": not given.get("no_latency", True), **same})

    def report(self, voice: Voice) -> Report:
        """Load what there is to load, and profile it; a saved report is read back.

        Raises:
            InputError: A shape or an argument is malformed.
            ModelLoadError: There is no such model, or it is refused.
            ForwardError: The model rejected the input.
            MeasurementError: With `strict`, an op has no price.
        """
        given, args = self._parsed()
        with self._aside(voice) as told:
            opened = self._opened(args, meta=not self.latency, voice=voice)
            if opened.kind == "report":
                return self._saved(opened, voice)
            if opened.kind == "exported":
                return _of_graph(self, opened, given)
            try:
                return _of_model(self, opened, given, told)
            except ForwardError:
                if self.latency or opened.loaded_by == "trusted":
                    raise
                # Without weights the forward may stop where it looks at data; with them it may not.
                opened = self._opened(args, meta=False, voice=Voice(quiet=True))
                return _of_model(self, opened, given, told)

    def opened_model(self, voice: Voice) -> tuple[Any, Inputs | None]:
        """The model itself, and its inputs where they are known.

        Raises:
            Misuse: MODEL holds no module that could be run.
            ModelLoadError: There is no such model, or it is refused.
        """
        given, args = self._parsed()
        with self._aside(voice):
            opened = self._opened(args, meta=False, voice=voice)
        if opened.model is None:
            raise Misuse(
                f"{self.model} holds no module that could be run.", hint="give a model, e.g. file.py:build"
            )
        return opened.model, given if given is not None else _defaults(opened)

    def contender(self, voice: Voice) -> Report | tuple[Any, Inputs | None]:
        """What MODEL is in a comparison: a saved report, or the model and its inputs.

        Raises:
            Misuse: MODEL holds no module that could be run.
            ModelLoadError: There is no such model, or it is refused.
        """
        from flopscope.loading import sniff
        from flopscope.reports import load

        if Path(self.model).is_file() and sniff(self.model) == "report":
            return load(self.model)
        return self.opened_model(voice)

    def optimizer_class(self) -> Any:
        """The class of `torch.optim` that was named, or None.

        Raises:
            InputError: There is none of that name, or nothing is trained.
        """
        return _optimizer(self)

    def _parsed(self) -> tuple[Inputs | None, dict[str, str]]:
        from flopscope.inputs import parse_all

        return parse_all(self.inputs) if self.inputs else None, _pairs(self.args)

    @contextlib.contextmanager
    def _aside(self, voice: Voice) -> Iterator[Callable[[str, float], None]]:
        """Let a model's code run without disturbing the output; show progress."""
        from flopscope.progress import shown

        with captured_warnings(voice), reserved_stdout(), shown(False if voice.quiet else None) as told:
            told(f"loading {self.model}", 0.0)
            yield told

    def _opened(self, args: Mapping[str, str], *, meta: bool, voice: Voice) -> Opened:
        from flopscope.costs import has_formula
        from flopscope.loading import open_address

        if self.trust:
            self._warn_of_trust(voice)
        return open_address(
            self.model,
            args=args,
            allow=self.allow,
            trust=self.trust,
            key=self.key,
            meta=meta,
            keep=has_formula,
        )

    def _warn_of_trust(self, voice: Voice) -> None:
        from flopscope.loading import sniff
        from flopscope.loading.checkpoints import sha256

        if sniff(self.model) in _PICKLES:
            voice.danger(f"running code stored in {self.model} (sha256 {sha256(Path(self.model))})")

    def _saved(self, opened: Opened, voice: Voice) -> Report:
        from flopscope.reports import load

        unused = [item.name for item in fields(self) if getattr(self, item.name) != item.default]
        idle = [_flag(name) for name in unused if name not in ("model", "latency", "explain")]
        if idle:
            voice.note(f"{self.model} is a saved report; {', '.join(idle)} had no effect")
        return load(str(opened.path))


def _of_model(
    request: Request, opened: Opened, given: Inputs | None, told: Callable[[str, float], None]
) -> Report:
    from flopscope.inputs import text
    from flopscope.profiling import profile

    assert opened.model is not None
    notes = list(opened.notes)
    call = given if given is not None else _defaults(opened)
    if given is None and call is not None:
        notes.append(f"no input was given; {text(call)} is what {opened.name} is made for")

    def named(report: Report) -> Report:
        name, said = _name(request, opened), (*notes, *report.notes)
        return dataclasses.replace(report, model=name, loaded_by=opened.loaded_by, notes=said)

    try:
        report = profile(
            opened.model,
            call,
            device=request.device,
            dtype=request.dtype,
            threads=request.threads,
            channels_last=request.channels_last,
            train=request.train,
            optimizer=_optimizer(request),
            latency=request.latency,
            effort=request.effort,
            max_seconds=request.max_seconds,
            seed=request.seed,
            strict=request.strict,
            machine=request.machine,
            progress=told,
            explain=request.explain,
        )
    except MeasurementError as doubt:
        if doubt.report is not None:
            doubt.report = named(doubt.report)
        raise
    return named(report)


def _of_graph(request: Request, opened: Opened, given: Inputs | None) -> Report:
    """The report of an exported graph: it is read as plain data, so that nothing can be measured."""
    from flopscope.inputs import text
    from flopscope.profiling import report_of
    from flopscope.records import Settings

    assert opened.trace is not None
    call = _defaults(opened)
    if given is not None and (call is None or _shapes(given) != _shapes(call)):
        exported = text(call) if call is not None else "other inputs"
        raise ForwardError(
            f"{request.model} is a graph for the input that it was exported with: {exported}\n"
            f"       input was {text(given)}",
            hint="leave out -i, or export the model again with that input",
        )
    notes = [*opened.notes]
    if request.latency:
        notes.append("latency was not measured: a .pt2 file is read as plain data and never run")
    changed = [name for name in ("device", "dtype", "channels_last", "train") if getattr(request, name)]
    if changed:
        notes.append(
            f"{', '.join(map(_flag, changed))} had no effect: the counts are of the graph as it was exported"
        )
    return report_of(
        opened.trace,
        model=_name(request, opened),
        settings=Settings(
            inputs=text(call) if call is not None else "", latency=False, strict=request.strict
        ),
        notes=notes,
        loaded_by=opened.loaded_by,
    )


def _optimizer(request: Request) -> Any:
    """The class of `torch.optim` that was named, whatever its case.

    Raises:
        InputError: There is none of that name, or nothing is trained.
    """
    if request.optimizer is None:
        return None
    import torch

    found = {name.lower(): value for name, value in vars(torch.optim).items() if isinstance(value, type)}
    found = {name: kind for name, kind in found.items() if issubclass(kind, torch.optim.Optimizer)}
    known = ", ".join(sorted(set(found) - {"optimizer"}))
    kind = found.get(request.optimizer.lower())
    if kind is None or not request.train:
        wrong = "is not in torch.optim" if kind is None else "has no effect without --train"
        raise InputError(f"--optimizer {request.optimizer} {wrong}.", hint=f"with --train, one of: {known}")
    return kind


def _defaults(opened: Opened) -> Inputs | None:
    from flopscope.inputs import Inputs

    return None if opened.default_inputs is None else Inputs(*opened.default_inputs)


def _shapes(call: Inputs) -> list[Any]:
    return [getattr(value, "shape", value) for value in (*call.args, *call.kwargs.values())]


def _name(request: Request, opened: Opened) -> str:
    """What the report calls its model: an address that gives the same model again."""
    name = opened.name
    if request.args:
        name += ("&" if "?" in name else "?") + "&".join(request.args)
    return name.encode("utf-8", "replace").decode()


def _pairs(args: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for text in args:
        name, equals, value = text.partition("=")
        if not equals or not name.strip().isidentifier():
            raise InputError(f"--arg {text!r} is not of the form name=value.", hint="e.g. --arg width=64")
        pairs[name.strip()] = value
    return pairs


def _flag(name: str) -> str:
    return {"inputs": "-i", "args": "--arg"}.get(name, "--" + name.replace("_", "-"))
