"""ShuffleNetV2, the authors' and torchvision's: totals by arithmetic, shapes, kinds, training, weights."""

from __future__ import annotations

import re

import pytest
import torch
from zoo_families import (
    assert_same_outputs,
    assert_trains,
    copied,
    count_of,
    fill,
    kinds,
    on_meta,
    shapes_of,
    totals,
)

from flopscope import zoo
from flopscope.zoo.shufflenetv2 import shuffled

# arXiv 1807.11164, Table 5: widths of the three stages of 4, 8 and 4 units; of the last convolution
TABLE_5 = {
    "shufflenetv2_x0_5": ((48, 96, 192), 1024),
    "shufflenetv2_x1_0": ((116, 232, 464), 1024),
    "shufflenetv2_x1_5": ((176, 352, 704), 1024),
    "shufflenetv2_x2_0": ((244, 488, 976), 2048),
}
KNOWN = {  # exact totals of both networks that carry the name
    ("shufflenetv2_x0_5", False): (1_365_792, 40_476_448),
    ("shufflenetv2_x0_5", True): (1_366_792, 40_476_448),
    ("shufflenetv2_x1_0", False): (2_278_760, 145_814_296),
    ("shufflenetv2_x1_0", True): (2_278_604, 144_907_992),
}
FORMS = [(name, form) for name in TABLE_5 for form in (False, True)]


class Sum:
    """Params and MACs of convolutions with batch norm, added up."""

    def __init__(self):
        self.params = self.macs = 0

    def conv(self, cin, cout, k, side, groups=1):
        weights = cin // groups * cout * k * k
        self.params += weights + 2 * cout
        self.macs += weights * side**2


def by_hand(widths, last, torchvision_form):
    total, cin, side = Sum(), 24, 28
    total.conv(3, 24, 3, 112)  # then a max-pool: 56
    for units, c in zip((4, 8, 4), widths, strict=True):
        kept = c // 2 if torchvision_form else cin
        total.conv(cin, cin, 3, side, groups=cin)
        total.conv(cin, kept, 1, side)
        total.conv(cin, c // 2, 1, 2 * side)
        total.conv(c // 2, c // 2, 3, side, groups=c // 2)
        total.conv(c // 2, c - kept, 1, side)
        for _ in range(units - 1):
            total.conv(c // 2, c // 2, 1, side)
            total.conv(c // 2, c // 2, 3, side, groups=c // 2)
            total.conv(c // 2, c // 2, 1, side)
        cin, side = c, side // 2
    total.conv(cin, last, 1, 7)
    return total.params + last * 1000 + (1000 if torchvision_form else 0), total.macs + last * 1000


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_totals_follow_from_the_table(name, form):
    expected = by_hand(*TABLE_5[name], form)
    entry = zoo.networks()[name]
    registered = entry.variants["torchvision_form=true"] if form else (entry.params, entry.macs)
    assert totals(count_of(name, torchvision_form=form)) == expected == registered
    assert expected == KNOWN.get((name, form), expected)


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_shapes_of_the_stages(name, form):
    widths, last = TABLE_5[name]
    shapes = shapes_of(on_meta(name, torchvision_form=form), 224)
    assert shapes["stem"] == (1, 24, 112, 112)
    assert shapes["max_pool"] == (1, 24, 56, 56)
    for stage, side in enumerate((28, 14, 7)):
        assert shapes[f"stages.{stage}"] == (1, widths[stage], side, side)
    assert shapes["head"] == (1, last, 7, 7)
    assert shapes["classifier"] == (1, 1000)


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_kinds(name, form):
    found = kinds(count_of(name, torchvision_form=form))
    # 16 units with one depthwise and two 1x1 each; the 3 of stride 2 have a shortcut with one of each.
    assert found["depthwise_conv"] == 16 + 3
    assert found["pointwise_conv"] == 2 * 16 + 3 + 1  # and the head
    assert found["conv"] == 1
    assert found["linear"] == 1
    assert found["batch_norm"] == 19 + 36 + 1
    assert found["activation"] == 36 + 1  # after every 1x1 and the stem, none after a depthwise
    assert found["data_movement"] >= 16  # split, concatenate, shuffle: one row a unit


def test_shuffling_interleaves_the_halves():
    x = torch.arange(6).view(1, 6, 1, 1)
    assert shuffled(x).flatten().tolist() == [0, 3, 1, 4, 2, 5]


def test_the_two_forms_differ_in_two_rows():
    """Totals within 1 % of each other, but other networks: the shapes tell where."""
    reports = [count_of("shufflenetv2_x1_0", torchvision_form=form) for form in (False, True)]
    ours, theirs = ({layer.path: layer.output_shape for layer in report.layers} for report in reports)
    differing = [path for path in ours if path.endswith("conv") and ours[path] != theirs[path]]
    # Stage 1: 24 kept of 116, so that 92 come from the branch; torchvision 58 and 58. In the later
    # stages the width doubles, and half of it is the input's width: the two forms agree.
    assert differing == ["stages.0.0.shortcut.1.conv", "stages.0.0.branch.2.conv"]
    assert ours["stages.0.0.shortcut.1.conv"][1] == 24
    assert ours["stages.0.0.branch.2.conv"][1] == 92
    assert theirs["stages.0.0.branch.2.conv"][1] == 58


@pytest.mark.parametrize("form", [False, True])
def test_it_trains(form):
    assert_trains(zoo.build("shufflenetv2_x1_0", torchvision_form=form), 64)


def test_names_of_the_state():
    names = list(on_meta("shufflenetv2_x1_0").state_dict())
    assert len(names) == 337  # 56 convolutions with 5 tensors of batch norm each, and a weight
    assert names[:2] == ["stem.conv.weight", "stem.norm.weight"]
    assert "stages.1.7.branch.2.conv.weight" in names
    assert names[-1] == "classifier.weight"
    torchvision_form = on_meta("shufflenetv2_x1_0", torchvision_form=True)
    assert list(torchvision_form.state_dict()) == [*names, "classifier.bias"]


PLACES = {"branch1": {0: "0.conv", 1: "0.norm", 2: "1.conv", 3: "1.norm"}, "branch2": {
    0: "0.conv", 1: "0.norm", 3: "1.conv", 4: "1.norm", 5: "2.conv", 6: "2.norm"}}  # fmt: skip


def ours_for_torchvision(name):
    for theirs, ours in (("conv1", "stem"), ("conv5", "head")):
        name = re.sub(
            rf"^{theirs}\.([01])", lambda found, ours=ours: f"{ours}.{('conv', 'norm')[int(found[1])]}", name
        )
    name = re.sub(r"^fc\.", "classifier.", name)
    unit = re.match(r"^stage(\d)\.(\d)\.(branch[12])\.(\d)(.*)", name)
    if unit is None:
        return name
    stage, place, branch, layer, rest = unit.groups()
    ours = "shortcut" if branch == "branch1" else "branch"
    return f"stages.{int(stage) - 2}.{place}.{ours}.{PLACES[branch][int(layer)]}{rest}"


@pytest.mark.parametrize("size", ["0_5", "1_0", "1_5", "2_0"])
def test_torchvision_gives_the_same_outputs(size):
    models = pytest.importorskip("torchvision", reason="torchvision is not installed").models
    theirs = models.get_model(f"shufflenet_v2_x{size}", weights=None)
    with torch.no_grad():
        fill(theirs)
    ours = zoo.build(f"shufflenetv2_x{size}", torchvision_form=True)
    ours.load_state_dict(copied(theirs.state_dict(), ours_for_torchvision))
    assert_same_outputs(ours, theirs, 96)
    meta = models.get_model_weights(f"shufflenet_v2_x{size}").IMAGENET1K_V1.meta
    params, macs = zoo.networks()[f"shufflenetv2_x{size}"].variants["torchvision_form=true"]
    assert (params, round(macs / 1e9, 3)) == (meta["num_params"], meta["_ops"])
