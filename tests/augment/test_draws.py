from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from pixbox.augment import sample_rng
from pixbox.augment.draws import beside


def test_the_same_triple_gives_the_same_numbers_in_any_order() -> None:
    first = [sample_rng(3, 1, index).random(5) for index in range(4)]
    again = [sample_rng(3, 1, index).random(5) for index in reversed(range(4))]
    np.testing.assert_array_equal(first, again[::-1])


def test_different_triples_share_no_number_of_their_streams() -> None:
    triples = [*itertools.product((0, 1, 2, 2**31 - 1), repeat=3), (0, 0, 2**40), (2**40, 0, 0), (0, 2**40, 0)]
    words = np.concatenate([sample_rng(*triple).bit_generator.random_raw(200) for triple in triples])
    assert len(np.unique(words)) == len(words)


def test_first_draws_of_neighbouring_pictures_epochs_and_seeds_are_uniform_and_unrelated() -> None:
    for axis in range(3):
        triples = np.zeros((4000, 3), dtype=int)
        triples[:, axis] = np.arange(4000)
        draws = np.array([sample_rng(*map(int, triple)).random(2) for triple in triples])
        assert stats.kstest(draws[:, 0], "uniform").pvalue > 1e-3
        assert abs(np.corrcoef(draws[:-1, 0], draws[1:, 0])[0, 1]) < 0.06
        assert abs(np.corrcoef(draws[:, 0], draws[:, 1])[0, 1]) < 0.06


def test_the_stream_beside_leaves_the_draws_and_shares_no_number_with_any_stream() -> None:
    plain, visited = sample_rng(3, 1, 4), sample_rng(3, 1, 4)
    plain.random(7)
    visited.random(7)
    aside = beside(visited).bit_generator.random_raw(500)
    np.testing.assert_array_equal(visited.random(20), plain.random(20))
    others = [sample_rng(3, 1, index).bit_generator.random_raw(500) for index in range(10)]
    others += [beside(sample_rng(3, 1, 5)).bit_generator.random_raw(500)]
    words = np.concatenate([aside, *others])
    assert len(np.unique(words)) == len(words)


def test_there_is_a_stream_beside_that_of_a_picture_only() -> None:
    with pytest.raises(TypeError, match="PCG64"):
        beside(np.random.default_rng(0))


def test_a_negative_number_is_refused() -> None:
    with pytest.raises(OverflowError):
        sample_rng(0, 0, -1)


def test_lanes_beside_a_stream_are_streams_of_their_own() -> None:
    rng = sample_rng(4, 2, 9)
    drawn = {lane: tuple(beside(rng, lane).random(3)) for lane in (1, 2, 3)}
    assert len(set(drawn.values())) == 3
    assert drawn[1] == tuple(beside(sample_rng(4, 2, 9)).random(3))
