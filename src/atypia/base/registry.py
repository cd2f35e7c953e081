"""One small class by which everything that has a name is found."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Generic, TypeVar

from atypia.base.errors import InputError

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Named things of one kind, in the order in which they were added.

    Adding a name twice raises; asking for an unknown one lists the choices. A registry that is
    given a ``package`` imports that package's modules on first use, so that adding an entry
    means adding a file and no list of names is kept anywhere.

    Args:
        kind: What the entries are, in the singular, for messages («data source»).
        package: Dotted name of a package whose modules add entries when they are imported.

    >>> colours = Registry[int]("colour")
    >>> colours.add("red", 1)
    1
    >>> colours["red"]
    1
    >>> colours["rad"]
    Traceback (most recent call last):
    ...
    atypia.base.errors.InputError: unknown colour 'rad'; did you mean 'red'? choices: red
    """

    def __init__(self, kind: str, package: str | None = None) -> None:
        self.kind = kind
        self._package = package
        self._entries: dict[str, T] = {}

    def add(self, name: str, entry: T) -> T:
        """Adds an entry and returns it.

        Raises:
            ValueError: The name is taken.
        """
        if name in self._entries:
            raise ValueError(f"{self.kind} {name!r} is already registered")
        self._entries[name] = entry
        return entry

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator form of :meth:`add`."""

        def decorate(entry: T) -> T:
            return self.add(name, entry)

        return decorate

    def _load(self) -> dict[str, T]:
        if self._package is not None:
            package, self._package = self._package, None
            loaded = False
            try:
                for module in iter_modules(import_module(package).__path__):
                    import_module(f"{package}.{module.name}")
                loaded = True
            finally:
                if not loaded:  # a part of the entries must never pass for all of them
                    self._package = package
        return self._entries

    def get(self, name: str, default: Any = None) -> Any:
        """The entry of that name, or ``default``."""
        return self._load().get(name, default)

    def __getitem__(self, name: str) -> T:
        entries = self._load()
        if name in entries:
            return entries[name]
        near = difflib.get_close_matches(name, entries, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ";"
        raise InputError(f"unknown {self.kind} {name!r}{hint} choices: {', '.join(entries)}")

    def __contains__(self, name: object) -> bool:
        return name in self._load()

    def __iter__(self) -> Iterator[str]:
        return iter(self._load())

    def __len__(self) -> int:
        return len(self._load())
