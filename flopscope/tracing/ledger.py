"""Tensors of a run -> their layouts and storages: which is which, and how long each lived."""

from __future__ import annotations

from typing import Any

import torch

from .notes import GONE, Block, End, Layout, Seen

META = torch.device("meta")


class Ledger:
    """Knows every tensor of a run: those of the model and the caller by identity, those that the
    run made by a note that they carry.

    Args:
        state: id of every parameter and buffer -> (role, path).
        ops: the list of ops that the run fills; its length is the present moment.
        meta: the run has no data; tensors of the model get twins on the meta device.

    `follows_aliases`: a tensor that is not known, on a storage that the run made, is no constant.
    """

    def __init__(self, state: dict[int, tuple[str, str]], ops: list[Any], *, meta: bool) -> None:
        self.blocks: list[Block] = []
        self._state = state
        self._ops = ops
        self._meta = meta
        self._layouts: dict[Any, Layout] = {}
        self._storages: dict[int, int] = {}
        self._known: dict[int, Seen] = {}
        self._twins: dict[int, torch.Tensor] = {}
        self._held: list[Any] = []  # so that no identity is given to a second tensor
        self._closed = False
        self.follows_aliases = False

    def expect(self, tensor: torch.Tensor) -> None:
        """Note an argument of the model, which the caller holds during the whole run."""
        if id(tensor) not in self._known:
            seen = self._known[id(tensor)] = self._first_look(tensor, "input", None)
            seen.real = self._meta and not tensor.is_meta
            self._held.append(tensor)

    def close(self) -> None:
        """Stop noting when storages die: the run is over."""
        self._closed = True
        self._twins.clear()
        self._known.clear()
        self._held.clear()

    def see(self, tensor: torch.Tensor) -> Seen:
        """What is known of a tensor that an operator was given."""
        seen: Seen | None = getattr(tensor, "_flopscope", None) or self._known.get(id(tensor))
        if seen is None and self.follows_aliases:
            seen = self._alias(tensor)
        if seen is None:
            role, name = self._state.get(id(tensor), ("constant", None))
            seen = self._known[id(tensor)] = self._first_look(tensor, role, name)
            self._held.append(tensor)
        return seen

    def block_of(self, tensor: torch.Tensor) -> Block | None:
        """The storage of a tensor, where it is one that the run knows."""
        try:
            index = self._storages.get(tensor.untyped_storage()._cdata)
        except (NotImplementedError, RuntimeError):  # sparse and other opaque tensors have none
            return None
        return None if index is None else self.blocks[index]

    def restart(self) -> None:
        """Forget what is over: what is alive was there before all that is noted from now on."""
        for block in self.blocks:
            block.born = -1
            if block.died is not None:
                block.died = GONE
            elif block.role == "activation":
                block.role = "constant"
            block.saved = False

    def _alias(self, tensor: torch.Tensor) -> Seen | None:
        """A tensor that autograd made without an operator, on a storage of the run's own.

        It must not be held: what is saved for the backward pass would never be freed.
        """
        block = None if id(tensor) in self._state else self.block_of(tensor)
        if block is None or block.role in ("constant", "input"):
            return None
        seen = self._first_look(tensor, block.role, None)
        seen.real = self._meta and not tensor.is_meta
        tensor._flopscope = seen  # type: ignore[attr-defined]
        return seen

    def look(self, tensor: torch.Tensor) -> Seen:
        """What is known of a tensor that an operator returned."""
        seen: Seen | None = getattr(tensor, "_flopscope", None) or self._known.get(id(tensor))
        if seen is None:
            seen = self._first_look(tensor, "activation", None)
            seen.real = self._meta and not tensor.is_meta
            tensor._flopscope = seen  # type: ignore[attr-defined]
        return seen

    def look_again(self, tensor: torch.Tensor) -> None:
        """Renew the layout of a tensor whose shape or storage an operator changed in place."""
        old = self.see(tensor)
        seen = self._first_look(tensor, "activation", None)
        seen.real = old.real
        seen.original = old.original
        if id(tensor) in self._known:
            self._known[id(tensor)] = seen
        else:
            tensor._flopscope = seen  # type: ignore[attr-defined]

    def new(self, layout: Layout) -> torch.Tensor:
        """A new tensor without data, and the note that it carries."""
        tensor = torch.empty_strided(layout.shape, layout.strides, dtype=layout.dtype, device=META)
        storage = self._new_storage(tensor.untyped_storage(), "activation", None)
        tensor._flopscope = Seen(layout, storage, 0)  # type: ignore[attr-defined]
        return tensor

    def twin(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor itself if it is on meta, else a stand-in of the same layout that is."""
        if tensor.is_meta:
            return tensor
        twin = self._twins.get(id(tensor))
        if twin is None:
            seen = self.see(tensor)
            layout = seen.layout
            # A view of an ordinary tensor must be one too, even under inference mode.
            with torch.inference_mode(tensor.is_inference()):
                twin = torch.empty_strided(layout.shape, layout.strides, dtype=layout.dtype, device=META)
            self._storages[twin.untyped_storage()._cdata] = seen.storage
            stand_in = Seen(layout, seen.storage, seen.offset)
            stand_in.original = tensor
            twin._flopscope = stand_in  # type: ignore[attr-defined]
            self._twins[id(tensor)] = twin
            self._held.append(tensor)
        return twin

    def _first_look(self, tensor: torch.Tensor, role: str, name: str | None) -> Seen:
        layout = self._layout(tensor)
        try:
            storage = tensor.untyped_storage()
            offset = int(tensor.storage_offset())
        except (NotImplementedError, RuntimeError):  # sparse and other opaque tensors have none
            self.blocks.append(Block(tensor.numel() * tensor.element_size(), role, name, len(self._ops)))
            return Seen(layout, len(self.blocks) - 1, 0)
        index = self._storages.get(storage._cdata)
        if index is None:
            index = self._new_storage(storage, role, name)
        return Seen(layout, index, offset)

    def _new_storage(self, storage: Any, role: str, name: str | None) -> int:
        index = len(self.blocks)
        block = Block(storage.nbytes(), role, name, len(self._ops) if role == "activation" else -1)
        end = End(storage, self._died)
        end.block = block
        end.key = storage._cdata
        block.ref = end
        self._storages[end.key] = index
        self.blocks.append(block)
        return index

    def _died(self, end: Any) -> None:
        if not self._closed:
            end.block.died = len(self._ops)
            self._storages.pop(end.key, None)

    def _layout(self, tensor: torch.Tensor) -> Layout:
        try:
            shape, strides = tuple(tensor.shape), tensor.stride()
        except RuntimeError:  # sparse tensors have no strides, nested ones not even a shape
            shape = (tensor.numel(),) if tensor.is_nested else tuple(tensor.shape)
            strides = torch.empty(shape, device=META).stride()
        key = (tensor.dtype, shape, strides)
        layout = self._layouts.get(key)
        if layout is None:
            layout = self._layouts[key] = Layout(tensor.dtype, shape, strides)
        return layout
