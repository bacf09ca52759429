"""Everything that a user owns and a tool might disturb, taken down so that it can be compared."""

from __future__ import annotations

import gc
import os
import pickle
import random
import signal
import sys
import threading
import warnings

import numpy
import torch
from torch.nn.modules import module as module_globals
from torch.overrides import _get_current_function_mode_stack
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack


def of_model(model):
    """A model's state, module by module and tensor by tensor, contents and identities."""
    return {
        "state": {name: _bytes(tensor) for name, tensor in model.state_dict().items()},
        "tensors": {name: _tensor(tensor) for name, tensor in _tensors(model)},
        "training": {name: module.training for name, module in model.named_modules()},
        "attributes": {name: _plain(module.__dict__, 0) for name, module in model.named_modules()},
        "order": {name: list(module.__dict__) for name, module in model.named_modules()},
        "hooks": {name: _hooks(module.__dict__) for name, module in model.named_modules()},
        "global hooks": _hooks(vars(module_globals)),
        "pickle": pickle.dumps(model),
    }


def of_process():
    """What belongs to the whole process."""
    return {
        "torch rng": _bytes(torch.get_rng_state()),
        "python rng": random.getstate(),
        "numpy rng": str(numpy.random.get_state()),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "live threads": sorted(thread.name for thread in threading.enumerate()),
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "environment": dict(os.environ),
        "working directory": os.getcwd(),  # noqa: PTH109
        "attention fast path": torch.backends.mha.get_fastpath_enabled(),
        "third-party backend": torch.utils.backend_registration._privateuse1_backend_name,
        "modes": (len(_get_current_dispatch_mode_stack()), len(_get_current_function_mode_stack())),
        "grad": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "mkldnn": torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled,
        "garbage collection": (gc.isenabled(), gc.get_threshold(), gc.get_freeze_count()),
        "interrupts": signal.getsignal(signal.SIGINT),
        "hooks of the interpreter": (
            sys.excepthook,
            sys.gettrace(),
            sys.getprofile(),
            sys.stdout,
            sys.stderr,
        ),
        "warnings": list(warnings.filters),
        "profiler": torch.autograd._profiler_enabled(),
        "stance": torch._dynamo.eval_frame._stance.stance if "torch._dynamo" in sys.modules else None,
    }


def changes(before, after, at=""):
    """Where two such records differ: "tensors: conv.weight: version: 0 -> 1"."""
    if isinstance(before, dict) and isinstance(after, dict) and before.keys() == after.keys():
        return [found for name in before for found in changes(before[name], after[name], f"{at}{name}: ")]
    return [] if before == after else [f"{at}{str(before)[:200]} -> {str(after)[:200]}"]


def _tensors(model):
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def _tensor(tensor):
    version = None if tensor.is_inference() else tensor._version
    return {
        "identity": id(tensor),
        "address": tensor.data_ptr(),
        "version": version,
        "requires grad": tensor.requires_grad,
        "gradient": None if tensor.grad is None else _bytes(tensor.grad),
        "layout": (tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device),
        "attributes": sorted(vars(tensor)),
        "hooks": repr(tensor._backward_hooks),
    }


def _bytes(tensor):
    if tensor.is_meta:
        return b"no data"
    return bytes(tensor.detach().contiguous().reshape(-1).view(torch.uint8).tolist())


def _hooks(attributes):
    return {
        name: [(key, id(value)) for key, value in held.items()]
        for name, held in attributes.items()
        if "hook" in name and isinstance(held, dict)
    }


def _plain(value, depth):
    """A value as nested plain text and numbers; a tensor by its identity and bytes."""
    if isinstance(value, torch.nn.Module) or depth > 12:
        return id(value)
    if isinstance(value, torch.Tensor):
        return (id(value), _bytes(value))
    if isinstance(value, dict):
        return [(repr(key), _plain(item, depth + 1)) for key, item in value.items()]
    if isinstance(value, (set, frozenset)):
        return sorted(map(repr, value))
    if isinstance(value, (str, bytes, int, float, complex, type(None), type)):
        return repr(value)
    if isinstance(value, (list, tuple)) or type(value).__name__ == "deque":
        return [type(value).__name__, *(_plain(item, depth + 1) for item in value)]
    inner = vars(value) if hasattr(value, "__dict__") else {}
    return (id(value), _plain(dict(inner), depth + 1) if not callable(value) else None)
