"""`Inputs` -> the tensors of one call."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from flopscope.inputs import Inputs, Spec, describe, make


class Named(nn.Module):
    """Two tables of embeddings and arguments with telling names."""

    def __init__(self) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(50, 4)
        self.token_type_embeddings = nn.Embedding(3, 4)
        self.position_embeddings = nn.Embedding(20, 4)

    def forward(
        self, input_ids: Tensor, token_type_ids: Tensor, position_ids: Tensor, attention_mask: Tensor
    ) -> Tensor:
        words = self.word_embeddings(input_ids) + self.token_type_embeddings(token_type_ids)
        return (words + self.position_embeddings(position_ids)) * attention_mask[..., None]


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor, key_padding_mask: Tensor) -> Tensor:
        return self.attention(x, x, x, key_padding_mask=key_padding_mask)[0]


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.complex64]
)
def test_floats_take_the_dtype_of_the_model(dtype: torch.dtype) -> None:
    made = make(describe((2, 3)), model=nn.Linear(3, 1, dtype=dtype))
    assert made.args[0].dtype == dtype
    assert made.args[0].shape == (2, 3)


def test_models_without_floats_take_float32_whatever_the_default_is() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        assert make(describe((2, 3)), model=nn.ReLU()).args[0].dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


def test_asked_dtype_converts_floats_alone() -> None:
    given = Inputs(torch.ones(2), Spec((2,), "float32"), (2,), torch.ones(2, dtype=torch.int64))
    made = make(given, model=nn.ReLU(), dtype="bfloat16")
    assert [item.dtype for item in made.args] == [torch.bfloat16] * 3 + [torch.int64]


def test_tensors_are_copied_for_a_model_may_change_its_input() -> None:
    given = torch.randn(1, 3).t().expand(3, 4)
    made = make(Inputs(given, given), model=nn.ReLU())
    assert torch.equal(made.args[0], given)
    assert made.args[0].stride() == given.stride()
    assert made.args[0].data_ptr() != given.data_ptr()
    assert made.args[1] is made.args[0]


def test_meta_twins_keep_layout_and_identity() -> None:
    given = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    made = make(Inputs(given, given, [given[:, :1].expand(2, 3, 4, 5)]), model=nn.ReLU(), device="meta")
    assert made.args[0].device.type == "meta"
    assert made.args[0].stride() == given.stride()
    assert made.args[1] is made.args[0]
    assert made.args[2][0].stride(1) == 0  # the expanded axis


def test_meta_allocates_no_floats() -> None:
    made = make(describe((10**6, 10**6)), model=nn.ReLU(), device="meta")  # 4 TB, were it real
    assert made.args[0].shape == (10**6, 10**6)


def test_tensors_without_data_are_filled_for_a_real_run() -> None:
    made = make(describe(torch.empty(2, 3, device="meta")), model=nn.ReLU())
    assert made.args[0].device.type == "cpu"
    assert "without data" in made.notes[0]


def test_values_depend_on_the_seed_alone() -> None:
    model = nn.Sequential(nn.Embedding(9, 2))
    state = torch.get_rng_state()
    call = Inputs((4, 5), Spec((4, 5)))
    one, same, other = (make(call, model=model, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.args[0], same.args[0])
    assert torch.equal(one.args[1], same.args[1])
    assert not torch.equal(one.args[1], other.args[1])
    assert torch.equal(torch.get_rng_state(), state)


def test_a_default_device_does_not_move_the_inputs() -> None:
    with torch.device("meta"):
        made = make(describe((2, 3)), model=nn.ReLU())
    assert made.args[0].device.type == "cpu"


def test_bounds_hold() -> None:
    values = make(describe(Spec((1000,), low=3, high=5)), model=nn.ReLU()).args[0]
    assert set(values.tolist()) == {3, 4}


def test_first_embedding_makes_bare_shapes_ids_and_says_so() -> None:
    made = make(describe((1, 300)), model=nn.Sequential(nn.Embedding(7, 2), nn.Linear(2, 2)))
    assert made.args[0].dtype == torch.int64
    assert set(made.args[0].tolist()[0]) == set(range(7))
    assert made.notes == (
        "input 1x300 is taken as int64 (the first layer, 0, is an Embedding), with values in 0..6",
    )


def test_an_explicit_dtype_is_kept() -> None:
    made = make(describe(Spec((1, 3), "float32")), model=nn.Embedding(7, 2))
    assert made.args[0].dtype == torch.float32
    assert made.notes == ()


def test_embedded_input_stays_float() -> None:
    """A table of positions before a Linear does not make the input integers."""

    class Projected(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pos_embedding = nn.Embedding(16, 4)
            self.proj = nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.proj(x) + self.pos_embedding(torch.arange(x.shape[1]))

    model = Projected()
    made = make(describe((1, 8, 3)), model=model)
    assert made.args[0].dtype == torch.float32
    model(*made.args)


def test_names_choose_the_table_and_the_values() -> None:
    model = Named()
    call = describe(
        dict.fromkeys(("input_ids", "token_type_ids", "position_ids", "attention_mask"), (1, 300))
    )
    made = make(call, model=model)
    assert {name: (int(item.min()), int(item.max())) for name, item in made.kwargs.items()} == {
        "input_ids": (0, 49),
        "token_type_ids": (0, 2),
        "position_ids": (0, 19),
        "attention_mask": (1, 1),
    }
    assert len(made.notes) == 4
    model(**made.kwargs)


def test_unnamed_integers_stay_below_the_smallest_table() -> None:
    tables = nn.ModuleList([nn.Embedding(9, 2), nn.EmbeddingBag(4, 2)])
    values = make(Inputs(Spec((500,), "int64")), model=tables).args[0]
    assert int(values.max()) == 3
    without = make(Inputs(Spec((500,), "int64")), model=nn.ReLU()).args[0]
    assert set(without.tolist()) == {0, 1}


def test_masks_mask_nothing() -> None:
    model = Masked().eval()
    made = make(Inputs((1, 6, 8), (1, 6)), model=model)
    assert made.args[1].dtype == torch.bool
    assert not made.args[1].any()
    assert model(*made.args).isfinite().all()
    assert make(Inputs(mask=Spec((3,), "bool")), model=nn.ReLU()).kwargs["mask"].all()
    assert not make(Inputs(mask=Spec((3,), "bool")), model=model).kwargs["mask"].any()


@pytest.mark.parametrize("name", ["uint8", "int8", "int32", "uint16", "float8_e4m3fn", "complex128", "bool"])
def test_every_dtype_can_be_made(name: str) -> None:
    made = make(describe(Spec((4,), name)), model=nn.Embedding(1000, 2))
    assert made.args[0].dtype == getattr(torch, name)


def test_bags_get_offsets_within_their_indices() -> None:
    model = nn.EmbeddingBag(10, 3)
    made = make(Inputs(Spec((6,), "int64"), offsets=(2,)), model=model)
    assert model(*made.args, **made.kwargs).shape == (2, 3)


def test_nested_structures_and_plain_values_pass() -> None:
    made = make(Inputs([(3, 4), (3, 5)], {"a": (2,)}, None, flag=True), model=nn.ReLU())
    assert [item.shape for item in made.args[0]] == [(3, 4), (3, 5)]
    assert made.args[1]["a"].shape == (2,)
    assert made.args[2] is None
    assert made.kwargs == {"flag": True}
