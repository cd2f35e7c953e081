"""Seeds derived by hashing names, so that no two uses share a stream by accident."""

from __future__ import annotations

import hashlib

import numpy as np


def derive_seed(seed: int, *names: object) -> int:
    """Derives a 32-bit seed from a master seed and the names of its use.

    The same arguments give the same seed on every machine and Python version; adding a use
    elsewhere never changes another stream.

    Args:
        seed: Master seed.
        *names: Its use, for instance ``"fold", 3, "sampler"``.

    Returns:
        An integer in [0, 2³²).

    >>> derive_seed(0, "fold", 1) == derive_seed(0, "fold", 1)
    True
    >>> derive_seed(0, "fold", 1) == derive_seed(0, "fold", 11)
    False
    """
    text = "\x1f".join([str(int(seed)), *(str(name) for name in names)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "little")


def generator(seed: int, *names: object) -> np.random.Generator:
    """A NumPy generator seeded by :func:`derive_seed`."""
    return np.random.default_rng(derive_seed(seed, *names))
