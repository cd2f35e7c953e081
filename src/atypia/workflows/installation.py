"""The work of ``atypia doctor``: what works on this machine, and the remedy for what does not."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from atypia.base.extras import PARTS, extras_installed, install, installed

OK: Final = "ok"
ABSENT: Final = "absent"
"""Not installed or not found, which is not an error."""
FAULT: Final = "fault"


@dataclass(frozen=True)
class Check:
    """One line of the report: an area, a thing, its state (:data:`OK`, :data:`ABSENT`, :data:`FAULT`), detail, remedy."""

    area: str
    name: str
    state: str
    detail: str
    remedy: str = ""


def check_installation(root: Path | None = None) -> list[Check]:
    """What works on this machine: model, folders, optional parts, data, backbones; nothing is downloaded.

    Args:
        root: Data root; None for the user's setting.
    """
    others = _plugins()  # first, so that failing plug-ins are reported here and not by warnings of the other checks
    return [*_machine(), *_model(), *_folders(root), *_parts(), *others, *_data(root), *_backbones()]


def _machine() -> list[Check]:
    from atypia.base.process.cores import core_count

    return [
        Check("machine", "python", OK, f"{platform.python_version()} at {sys.prefix}"),
        Check("machine", "cores", OK, str(core_count())),
        _tier(),
        _torch(),
    ]


def _tier() -> Check:
    found = [extra for extra, there in extras_installed().items() if there]
    detail = (
        f"the core with {', '.join(found)}" if found else "the core: predicts, calibrates, serves, reviews, reports"
    )
    return Check("machine", "installed", OK, detail)


def _torch() -> Check:
    if not installed("torch"):
        return Check("machine", "torch", ABSENT, "not needed by the core; training needs it", install("train"))
    try:
        import torch
    except (ImportError, OSError) as error:
        return Check("machine", "torch", FAULT, str(error).splitlines()[0], "reinstall torch and torchvision as a pair")
    if torch.cuda.is_available():
        name, memory = torch.cuda.get_device_name(0), torch.cuda.get_device_properties(0).total_memory
        return Check("machine", "torch", OK, f"{torch.__version__}, {name} with {memory / 2**30:.0f} GiB")
    if torch.backends.mps.is_available():
        return Check("machine", "torch", OK, f"{torch.__version__}, Apple GPU")
    return Check("machine", "torch", OK, f"{torch.__version__}, CPU only")


def _model() -> list[Check]:
    """The shipped classifier, read as by ``atypia predict``, so that damage is reported here; and what runs it, and why."""
    from atypia.base.errors import AtypiaError
    from atypia.inference.classifier import SHIPPED, Classifier, find_model
    from atypia.inference.runtimes.catalogue import packages_here
    from atypia.inference.runtimes.chosen import kept_choice

    try:
        opened = Classifier.load()
    except AtypiaError as error:
        return [Check("machine", "classifier", FAULT, str(error), "install Atypia anew")]
    runtime = opened.members[0].runtime
    place = getattr(runtime, "place", None)  # onnxruntime knows why it computes where it does
    reasons = [] if place is None else [place.why]
    if kept_choice(find_model(SHIPPED), packages_here()) == runtime.name:
        reasons.append("the fastest for this model here, by `atypia doctor --tune`")
    detail = f"{opened.run_by}: {'; '.join(reasons)}" if reasons else opened.run_by
    return [
        Check("machine", "classifier", OK, f"{SHIPPED}, in {find_model(SHIPPED)}"),
        Check("machine", "runtime", OK, detail, "" if place is None else place.remedy),
    ]


def _folders(root: Path | None) -> list[Check]:
    from atypia.base.paths import cache_root, data_root, home

    checks = []
    for name, folder, remedy in (
        ("data root", data_root(root), "set $ATYPIA_DATA or give --root"),
        ("home", home(), "set $ATYPIA_HOME to a folder that can be written"),
        ("cache", cache_root(), "set $ATYPIA_CACHE to a folder that can be written"),
    ):
        nearest = next(parent for parent in (folder, *folder.parents) if parent.exists())
        free = shutil.disk_usage(nearest).free / 2**30
        if not nearest.is_dir():
            checks.append(Check("folders", name, FAULT, f"{nearest} is a file", remedy))
            continue
        writable = os.access(nearest, os.W_OK)
        there = "" if folder.exists() else ", not made yet"
        detail = f"{folder} ({free:.0f} GiB free{there}{'' if writable else ', read-only'})"
        # Published data may be on a read-only disk: derived files go to the cache.
        fault = name != "data root" and not writable
        checks.append(Check("folders", name, FAULT if fault else OK, detail, remedy if fault else ""))
    return checks


def _parts() -> list[Check]:
    return [
        Check("optional parts", module, OK, part.what)
        if installed(module)
        else Check("optional parts", module, ABSENT, part.what, install(part.extra))
        for module, part in PARTS.items()
        if module != "torch"  # told with the machine
    ]


def _plugins() -> list[Check]:
    """Each package that brings plug-ins, with what it adds; a plug-in that fails is a fault."""
    from atypia.base.plugins import PluginWarning, added, plugins

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PluginWarning)  # the lines below say it
        what = added()
    releases = {plugin.distribution: plugin.release for plugin in plugins()}
    checks = [
        Check("plug-ins", package, OK, f"{releases.get(package, '')} adds {_listed(entries)}".strip())
        for package, entries in what.items()
        if entries or not any(plugin.error for plugin in plugins() if plugin.distribution == package)
    ]
    return checks + [
        Check("plug-ins", plugin.distribution, FAULT, f"{plugin.release}, {plugin.name}: {plugin.error}", plugin.remedy)
        for plugin in plugins()
        if plugin.error
    ]


def _listed(entries: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"{kind} {', '.join(names)}" for kind, names in entries.items()) or "nothing"


def _data(root: Path | None) -> list[Check]:
    from atypia.data.sources.catalogue import SOURCES
    from atypia.data.sources.opening import source_folder

    checks = []
    for name, source in SOURCES.items():
        folder = source_folder(name, root)
        if folder is not None:
            checks.append(Check("data", name, OK, f"{source.title} in {folder}"))
        else:
            remedy = f"atypia data get {name}, or atypia data import {name} --from DIR"
            checks.append(Check("data", name, ABSENT, source.title, remedy))
    return checks


def _backbones() -> list[Check]:
    from atypia.backbones.catalogue import BACKBONES, HubWeights
    from atypia.backbones.weights import availability

    checks = []
    for name, entry in BACKBONES.items():
        found = availability(name)
        if found.ok:
            checks.append(Check("backbones", name, OK, entry.title))
        elif isinstance(entry.weights, HubWeights):
            gate = "accept the licence there, set HF_TOKEN" if entry.gated else "one run with a network fetches it"
            checks.append(Check("backbones", name, ABSENT, f"{entry.weights.url}: {gate}", found.remedy))
        else:
            checks.append(Check("backbones", name, ABSENT, found.reason, found.remedy))
    return checks
