"""Registries: named entries of one kind."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Generic, TypeVar

from atypia.base import plugins as found_plugins
from atypia.base.errors import InputError
from atypia.base.plugins import Origin

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Named entries of one kind, in the order in which they were added.

    Adding a name twice raises; asking for an unknown one lists the choices. A registry that is
    given a ``package`` imports that package's modules on first use, so that adding an entry
    means adding a file and no list of names is kept anywhere. One that is given ``plugins`` also
    holds what other installed packages add (:mod:`atypia.base.plugins`).

    Args:
        kind: What the entries are, in the singular, for messages («data source»).
        package: Dotted name of a package whose modules add entries when they are imported.
        plugins: The kind as plug-ins name it, a key of :data:`atypia.base.plugins.KINDS`; None where
            plug-ins add nothing.

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

    def __init__(self, kind: str, package: str | None = None, plugins: str | None = None) -> None:
        self.kind = kind
        self._home = self._package = package
        self._whole = package is None
        self._plugins = plugins
        self._entries: dict[str, T] = {}
        self._origins: dict[str, Origin] = {}

    def add(self, name: str, entry: T, *, version: str | int | None = None) -> T:
        """Adds an entry and returns it.

        Args:
            name: How it is found.
            entry: The entry.
            version: Of an entry from outside of Atypia: a number that its author raises when the same
                options give another result. It becomes part of the identity of trainings.

        Raises:
            InputError: The name is taken. What a notebook or script (``__main__``) added, it may replace.
        """
        by = found_plugins.origin(self._home, version)
        if by is not None:
            self._load_package()  # so that a name that ships is known to be taken
        if name in self._entries:
            before = self._origins.get(name)
            if before is None or by is None or {before.module, by.module} != {"__main__"}:
                first = str(before or found_plugins.ATYPIA)
                raise InputError(
                    f"{self.kind} {name!r} is already registered by {first}, and {by or found_plugins.ATYPIA} "
                    "registers it again; fix: give one of them another name"
                )
        self._entries[name] = entry
        if by is not None:
            self._origins[name] = by
            found_plugins.record(self, name)
        return entry

    def register(self, name: str, *, version: str | int | None = None) -> Callable[[T], T]:
        """Decorator form of :meth:`add`."""

        def decorate(entry: T) -> T:
            return self.add(name, entry, version=version)

        return decorate

    def discard(self, name: str) -> None:
        """Takes an entry back, where there is one."""
        self._entries.pop(name, None)
        self._origins.pop(name, None)

    def origin(self, name: str) -> Origin | None:
        """Who added an entry; None for Atypia itself, and for names that are not there."""
        self._load()
        return self._origins.get(name)

    def shipped(self) -> dict[str, T]:
        """The entries of Atypia itself, which its own documentation lists."""
        return {name: entry for name, entry in self._load().items() if name not in self._origins}

    def _load(self) -> dict[str, T]:
        self._load_package()
        if self._plugins is not None:
            found_plugins.load(self._plugins)
        return self._entries

    def _load_package(self) -> None:
        if self._whole:
            return
        with found_plugins.lock:
            package, self._package = self._package, None
            if package is None:
                return  # asked by one of its own modules while they are imported
            try:
                for module in iter_modules(import_module(package).__path__):
                    import_module(f"{package}.{module.name}")
                self._whole = True
            finally:
                if not self._whole:  # a part of the entries must never pass for all of them
                    self._package = package

    def get(self, name: str, default: Any = None) -> Any:
        """The entry of that name, or ``default``."""
        return self._load().get(name, default)

    def __getitem__(self, name: str) -> T:
        entries = self._load()
        if name in entries:
            return entries[name]
        near = difflib.get_close_matches(name, entries, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ";"
        failed = found_plugins.problems(self._plugins) if self._plugins is not None else ""
        text = f"unknown {self.kind} {name!r}{hint} choices: {', '.join(entries)}"
        raise InputError(f"{text}; {failed}" if failed else text)

    def __contains__(self, name: object) -> bool:
        return name in self._load()

    def __iter__(self) -> Iterator[str]:
        return iter(self._load())

    def __len__(self) -> int:
        return len(self._load())
