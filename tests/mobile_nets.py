"""What the tests of the mobile families share: a second way to count, training, weights to copy."""

from __future__ import annotations

import hashlib
import math
from collections import Counter

import torch
from counting import counted
from torch import nn

from flopscope import zoo

NETWORKS = zoo.networks()

# A block of `chain_cost`: input and output channels, expanded width, kernel, stride, squeezed width of
# the SE (0: none), and whether expansion and depthwise conv are fused into one kxk conv.
FUSED, SEPARATE = True, False


def without_data(name, **options):
    with torch.device("meta"):
        return zoo.build(name, **options)


def report_of(name, resolution=None, **options):
    entry = NETWORKS[name]
    side = resolution or entry.resolution
    return counted(without_data(name, **options), (1, 3, side, side))


def totals_of(name, resolution=None, **options):
    total = report_of(name, resolution, **options).total
    return total.params, total.macs


def kinds_of(report):
    """Layers by kind, without those that hold no operator, such as drop paths."""
    return Counter(layer.kind for layer in report.layers if layer.ops)


def output_shapes(report, paths):
    rows = {row.path: row.output_shape for row in report.tree}
    return [rows[path] for path in paths]


def chain_cost(blocks, *, stem, head, fcs, side):
    """Params and MACs of stem, blocks, head conv and fully connected layers, by arithmetic alone.

    Conv kxk, c -> d, in g groups: k² c d / g weights, each used once per output pixel; no bias, but a
    batch norm of 2 d. The two convs of an SE and the FCs have biases and no norm.
    """
    side = math.ceil(side / 2)
    params, macs = 27 * stem + 2 * stem, 27 * stem * side * side
    for cin, cout, expanded, kernel, stride, squeezed, fused in blocks:
        before, side = side * side, math.ceil(side / stride)
        after = side * side
        convs = []  # weights, output channels, pixels
        if fused and expanded == cin:
            convs.append((kernel**2 * cin * cout, cout, after))
        elif fused:
            convs += [(kernel**2 * cin * expanded, expanded, after), (expanded * cout, cout, after)]
        else:
            convs += [(cin * expanded, expanded, before)] if expanded != cin else []
            convs += [(kernel**2 * expanded, expanded, after), (expanded * cout, cout, after)]
        params += sum(weights + 2 * channels for weights, channels, _ in convs)
        macs += sum(weights * pixels for weights, _, pixels in convs)
        if squeezed:
            params += 2 * expanded * squeezed + squeezed + expanded
            macs += 2 * expanded * squeezed
    cin = blocks[-1][1]
    params += cin * head + 2 * head
    macs += cin * head * side * side
    for width in fcs:
        params += head * width + width
        macs += head * width
        head = width
    return params, macs


def fits(printed, exact, unit):
    """Tell whether a printed figure is the exact one, rounded to the digits that are printed."""
    digits = len(str(printed).partition(".")[2])
    return printed is None or round(exact / unit, digits) == printed


def assert_figures_fit_or_say_why(entry):
    assert entry.published
    for figure in entry.published:
        query = ",".join(f"{key}={str(value).lower()}" for key, value in figure.options.items())
        params, macs = entry.variants[query] if query else (entry.params, entry.macs)
        fit = fits(figure.params_m, params, 1e6) and fits(figure.macs_g, macs, 1e9)
        assert fit or figure.reason, figure
        if figure.reason:  # and no network is registered for something altogether else
            assert figure.params_m is None or abs(figure.params_m * 1e6 / params - 1) < 0.25


def assert_trains(name, side, **options):
    """One training step reaches every parameter, and leaves a network that gives finite outputs."""
    torch.manual_seed(0)
    model = zoo.build(name, num_classes=10, stochastic_depth=0.0, **options)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    images = torch.randn(2, 3, side, side)
    before = {path: parameter.detach().clone() for path, parameter in model.named_parameters()}
    nn.functional.cross_entropy(model.train()(images), torch.tensor([1, 2])).backward()
    for path, parameter in model.named_parameters():
        assert parameter.grad is not None, path
        assert parameter.grad.isfinite().all(), path
        assert parameter.grad.any(), path
    optimizer.step()
    assert all(not torch.equal(before[path], parameter) for path, parameter in model.named_parameters())
    with torch.no_grad():
        output = model.eval()(images)
    assert output.shape == (2, 10)
    assert output.isfinite().all()
    assert output.std() > 0


def fingerprint(model):
    """A hash of all names of the state dict, in order."""
    return hashlib.sha256("\n".join(model.state_dict()).encode()).hexdigest()[:16]


def scramble(model, *, eps, seed=0):
    """Give a network norms as training leaves them: scales, offsets and statistics away from 1 and 0."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = eps
            for values, low, high in (
                (module.weight, 0.5, 1.5),
                (module.bias, -0.5, 0.5),
                (module.running_mean, -0.5, 0.5),
                (module.running_var, 0.5, 2.0),
            ):
                values.data.uniform_(low, high, generator=generator)
    return model


def assert_same_outputs(ours, theirs, renamed, *, side):
    """Give ours, made without data, all weights of theirs by name, and compare in double precision."""
    state = theirs.state_dict()
    names = {name: renamed(name) for name in ours.state_dict()}
    assert sorted(names.values()) == sorted(state)
    # A 1x1 conv on one pixel may stand there for a linear layer here.
    shapes = {name: values.shape for name, values in ours.state_dict().items()}
    weights = {name: state[other].view(shapes[name]) for name, other in names.items()}
    ours.load_state_dict(weights, assign=True)
    images = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        expected, given = theirs.double().eval()(images), ours.double().eval()(images)
    assert expected.std() > 0
    assert (given - expected).abs().max() <= 1e-10 * expected.abs().max()


def by_position(ours, theirs):
    """Rename for a network whose modules stand in the same order under other names."""
    mine, other = ours.state_dict(), theirs.state_dict()
    pairs = dict(zip(mine, other, strict=True))
    assert all(mine[name].squeeze().shape == other[pairs[name]].squeeze().shape for name in pairs)
    return pairs.__getitem__


def parts_of(block):
    """The parts that a block has, in the order in which they run."""
    known = ("expand", "fused", "depthwise", "se", "project")
    return [part for part in known if getattr(block, part, None) is not None]


def renaming(places):
    """Our names -> torchvision's, given where our modules stand there; what is in them follows."""
    inner = (
        (".conv.", ".0."),
        (".norm.", ".1."),
        (".reduce.", ".fc1."),
        (".expand.weight", ".fc2.weight"),
        (".expand.bias", ".fc2.bias"),
    )

    def renamed(name):
        prefix = max((place for place in places if name.startswith(f"{place}.")), key=len)
        rest = name[len(prefix) :]
        for ours, theirs in inner:
            rest = rest.replace(ours, theirs)
        return places[prefix] + rest

    return renamed


def efficientnet_renaming(model):
    """EfficientNets: torchvision counts the stem as the first stage, and numbers the parts of a block."""
    places = {
        f"stages.{stage}.{index}.{part}": f"features.{stage + 1}.{index}.block.{place}"
        for stage, blocks in enumerate(model.stages)
        for index, block in enumerate(blocks)
        for place, part in enumerate(parts_of(block))
    }
    ends = {"stem": "features.0", "head": f"features.{len(model.stages) + 1}", "classifier": "classifier.1"}
    return renaming(places | ends)
