"""Writes a phantom set: images, manifest and parameters."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

from PIL import Image

from atypia.base import records as r
from atypia.base.artifacts import atomic_file, fingerprint, lock, read_json, write_json
from atypia.base.errors import DataError, InputError, must
from atypia.base.paths import cache_root
from atypia.base.process.cores import core_count
from atypia.base.process.progress import Progress, silent
from atypia.base.runs import PHANTOM_PARAMETERS
from atypia.data.images.pngfiles import whole_png
from atypia.data.manifest import Manifest
from atypia.data.phantom import plan
from atypia.data.phantom.domains import DOMAINS, PhantomDomain
from atypia.data.phantom.fields import CROP_MPP, SIDE_PX
from atypia.data.phantom.plan import PhantomFigure, plan_figures
from atypia.data.phantom.render import render_crop

PHANTOM: Final = "phantom"
MANIFEST_NAME: Final = "manifest.parquet"
PARAMETERS_NAME: Final = PHANTOM_PARAMETERS
CHUNK: Final = 24
"""Figures that a worker renders between two progress reports."""
SMALL: Final = 60
"""Fewer figures than this are rendered in this process: starting others takes longer."""


def write_phantom(
    folder: Path,
    n: int = 2000,
    seed: int = 0,
    domains: Sequence[str | PhantomDomain] | None = None,
    workers: int | None = None,
    progress: Progress = silent,
) -> Manifest:
    """Writes a phantom set, or its missing images.

    ``folder`` receives ``normal/*.png``, ``atypical/*.png``, ``phantom.json`` (parameters) and at
    the end ``manifest.parquet``, so an interrupted set has no manifest that
    names missing images; calling again resumes. The pixels depend on the parameters and the
    versions of NumPy, SciPy and Pillow, not on ``n``, ``workers`` or the machine's load. Scripts
    that call this need the usual ``if __name__ == "__main__":`` guard of multiprocessing.

    Args:
        folder: Where the set goes. A set with the same parameters and at most as many figures is
            completed; anything else is kept and refused.
        n: Number of figures, ≥ 1.
        seed: Seed of the set; two seeds share no figure.
        domains: ``rose``, ``violet``, ``brick``, ``ash``, or own domains; None for all four.
        workers: Processes; None for one per core.
        progress: Receives progress: images present.

    Returns:
        The manifest, its root being ``folder``.

    Raises:
        InputError: A parameter is out of range, or ``folder`` holds something else.
        WorkError: The disk is full or cannot be written.

    >>> from pathlib import Path
    >>> write_phantom(Path("phantom"), 4, workers=1)
    <Manifest phantom-0: 4 figures (1 atypical, 3 normal), 1 case, 1 domain>
    """
    chosen = _chosen(domains)
    if n < 1:
        raise InputError(must("n", "at least 1", n, "pass -n 2000"))
    if workers is not None and workers < 1:
        raise InputError(must("workers", "at least 1", workers, "leave it out for one per core"))
    folder = Path(folder).resolve()
    parameters = _parameters(n, seed, chosen)
    _check_folder(folder, parameters)
    with lock(folder / PARAMETERS_NAME):
        _check_folder(folder, parameters)
        finished = _finished(folder, parameters)
        if finished is not None:
            progress(n, n, "phantom crops")
            return finished
        write_json(folder / PARAMETERS_NAME, parameters)
        figures = list(plan_figures(n, seed, chosen))
        hashes = _write_images(folder, figures, seed, workers, progress)
        rows = [_row(figure, seed, hashes[figure.index]) for figure in figures]
        manifest = Manifest.from_rows(rows, f"{PHANTOM}-{seed}", root=folder, notes=(_note(parameters),))
        manifest.save(folder / MANIFEST_NAME)
        return manifest


def cached_phantom(
    n: int, seed: int = 0, domains: Sequence[str] = (), workers: int | None = None, progress: Progress = silent
) -> Manifest:
    """A phantom set in the cache, rendered at the first call.

    Args:
        n: Number of figures, ≥ 1.
        seed: Seed of the set.
        domains: Names of its domains; empty for all.
        workers: Processes; None for one per core.
        progress: Receives progress: images present.

    Raises:
        InputError, WorkError: As :func:`write_phantom`.
    """
    key = fingerprint("study-phantom", {"n": n, "seed": seed, "domains": list(domains)})[:16]
    return write_phantom(
        cache_root() / PHANTOM / f"{n}-{seed}-{key}", n, seed, list(domains) or None, workers, progress
    )


def phantom_kinds(n: int, seed: int = 0, domains: Sequence[str | PhantomDomain] | None = None) -> dict[str, str]:
    """The morphology that each figure of a phantom set shows, by figure id: known from the rendering, not by votes.

    Args as :func:`write_phantom`.

    >>> phantom_kinds(2)
    {'phantom-0-rose-000000': 'anaphase', 'phantom-0-rose-000001': 'telophase'}
    """
    return {_name(figure, seed): figure.kind for figure in plan_figures(n, seed, _chosen(domains))}


def _chosen(domains: Sequence[str | PhantomDomain] | None) -> list[PhantomDomain]:
    if isinstance(domains, str):
        raise InputError(must("domains", "a list of domains", domains, f"pass [{domains!r}]"))
    given = list(DOMAINS) if domains is None else domains
    chosen = [DOMAINS[domain] if isinstance(domain, str) else domain for domain in given]
    names = [domain.name for domain in chosen]
    if not names or len(set(names)) < len(names):
        raise InputError(must("domains", "one or more different domains", names, f"choose among {', '.join(DOMAINS)}"))
    return chosen


def _parameters(n: int, seed: int, domains: Sequence[PhantomDomain]) -> dict[str, Any]:
    return {
        "n": n,
        "seed": seed,
        "renderer": plan.RENDERER_VERSION,
        "domains": [domain.to_json() for domain in domains],
        "side_px": SIDE_PX,
        "mpp": CROP_MPP,
        "normal_mix": dict(plan.NORMAL_MIX),
        "atypical_mix": dict(plan.ATYPICAL_MIX),
        "ambiguous": plan.AMBIGUOUS,
        "raters": list(plan.RATERS),
        "rater_sd": plan.RATER_SD,
    }


def _identity(parameters: dict[str, Any]) -> str:
    """Parameters that two sets must share to have the same figures: all but the number of figures."""
    return fingerprint({key: value for key, value in parameters.items() if key != "n"})


def _note(parameters: dict[str, Any]) -> str:
    return f"phantom set {_identity(parameters)}, simulated: no clinical truth"


def _check_folder(folder: Path, parameters: dict[str, Any]) -> None:
    remedy = "choose another folder, or delete this one"
    if folder.exists() and not folder.is_dir():
        raise InputError(must("folder", "a folder", f"the file {folder}", remedy))
    if (folder / PARAMETERS_NAME).exists():
        there = read_json(folder / PARAMETERS_NAME)
        if not isinstance(there, dict) or _identity(there) != _identity(parameters):
            raise InputError(f"{folder} holds a phantom set with other parameters; fix: {remedy}")
        if there.get("n", 0) > parameters["n"]:
            raise InputError(must("n", f"at least {there['n']}, as many as {folder} holds", parameters["n"], remedy))
    elif folder.is_dir() and any(entry for entry in folder.iterdir() if not entry.name.startswith(".")):
        raise InputError(f"{folder} holds something that is no phantom set; fix: {remedy}")


def _finished(folder: Path, parameters: dict[str, Any]) -> Manifest | None:
    try:
        manifest = Manifest.load(folder / MANIFEST_NAME)
    except DataError:
        return None
    whole = len(manifest) == parameters["n"] and _note(parameters) in manifest.notes
    if not whole or not all((folder / image).is_file() for image in manifest.column(r.IMAGE)):
        return None
    return manifest


def _name(figure: PhantomFigure, seed: int) -> str:
    return f"{PHANTOM}-{seed}-{figure.domain.name}-{figure.index:06d}"


def _image(figure: PhantomFigure, seed: int) -> str:
    return f"{r.CLASS_NAMES[r.ATYPICAL_TASK][figure.label]}/{_name(figure, seed)}.png"


def _row(figure: PhantomFigure, seed: int, sha256: str) -> dict[str, Any]:
    case = f"{PHANTOM}-{seed}-{figure.domain.name}-{figure.case:04d}"
    return {
        r.FIGURE_ID: _name(figure, seed),
        r.DATASET: f"{PHANTOM}-{seed}",
        r.IMAGE: _image(figure, seed),
        r.CASE_ID: case,
        r.SLIDE_ID: case,
        r.PART: figure.part,
        r.LABEL: figure.label,
        r.VOTES: list(figure.votes),
        r.PHASE: list(figure.phases),
        r.SCANNER: figure.domain.scanner,
        r.ORIGIN: figure.domain.origin,
        r.SPECIES: figure.domain.species,
        r.TUMOUR: figure.domain.tumour,
        r.MPP: float(CROP_MPP),
        r.WIDTH_PX: int(SIDE_PX),
        r.HEIGHT_PX: int(SIDE_PX),
        r.SHA256: sha256,
    }


def _write_images(
    folder: Path, figures: list[PhantomFigure], seed: int, workers: int | None, progress: Progress
) -> dict[int, str]:
    what = "phantom crops"
    chunks = [figures[start : start + CHUNK] for start in range(0, len(figures), CHUNK)]
    cores = core_count()
    processes = min(workers or cores, len(chunks))
    hashes: dict[int, str] = {}
    progress(0, len(figures), what)

    def take(results: Iterable[list[tuple[int, str]]]) -> None:
        for done in results:
            hashes.update(done)
            progress(len(hashes), len(figures), what)

    if processes == 1 or len(figures) < SMALL:
        take(_write_chunk(folder, chunk, seed) for chunk in chunks)
        return hashes
    # Spawned rather than forked: a fork of a process with running threads may hang.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        try:
            take(_completed(pool, folder, chunks, seed))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return hashes


def _completed(
    pool: ProcessPoolExecutor, folder: Path, chunks: list[list[PhantomFigure]], seed: int
) -> Iterator[list[tuple[int, str]]]:
    for future in as_completed([pool.submit(_write_chunk, folder, chunk, seed) for chunk in chunks]):
        yield future.result()


def _write_chunk(folder: Path, figures: list[PhantomFigure], seed: int) -> list[tuple[int, str]]:
    return [(figure.index, _write_image(folder, figure, seed)) for figure in figures]


def _write_image(folder: Path, figure: PhantomFigure, seed: int) -> str:
    """Writes one image unless a whole one is there; returns the SHA-256 of the file."""
    path = folder / _image(figure, seed)
    data = whole_png(path, SIDE_PX)
    if data is None:
        pixels = render_crop(figure.domain, figure.morphology, figure.severity, seed, figure.index, figure.case)
        buffer = io.BytesIO()
        # Stored, not deflated: all files have one size, which reveals nothing about the figure.
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=0)
        data = buffer.getvalue()
        with atomic_file(path) as file:
            file.write(data)
    return hashlib.sha256(data).hexdigest()
