"""Plug-ins: installed packages that add backbones, sources, output formats and more, found by an entry point.

A package names modules, or functions without arguments, in the entry-point group ``atypia.plugins``; what they add
to registries when they are imported or called is found by every process of that environment, workers among them::

    [project.entry-points."atypia.plugins"]
    backbones = "atypia_mylab.backbones"
    outputs = "atypia_mylab.outputs"

An entry point that is named like a kind (a key of :data:`KINDS`, also with more behind a dot: ``outputs.xml``) is loaded
when that kind is first asked for, so that what writes a table does not import torch for somebody's network. Any other
name is loaded with whichever kind is asked for first.

A plug-in is there as a whole or not at all: where its import fails, what it had added by then is taken back, the
rest of Atypia works on, and :func:`problems` tells the reason. ``ATYPIA_PLUGINS=none`` leaves all of them out.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from atypia.base.errors import InputError, must
from atypia.base.extras import absent

T = TypeVar("T")

GROUP: Final = "atypia.plugins"
"""The group of entry points."""
SWITCH: Final = "ATYPIA_PLUGINS"
"""Environment variable: ``none`` leaves every plug-in out; otherwise all are used."""
KINDS: Final = {
    "backbones": "atypia.backbones.catalogue:BACKBONES",
    "sources": "atypia.data.sources.catalogue:SOURCES",
    "protocols": "atypia.splits.catalogue:PROTOCOLS",
    "probes": "atypia.methods.catalogue:PROBES",
    "augmentations": "atypia.data.augment.pipeline:AUGMENTATIONS",
    "augmentation-steps": "atypia.data.augment.steps:STEPS",
    "terms": "atypia.methods.catalogue:TERMS",
    "losses": "atypia.methods.catalogue:LOSSES",
    "samplers": "atypia.methods.catalogue:SAMPLERS",
    "points": "atypia.data.points.base:POINT_FORMATS",
    "detectors": "atypia.workflows.detection.detector:DETECTORS",
    "outputs": "atypia.reports.case.outputs:OUTPUTS",
    "runtimes": "atypia.inference.runtimes.catalogue:RUNTIMES",
    "exports": "atypia.inference.export.forms:FORMS",
    "engines": "atypia.engines.engine:ENGINES",
}
"""What plug-ins may add: the kind, as entry points name it, and where its registry is."""
ATYPIA: Final = "atypia"


class PluginWarning(UserWarning):
    """A plug-in cannot be used."""


class Undoable(Protocol):
    """A registry, as seen from here."""

    kind: str

    def discard(self, name: str) -> None:
        """Takes an entry back."""
        ...


@dataclass(frozen=True)
class Origin:
    """Who added an entry.

    Attributes:
        module: The module that did.
        distribution: The installed package that it belongs to; empty if that is not known.
        release: Version of that package.
        version: The entry's own version, raised by its author when the same options give another result; None
            where none is given.
    """

    module: str
    distribution: str = ""
    release: str = ""
    version: str | None = None

    def __str__(self) -> str:
        return f"{self.distribution} {self.release} ({self.module})" if self.distribution else self.module


@dataclass
class Plugin:
    """An entry point of another package.

    Attributes:
        name: Its name.
        value: What it names: ``module`` or ``module:function``.
        distribution: The package.
        release: Version of the package.
        error: Why it cannot be used, in one line; empty if it can, or was not loaded yet.
        loaded: Whether that was tried.
        added: Registry and name of what it added while it was loaded.
    """

    name: str
    value: str
    distribution: str
    release: str
    error: str = ""
    loaded: bool = False
    added: list[tuple[Undoable, str]] = field(default_factory=list)

    @property
    def kind(self) -> str | None:
        """The kind with which it is loaded; None: with any."""
        kind = self.name.partition(".")[0]
        return kind if kind in KINDS else None

    @property
    def remedy(self) -> str:
        """What a user can do about a plug-in that fails."""
        return f"repair it, remove it (`pip uninstall {self.distribution}`), or set {SWITCH}=none to use no plug-in"

    def __str__(self) -> str:
        return f"plug-in {self.name} of {self.distribution} {self.release}"


lock: Final = threading.RLock()
"""Held while entries are loaded: another thread must not take a part of them for all."""
_ready: Final[set[str]] = set()
_loading: Final = threading.local()
"""``plugin``: the one that this thread imports at the moment."""


@cache
def plugins() -> tuple[Plugin, ...]:
    """The entry points of all installed packages, by package and name; nothing of them is imported."""
    if os.environ.get(SWITCH, "").strip().lower() == "none":
        return ()
    from importlib.metadata import entry_points

    found = [
        Plugin(point.name, point.value, point.dist.name, point.dist.version)
        for point in entry_points(group=GROUP)
        if point.dist is not None
    ]
    return tuple(sorted(found, key=lambda plugin: (plugin.distribution, plugin.name)))


def load(kind: str) -> None:
    """Loads the plug-ins that may add to a kind, once in a process; those that fail are warned of.

    Nothing is loaded while a plug-in is being imported: what it asks a registry for then is found without the others.
    """
    if kind in _ready:
        return
    with lock:
        if kind in _ready or _imported_now() is not None:
            return
        failed = [plugin for plugin in plugins() if plugin.kind in (None, kind) and not _load(plugin)]
        _ready.add(kind)
    if failed:
        _warn(failed)


def _load(plugin: Plugin) -> bool:
    """Loads a plug-in unless that was tried before; False if it failed now."""
    if plugin.loaded:
        return True
    plugin.loaded = True
    _loading.plugin = plugin
    try:
        module, _, attribute = plugin.value.partition(":")
        found: Any = import_module(module.strip())
        for part in attribute.split(".") if attribute else ():
            found = getattr(found, part)
        if attribute:
            found()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - somebody else's code must not stop what needs none of it
        plugin.error = _words(error)
        for registry, name in plugin.added:
            registry.discard(name)
        plugin.added.clear()
    finally:
        _loading.plugin = None
    return not plugin.error


def _imported_now() -> Plugin | None:
    return getattr(_loading, "plugin", None)


def _words(error: BaseException) -> str:
    text = " ".join(str(error).split())
    frames = traceback.extract_tb(error.__traceback__)
    place = f", {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}: {text}{place}" if text else f"{type(error).__name__}{place}"


def _warn(failed: Iterable[Plugin]) -> None:
    from multiprocessing import parent_process

    if parent_process() is not None:
        return  # the process that started this worker says it, once
    for plugin in failed:
        warnings.warn(f"{plugin} cannot be used ({plugin.error}); fix: {plugin.remedy}", PluginWarning, stacklevel=4)


def problems(kind: str) -> str:
    """Which plug-ins that may have added to a kind cannot be used, why, and what to do; empty if all can."""
    failed = [plugin for plugin in plugins() if plugin.error and plugin.kind in (None, kind)]
    return "; ".join(
        f"{plugin} may have added it, but cannot be used ({plugin.error}); fix: {plugin.remedy}" for plugin in failed
    )


def origin(package: str | None, version: str | int | None = None) -> Origin | None:
    """Who calls a registry's :meth:`~atypia.base.registry.Registry.add`; None for Atypia itself.

    Args:
        package: A package whose modules count as the registry's own, beside Atypia.
        version: The entry's own version.
    """
    stated = None if version is None else str(version)
    module = _calling(package)
    plugin = _imported_now()
    if plugin is not None:
        return Origin(module or plugin.value, plugin.distribution, plugin.release, stated)
    if module is None:
        return None
    top = module.partition(".")[0]
    for plugin in plugins():  # imported by hand, before the registry looked for it
        if plugin.value.partition(".")[0].partition(":")[0] == top:
            return Origin(module, plugin.distribution, plugin.release, stated)
    return Origin(module, version=stated)


def _calling(package: str | None) -> str | None:
    """The nearest module on the stack that is not Atypia's; None where Atypia's own is being imported."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module.startswith(("importlib.", "_frozen_importlib")):
            return None
        if not any(module == own or module.startswith(f"{own}.") for own in (ATYPIA, package) if own):
            return module
        frame = frame.f_back
    return None


def record(registry: Undoable, name: str) -> None:
    """Writes down what a plug-in adds while it is loaded, so that it can be taken back."""
    plugin = _imported_now()
    if plugin is not None:
        plugin.added.append((registry, name))


def registry_of(kind: str) -> Any:
    """The registry of a kind.

    Raises:
        KeyError: There is no such kind.
    """
    module, _, attribute = KINDS[kind].partition(":")
    return getattr(import_module(module), attribute)


def register(kind: str, name: str, *, version: str | int | None = None) -> Callable[[T], T]:
    """Adds an entry to the registry of a kind; a decorator, also called as ``register(kind, name)(entry)``.

    Args:
        kind: A key of :data:`KINDS`.
        name: How it is found.
        version: The entry's own; see :meth:`atypia.base.registry.Registry.add`.

    Raises:
        InputError: There is no such kind, or the name is taken.
    """
    if kind not in KINDS:
        raise InputError(must("kind", f"one of {', '.join(KINDS)}", kind, "name the kind of thing that is added"))
    return registry_of(kind).register(name, version=version)


def added() -> dict[str, dict[str, list[str]]]:
    """What every installed package adds, after loading all: package → kind → names.

    Kinds that need an optional package which is not installed (terms need torch) are passed over.
    """
    found: dict[str, dict[str, list[str]]] = {plugin.distribution: {} for plugin in plugins()}
    for kind in KINDS:
        try:
            registry = registry_of(kind)
            _ = len(registry)
        except ModuleNotFoundError as error:
            if absent(kind, error) is None:
                raise
            continue
        for name in registry:
            by = registry.origin(name)
            if by is not None:
                found.setdefault(by.distribution or by.module, {}).setdefault(kind, []).append(name)
    return found


def distributions(entries: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """The installed packages, Atypia apart, that entries come from; each once.

    Args:
        entries: Kind and name; names that are not registered are passed over.
    """
    found: dict[str, None] = {}
    for kind, name in entries:
        by = registry_of(kind).origin(name)
        if by is not None and by.distribution:
            found[by.distribution] = None
    return tuple(found)


def versions(entries: Iterable[tuple[str, str]]) -> dict[str, list[str | None]]:
    """Package (or module) and own version of each entry that is not Atypia's, for fingerprints; empty for Atypia's own.

    Args:
        entries: Kind and name.
    """
    found: dict[str, list[str | None]] = {}
    for kind, name in entries:
        by = registry_of(kind).origin(name)
        if by is not None:
            found[f"{kind} {name}"] = [by.distribution or by.module, by.version]
    return found
