"""Padding is told from text, with a mask and without."""

from __future__ import annotations

import torch

from pytest_ftcheck.evidence.rows import not_padding, real_tokens, row_keys
from pytest_ftcheck.observers.update import ForwardPass


def forward(ids: list[list[int]], **inputs: torch.Tensor) -> ForwardPass:
    return ForwardPass({"input_ids": torch.tensor(ids), **inputs}, True, ())


def test_the_mask_decides_where_it_hides_something() -> None:
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    assert real_tokens(forward([[5, 6, 7], [5, 6, 7]], attention_mask=mask)).tolist() == mask.bool().tolist()


def test_a_mask_of_ones_does_not_make_text_of_the_padding_token() -> None:
    ids = [[5, 0, 0], [5, 6, 7]]
    ones = torch.ones(2, 3)
    assert real_tokens(forward(ids, attention_mask=ones), pad_token=0).tolist() == [[True, False, False], [True] * 3]
    assert real_tokens(forward(ids, attention_mask=ones)).all()


def test_padding_of_several_rows_is_recognised_without_a_mask() -> None:
    ids = torch.tensor([[5, 6, 9, 9, 9], [5, 9, 9, 9, 9], [5, 6, 7, 8, 4]])
    assert not_padding(ids).tolist() == [[True] * 2 + [False] * 3, [True] + [False] * 4, [True] * 5]
    assert torch.equal(not_padding(ids.flip(1)), not_padding(ids).flip(1))


def test_text_that_ends_with_the_same_token_twice_is_no_padding() -> None:
    assert not_padding(torch.tensor([[5, 6, 9, 9], [5, 6, 7, 8], [4, 5, 6, 7]])).all()


def test_a_token_within_the_rows_is_no_padding() -> None:
    assert not_padding(torch.tensor([[5, 9, 6, 9, 9, 9, 9], [5, 6, 7, 8, 1, 2, 3]])).all()


def test_rows_that_all_end_with_the_padding_token_keep_one() -> None:
    found = not_padding(torch.tensor([[5, 2, 2, 2], [5, 6, 7, 2]]), pad_token=2)
    assert found.tolist() == [[True, True, False, False], [True] * 4]


def test_a_row_has_the_same_key_however_it_is_padded() -> None:
    short = row_keys(forward([[5, 6]], attention_mask=torch.ones(1, 2)))
    mask = torch.tensor([[0, 1, 1, 0], [1, 1, 1, 1]])
    assert row_keys(forward([[0, 5, 6, 0], [5, 6, 7, 8]], attention_mask=mask))[0] == short[0]
