"""The public contract: names that users' scripts rely on."""

from __future__ import annotations

import inspect

import flopscope

NAMES = {
    "BudgetError", "Comparison", "FlopscopeError", "ForwardError", "InputError", "Inputs", "Layer", "Machine",
    "MeasurementError", "ModelLoadError", "Report", "Spec", "UntrustedModelError", "__version__", "compare",
    "count", "crosscheck", "explain", "load", "load_model", "machine", "operator", "profile",
    "register_formula", "whatif",
}  # fmt: skip

COLUMNS = (
    "path type kind calls input_shape output_shape dtype "
    "params param_bytes macs flops bytes_read bytes_written arithmetic_intensity "
    "latency_s latency_floor_s latency_low_s latency_high_s samples "
    "flops_share latency_share flops_per_s bytes_per_s "
    "compute_s kernel_s overhead_s allocation_s memory_s limit headroom "
    "verdicts quality"
).split()

OP_COLUMNS = (
    "index op path call input_shapes output_shapes dtype macs flops bytes_read bytes_written priced_by"
).split()

EXIT_CODES = {
    "ModelLoadError": 3,
    "UntrustedModelError": 3,
    "InputError": 2,
    "ForwardError": 4,
    "MeasurementError": 5,
    "BudgetError": 1,
}


def test_every_public_name_is_there() -> None:
    assert set(flopscope.__all__) == NAMES
    for name in NAMES:
        assert getattr(flopscope, name) is not None
    assert set(dir(flopscope)) >= NAMES


def test_functions_stay_functions_after_their_rooms_were_opened() -> None:
    import flopscope.comparison
    import flopscope.contests
    import flopscope.crosschecks
    import flopscope.loading
    import flopscope.machines
    import flopscope.profiling
    import flopscope.zoo.operators

    for name in (
        "compare", "count", "crosscheck", "explain", "load", "load_model", "machine", "operator", "profile",
        "register_formula", "whatif",
    ):  # fmt: skip
        assert inspect.isfunction(getattr(flopscope, name)), name


def test_the_columns_are_those_of_the_contract() -> None:
    from flopscope.render.rows import COLUMNS as columns
    from flopscope.render.rows import OP_COLUMNS as op_columns

    assert list(columns) == COLUMNS
    assert list(op_columns) == OP_COLUMNS


def test_the_keywords_of_profile_are_keyword_only() -> None:
    parameters = inspect.signature(flopscope.profile).parameters
    assert list(parameters)[:2] == ["model", "inputs"]
    keywords = {name for name, item in parameters.items() if item.kind is inspect.Parameter.KEYWORD_ONLY}
    assert keywords >= {
        "device", "dtype", "threads", "channels_last", "latency", "effort", "max_seconds", "seed", "strict",
        "progress", "train", "loss", "optimizer", "machine",
    }  # fmt: skip


def test_errors_know_their_hint_and_exit_code() -> None:
    for name, code in EXIT_CODES.items():
        kind = getattr(flopscope, name)
        assert issubclass(kind, flopscope.FlopscopeError)
        assert kind.exit_code == code
        assert kind("what was wrong", hint="what to do").hint == "what to do"
