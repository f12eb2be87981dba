from __future__ import annotations

from collections import Counter

from pixbox.data.sampler import EpochIndex, StepSampler, steps_per_epoch


def sampler(length: int = 10, **changes: int) -> StepSampler:
    settings = {"batch_size": 2, "accumulate": 1, "seed": 7, "first_step": 0, "total_steps": 15, **changes}
    return StepSampler(length, **settings)


def test_an_epoch_shows_every_picture_once_when_steps_divide_the_set() -> None:
    seen = Counter(key.index for step in list(sampler())[:5] for key in step)
    assert seen == dict.fromkeys(range(10), 1)


def test_what_does_not_fill_a_step_is_left_out_another_part_each_epoch() -> None:
    steps = list(sampler(length=11, total_steps=500))
    per_epoch = [{key.index for step in steps[e * 5 : e * 5 + 5] for key in step} for e in range(100)]
    assert all(len(shown) == 10 for shown in per_epoch)
    assert len({frozenset(shown) for shown in per_epoch}) > 5
    assert set.union(*per_epoch) == set(range(11))


def test_epochs_are_ordered_differently_and_seeds_too() -> None:
    steps = list(sampler())
    first, second = ([key.index for step in steps[a : a + 5] for key in step] for a in (0, 5))
    other = [key.index for step in list(sampler(seed=8))[:5] for key in step]
    assert first != second
    assert first != other


def test_starting_later_yields_the_same_steps() -> None:
    assert list(sampler(first_step=7)) == list(sampler())[7:]
    assert len(sampler(first_step=7)) == 8


def test_two_processes_share_the_pictures_that_one_process_sees_in_a_step() -> None:
    alone = [sorted(key.index for key in step) for step in sampler(batch_size=4, total_steps=6)]
    ranks = [list(sampler(batch_size=2, total_steps=6, world=2, rank=rank)) for rank in (0, 1)]
    together = [sorted(key.index for part in parts for key in part) for parts in zip(*ranks, strict=True)]
    assert together == alone


def test_a_set_smaller_than_one_step_fills_it_by_repetition() -> None:
    step = next(iter(sampler(length=3, batch_size=8)))
    assert len(step) == 8
    assert {key.index for key in step} == {0, 1, 2}


def test_keys_carry_their_epoch() -> None:
    assert [step[0].epoch for step in sampler()] == [0] * 5 + [1] * 5 + [2] * 5
    assert isinstance(next(iter(sampler()))[0], EpochIndex)


def test_steps_per_epoch_by_hand() -> None:
    assert [steps_per_epoch(n, 4) for n in (1, 4, 7, 8)] == [1, 1, 1, 2]


def test_the_first_steps_see_halved_pictures_wherever_training_starts() -> None:
    steps = list(sampler(halved_steps=4))
    assert [{key.halved for key in step} for step in steps] == [{True}] * 4 + [{False}] * 11
    assert list(sampler(halved_steps=4, first_step=3)) == steps[3:]
    # The same pictures in the same order as without.
    assert [[(key.epoch, key.index) for key in step] for step in steps] == [
        [(key.epoch, key.index) for key in step] for step in sampler()
    ]
