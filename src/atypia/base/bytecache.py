"""What was used last, kept in memory up to a number of bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

V = TypeVar("V")


class ByteCache(Generic[V]):
    """Values by their keys, the last ones used, up to a number of bytes; any thread may use it.

    ``functools.lru_cache`` counts entries, and pictures differ in size a hundredfold.

    Args:
        most_bytes: Together; a value that is larger than this is kept alone.
        size: Bytes of a value.

    Attributes:
        hits: Requests that were answered from it.
        misses: Requests that were not.

    >>> kept = ByteCache[bytes](4, len)
    >>> [kept.get(key, lambda: b"abc") for key in (1, 1, 2, 1)] and (kept.hits, kept.misses)
    (1, 3)
    """

    def __init__(self, most_bytes: int, size: Callable[[V], int]) -> None:
        self._most = most_bytes
        self._size = size
        self._lock = Lock()
        self._kept: OrderedDict[Hashable, V] = OrderedDict()
        self._bytes = 0
        self.hits = 0
        self.misses = 0

    def get(self, key: Hashable, make: Callable[[], V]) -> V:
        """What is kept under a key, or else what ``make`` gives, which is kept from now on."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                self.hits += 1
                return self._kept[key]
            self.misses += 1
        made = make()
        with self._lock:
            if key not in self._kept:
                self._kept[key] = made
                self._bytes += self._size(made)
            while self._bytes > self._most and len(self._kept) > 1:
                _, dropped = self._kept.popitem(last=False)
                self._bytes -= self._size(dropped)
        return made

    def clear(self) -> None:
        """Drops everything."""
        with self._lock:
            self._kept.clear()
            self._bytes = 0
