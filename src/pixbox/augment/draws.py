"""Where randomness comes from: one stream for every visit to a picture, and others beside it."""

from __future__ import annotations

import numpy as np


def sample_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The generator of every random draw for picture ``index`` in ``epoch``.

    A pure function, so the pictures are the same with any number of workers and after a resume. All three are
    0..2^64-1; two different triples never share a stream.

    Raises:
        OverflowError: a number outside that range.

    Source: Salmon et al. 2011, Parallel Random Numbers: As Easy as 1, 2, 3 (Philox). Seed and epoch are the key;
    the index is the highest word of the counter, so each has 2^192 blocks to itself.
    """
    key = np.array([seed, epoch], dtype=np.uint64)
    counter = np.array([0, 0, 0, index], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def beside(rng: np.random.Generator, lane: int = 1) -> np.random.Generator:
    """Another stream for the same picture: what is drawn from it leaves the draws of ``rng`` as they are.

    It starts ``lane`` times 2^128 blocks after the place of ``rng``, where no other picture's stream comes.

    Raises:
        TypeError: ``rng`` is not one of ``sample_rng``.
    """
    bits = rng.bit_generator
    if not isinstance(bits, np.random.Philox):
        raise TypeError(f"a stream beside {type(bits).__name__} is not known; take the generator of sample_rng")
    return np.random.Generator(bits.jumped(lane))
