"""Peak activation memory, on runs whose storages are born and freed by hand. Numbers are fp32 bytes."""

from __future__ import annotations

from traces import Run

from flopscope.liveness import peak, timeline


def _chain() -> Run:
    """input > conv > relu, each map freed when the next is there: two maps at a time."""
    run = Run()
    image = run.input(1, 4, 4, 4)  # 64 numbers, 256 bytes
    with run.call("conv", "Conv2d"):
        first = run.conv(image, run.parameter("conv.weight", 4, 4, 3, 3))
    run.free(image)
    second = run.op("aten::relu", first)
    run.free(first)
    run.op("aten::sigmoid", second)
    return run


def test_a_plain_chain_holds_two_maps() -> None:
    trace = _chain().trace()
    assert timeline(trace) == (512, 512, 512)
    found = peak(trace)
    assert (found.nbytes, found.op, found.path) == (512, 0, "conv")  # the first of equals
    assert found.alive == (("input 1x4x4x4", 256), ("conv aten::convolution 1x4x4x4", 256))


def test_a_residual_block_holds_three_maps() -> None:
    run = Run()
    image = run.input(1, 4, 4, 4)
    first = run.op("aten::relu", image)
    with run.call("conv", "Conv2d"):
        second = run.conv(first, run.parameter("conv.weight", 4, 4, 3, 3))  # image, first and second
    run.free(first)
    run.op("aten::add", image, second)  # image, second and the sum
    trace = run.trace()
    assert timeline(trace) == (512, 768, 768)
    assert (peak(trace).nbytes, peak(trace).path) == (768, "conv")


def test_parameters_are_no_activations_and_constants_are() -> None:
    run = Run()
    weight = run.parameter("fc.weight", 100, 4)
    run.linear(run.input(1, 4), weight)
    run.op("aten::arange", out=(10,))
    # the input's 16 bytes, 100 outputs, then 10 numbers more
    assert timeline(run.trace()) == (416, 456)


def test_views_and_in_place_ops_hold_nothing_new() -> None:
    run = Run()
    seen = run.op("aten::relu", run.input(4, 4))
    run.view("aten::view", seen, (16,))
    run.write("aten::relu_", seen)
    assert timeline(run.trace()) == (128, 128, 128)


def test_the_alive_are_listed_largest_first() -> None:
    run = Run()
    image = run.input(2, 2)
    with run.call("up", "Upsample"):
        run.op("aten::upsample_nearest2d", image, out=(8, 8))
    assert peak(run.trace()).alive == (("up aten::upsample_nearest2d 8x8", 256), ("input 2x2", 16))


def test_a_storage_is_alive_until_the_op_before_which_it_died() -> None:
    run = Run()
    seen = run.op("aten::relu", run.input(4))
    run.free(seen)
    run.op("aten::zeros", out=(1,))
    run.op("aten::zeros", out=(8,))
    trace = run.trace()
    assert timeline(trace) == (32, 20, 52)  # 16 + 16, then 16 + 4, then 32 more


def test_what_was_freed_before_the_peak_is_not_listed() -> None:
    run = Run()
    seen = run.op("aten::relu", run.input(4))
    run.free(seen)
    run.op("aten::zeros", out=(8,))
    assert peak(run.trace()).alive == (("aten::zeros 8", 32), ("input 4", 16))


def test_a_run_without_ops_holds_its_input() -> None:
    run = Run()
    run.input(3)
    trace = run.trace()
    found = peak(trace)
    assert (found.nbytes, found.op, found.path) == (12, None, "")
    assert timeline(trace) == ()
