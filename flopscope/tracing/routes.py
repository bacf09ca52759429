"""A recorder -> torch told to report to it, and to take on no data the paths of a real run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache

import torch
from torch.nn.modules.module import (
    _global_forward_hooks_with_kwargs,
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

from .borrowing import fused_paths_on_meta, watched_autocast
from .recorder import Recorder


@contextmanager
def listening(recorder: Recorder) -> Iterator[None]:
    """Let every module of the process tell the recorder when it is entered and left."""
    handles = [
        register_module_forward_pre_hook(recorder.enter),
        register_module_forward_hook(recorder.leave, with_kwargs=True, always_call=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
            _global_forward_hooks_with_kwargs.pop(handle.id, None)  # torch forgets this one
        recorder.close()


@contextmanager
def paths(recorder: Recorder, *, meta: bool, device: str) -> Iterator[None]:
    """Let a run without data take the paths of a real one."""
    with ExitStack() as stack:
        if meta:
            stack.enter_context(watched_autocast(recorder.heed_autocast))
        if meta and device in ("cpu", "cuda"):
            stack.enter_context(fused_paths_on_meta())
        yield


@cache
def settle_torch() -> None:
    """Run torch's meta kernels once before anything is noted.

    Their first use imports much of torch, and an import that fails on the way and is caught leaves
    frames behind that keep the tensors of the operator, and of the model's forward, alive.
    """
    with torch.inference_mode():
        image, channel = torch.empty(1, 1, 2, 2, device="meta"), torch.empty(1, device="meta")
        image = torch.relu(torch.conv2d(image, image))
        torch.batch_norm(image, channel, channel, channel, channel, False, 0.1, 1e-5, False)
        torch.addmm(image[0, 0], image[0, 0], image[0, 0])
