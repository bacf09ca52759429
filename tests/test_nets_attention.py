"""Attention and recurrence in all their forms: fused or not, masked or not, cells and stacks.

Each is counted once on ordinary weights and once on the meta device, with the same result.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from counting import counted, row
from torch import nn

# Batch 2, length 10, width 32, 4 heads of 8.
TOKENS, WIDTH, HIDDEN = 2 * 10, 32, 64
INPUT = (2, 10, 32)
# Queries meet keys and weights meet values: each 2 x 10 x 10 over the heads' 4 x 8 = 32.
SCORES = 2 * (2 * 10 * 10 * 32)
# Projections of query, key, value and result.
ATTENTION = 4 * TOKENS * WIDTH * WIDTH + SCORES
ENCODER = ATTENTION + 2 * TOKENS * WIDTH * HIDDEN


@pytest.fixture(params=["cpu", "meta"])
def device(request):
    with torch.device(request.param):
        yield request.param


def test_the_hand_worked_numbers():
    assert (SCORES, ATTENTION, ENCODER) == (12_800, 94_720, 176_640)


class Sdpa(nn.Module):
    def __init__(self, **keywords):
        super().__init__()
        self.keywords = keywords

    def forward(self, query, key, value, mask=None):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, **self.keywords)


HEADS = (2, 4, 16, 8)


@pytest.mark.parametrize("keywords", [{}, {"is_causal": True}, {"scale": 0.5}, {"dropout_p": 0.1}], ids=str)
def test_scaled_dot_product(device, keywords):
    # Twice 2 x 4 x 16 x 16 x 8, causal or not.
    report = counted(Sdpa(**keywords), (HEADS, HEADS, HEADS))
    assert report.total.macs == 2 * (2 * 4 * 16 * 16 * 8)
    assert report.layers[0].kind == "attention"


@pytest.mark.parametrize("mask", [(16, 16), (2, 1, 16, 16)], ids=str)
def test_scaled_dot_product_masked(device, mask):
    report = counted(Sdpa(), (HEADS, HEADS, HEADS, mask))
    assert report.total.macs == 2 * (2 * 4 * 16 * 16 * 8)


def test_scaled_dot_product_of_other_lengths_and_widths(device):
    # 5 queries and 7 keys 8 wide, values 6 wide: 5 x 7 x (8 + 6) for each of 2 x 4 heads.
    shapes = ((2, 4, 5, 8), (2, 4, 7, 8), (2, 4, 7, 6))
    assert counted(Sdpa(), shapes).total.macs == 2 * 4 * 5 * 7 * (8 + 6)


def test_grouped_query_attention(device):
    # 4 heads of queries share 2 heads of keys: the work is that of 4.
    shapes = (HEADS, (2, 2, 16, 8), (2, 2, 16, 8))
    assert counted(Sdpa(enable_gqa=True), shapes).total.macs == 2 * (2 * 4 * 16 * 16 * 8)


def test_attention_by_hand(device):
    class ByHand(nn.Module):
        def forward(self, query, key, value):
            weights = torch.softmax(query @ key.transpose(-2, -1) / 8**0.5, dim=-1)
            return weights @ value

    assert counted(ByHand(), (HEADS, HEADS, HEADS)).total.macs == 2 * (2 * 4 * 16 * 16 * 8)


class SelfAttention(nn.Module):
    def __init__(self, *, need_weights, **keywords):
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 4, batch_first=True, **keywords)
        self.need_weights = need_weights

    def forward(self, x, mask=None):
        return self.attention(x, x, x, need_weights=self.need_weights, key_padding_mask=mask)[0]


@pytest.fixture(params=["fused", "in parts"])
def fastpath(request):
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(request.param == "fused")
    yield request.param
    torch.backends.mha.set_fastpath_enabled(before)


@pytest.mark.parametrize("need_weights", [True, False], ids=["weights", "no weights"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_multihead_attention(device, fastpath, need_weights, bias):
    report = counted(SelfAttention(need_weights=need_weights, bias=bias), INPUT)
    assert report.total.macs == ATTENTION
    assert row(report, "attention", "MultiheadAttention").kind == "attention"
    biases = 4 * WIDTH if bias else 0
    assert report.total.params == 4 * WIDTH * WIDTH + biases


def test_multihead_attention_with_a_padding_mask(device, fastpath):
    mask = torch.zeros(2, 10, dtype=torch.bool, device="cpu")
    mask[1, 6:] = True
    report = counted(SelfAttention(need_weights=False), (INPUT, mask))
    assert report.total.macs == ATTENTION


def test_cross_attention(device, fastpath):
    # 6 queries of width 32 against 10 keys of width 24 and values of width 16.
    class Cross(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(WIDTH, 4, kdim=24, vdim=16, batch_first=True)

        def forward(self, query, key, value):
            return self.attention(query, key, value)[0]

    projections = 2 * (12 * 32 * 32) + 20 * 24 * 32 + 20 * 16 * 32
    scores = 2 * (2 * 6 * 10 * 32)
    assert counted(Cross(), ((2, 6, 32), (2, 10, 24), (2, 10, 16))).total.macs == projections + scores


def test_sequence_first(device, fastpath):
    class First(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(WIDTH, 4)

        def forward(self, x):
            return self.attention(x, x, x)[0]

    assert counted(First(), (10, 2, 32)).total.macs == ATTENTION


@pytest.mark.parametrize("training", [True, False], ids=["left in train", "left in eval"])
@pytest.mark.parametrize("norm_first", [True, False], ids=["norm first", "norm last"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_encoder_layer(device, fastpath, training, norm_first, activation):
    net = nn.TransformerEncoderLayer(
        WIDTH, 4, HIDDEN, activation=activation, norm_first=norm_first, batch_first=True
    )
    report = counted(net.train(training), INPUT)
    assert report.total.macs == ENCODER
    assert report.total.params == sum(parameter.numel() for parameter in net.parameters())


def test_a_fused_encoder_layer_is_one_layer_of_the_report():
    net = nn.TransformerEncoderLayer(WIDTH, 4, HIDDEN, batch_first=True)
    report = counted(net, INPUT)
    assert [(layer.type, layer.kind) for layer in report.layers] == [("TransformerEncoderLayer", "attention")]
    assert report.layers[0].params == report.total.params


def test_a_hook_on_a_leaf_takes_the_encoder_apart_and_changes_no_count():
    net = nn.TransformerEncoderLayer(WIDTH, 4, HIDDEN, batch_first=True)
    net.linear1.register_forward_hook(lambda module, args, result: None)
    report = counted(net, INPUT)
    assert report.total.macs == ENCODER
    assert row(report, "linear1").macs == TOKENS * WIDTH * HIDDEN


@pytest.mark.parametrize("padded", [False, True], ids=["full", "padded"])
def test_encoder(device, fastpath, padded):
    layer = nn.TransformerEncoderLayer(WIDTH, 4, HIDDEN, batch_first=True)
    net = Padded(nn.TransformerEncoder(layer, 3))
    mask = torch.zeros(2, 10, dtype=torch.bool, device="cpu")
    mask[1, 6:] = True
    report = counted(net, (INPUT, mask) if padded else INPUT)
    assert report.total.macs == 3 * ENCODER
    assert report.route == "meta"


class Padded(nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, x, mask=None):
        return self.encoder(x, src_key_padding_mask=mask)


def test_causal_encoder_counts_in_full(device, fastpath):
    class Causal(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(WIDTH, 4, HIDDEN, batch_first=True)

        def forward(self, x):
            mask = nn.Transformer.generate_square_subsequent_mask(10)
            return self.layer(x, src_mask=mask, is_causal=True)

    assert counted(Causal(), INPUT).total.macs == ENCODER


DECODER_SELF = 4 * 12 * 32 * 32 + 2 * (2 * 6 * 6 * 32)
DECODER_CROSS = (12 + 20 + 20 + 12) * 32 * 32 + 2 * (2 * 6 * 10 * 32)
DECODER = DECODER_SELF + DECODER_CROSS + 2 * 12 * 32 * 64


def test_decoder_layer(device, fastpath):
    # 6 tokens attend to themselves, then to 10 of memory, and pass 32 -> 64 -> 32.
    assert DECODER == 53_760 + 73_216 + 49_152
    net = nn.TransformerDecoderLayer(WIDTH, 4, HIDDEN, batch_first=True)
    assert counted(net, ((2, 6, 32), (2, 10, 32))).total.macs == DECODER


def test_whole_transformer(device, fastpath):
    net = nn.Transformer(WIDTH, 4, 1, 1, HIDDEN, batch_first=True)
    assert counted(net, ((2, 10, 32), (2, 6, 32))).total.macs == ENCODER + DECODER


# --------------------------------------------------------------------------- recurrence

# 3 sequences of 5 steps of 8 values, 16 units.
STEPS = 3 * 5
SEQUENCES = (5, 3, 8)


@pytest.mark.parametrize(
    ("net", "expected"),
    [
        # Per step and gate, 16 units meet 8 inputs and 16 states.
        (lambda: nn.RNN(8, 16), STEPS * 1 * 16 * (8 + 16)),
        (lambda: nn.RNN(8, 16, nonlinearity="relu"), STEPS * 1 * 16 * (8 + 16)),
        (lambda: nn.GRU(8, 16), STEPS * 3 * 16 * (8 + 16)),
        (lambda: nn.LSTM(8, 16), STEPS * 4 * 16 * (8 + 16)),
        (lambda: nn.LSTM(8, 16, bias=False), STEPS * 4 * 16 * (8 + 16)),
        # The second layer's input are the 2 x 16 units of the first.
        (
            lambda: nn.LSTM(8, 16, num_layers=2, bidirectional=True),
            STEPS * 2 * (4 * 16 * (8 + 16) + 4 * 16 * (32 + 16)),
        ),
        (
            lambda: nn.GRU(8, 16, num_layers=2, bidirectional=True),
            STEPS * 2 * (3 * 16 * (8 + 16) + 3 * 16 * (32 + 16)),
        ),
        # The state is projected from 16 to 4.
        (lambda: nn.LSTM(8, 16, proj_size=4), STEPS * (4 * 16 * (8 + 4) + 16 * 4)),
        (
            lambda: nn.LSTM(8, 16, num_layers=2, dropout=0.5),
            STEPS * (4 * 16 * (8 + 16) + 4 * 16 * (16 + 16)),
        ),
    ],
    ids=[
        "rnn",
        "rnn relu",
        "gru",
        "lstm",
        "lstm unbiased",
        "lstm 2 ways",
        "gru 2 ways",
        "lstm proj",
        "lstm deep",
    ],
)
def test_recurrent_layers(device, net, expected):
    model = net()
    report = counted(model, SEQUENCES)
    assert report.total.macs == expected
    assert report.layers[0].kind == "recurrent"
    assert report.total.params == sum(parameter.numel() for parameter in model.parameters())


def test_recurrent_batch_first_and_unbatched(device):
    assert counted(nn.LSTM(8, 16, batch_first=True), (3, 5, 8)).total.macs == STEPS * 4 * 16 * 24
    assert counted(nn.LSTM(8, 16), (5, 8)).total.macs == 5 * 4 * 16 * 24


@pytest.mark.parametrize(("cell", "gates"), [(nn.RNNCell, 1), (nn.GRUCell, 3), (nn.LSTMCell, 4)])
def test_cells(device, cell, gates):
    report = counted(cell(8, 16), (3, 8))
    assert report.total.macs == 3 * gates * 16 * (8 + 16)
    assert report.layers[0].kind == "recurrent"


def test_a_loop_over_a_cell(device):
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.LSTMCell(8, 16)

        def forward(self, x):
            state = None
            for step in x:
                state = self.cell(step, state)
            return state[0]

    report = counted(Loop(), SEQUENCES)
    assert report.total.macs == STEPS * 4 * 16 * 24
    assert row(report, "cell").calls == 5
    assert row(report, "cell").params == 64 * 8 + 64 * 16 + 2 * 64


@pytest.mark.parametrize("family", [nn.LSTM, nn.GRU])
def test_the_fused_layer_and_its_parts_cost_the_same_macs(family):
    gates = {nn.LSTM: 4, nn.GRU: 3}[family]
    with torch.device("meta"):
        built_on_meta = counted(family(8, 16), SEQUENCES)
    assert built_on_meta.total.macs == counted(family(8, 16), SEQUENCES).total.macs == STEPS * gates * 16 * 24
    assert built_on_meta.total.flops == counted(family(8, 16), SEQUENCES).total.flops


def test_packed_sequences():
    # 5 + 3 + 2 steps of 4 x 16 x (8 + 16).
    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(8, 16)

        def forward(self, x):
            packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 3, 2], device="cpu"))
            return nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0])[0]

    assert counted(Packed(), SEQUENCES).total.macs == 10 * 4 * 16 * 24
