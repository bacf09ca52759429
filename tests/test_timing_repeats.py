"""The same call measured in other processes: what reaches them, and what does not."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import torch
from torch import nn

from flopscope.timing.repeats import repeats

NET = """
import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 4)
    def forward(self, x):
        return self.layer(x)
"""


def from_file(path: Path, name: str) -> nn.Module:
    """A model of a file that no import would find."""
    path.write_text(NET, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    made: nn.Module = module.Net()
    return made


def test_a_model_of_a_file_is_measured_in_another_process(tmp_path: Path) -> None:
    model = from_file(tmp_path / "net.py", "a_net_that_no_import_finds")
    try:
        found, reason = repeats(model, (torch.ones(1, 4),), {}, count=1, seconds=0.05, device="cpu")
    finally:
        del sys.modules["a_net_that_no_import_finds"]
    assert reason is None
    (timings,) = found
    assert timings.boundaries == ("+", "+layer", "-layer", "-")
    assert len(timings.stretches) == 3
    assert timings.threads == torch.get_num_threads()


def test_a_class_of_the_main_script_stays_here() -> None:
    class Local(nn.Linear):
        pass

    Local.__module__ = "__main__"
    found, reason = repeats(Local(2, 2), (torch.ones(1, 2),), {}, count=1, seconds=0.05, device="cpu")
    assert found == ()
    assert reason == "the model does not reach another process: it has a class of the main script or notebook"


def test_what_cannot_be_pickled_is_said() -> None:
    model = nn.Linear(2, 2)
    model.own = lambda: None  # type: ignore[assignment]
    found, reason = repeats(model, (torch.ones(1, 2),), {}, count=1, seconds=0.05, device="cpu")
    assert found == ()
    assert reason is not None
    assert reason.startswith("the model does not reach another process: ")


def test_a_child_that_fails_is_said() -> None:
    model = nn.Linear(2, 2)
    found, reason = repeats(model, (torch.ones(1, 3),), {}, count=2, seconds=0.05, device="cpu")
    assert found == ()
    assert reason is not None
    assert "another process could not measure it" in reason
    assert "mat1 and mat2" in reason
