"""A user's model and the settings -> what is traced and what is run: never changed, often a copy."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from flopscope.errors import InputError, MeasurementError
from flopscope.records import Settings

_UNINITIALISED = (UninitializedParameter, UninitializedBuffer)


class Subject:
    """A model as the settings want it: converted copies are made when they are first asked for.

    Attributes:
        model: the user's, without wrappers.
        notes: what was taken off.
        device: where it is to run, with its index: "cuda:0".
        has_data: whether it has weights to run with.
        lazy: whether a first call has yet to decide the shapes of parameters.
    """

    def __init__(self, model: Any, settings: Settings) -> None:
        if not isinstance(model, nn.Module):
            raise InputError(
                f"expected a torch.nn.Module, got {type(model).__name__}",
                hint="give the model itself; flopscope.load_model makes one from an address or a file",
            )
        self.notes: list[str] = []
        self.model = self._unwrapped(model)
        self.name = type(self.model).__name__
        tensors = _tensors(self.model)
        with_data = (str(tensor.device) for tensor in tensors if not tensor.is_meta)
        self.device = settings.device or next(with_data, "cpu")
        self.has_data = not any(tensor.is_meta or isinstance(tensor, FakeTensor) for tensor in tensors)
        self.lazy = any(isinstance(tensor, _UNINITIALISED) for tensor in tensors)
        self._settings = settings
        self._private: nn.Module | None = None
        self._traced: nn.Module | None = None

    def traced(self) -> nn.Module:
        """What is traced without data: the model itself, or a converted copy without data."""
        if self._traced is None:
            if self.lazy:
                self._traced = self.private()
            elif not (self._settings.dtype or self._settings.channels_last or self._settings.train):
                self._traced = self.model
            else:
                self._traced = self._converted(copy_without_data(self.model))
        return self._traced

    def private(self) -> nn.Module:
        """What is run: a converted copy on the device.

        Raises:
            MeasurementError: the model cannot be copied.
        """
        if self._private is None:
            try:
                private = copy.deepcopy(self.model, _copies_of_uninitialised(self.model))
            except (RuntimeError, TypeError, NotImplementedError, AttributeError) as reason:
                raise MeasurementError(
                    f"{self.name} cannot be copied, and a user's own model is never run: {reason}",
                    hint="count it (latency=False, --no-latency), or give the model a __deepcopy__",
                ) from reason
            self._private = self._converted(private.to(self.device))
        return self._private

    def arguments(self, values: Any) -> Any:
        """The arguments of a call in the memory format that was asked for, and fit to be trained on."""
        if not (self._settings.channels_last or self._settings.train):
            return values
        if isinstance(values, dict):
            return {name: self.arguments(value) for name, value in values.items()}
        if isinstance(values, tuple | list):
            return type(values)(self.arguments(value) for value in values)
        if isinstance(values, torch.Tensor) and values.is_inference():
            values = values.clone()
        if self._settings.channels_last and isinstance(values, torch.Tensor) and values.dim() == 4:
            return values.to(memory_format=torch.channels_last)
        return values

    def is_compiled(self) -> bool:
        """Tell whether a module of the model was compiled in place."""
        return any(
            module.__dict__.get("_compiled_call_impl") is not None or hasattr(module, "_orig_mod")
            for module in self.model.modules()
        )

    def _converted(self, private: nn.Module) -> nn.Module:
        if self._settings.dtype is not None:
            private = private.to(getattr(torch, self._settings.dtype))
        if self._settings.channels_last:
            private = private.to(memory_format=torch.channels_last)
        return private

    def _unwrapped(self, model: nn.Module) -> nn.Module:
        compiled = getattr(model, "_orig_mod", None)
        if isinstance(compiled, nn.Module):
            self.notes.append("the model is compiled; its eager form was profiled")
            return self._unwrapped(compiled)
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            self.notes.append(f"{type(model).__name__} was taken off; one replica was profiled")
            return self._unwrapped(model.module)
        return model


def copy_without_data(model: nn.Module) -> nn.Module:
    """A copy of the model whose parameters and buffers are on the meta device.

    Weights are neither read nor copied; ties between them are kept.
    """
    twins: dict[int, Any] = {}
    for tensor in _tensors(model):
        twin = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
        is_parameter = isinstance(tensor, nn.Parameter)
        twins[id(tensor)] = nn.Parameter(twin, requires_grad=tensor.requires_grad) if is_parameter else twin
    return copy.deepcopy(model, twins)


def check_device(device: str) -> None:
    """Make sure that this torch can run on a device.

    Raises:
        InputError: it cannot.
    """
    kind = torch.device(device).type
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not present.get(kind, False):
        built = (
            "was built without CUDA"
            if kind == "cuda" and torch.version.cuda is None
            else "finds no such device"
        )
        raise InputError(
            f"device {device}: this torch ({torch.__version__}) {built}",
            hint="leave the device out, or count without latency (--no-latency): counts need no device",
        )


def _copies_of_uninitialised(model: nn.Module) -> dict[int, Any]:
    """Copies of what `copy.deepcopy` refuses to copy: buffers that have no shape yet."""
    return {
        id(tensor): type(tensor)(tensor.requires_grad, tensor.device, tensor.dtype)  # type: ignore[arg-type]
        for tensor in model.buffers()
        if isinstance(tensor, UninitializedBuffer)
    }


def _tensors(model: nn.Module) -> list[torch.Tensor]:
    """Parameters and buffers, shared ones as often as they are registered: one quick walk."""
    return [
        tensor
        for module in model.modules()
        for held in (module._parameters, module._buffers)
        for tensor in held.values()
        if tensor is not None
    ]
