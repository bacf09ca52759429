"""RepVGG: exact counts of both forms, and the two forms of one network beside each other."""

from __future__ import annotations

import re

import pytest
import torch
from counting import counted
from torch import nn
from zoo_checks import (
    after_training_step,
    as_printed,
    kinds_of,
    load_renamed,
    names_digest,
    report_of,
    shapes_of,
    trained_like,
)

import flopscope
from flopscope import zoo
from flopscope.errors import InputError
from flopscope.rewrites.reparametrise import reparametrise
from flopscope.zoo.repvgg import RepVGG, RepVGGBlock, RepVGGDeployBlock, Size

A, B, D = (1, 2, 4, 14, 1), (1, 4, 6, 16, 1), (1, 8, 14, 24, 1)

# name: layers per stage, widths worked out from a and b, groups.
TABLE = {
    "repvgg_a0": (A, (48, 48, 96, 192, 1280), 1),
    "repvgg_a1": (A, (64, 64, 128, 256, 1280), 1),
    "repvgg_a2": (A, (64, 96, 192, 384, 1408), 1),
    "repvgg_b0": (B, (64, 64, 128, 256, 1280), 1),
    "repvgg_b1": (B, (64, 128, 256, 512, 2048), 1),
    "repvgg_b1g2": (B, (64, 128, 256, 512, 2048), 2),
    "repvgg_b1g4": (B, (64, 128, 256, 512, 2048), 4),
    "repvgg_b2": (B, (64, 160, 320, 640, 2560), 1),
    "repvgg_b2g2": (B, (64, 160, 320, 640, 2560), 2),
    "repvgg_b2g4": (B, (64, 160, 320, 640, 2560), 4),
    "repvgg_b3": (B, (64, 192, 384, 768, 2560), 1),
    "repvgg_b3g2": (B, (64, 192, 384, 768, 2560), 2),
    "repvgg_b3g4": (B, (64, 192, 384, 768, 2560), 4),
    "repvgg_d2se": (D, (64, 160, 320, 640, 2560), 1),
}

# Train params and MACs, deploy params and MACs, multiplications with Winograd: of the official code.
OFFICIAL = {
    "repvgg_a0": (9108968, 1512581120, 8309384, 1361451008, 747296768),
    "repvgg_a1": (14092264, 2626488320, 12789864, 2363967488, 1272137728),
    "repvgg_a2": (28210600, 5685345280, 25499944, 5116951552, 2660334592),
    "repvgg_b0": (15817960, 3397191680, 14339048, 3057600512, 1580419072),
    "repvgg_b1": (57415016, 13128089600, 51829480, 11815485440, 5906759680),
    "repvgg_b1g2": (45782376, 9788375040, 41360104, 8809742336, 4570873856),
    "repvgg_b1g4": (39966056, 8118517760, 36125416, 7306870784, 3902930944),
    "repvgg_b2": (89022376, 20418170880, 80315112, 18376609792, 9144225792),
    "repvgg_b2g4": (61758376, 12590714880, 55777512, 11331899392, 6013243392),
    "repvgg_b3": (123085288, 29120696320, 110960872, 26208882688, 12914249728),
    "repvgg_b3g4": (83825128, 17849159680, 75626728, 16064499712, 8405635072),
}


def layers_of(name):
    """(cin, cout, stride, groups, side of the output) of every layer, stage 0 first."""
    counts, widths, groups = TABLE[name]
    cin, side, index = 3, 224, 0
    for count, width in zip(counts, widths, strict=True):
        for position in range(count):
            stride = 1 if position else 2
            side //= stride
            yield cin, width, stride, groups if index in range(2, 27, 2) else 1, side
            cin, index = width, index + 1


def closed_form(name, *, deploy):
    """Params and MACs from the table alone."""
    params = macs = 0
    for cin, cout, stride, groups, side in layers_of(name):
        kernel = (9 if deploy else 9 + 1) * cin * cout // groups
        norms = 2 + (stride == 1 and cin == cout)
        squeezed = cout // 16
        se = 2 * cout * squeezed if name.endswith("se") else 0
        params += kernel + (cout if deploy else norms * 2 * cout) + se + (squeezed + cout if se else 0)
        macs += kernel * side**2 + se
    return params + cout * 1000 + 1000, macs + cout * 1000


@pytest.mark.parametrize("name", TABLE)
def test_counts_of_both_forms(name):
    entry = zoo.find(name)
    train, deploy = report_of(name), report_of(name, "deploy=true")
    found = [(report.total.params, report.total.macs) for report in (train, deploy)]
    assert found == [(entry.params, entry.macs), entry.variants["deploy=true"]]
    assert found == [closed_form(name, deploy=False), closed_form(name, deploy=True)]
    if name in OFFICIAL:
        assert (*found[0], *found[1], deploy.conventions["winograd_muls"]) == OFFICIAL[name]


@pytest.mark.parametrize("name", TABLE)
def test_kinds_of_both_forms(name):
    layers = list(layers_of(name))
    grouped = sum(groups > 1 for *_, groups, _ in layers)
    assert grouped == (13 if "g" in name.removeprefix("repvgg") else 0)  # layers 2, 4, ..., 26
    dense = len(layers) - grouped
    rest = {"linear": 1} | ({"se": len(layers)} if name.endswith("se") else {})
    train = {"conv": dense, "pointwise_conv": dense, "group_conv": 2 * grouped}
    deploy = {"conv": dense, "group_conv": grouped}
    expected = [{kind: count for kind, count in (kinds | rest).items() if count} for kinds in (train, deploy)]
    assert [kinds_of(report_of(name, query)) for query in ("", "deploy=true")] == expected


@pytest.mark.parametrize("name", TABLE)
def test_identity_branches_only_where_stride_is_1_and_widths_are_equal(name):
    expected = [stride == 1 and cin == cout for cin, cout, stride, _, _ in layers_of(name)]
    with torch.device("meta"):
        blocks = [block for block in zoo.build(name).modules() if isinstance(block, RepVGGBlock)]
    assert [block.identity is not None for block in blocks] == expected
    # Stage 1 begins 64 -> 64 with stride 2 here: a block that looks at widths only cannot be built.
    if name in ("repvgg_a1", "repvgg_b0"):
        assert list(layers_of(name))[1][:3] == (64, 64, 2)
        assert blocks[1].identity is None


@pytest.mark.parametrize("query", ["", "deploy=true"])
def test_output_shapes_of_the_stages(query):
    paths = [f"stages.{stage}" for stage in range(5)]
    assert shapes_of(report_of("repvgg_a2", query), *paths, "") == [
        (1, 64, 112, 112), (1, 96, 56, 56), (1, 192, 28, 28), (1, 384, 14, 14), (1, 1408, 7, 7), (1, 1000),
    ]  # fmt: skip


@pytest.mark.parametrize("branches", ["1x1", "identity", "none"])
def test_the_branches_of_table_6(branches):
    """B0 without some of its branches: each 1x1 costs its kernel and a BN, each identity a BN."""
    layers = list(layers_of("repvgg_b0"))
    params, macs, _, _, _ = OFFICIAL["repvgg_b0"]
    if branches != "1x1":
        params -= sum(cin * cout + 2 * cout for cin, cout, _, _, _ in layers)
        macs -= sum(cin * cout * side**2 for cin, cout, _, _, side in layers)
    if branches != "identity":
        params -= sum(2 * cout for cin, cout, stride, _, _ in layers if stride == 1 and cin == cout)
    report = report_of("repvgg_b0", f"branches={branches}")
    assert (report.total.params, report.total.macs) == (params, macs)
    assert zoo.find("repvgg_b0").variants[f"branches={branches}"] == (params, macs)


def test_strange_branches_are_refused():
    with pytest.raises(InputError, match="no branches '3x3'"):
        zoo.build("repvgg_b0", branches="3x3")


@pytest.mark.parametrize("name", sorted(OFFICIAL))
def test_published_figures(name):
    paper, mmcv = zoo.find(name).published
    assert paper.options == {"deploy": True}
    deploy, train = report_of(name, "deploy=true").total, report_of(name).total
    assert as_printed(deploy.params / 1e6, paper.params_m)
    assert as_printed(deploy.macs / 1e9, paper.macs_g)
    assert as_printed(train.params / 1e6, mmcv.params_m)
    assert 1.0 <= mmcv.macs_g / (train.macs / 1e9) < 1.01  # counts BN, bias and ReLU besides


def test_one_training_step_reaches_every_parameter():
    layers = (1, 1, 2, 2, 1)
    assert after_training_step(lambda: RepVGG(Size(layers, 0.5, 0.25, groups=2), num_classes=10), 64) == []
    assert after_training_step(lambda: RepVGG(Size(layers, 1, 0.5, se=True), num_classes=10), 64) == []
    deploy = Size(layers, 0.5, 0.25, groups=2)
    assert after_training_step(lambda: RepVGG(deploy, num_classes=10, deploy=True), 64) == []


def test_names_are_stable():
    with torch.device("meta"):
        assert names_digest(zoo.build("repvgg_a0")) == "aea5c293d9a6bdb3"
        assert names_digest(zoo.build("repvgg_a0", deploy=True)) == "7759d7e3ef0afef4"
        assert names_digest(zoo.build("repvgg_d2se")) == "5c2ed0b8f75a0735"


@pytest.mark.parametrize("name", ["repvgg_a0", "repvgg_b0", "repvgg_b2g4", "repvgg_d2se"])
def test_the_deploy_form_is_the_same_built_or_rewritten(name):
    with torch.device("meta"):
        built, rewritten = zoo.build(name, deploy=True), reparametrise(zoo.build(name).eval())
    assert names_digest(built) == names_digest(rewritten)
    assert [(path, type(module)) for path, module in built.named_modules()] == [
        (path, type(module)) for path, module in rewritten.named_modules()
    ]
    assert rewritten.flopscope_resolution == built.flopscope_resolution
    count = flopscope.count(rewritten, (1, 3, 224, 224)).total
    assert (count.params, count.macs) == zoo.find(name).variants["deploy=true"]


@pytest.mark.parametrize("branches", ["both", "1x1", "identity", "none"])
def test_a_whole_network_computes_the_same_in_its_deploy_form(branches):
    torch.manual_seed(0)
    size = Size((1, 2, 3, 3, 1), 0.5, 0.25, groups=4, se=True)
    model = trained_like(RepVGG(size, num_classes=10, branches=branches).double())
    deployed = RepVGG(size, num_classes=10, deploy=True).double().eval()
    deployed.load_state_dict(reparametrise(model).state_dict())
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.inference_mode():
        y, z = model(x), deployed(x)
    assert (y - z).abs().max() <= 1e-10 * y.abs().max()


def test_the_toy_network_of_a_tutorial():
    """Widths 64 128 256 512 and blocks 1, 2, 2, 2: seven blocks, not two in each of four stages."""
    widths, blocks = (64, 128, 256, 512), (1, 2, 2, 2)
    layers, cin = [], 3
    for width, count in zip(widths, blocks, strict=True):
        for index in range(count):
            layers.append((cin, width, 1 if index else 2))
            cin = width
    train = [RepVGGBlock(cin, cout, stride=stride) for cin, cout, stride in layers]
    model = nn.Sequential(*train).eval()
    report = counted(model, (1, 3, 224, 224))
    assert (report.total.params, report.total.macs) == (5_172_096, 2_336_194_560)
    deployed = counted(reparametrise(model), (1, 3, 224, 224))
    assert (deployed.total.params, deployed.total.macs) == (4_648_448, 2_102_575_104)


def as_ours(name):
    """Translate timm's name of an entry into ours: its stem is our stage 0."""
    name = re.sub(r"^stages\.(\d)\.", lambda match: f"stages.{int(match[1]) + 1}.", name)
    for theirs, ours in {
        "stem.": "stages.0.0.",
        "conv_kxk": "conv3x3",
        "conv_1x1": "conv1x1",
        ".bn.": ".norm.",
        "reparam_conv": "conv",
        "attn.fc1": "se.reduce",
        "attn.fc2": "se.expand",
        "head.fc": "classifier",
    }.items():
        name = name.replace(theirs, ours)
    return name


def test_agreement_with_timm_in_both_forms():
    timm = pytest.importorskip("timm")
    theirs = trained_like(timm.create_model("repvgg_a0").double())
    ours = load_renamed(zoo.build("repvgg_a0").double(), theirs.state_dict(), as_ours)
    their_deployed = timm.utils.reparameterize_model(theirs).eval()
    loaded = load_renamed(zoo.build("repvgg_a0", deploy=True).double(), their_deployed.state_dict(), as_ours)
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    with torch.inference_mode():
        expected = theirs(x)
        for model in (ours, reparametrise(ours), their_deployed, loaded):
            assert (model(x) - expected).abs().max() <= 1e-10 * expected.abs().max()
    for name, weight in reparametrise(ours).state_dict().items():
        torch.testing.assert_close(weight, loaded.state_dict()[name], rtol=0, atol=1e-12)
    for one, other in ((ours, theirs), (loaded, their_deployed)):
        one, other = (flopscope.count(model, (1, 3, 224, 224)).total for model in (one, other))
        assert (one.macs, one.params) == (other.macs, other.params)


@pytest.mark.parametrize("name", ["repvgg_b1g4", "repvgg_d2se"])
def test_counts_agree_with_timm(name):
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        theirs = flopscope.count(timm.create_model(name), (1, 3, 224, 224)).total
    ours = report_of(name).total
    assert (ours.params, ours.macs) == (theirs.params, theirs.macs)


def test_a_saved_deploy_form_loads_without_trust(tmp_path):
    model = reparametrise(RepVGG(Size((1, 1, 1, 1, 1), 0.25, 0.25, se=True), num_classes=10).eval())
    assert any(isinstance(module, RepVGGDeployBlock) for module in model.modules())
    torch.save(model, tmp_path / "model.pt")
    loaded = flopscope.load_model(str(tmp_path / "model.pt"))
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(loaded(x), model(x))
