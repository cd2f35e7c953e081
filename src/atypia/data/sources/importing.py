"""Gets published sources: by download, or from an existing folder."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from atypia.base.artifacts import atomic_folder, disk_errors, lock
from atypia.base.errors import AbsentError, DataError, WorkError
from atypia.base.paths import data_root
from atypia.base.process.progress import Progress, silent
from atypia.data.manifest import Manifest
from atypia.data.sources.archives import extract_into, safe_member
from atypia.data.sources.catalogue import SOURCES, Source
from atypia.data.sources.download import Patience, fetch
from atypia.data.sources.opening import published_manifest, record_import, source_folder

DOWNLOADS = ".downloads"
"""Folder below the data root for files of incomplete sources."""
UNPACKED = "unpacked"


def get(
    name: str, root: Path | None = None, progress: Progress = silent, *, patience: Patience | None = None
) -> Manifest:
    """Downloads a source and unpacks it below the data root; does nothing if it exists.

    An interrupted download is resumed by the next call. The source's folder appears only
    when everything has arrived, is unpacked and has the published counts.

    Args:
        name: Name of the source.
        root: Data root; see :func:`atypia.base.paths.data_root`.
        progress: Receives progress: bytes, then archive members.
        patience: Retry limits of transfers.

    Returns:
        Its manifest.

    Raises:
        InputError: There is no such source.
        AbsentError: No address is known, or the server refuses; the message states how to get it by hand.
        DataError: The download is not the published source.
        WorkError: No network, a broken transfer, or a full disk.
    """
    source = SOURCES[name]
    if source_folder(name, root) is not None:
        return published_manifest(name, root)
    if not source.files:
        raise AbsentError(
            f"{name} cannot be downloaded by Atypia; fix: {source.by_hand} (see {source.homepage}), "
            f"then `atypia data import {name} --from DIR`"
        )
    base = data_root(root)
    waiting = base / DOWNLOADS / name
    target = base / source.folders[0]
    with lock(waiting):
        if source_folder(name, root) is not None:  # another process was faster
            return published_manifest(name, root)
        # The unpacked folder has its name only when it is whole: a process was killed since.
        if not (waiting / UNPACKED).is_dir():
            _download(source, waiting, progress, patience)
            _unpack(source, waiting, progress)
        _put(waiting / UNPACKED, target)
        shutil.rmtree(waiting, ignore_errors=True)
    return published_manifest(name, root)


def import_folder(name: str, folder: Path, root: Path | None = None, progress: Progress = silent) -> Manifest:
    """Checks a folder in a source's published layout and records its path; copies nothing.

    Args:
        name: Name of the source.
        folder: The folder, or the one above it.
        root: Not used; kept so that all readers of
            sources have the same signature.
        progress: Receives progress: start and end of the check.

    Returns:
        Its manifest.

    Raises:
        InputError: There is no such source.
        AbsentError: There is no such folder.
        DataError: The folder is not in the published layout, an image cannot be read, or a count
            differs from the published one. Nothing is recorded then.
    """
    source = SOURCES[name]
    place = Path(folder).expanduser()
    if not place.is_dir():
        what = "is a file" if place.exists() else "does not exist"
        raise AbsentError(f"{place} {what}; fix: give the folder in which {name} was unpacked ({source.by_hand})")
    progress(0, 1, "folders checked")
    manifest = published_manifest(name, root, folder=place)
    record_import(name, place)
    progress(1, 1, "folders checked")
    return manifest


def _download(source: Source, waiting: Path, progress: Progress, patience: Patience | None) -> None:
    for number, file in enumerate(source.files, 1):
        # An entry's file names are part of the package, but an error there must not write elsewhere.
        if safe_member(file.filename) is None:
            raise DataError(f"{source.name}: file name {file.filename!r} leaves its folder; fix: correct the entry")
        place = waiting / file.filename
        with disk_errors(place):
            place.parent.mkdir(parents=True, exist_ok=True)
        fetch(file.url, place, file.sha256, file.size_bytes, progress, source=source.name, patience=patience)
        progress(number, len(source.files), "files downloaded")


def _unpack(source: Source, waiting: Path, progress: Progress) -> None:
    """Builds the source's folder from its files and checks it before it gets its name."""
    try:
        with atomic_folder(waiting / UNPACKED) as part, ExitStack() as undo:
            for file in source.files:
                if file.is_archive:
                    extract_into(waiting / file.filename, part, progress=progress)
            for file in source.files:
                if not file.is_archive:
                    # Moved, not copied: slides are large. If the check fails they are moved back.
                    place = part / file.filename
                    with disk_errors(place):
                        place.parent.mkdir(parents=True, exist_ok=True)
                        (waiting / file.filename).rename(place)
                    undo.callback(place.rename, waiting / file.filename)
            published_manifest(source.name, folder=part)
            undo.pop_all()
    except DataError as error:
        # Files without a checksum may be the cause; the next call downloads them again.
        for file in source.files:
            if file.sha256 is None and file.is_archive:
                (waiting / file.filename).unlink(missing_ok=True)
        hosts = ", ".join(sorted({urlsplit(file.url).hostname or "" for file in source.files}))
        raise DataError(f"{source.name}: the download from {hosts} is not the published set: {error}") from error


def _put(folder: Path, target: Path) -> None:
    """Moves a finished folder to its place, beside other sources' files in the same folder."""
    with lock(target), disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            folder.rename(target)
            return
        taken = sorted(entry.name for entry in folder.iterdir() if (target / entry.name).exists())
        if taken:
            raise WorkError(
                f"{target} already holds {taken[0]}, which is not a complete copy of the source; fix: move it away and "
                "run the command again (downloaded files are kept)"
            )
        for entry in sorted(folder.iterdir()):
            entry.rename(target / entry.name)
