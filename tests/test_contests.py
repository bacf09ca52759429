"""compare() and whatif() on real models: counts, refusals, what stays untouched. No milliseconds."""

from __future__ import annotations

import copy
import io
from pathlib import Path

import pytest
import torch
from torch import nn

import flopscope
from flopscope.errors import ForwardError, InputError, ModelLoadError

SHAPE = (1, 4, 8, 8)


class Net(nn.Module):
    """conv 3x3 4 > 8 and BN by a forward of its own, ReLU, depthwise 3x3, BN, 1x1 8 > 4."""

    def __init__(self, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.dw = nn.Conv2d(8, 8, 3, 1, 1, groups=8, bias=False)
        self.norm2 = nn.BatchNorm2d(8)
        self.pw = nn.Conv2d(8, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.pw(self.norm2(self.dw(torch.relu(self.norm(self.conv(x))))))
        return y


def bytes_of(model: nn.Module) -> bytes:
    held = io.BytesIO()
    torch.save(model.state_dict(), held)
    return held.getvalue()


# ------------------------------------------------------------------------- compare


def test_models_are_counted_and_timed_in_the_same_turns() -> None:
    found = flopscope.compare({"a": Net(), "b": Net(stride=2)}, SHAPE, max_seconds=0.3)
    # 3x3 on 8x8: 64 x 9 x 4 x 8; depthwise 64 x 9 x 8; 1x1 64 x 8 x 4. Stride 2: a quarter of each.
    macs = 64 * (9 * 4 * 8 + 9 * 8 + 8 * 4)
    assert [report.total.macs for report in found.reports] == [macs, macs // 4]
    assert all(side.measured for side in found.sides)
    assert found.ratios[0] is None
    assert found.ratios[1] is not None
    assert found.ratios[1].turns >= 5
    assert found.ratios[1].low <= found.ratios[1].value <= found.ratios[1].high
    for report in found.reports:
        assert report.total.latency_s is not None
        assert sum(row.latency_s for row in report.rows_of_the_whole) == pytest.approx(report.total.latency_s)
    pair = found.first_difference()
    assert pair is not None
    assert pair[0].path == "conv"


def test_counts_alone_need_no_data() -> None:
    with torch.device("meta"):
        nets = {"a": Net(), "b": Net()}
    found = flopscope.compare(nets, SHAPE, latency=False)
    assert found.ratios == (None, None)
    assert found["a"].total.macs == found["b"].total.macs


def test_models_stay_as_they_were_and_random_numbers_too() -> None:
    one, other = Net(), Net()
    before, state = [bytes_of(one), bytes_of(other)], torch.random.get_rng_state()
    threads = torch.get_num_threads()
    flopscope.compare({"a": one, "b": other}, SHAPE, max_seconds=0.1)
    assert [bytes_of(one), bytes_of(other)] == before
    assert one.training
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_reports_addresses_and_pairs_may_stand_beside_models(tmp_path: Path) -> None:
    saved = tmp_path / "net.json"
    flopscope.count(Net(), SHAPE).save(saved)
    found = flopscope.compare(
        {"live": (Net(), SHAPE), "saved": str(saved), "report": flopscope.count(Net(), SHAPE)}, latency=False
    )
    assert len({report.total.macs for report in found.reports}) == 1


def test_inputs_may_differ() -> None:
    found = flopscope.compare({"8": (Net(), SHAPE), "16": (Net(), (1, 4, 16, 16))}, latency=False)
    assert found["16"].total.macs == 4 * found["8"].total.macs
    assert "1x4x8x8 and 1x4x16x16" in str(found)


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ({"a": Net()}, "at least two models"),
        ([Net(), Net()], "at least two models"),
        ({"a": Net(), "b": 3}, "'b' is a int"),
    ],
)
def test_what_cannot_be_compared_is_refused(models: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        flopscope.compare(models, SHAPE, latency=False)  # type: ignore[arg-type]


def test_a_shape_that_fits_only_one_of_them_is_refused_by_name() -> None:
    with pytest.raises(ForwardError, match=r"not: .*expected 4 channels, got 3"):
        flopscope.compare({"fits": nn.Conv2d(3, 3, 1), "not": Net()}, (1, 3, 8, 8), latency=False)
    with pytest.raises(ModelLoadError, match="the zoo has no network"):
        flopscope.compare({"a": Net(), "b": "zoo:nothing"}, SHAPE, latency=False)


# ------------------------------------------------------------------------- whatif


def test_whatif_folds_checks_and_measures() -> None:
    model = Net()
    for norm in (model.norm, model.norm2):
        nn.init.uniform_(norm.weight, 0.5, 2)
        norm.running_mean.uniform_(-1, 1)  # type: ignore[operator, union-attr]
        norm.running_var.uniform_(0.5, 2)  # type: ignore[operator, union-attr]
    before = bytes_of(model)
    found = flopscope.whatif(model, SHAPE, "fold-bn", max_seconds=0.3)
    assert [side.name for side in found.sides] == ["as it is", "fold-bn"]
    rewrote = found.sides[1].rewrote
    assert rewrote is not None
    assert rewrote.function == "same"
    assert rewrote.relative is not None
    assert rewrote.relative < 1e-5
    assert rewrote.precise_relative is not None
    assert rewrote.precise_relative < 1e-5
    # Each BN of 8 channels has 16 parameters, 8 of which become the convolution's bias.
    assert found.reports[0].total.params - found.reports[1].total.params == 2 * 8
    assert found.ratios[1] is not None
    assert bytes_of(model) == before
    assert model.training


def test_rewrites_are_done_alone_and_together() -> None:
    names = ("fold-bn", "channels-last", "drop-se", "dw-to-conv")
    found = flopscope.whatif(Net(), SHAPE, *names, latency=False)
    together = "together: fold-bn + channels-last + dw-to-conv"
    assert [side.name for side in found.sides] == ["as it is", *names[:2], names[3], together]
    assert [refused.name for refused in found.refused] == ["drop-se"]
    # The depthwise convolution made dense: 64 x 9 x 8 x 8 in place of 64 x 9 x 8.
    base = found["as it is"].total.macs
    assert found["dw-to-conv"].total.macs - base == 64 * 9 * 8 * (8 - 1)
    assert "dw-to-conv: ANOTHER FUNCTION" in str(found)


def test_without_names_what_applies_is_tried_and_the_rest_named() -> None:
    found = flopscope.whatif(Net(), SHAPE, latency=False)
    names = [side.name for side in found.sides]
    assert {"as it is", "fold-bn", "channels-last", "bf16", "dw-to-pconv", "dw-to-conv"} <= set(names)
    assert {"reparametrise", "merge-branches", "drop-se", "mbconv-to-fused"} <= {
        r.name for r in found.refused
    }
    together = next(name for name in names if name.startswith("together"))
    assert "pconv" not in together  # another function is never mixed in unasked


def test_batch_is_per_sample_and_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    found = flopscope.whatif(Net(), SHAPE, "batch=4", "threads=1", max_seconds=0.3)
    assert found["batch=4"].total.macs == 4 * found["as it is"].total.macs
    assert found.sides[1].items == 4
    assert all(ratio is not None for ratio in found.ratios[1:])
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fold-nb", "no rewrite 'fold-nb'"),
        ("threads=none", "takes a whole number"),
        ("channels-last=2", "takes no value"),
        ("drop-se", "none of these rewrites applies"),
    ],
)
def test_wrong_rewrites_are_refused(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        flopscope.whatif(Net(), SHAPE, name, latency=False)


def test_an_unknown_rewrite_is_refused_before_anything_is_done() -> None:
    class Bomb(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise AssertionError("it ran")

    with pytest.raises(InputError, match="no rewrite"):
        flopscope.whatif(Bomb(), SHAPE, "fold-bn", "nothing")


def test_a_rewrite_that_breaks_its_promise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from flopscope import rewrites
    from flopscope.rewrites import Rewrite, Rewritten

    def lie(model: nn.Module, trace: object, value: str | None) -> Rewritten:
        changed = copy.deepcopy(model)
        nn.init.zeros_(changed.pw.weight)  # type: ignore[union-attr, arg-type]
        return Rewritten(changed, ("pw",))

    rewrites.rewrites()
    monkeypatch.setitem(rewrites._REWRITES, "lie", Rewrite("lie", lie, True))
    with pytest.raises(InputError, match="its outputs differ from the model's"):
        flopscope.whatif(Net(), SHAPE, "lie", latency=False)


def test_an_early_answer_has_all_sides() -> None:
    early = []
    found = flopscope.whatif(Net(), SHAPE, "fold-bn", max_seconds=0.2, early=early.append)
    assert [side.name for side in early[0].sides] == [side.name for side in found.sides]
    assert early[0].ranking_text().startswith("fold-bn ")
