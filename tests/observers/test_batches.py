from __future__ import annotations

import torch
from observers.models import Next, cross_entropy, tokens

from pytest_ftcheck import observe


def digest_of(*batches: torch.Tensor, evaluate: bool = False) -> str:
    model = Next()
    with observe(model) as seen:
        for batch in batches:
            model(input_ids=batch)
        if evaluate:
            with torch.no_grad():
                model(input_ids=tokens(seed=99))
    return seen.loss.batches


A, B = tokens(seed=1), tokens(seed=2)


def test_the_same_batches_have_the_same_digest() -> None:
    assert digest_of(A, B) == digest_of(A.clone(), B.clone())


def test_another_order_has_another_digest() -> None:
    assert digest_of(A, B) != digest_of(B, A)


def test_rows_swapped_within_a_batch_have_another_digest() -> None:
    assert digest_of(A) != digest_of(A.flip(0))


def test_one_other_token_has_another_digest() -> None:
    changed = A.clone()
    changed[0, 0] = (changed[0, 0] + 1) % 8
    assert digest_of(A) != digest_of(changed)


def test_evaluation_batches_do_not_count() -> None:
    assert digest_of(A, B) == digest_of(A, B, evaluate=True)


def digest_of_floats(batch: torch.Tensor) -> str:
    model = torch.nn.Linear(2, 2)
    with observe(model) as seen:
        model(batch)
    return seen.loss.batches


def test_inputs_that_are_no_whole_numbers_count_by_their_bits() -> None:
    ones = torch.ones(1, 2)
    assert digest_of_floats(ones) == digest_of_floats(ones.clone())
    assert digest_of_floats(ones) != digest_of_floats(ones * (1 + 2**-20))


def test_inputs_that_something_trains_do_not_count() -> None:
    assert digest_of_floats(torch.ones(1, 2, requires_grad=True)) == ""


def test_labels_count_towards_the_digest_but_not_towards_the_tokens() -> None:
    class WithLabels(Next):
        def forward(self, input_ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return super().forward(input_ids)

    digests = []
    for labels in (A, B):
        model = WithLabels()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with observe(model) as seen:
            model(labels=labels, input_ids=A).sum().backward()
            optimizer.step()
        assert seen.time.tokens_per_step == A.numel()
        digests.append(seen.loss.batches)
    assert digests[0] != digests[1]


def test_tokens_are_counted_over_all_micro_batches_of_an_update() -> None:
    model = Next()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with observe(model) as seen:
        for batch in (A, B):
            cross_entropy(model, batch).backward()
        optimizer.step()
    assert seen.time.tokens_per_step == A.numel() + B.numel()
