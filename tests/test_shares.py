"""Work divided among workers: nothing is lost or done twice, and all have about equally much."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from s2s_cli.data.shares import divide, parts_of_batch


@given(st.lists(st.integers(1, 200), min_size=1, max_size=60), st.integers(1, 9))
def test_parts_are_the_rows_in_order_and_none_is_much_more_than_its_share(tokens: list[int], parts: int) -> None:
    found = divide(torch.tensor(tokens), parts)
    assert len(found) == parts
    assert torch.cat(found).tolist() == list(range(len(tokens)))
    for rows in found:
        assert sum(tokens[row] for row in rows) <= sum(tokens) / parts + max(tokens)


def test_rows_of_one_length_are_divided_evenly() -> None:
    assert [len(rows) for rows in divide(torch.full((12,), 7), 4)] == [3, 3, 3, 3]


@pytest.mark.parametrize("workers", range(1, 9))
@pytest.mark.parametrize("batches", range(1, 9))
def test_all_workers_have_equally_many_parts_of_an_update(batches: int, workers: int) -> None:
    parts = parts_of_batch(batches, workers)
    taken = Counter(number % workers for number in range(batches * parts))
    assert set(taken.values()) == {batches * parts // workers}
    assert sorted(taken) == list(range(workers))
    assert parts == 1 or batches * (parts - 1) % workers, "no fewer parts would do"
