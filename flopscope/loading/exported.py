"""A `.pt2` file -> Trace: what the exported graph does, read as plain data.

`torch.export.load` runs code from the file in several ways (pickled sample inputs and weights,
symbolic expressions that are evaluated, guards that are executed, operators found by chains of
attributes), so it is never called. The graph is JSON, and all that counting needs is in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from flopscope.errors import ModelLoadError
from flopscope.records import ModuleCall, Parameter, Trace

from . import graphs, schemas
from .archives import Members, damaged, open_members
from .callbook import stack_of
from .ledger import FOREVER
from .recording import Node, Recording, numbered

_KEPT_NAMES = """
linear convolution bilinear scaled_dot_product_attention lstm gru rnn_tanh rnn_relu batch_norm layer_norm
group_norm instance_norm rms_norm embedding_bag grid_sampler dropout softmax log_softmax cdist outer
"""

KEPT = frozenset(f"aten::{name}" for name in _KEPT_NAMES.split())
"""Composite operators that are not taken apart unless the caller says otherwise."""

_INLINED = ("wrap_with_set_grad_enabled", "wrap_with_autocast", "hints_wrapper")


def read_exported(
    path: Path, *, keep: Callable[[str], bool] = KEPT.__contains__, key: str | None = None
) -> Trace:
    """Read the graph of a `.pt2` file, without loading or running anything from it.

    Args:
        path: the file.
        keep: tells of an operator name whether it is priced as a whole; other composite operators
            are recorded in parts, as in a run.
        key: which graph to take where the archive holds several.

    Returns:
        A trace with route "exported"; symbolic sizes stand at the values they were exported with.

    Raises:
        ModelLoadError: The file is damaged, or of a schema that is not read.
    """
    try:
        with open_members(path) as members:
            members.refuse_bombs()
            program = graphs.read_program(path, members, key)
            shared = _shared_weights(path, members)
        reader = _Reader(keep)
        return reader.trace(program, shared)
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        IndexError,
        RecursionError,
        StopIteration,
    ) as error:
        what = (
            f"its graph cannot be read ({error})"
            if isinstance(error, ValueError)
            else "its graph cannot be read"
        )
        raise damaged(path, what) from error
    except MemoryError as error:
        raise ModelLoadError(
            f"{path}: its graph is too large to read.", hint="export a smaller part."
        ) from error


def _shared_weights(path: Path, members: Members) -> dict[str, Any]:
    """Name of a parameter or buffer -> what tells whether two names mean the same tensor."""
    held: dict[str, Any] = {}
    for name in members:
        if name.endswith(("weights_config.json", "constants_config.json")):
            for owner, entry in graphs.read_json(path, members, name).get("config", {}).items():
                meta = entry.get("tensor_meta")
                if meta is not None:
                    spec = graphs.tensor(meta)
                    held[owner] = (name, entry["path_name"], spec.shape, spec.strides, spec.offset)
    return held


class _Reader:
    """Reads one graph node by node. An `env` maps the graph's tensor names to values."""

    def __init__(self, keep: Callable[[str], bool]) -> None:
        self.keep = keep
        self.recording = Recording()
        self.warnings: dict[str, None] = {}
        self.parameters: list[Parameter] = []
        self.buffers: list[Parameter] = []
        self.devices: list[str] = []

    def trace(self, program: Mapping[str, Any], shared: Mapping[str, Any]) -> Trace:
        module = program["graph_module"]
        graph = module["graph"]
        recording = self.recording
        env = self._inputs(module["signature"]["input_specs"], _tensors_of(graph), shared)
        given = [index for index in range(len(recording.ledger.values)) if recording.role(index) == "input"]
        self._run(graph, env)
        ops = len(recording.ops)
        recording.book.finish(ops)
        results = [env[name] for name in _names(graph["outputs"])]
        recording.ledger.use(results, FOREVER)
        listed = [str(entry["fqn"]).partition("@")[0] for entry in module.get("module_call_graph", ())]
        return Trace(
            modules=recording.book.modules(listed),
            calls=self._calls(given, results),
            ops=tuple(recording.ops),
            storages=recording.ledger.storages(ops),
            parameters=tuple(self.parameters),
            buffers=tuple(self.buffers),
            route="exported",
            device=self.devices[0] if self.devices else "cpu",
            torch_version=str(program.get("torch_version", "")),
            warnings=tuple(self.warnings),
        )

    def _calls(self, given: list[int], results: list[int]) -> tuple[ModuleCall, ...]:
        """The module calls. Python holds the arguments of a call until it returns, and so does the ledger."""
        ledger, book = self.recording.ledger, self.recording.book
        shapes = [(ledger.shapes(given), ledger.shapes(results))]
        for index in range(1, len(book.calls)):
            into, out = _crossing(self.recording, index)
            shapes.append((ledger.shapes(into), ledger.shapes(out)))
            ledger.hold(into, book.calls[index].end_op - 1)
        return book.records(shapes)

    def _inputs(
        self,
        specs: Iterable[Mapping[str, Any]],
        tensors: Mapping[str, graphs.Tensor],
        shared: Mapping[str, Any],
    ) -> dict[str, int]:
        """Enter parameters, buffers, constants and inputs; names of one tensor get one value."""
        env: dict[str, int] = {}
        twins: dict[Any, int] = {}
        for spec in specs:
            ((kind, entry),) = spec.items()
            role = {"parameter": "parameter", "buffer": "buffer", "user_input": "input"}.get(kind, "constant")
            given = entry.get("arg", {})
            name = (given.get("as_tensor") or {}).get("name") if role == "input" else given.get("name")
            if not isinstance(name, str) or name not in tensors:
                continue  # a number, a custom object
            path = str(entry.get("parameter_name") or entry.get("buffer_name") or name)
            twin = (role, shared.get(path, path))
            if twin not in twins:
                twins[twin] = self._register(role, path, tensors[name])
            env[name] = twins[twin]
        return env

    def _register(self, role: str, path: str, tensor: graphs.Tensor) -> int:
        self.devices.append(tensor.device)
        ledger = self.recording.ledger
        index = ledger.add(tensor, ledger.open(role, name=path))
        if role in ("parameter", "buffer"):
            numel = ledger.values[index].spec.numel
            record = Parameter(
                path=path,
                owner=path.rpartition(".")[0],
                shape=tensor.shape,
                dtype=tensor.dtype,
                numel=numel,
                nbytes=numel * tensor.itemsize,
                trainable=tensor.trainable and role == "parameter",
            )
            (self.parameters if role == "parameter" else self.buffers).append(record)
        return index

    def _run(self, graph: Mapping[str, Any], env: dict[str, int]) -> None:
        numbers = graphs.hints(graph)
        tensors = _tensors_of(graph)
        for node in graph["nodes"]:
            target = graphs.target(str(node["target"]))
            call = self.recording.book.enter(stack_of(node), len(self.recording.ops))
            if target is None:
                continue  # Python's arithmetic on sizes
            schema = schemas.schema_of(target)
            results = _names(node["outputs"])
            if not results and not schema.written:
                continue  # assertions and sizes: no work on tensors
            given = {item["name"] or str(at): item["arg"] for at, item in enumerate(node["inputs"])}
            read = {name: graphs.argument(value, numbers) for name, value in given.items()}
            if target.namespace == "higher_order" and self._inlined(target, read, results, env):
                continue
            arguments, held = numbered(read, env)
            wanted = tuple(tensors[name] for name in results)
            found = self._record(Node(target, schema, arguments, held, wanted, call))
            env.update(zip(results, found, strict=True))

    def _record(self, node: Node) -> list[int]:
        found = None
        if node.schema.composite:
            from . import expansion

            found = expansion.expand(self.recording, node, self.keep)
        return self.recording.add(node) if found is None else found

    def _inlined(
        self, target: graphs.Target, given: dict[str, Any], results: list[str], env: dict[str, int]
    ) -> bool:
        """Read a node that runs another graph exactly once through; warn of any other, which stays one op."""
        inner = [name for name, value in given.items() if isinstance(value, Mapping)]
        bodies = [given.pop(name)["graph"] for name in inner]
        if target.name not in _INLINED or len(bodies) != 1:
            self.warnings[f"{target.name}: what runs inside it is not counted"] = None
            return False
        operands = [env[ref.name] for value in given.values() for ref in graphs.refs(value)]
        below = dict(zip(_names(bodies[0]["inputs"]), operands, strict=True))
        self._run(bodies[0], below)
        back = [below[name] for name in _names(bodies[0]["outputs"])]
        env.update(zip(results, back, strict=True))
        return True


def _crossing(recording: Recording, call: int) -> tuple[dict[int, None], dict[int, None]]:
    """The values that a call takes from outside, and those that are used outside of it, in order of use."""
    values = recording.ledger.values
    first, end = recording.book.calls[call].first_op, recording.book.calls[call].end_op
    into: dict[int, None] = {}
    out: dict[int, None] = {}
    for held, made in recording.used[first:end]:
        outside = (index for index in held if values[index].made < first)
        into.update(
            dict.fromkeys(index for index in outside if recording.role(index) in ("input", "activation"))
        )
        out.update(dict.fromkeys(index for index in made if values[index].used >= end))
    return into, out


def _tensors_of(graph: Mapping[str, Any]) -> dict[str, graphs.Tensor]:
    return {name: graphs.tensor(meta) for name, meta in graph["tensor_values"].items()}


def _names(listed: Iterable[Mapping[str, Any]]) -> list[str]:
    """The names of all tensors in a list of arguments."""
    return [ref.name for item in listed for ref in graphs.refs(graphs.argument(item, {}))]
