"""Writes phantom slides: pyramids of regions of tissue with known mitotic figures and look-alikes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from atypia.base import records as r
from atypia.base.artifacts import atomic_file, fingerprint, lock, read_json, write_json
from atypia.base.errors import InputError, must
from atypia.base.files.spreadsheet import CsvLines
from atypia.base.process.progress import Progress, silent
from atypia.data.manifest import Manifest
from atypia.data.phantom.dataset import MANIFEST_NAME, PHANTOM
from atypia.data.phantom.domains import DOMAINS
from atypia.data.phantom.fields import CROP_MPP
from atypia.data.phantom.plan import RATERS, case_part
from atypia.data.phantom.pyramid import write_pyramid
from atypia.data.phantom.regions import PlacedFigure, Region, RegionPlan, plan_region

RENDERER_VERSION: Final = 1
"""Increased whenever the same seed would give other pixels, places or votes."""
PARAMETERS_NAME: Final = "phantom-slides.json"
FIGURES_NAME: Final = "figures.parquet"
"""The mitotic figures alone, of the atypical task."""
SLIDES, POINTS = "slides", "points"
CLASS_OF: Final = {True: "mitotic figure", False: "look-alike"}
MOST_MM2: Final = 8.0
LEAST_MM2: Final = 0.02


def write_phantom_slides(
    folder: Path,
    n: int = 4,
    mm2: float = 2.0,
    seed: int = 0,
    *,
    figures_per_mm2: float = 25.0,
    look_alikes_per_mm2: float = 35.0,
    domains: Sequence[str] | None = None,
    progress: Progress = silent,
) -> Manifest:
    """Writes phantom slides, or those that are missing.

    ``folder`` receives ``slides/*.tif`` (pyramids, 0.25 µm/px), ``points/*.csv`` (each slide's mitotic figures and
    look-alikes, with their class), ``figures.parquet`` (the mitotic figures, atypical or normal), ``phantom-slides.json``
    and at the end ``manifest.parquet`` (mitotic figures and look-alikes, a data set of the mitosis task). Figures are none
    of :func:`atypia.data.phantom.dataset.write_phantom`'s, also with the same seed.

    Args:
        folder: Where they go; slides with the same parameters are completed, anything else is kept and refused.
        n: Number of slides, ≥ 1, dealt to the domains in turn.
        mm2: Tissue of each, 0.02 to 8 mm².
        seed: Seed of the set.
        figures_per_mm2: Mitotic figures by area.
        look_alikes_per_mm2: Look-alikes by area.
        domains: Names of :data:`atypia.data.phantom.domains.DOMAINS`; None for all.
        progress: Told about drawings and slides.

    Returns:
        The manifest of the mitosis task, its root being ``folder``.

    Raises:
        InputError: A parameter is out of range, or ``folder`` holds something else.
        WorkError: The disk is full or cannot be written.

    >>> write_phantom_slides(Path("slides"), 1, 0.05, figures_per_mm2=60, domains=["rose"])
    <Manifest phantom-slides-0: 5 figures (3 mitotic, 2 look-alike), 1 case, 1 domain>
    """
    if n < 1:
        raise InputError(must("n", "at least 1", n, "pass -n 4"))
    if not LEAST_MM2 <= mm2 <= MOST_MM2:
        raise InputError(must("mm2", f"between {LEAST_MM2:g} and {MOST_MM2:g}", mm2, "pass --mm2 2"))
    for name, value in (("figures_per_mm2", figures_per_mm2), ("look_alikes_per_mm2", look_alikes_per_mm2)):
        if not 0 <= value <= 1000:
            raise InputError(must(name, "between 0 and 1000", value, "give figures by mm²"))
    chosen = [DOMAINS[name] for name in (DOMAINS if domains is None else domains)]
    plans = [
        plan_region(slide, chosen[slide % len(chosen)], seed, mm2, figures_per_mm2, look_alikes_per_mm2)
        for slide in range(n)
    ]
    if not any(plan.figures for plan in plans):
        raise InputError(must("figures", "at least one in the set", "none", "pass a larger --mm2, or more by area"))
    folder = Path(folder).resolve()
    parameters = {
        "n": n, "mm2": mm2, "seed": seed, "renderer": RENDERER_VERSION, "mpp": CROP_MPP, "raters": list(RATERS),
        "figures_per_mm2": figures_per_mm2, "look_alikes_per_mm2": look_alikes_per_mm2,
        "domains": [domain.to_json() for domain in chosen],
    }  # fmt: skip
    with lock(folder / PARAMETERS_NAME):
        _check_folder(folder, parameters)
        write_json(folder / PARAMETERS_NAME, parameters)
        for done, plan in enumerate(plans):
            progress(done, n, "phantom slides")
            _write_slide(folder, plan, progress)
        progress(n, n, "phantom slides")
        note = f"phantom slides {fingerprint(parameters)}, simulated: no clinical truth"
        _figures(plans, folder, (note,))
        rows = [_row(plan, figure, len(chosen), int(figure.mitotic)) for plan in plans for figure in plan.figures]
        manifest = Manifest.from_rows(rows, f"{PHANTOM}-slides-{seed}", r.MITOSIS_TASK, folder, (note,))
        manifest.save(folder / MANIFEST_NAME)
    return manifest


def slide_name(plan: RegionPlan) -> str:
    """Name of a slide, without suffix."""
    return f"{PHANTOM}-{plan.seed}-{plan.domain.name}-slide-{plan.slide:03d}"


def _check_folder(folder: Path, parameters: dict[str, Any]) -> None:
    remedy = "choose another folder, or delete this one"
    path = folder / PARAMETERS_NAME
    others = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    if path.exists():
        if read_json(path) != parameters:
            raise InputError(f"{folder} holds phantom slides with other parameters; fix: {remedy}")
    elif others:
        raise InputError(f"{folder} holds something else than phantom slides; fix: {remedy}")


def _figures(plans: Sequence[RegionPlan], folder: Path, notes: tuple[str, ...]) -> None:
    domains = len({plan.domain.name for plan in plans})
    rows = [
        _row(plan, figure, domains, figure.label, figure.votes)
        for plan in plans
        for figure in plan.figures
        if figure.mitotic
    ]
    if rows:
        named = f"{PHANTOM}-slides-{plans[0].seed}-figures"
        Manifest.from_rows(rows, named, r.ATYPICAL_TASK, folder, notes).save(folder / FIGURES_NAME)


def _row(
    plan: RegionPlan, figure: PlacedFigure, n_domains: int, label: int, votes: Sequence[int] = ()
) -> dict[str, Any]:
    name, domain = slide_name(plan), plan.domain
    row = {
        r.FIGURE_ID: _figure_id(plan, figure),
        r.DATASET: f"{PHANTOM}-slides-{plan.seed}",
        r.IMAGE: f"{SLIDES}/{name}.tif",
        r.X_PX: figure.x_px,
        r.Y_PX: figure.y_px,
        r.CASE_ID: name,
        r.SLIDE_ID: name,
        r.PART: case_part(plan.slide, n_domains),
        r.LABEL: label,
        r.SCANNER: domain.scanner,
        r.ORIGIN: domain.origin,
        r.SPECIES: domain.species,
        r.TUMOUR: domain.tumour,
        r.MPP: float(CROP_MPP),
        r.WIDTH_PX: plan.width_px,
        r.HEIGHT_PX: plan.height_px,
    }
    return {**row, r.VOTES: list(votes)} if votes else row


def _figure_id(plan: RegionPlan, figure: PlacedFigure) -> str:
    return f"{slide_name(plan)}-{plan.figures.index(figure):05d}"


def _write_slide(folder: Path, plan: RegionPlan, progress: Progress) -> None:
    name = slide_name(plan)
    path = folder / SLIDES / f"{name}.tif"
    if not path.is_file():
        write_pyramid(
            path,
            Region(plan, lambda done, total: progress(done, total, "drawings on the slide")).bands(),
            (plan.width_px, plan.height_px),
            float(CROP_MPP),
            plan.domain.jpeg_quality,
        )
    with atomic_file(folder / POINTS / f"{name}.csv", "w") as file:
        lines = CsvLines(file)
        lines.write(("id", "x_px", "y_px", "class", "kind", "atypical"))
        for figure in plan.figures:
            atypical = figure.label if figure.mitotic else None
            x, y = round(figure.x_px, 2), round(figure.y_px, 2)
            lines.write((_figure_id(plan, figure), x, y, CLASS_OF[figure.mitotic], figure.kind, atypical))
