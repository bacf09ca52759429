"""A model, its call and a number -> Timings of other processes: what one process cannot know of itself.

Where a process happens to lay its tensors out decides a few per cent of a layer's time, and stays as it
is for as long as the process lives. Only another process shows it.
"""

from __future__ import annotations

import importlib.util
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from flopscope.clocks import clock_for
from flopscope.records import Timings

from .sampling import Progress, Sampling

_SLACK_S = 120.0  # beyond the sampling itself: a child imports torch and reads the model

_CHILD = "from flopscope.timing.repeats import serve; import sys; serve(sys.argv[1])"


def repeats(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    count: int,
    seconds: float,
    device: str,
    progress: Progress = lambda stage, share: None,
) -> tuple[tuple[Timings, ...], str | None]:
    """Measure the same call in `count` processes, one after the other.

    Returns:
        The measurements, and why there are fewer than asked for: a class of `__main__`, or one
        that cannot be pickled, does not reach another process.
    """
    found: list[Timings] = []
    with tempfile.TemporaryDirectory(prefix="flopscope-") as folder:
        order = Path(folder) / "order.pkl"
        try:
            order.write_bytes(_packed(model, args, kwargs, seconds, device))
        except (pickle.PicklingError, AttributeError, TypeError, RuntimeError, OSError) as reason:
            return (), f"the model does not reach another process: {_first_line(reason)}"
        for number in range(count):
            progress("timing in other processes", number / count)
            outcome = _asked(order, seconds)
            if isinstance(outcome, str):
                return tuple(found), outcome
            found.append(outcome)
    return tuple(found), None


def serve(order: str) -> None:
    """In the child: measure what the file orders, and write the Timings beside it."""
    from flopscope import timing

    path = Path(order)
    with path.open("rb") as file:
        head = pickle.load(file)
        sys.path[:] = head["search"]
        _make_importable(head["files"])
        torch.set_num_threads(head["threads"])
        model, args, kwargs = torch.load(file, weights_only=False)
    clock = clock_for(head["device"])
    assert clock is not None
    found = timing.measure(
        model, args, kwargs, clock=clock, sampling=Sampling(head["seconds"]), device=head["device"]
    )
    path.with_suffix(".out").write_bytes(pickle.dumps(found))


def _packed(
    model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], seconds: float, device: str
) -> bytes:
    import io

    classes = {type(module) for module in model.modules()}
    if any(found.__module__ == "__main__" for found in classes):
        raise TypeError("it has a class of the main script or notebook")
    packed = io.BytesIO()
    head = {
        "search": list(sys.path),
        "files": _files(classes),
        "threads": torch.get_num_threads(),
        "device": device,
        "seconds": seconds,
    }
    pickle.dump(head, packed)
    torch.save((model, args, dict(kwargs)), packed)
    return packed.getvalue()


def _files(classes: set[type]) -> dict[str, str]:
    """Modules that were loaded from a file and that no import would find, by name."""
    found = {}
    for name in {known.__module__ for known in classes}:
        module = sys.modules.get(name)
        file = getattr(module, "__file__", None)
        if file and _not_importable(name):
            found[name] = str(file)
    return found


def _not_importable(name: str) -> bool:
    kept = sys.modules.pop(name, None)
    try:
        return importlib.util.find_spec(name) is None
    except (ImportError, ValueError, AttributeError):
        return True
    finally:
        if kept is not None:
            sys.modules[name] = kept


def _make_importable(files: Mapping[str, str]) -> None:
    for name, file in files.items():
        spec = importlib.util.spec_from_file_location(name, file)
        if spec is not None and spec.loader is not None:
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module
            spec.loader.exec_module(module)


def _asked(order: Path, seconds: float) -> Timings | str:
    """The Timings of one child, or what went wrong there."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, str(order)],
            capture_output=True,
            text=True,
            timeout=seconds + _SLACK_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as reason:
        return f"another process could not measure it: {_first_line(reason)}"
    result = order.with_suffix(".out")
    if done.returncode or not result.exists():
        lines = done.stderr.strip().splitlines() or ["no message"]
        return f"another process could not measure it: {lines[-1]}"
    found: Timings = pickle.loads(result.read_bytes())
    result.unlink()
    return found


def _first_line(reason: BaseException) -> str:
    return (str(reason).strip().splitlines() or [type(reason).__name__])[0]
