from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from icube_common.errors import InputError
from icube_common.training import BatchOrder, SampleRef, StepRandom
from icube_common.training.sampler import MicroBatches, derive_seed, local_rows, seed_global


def batches(
    order: BatchOrder,
    batch: int,
    start: int,
    stop: int,
    gradient_accumulation_steps: int = 1,
    rank: int = 0,
    processes: int = 1,
):
    rows = local_rows(batch, gradient_accumulation_steps=gradient_accumulation_steps, rank=rank, processes=processes)
    return list(
        MicroBatches(
            order,
            batch_size=batch,
            gradient_accumulation_steps=gradient_accumulation_steps,
            rows=rows,
            start=start,
            stop=stop,
        )
    )


def test_batches_cross_epochs_as_written_by_hand() -> None:
    order = BatchOrder(5, seed=1)
    first, second = order.epoch(0).tolist(), order.epoch(1).tolist()
    assert sorted(first) == sorted(second) == [0, 1, 2, 3, 4] and first != second
    found = [[draw.index for draw in batch] for batch in batches(order, 4, 0, 2)]
    assert found == [first[:4], [first[4], *second[:3]]]


def test_order_of_known_seed_never_changes() -> None:
    # a changed order would make old checkpoints go on with other data
    assert BatchOrder(8, seed=0).epoch(0).tolist() == np.random.default_rng([0, 0]).permutation(8).tolist()
    assert BatchOrder(8, seed=0).draws(3, 4)[0].seed == derive_seed(0, 0, 3)
    assert derive_seed(0, 0, 3) == 3289760204138220769 and 0 <= derive_seed(2**70, -1) < 2**63


def test_dataset_smaller_than_the_batch_and_empty() -> None:
    (batch,) = batches(BatchOrder(3, seed=0), 7, 0, 1)
    counts = np.bincount([draw.index for draw in batch], minlength=3)
    assert counts.sum() == 7 and counts.min() >= 2
    assert len({draw.seed for draw in batch}) == 7
    with pytest.raises(InputError, match="training set is empty"):
        BatchOrder(0, seed=0)


@given(size=st.integers(1, 40), seed=st.integers(0, 2**40), epochs=st.integers(1, 4))
def test_every_epoch_is_a_permutation(size: int, seed: int, epochs: int) -> None:
    draws = BatchOrder(size, seed=seed).draws(0, size * epochs)
    for epoch in range(epochs):
        assert sorted(draw.index for draw in draws[epoch * size : (epoch + 1) * size]) == list(range(size))
    assert len({draw.seed for draw in draws}) == len(draws)


@given(
    size=st.integers(1, 40),
    share=st.integers(1, 4),
    processes=st.integers(1, 4),
    gradient_accumulation_steps=st.integers(1, 3),
    start=st.integers(0, 6),
    more=st.integers(1, 4),
)
def test_shards_partition_the_batch_and_a_suffix_is_a_suffix(
    size: int, share: int, processes: int, gradient_accumulation_steps: int, start: int, more: int
) -> None:
    batch = share * processes * gradient_accumulation_steps
    whole = BatchOrder(size, seed=5).draws(0, (start + more) * batch)
    shards = [
        batches(BatchOrder(size, seed=5), batch, start, start + more, gradient_accumulation_steps, rank, processes)
        for rank in range(processes)
    ]
    assert all(len(shard) == more * gradient_accumulation_steps for shard in shards)
    joined = [draw for micro in zip(*shards, strict=True) for part in micro for draw in part]
    assert joined == whole[start * batch :]


def test_batch_that_does_not_divide_is_refused() -> None:
    with pytest.raises(InputError, match=r"batch_size=10: must be a multiple .* 2 x 4 = 8"):
        local_rows(10, gradient_accumulation_steps=4, rank=0, processes=2)


def test_weights_draw_in_proportion_and_differently_each_time() -> None:
    order = BatchOrder(4, seed=2, weights=[0.0, 1.0, 1.0, 2.0])
    draws = order.draws(0, 8000)
    share = np.bincount([draw.index for draw in draws], minlength=4) / 8000
    assert share[0] == 0
    np.testing.assert_allclose(share[1:], [0.25, 0.25, 0.5], atol=0.02)
    assert len({draw.seed for draw in draws}) == 8000
    assert BatchOrder(4, seed=2, weights=[0.0, 1.0, 1.0, 2.0]).draws(4000, 4010) == draws[4000:4010]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, 2.0], r"shape \(2,\): must be one per sample, \(3,\)"),
        ([1.0, -1.0, 0.0], "weight -1.0 of sample 1"),
        ([1.0, float("nan"), 0.0], "weight nan of sample 1"),
        ([0.0, 0.0, 0.0], "all are 0"),
    ],
)
def test_wrong_weights_are_refused(weights: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        BatchOrder(3, seed=0, weights=weights)


def test_draw_is_a_pair() -> None:
    assert SampleRef(index=3, seed=9) == (3, 9)


def test_step_random_shards_are_rows_of_the_whole() -> None:
    def draw(rows: slice) -> list[torch.Tensor]:
        random = StepRandom(1, 20, 0, rows=rows, total=6)
        return [random.normal(2, 3), random.uniform(), random.integers(0, 50), random.normal(1)]

    whole = draw(slice(0, 6))
    assert [tuple(value.shape) for value in whole] == [(6, 2, 3), (6,), (6,), (6, 1)]
    assert whole[2].dtype == torch.int64 and whole[2].min() >= 0 and whole[2].max() < 50
    for a, b, c in zip(whole, draw(slice(0, 3)), draw(slice(3, 6)), strict=True):
        assert torch.equal(a, torch.cat([b, c]))


def test_step_random_differs_between_seeds_steps_and_micro_batches() -> None:
    firsts = {
        StepRandom(seed, step, micro, rows=slice(0, 1), total=1).normal().item()
        for seed in range(3)
        for step in range(3)
        for micro in range(3)
    }
    assert len(firsts) == 27


def test_seed_global_inside_fork_leaves_the_state_outside() -> None:
    before = torch.get_rng_state()
    with torch.random.fork_rng(devices=[]):
        seed_global(0, 3, 0, 0, torch.device("cpu"))
        first = torch.rand(4)
        # on a CPU every process has the masks of the whole batch (`GlobalDropout`)
        seed_global(0, 3, 0, 1, torch.device("cpu"))
        assert torch.equal(first, torch.rand(4))
        for other in ((1, 3, 0), (0, 4, 0), (0, 3, 1)):
            seed_global(*other, 0, torch.device("cpu"))
            assert not torch.equal(first, torch.rand(4))
        seed_global(0, 3, 0, 0, torch.device("cpu"))
        assert torch.equal(first, torch.rand(4))
    assert torch.equal(before, torch.get_rng_state())
