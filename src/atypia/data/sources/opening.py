"""What ``--data`` and ``--on`` take: a source's name, a manifest, a table, a folder, or several."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path

from atypia.base import records as r
from atypia.base.artifacts import fingerprint, read_json, write_json
from atypia.base.errors import AbsentError, DataError, InputError, WorkError
from atypia.base.paths import cache_root, data_root, home
from atypia.data.manifest import Manifest
from atypia.data.sources import user
from atypia.data.sources.catalogue import SOURCES, Source, SourceContents
from atypia.data.sources.layouts import add_image_facts, existing_paths, walk_files

MANIFEST_NAME = "manifest.parquet"
"""A folder that holds a file of this name is opened as that manifest."""

_CACHE_VERSION = 1


def open_data(reference: str | os.PathLike[str], root: Path | None = None) -> Manifest:
    """Opens figures by what a person would type.

    Args:
        reference: The name of a published source; a ``.parquet`` manifest or a folder that holds
            ``manifest.parquet``; a user's ``.csv``; a folder with one subfolder per class; or
            several of these joined by ``+``, which are pooled.
        root: Data root in which sources are looked for; None for the default.

    Returns:
        A validated manifest. What had to be derived from files is kept in the cache and built
        again when a file changes.

    Raises:
        InputError: The reference is nothing of the kind; lists the sources.
        AbsentError: A source is known but not on this machine; names the remedy.
        DataError: What is there is not what it should be.

    Example:
        >>> open_data("ami-br+atnorm-br", root)  # doctest: +SKIP

    >>> open_data("mine.csv")
    <Manifest mine: 48 figures (16 atypical, 32 normal), 8 cases, 2 domains>
    """
    parts = parts_of(reference)
    if len(parts) > 1:
        return Manifest.concat([open_data(part, root) for part in parts])
    reference = parts[0]
    if reference in SOURCES:
        return published_manifest(reference, root)
    path = _expanded(reference)
    if path.is_dir():
        return _open_folder(path.resolve())
    if path.is_file():
        return _open_file(path.resolve())
    raise _unknown(reference)


def parts_of(reference: str | os.PathLike[str]) -> list[str]:
    """The references that one joins by ``+``; one that exists with a ``+`` in its own name is one.

    Raises:
        InputError: A part is empty.

    >>> parts_of("ami-br+atnorm-br")
    ['ami-br', 'atnorm-br']
    """
    reference = os.fspath(reference)
    if "+" not in reference or reference in SOURCES or _expanded(reference).exists():
        return [reference]
    parts = [part.strip() for part in reference.split("+")]
    if not all(parts):
        raise InputError(f"{reference!r} has an empty part; fix: join references by one + each, for instance a+b")
    return parts


def _expanded(reference: str) -> Path:
    return Path(os.path.expanduser(reference))  # noqa: PTH111 - leaves «~x.csv» alone where there is no user x


def _unknown(reference: str) -> InputError:
    known = f"sources: {', '.join(SOURCES)}"
    if "/" in reference or "\\" in reference or "." in reference:
        return InputError(f"{reference} does not exist; fix: check the path, or name a source; {known}")
    near = get_close_matches(reference, list(SOURCES), n=1)
    hint = f" did you mean {near[0]!r}?" if near else ""
    return InputError(
        f"{reference!r} is neither a source nor a file or folder;{hint} fix: give a source's name, a manifest "
        f"(.parquet), a .csv or a class folder; {known}"
    )


def _open_file(path: Path) -> Manifest:
    if path.suffix.lower() == ".parquet":
        return Manifest.load(path)
    if path.suffix.lower() in (".csv", ".tsv"):
        images = user.image_paths(path)
        key = fingerprint("csv", user.VERSION, str(path), _listing([path, *images]))
        return _cached(path.stem, key, lambda: user.read_csv(path))
    raise InputError(f"{path.name} is neither .parquet nor .csv; fix: give a manifest, a CSV or a class folder")


def _open_folder(folder: Path) -> Manifest:
    if (folder / MANIFEST_NAME).is_file():
        return Manifest.load(folder / MANIFEST_NAME)
    published = [name for name, source in SOURCES.items() if source.is_at(folder)]
    if published:
        raise InputError(
            f"{folder} is the published folder of {', '.join(published)}; fix: name the source, after "
            f"`atypia data import {published[0]} --from {folder}`"
        )
    key = fingerprint("folder", user.VERSION, str(folder), _listing(walk_files(folder)))
    return _cached(folder.name, key, lambda: user.read_folder(folder))


# Published sources ----------------------------------------------------------------------------


def source_folder(name: str, root: Path | None = None) -> Path | None:
    """Where a source's published layout is on this machine; None if it is not.

    Looked for below ``root`` where one is given, then where it was imported from; without a
    ``root`` where it was imported from, then below the default data root.

    Raises:
        InputError: There is no such source.
    """
    source = SOURCES[name]
    if root is not None and (found := _below(source, Path(root))):
        return found
    record = _import_record(name)
    if record.is_file():
        try:
            imported = Path(read_json(record)["path"])
        except (WorkError, KeyError, TypeError):
            imported = None
        if imported is not None and (found := _layout_in(source, imported)):
            return found
    return _below(source, data_root()) if root is None else None


def _below(source: Source, root: Path) -> Path | None:
    for name in (*source.folders, source.name):
        if found := _layout_in(source, root / name):
            return found
    return root if source.is_at(root) else None


def _layout_in(source: Source, folder: Path) -> Path | None:
    """The folder, or the one folder below it that an archive's own top folder is."""
    if not folder.is_dir():
        return None
    if source.is_at(folder):
        return folder
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return next((path for path in inside[:64] if source.is_at(path)), None)


def _import_record(name: str) -> Path:
    return home() / "imports" / f"{name}.json"


def record_import(name: str, folder: Path) -> Path:
    """Remembers the folder that holds a source in its published layout; nothing is copied.

    Args:
        name: Name of the source.
        folder: The folder, or the one above it.

    Returns:
        The folder in which the layout was recognised.

    Raises:
        InputError: There is no such source.
        DataError: The folder does not hold its published layout; names what was looked for.
    """
    found = _required_layout(SOURCES[name], Path(folder).expanduser().resolve())
    write_json(_import_record(name), {"path": str(found)}, private=True)
    return found


def _required_layout(source: Source, folder: Path) -> Path:
    found = _layout_in(source, folder)
    if found is None:
        raise DataError(
            f"{folder} does not hold {source.name} in its published layout: there is no "
            f"{' or '.join(source.marks)}; fix: {source.by_hand}"
        )
    return found


def published_manifest(name: str, root: Path | None = None, folder: Path | None = None) -> Manifest:
    """The manifest of a published source, checked against its published counts.

    Args:
        name: Name of the source.
        root: Data root to look in; see :func:`source_folder`.
        folder: Its folder, where it is already known; nothing is looked for then.

    Returns:
        The manifest, derived once and kept in the cache until a file of the source changes.

    Raises:
        InputError: There is no such source.
        AbsentError: It is not on this machine; names the remedy.
        DataError: An image cannot be read, or a count differs from the published one; names both.
    """
    source = SOURCES[name]
    place = _place(source, root, folder)
    listing = _listing(_inputs(source, place))
    key = fingerprint("source", name, source.version, str(place), listing)
    return _cached(name, key, lambda: _build(source, place))


def figure_positions(
    name: str, root: Path | None = None, folder: Path | None = None
) -> Mapping[str, tuple[str, float, float]]:
    """Where on their slides a source's crops were cut, as far as that is published.

    A manifest's ``x_px, y_px`` mean that its image is a slide, so the positions of published
    crops are not in it.

    Args:
        name: Name of the source.
        root: Data root to look in; see :func:`source_folder`.
        folder: Its folder, where it is already known.

    Returns:
        Figure id → slide file name, and the centre in the slide's pixels, x to the right, y down.

    Raises:
        AbsentError, DataError, InputError: As :func:`published_manifest`.
    """
    source = SOURCES[name]
    return source.read(_place(source, root, folder)).positions


def _place(source: Source, root: Path | None, folder: Path | None) -> Path:
    place = source_folder(source.name, root) if folder is None else _required_layout(source, Path(folder).resolve())
    if place is None:
        name = source.name
        get = f"`atypia data get {name}`, or " if source.files else ""
        raise AbsentError(
            f"{name} is not on this machine; fix: {get}`atypia data import {name} --from DIR` with a folder in the "
            f"published layout ({source.by_hand})"
        )
    return place


def _build(source: Source, folder: Path) -> Manifest:
    reading = source.read(folder)
    _check_images(source, reading)
    rows = [{r.DATASET: source.name, **row} for row in reading.rows]
    if not rows:
        raise DataError(f"{source.name}: no figures in {folder}; fix: {source.by_hand}")
    manifest = Manifest.from_rows(rows, source.name, reading.task or source.task, reading.root, reading.notes)
    differences = source.expected.differences(manifest)
    if differences:
        hints = "".join(f"; {hint}" for hint in reading.hints)
        raise DataError(f"{source.name}: {'; '.join(differences)}{hints}; fix: get it again ({source.by_hand})")
    return manifest


def _check_images(source: Source, reading: SourceContents) -> None:
    if reading.root is None:
        return
    bad = add_image_facts(reading.rows, reading.root)
    if bad:
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise DataError(f"{source.name}: {bad[0][1]}{more}; get the source again ({source.by_hand})")


def _inputs(source: Source, folder: Path) -> Iterable[Path]:
    for path in existing_paths(folder, source.inputs):
        if path.is_dir():
            yield from walk_files(path)
        elif path.is_file():
            yield path


# The cache of derived manifests ---------------------------------------------------------------


def _listing(paths: Iterable[Path]) -> str:
    """Fingerprint of names, sizes and modification times; an absent file counts as absent."""
    facts = []
    for path in paths:
        try:
            status = path.stat()
            facts.append(f"{path}|{status.st_size}|{status.st_mtime_ns}")
        except OSError:
            facts.append(f"{path}|absent")
    return fingerprint("\n".join(facts))


def _cached(name: str, key: str, build: Callable[[], Manifest]) -> Manifest:
    label = "".join(sign if sign.isalnum() or sign in "-_." else "_" for sign in name)[:60]
    label = label.encode()[:120].decode(errors="ignore")  # file systems count bytes
    path = cache_root() / "manifests" / f"{label}-{fingerprint(_CACHE_VERSION, key)}.parquet"
    if path.is_file():
        try:
            return Manifest.load(path)
        except DataError:
            pass  # a damaged cache file is replaced below; the data itself is intact
    manifest = build()
    manifest.save(path, private=True)
    return manifest
