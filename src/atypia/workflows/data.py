"""The work of ``atypia data``: listing, importing, counting, auditing and dividing data sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atypia.base.errors import AbsentError, InputError, must
from atypia.base.process.progress import Progress, silent
from atypia.data.pools import ALL, Picked, open_figures
from atypia.data.sources.opening import source_folder
from atypia.workflows.dividing import Settings, settings_of

if TYPE_CHECKING:
    from atypia.data.audit.report import AuditReport
    from atypia.data.manifest import Manifest
    from atypia.splits.split import Split


def listed_sources(root: Path | None = None) -> list[dict[str, Any]]:
    """The published sources: name, title, task, counts, licence, and the folder of those on this disk."""
    from atypia.data.sources.catalogue import SOURCES

    rows = []
    for name, source in SOURCES.items():
        folder = source_folder(name, root)
        rows.append(
            {
                "name": name,
                "title": source.title,
                "task": source.task,
                "figures": source.expected.total,
                "positive": source.expected.positive,
                "licence": source.licence,
                "folder": str(folder) if folder else None,
            }
        )
    return rows


def get_source(name: str, root: Path | None = None, progress: Progress = silent) -> Manifest:
    """Downloads a published source, resumably, and checks it.

    Raises:
        InputError: No such source, or it cannot be downloaded.
        WorkError: The transfer failed.
    """
    from atypia.data.sources import importing

    return importing.get(name, root, progress)


@dataclass(frozen=True, eq=False)
class ImportedSource:
    """A published source in a folder of the user: its figures, and the folder."""

    manifest: Manifest
    folder: Path


def import_source(
    name: str, folder: Path | None = None, root: Path | None = None, progress: Progress = silent
) -> ImportedSource:
    """Checks a folder in the published layout and remembers where it is; nothing is copied.

    Args:
        name: Of the source.
        folder: Where it is; None for the place below the data root.
        root: Data root; None for the user's setting.
        progress: Told about the images that are checked.

    Raises:
        AbsentError: No folder is given, and there is none below the data root.
        DataError: The content of the folder is not that of the published set.
    """
    from atypia.data.sources import importing

    found = folder or source_folder(name, root)
    if found is None:
        raise AbsentError(f"{name} was not found under the data root; fix: name its folder with --from DIR")
    return ImportedSource(importing.import_folder(name, found, root, progress), found)


@dataclass(frozen=True)
class DescribedSet:
    """A data set's counts, and why figures of it cannot be used.

    Attributes:
        counts: JSON-able: by class, domain, case; ``broken`` holds ids and reasons of figures that cannot be used.
    """

    counts: dict[str, Any]

    @property
    def warnings(self) -> list[str]:
        """Warnings for the user, in words."""
        broken = self.counts["broken"]
        if not broken:
            return []
        first = next(iter(broken.values()))
        return [f"{self.counts['name']}: {len(broken)} of these figures cannot be used; the first: {first}"]

    def domain_counts(self) -> list[tuple[str, str, int, int]]:
        """Set, domain, negatives and positives of each domain."""
        return [(self.counts["name"], d["domain"], d["negative"], d["positive"]) for d in self.counts["domains"]]


def describe_data(reference: str, root: Path | None = None, picked: Picked = ALL) -> DescribedSet:
    """Counts a data set by class and domain, and checks whether its images can be used.

    Args:
        reference: What :func:`atypia.data.sources.opening.open_data` takes.
        root: Data root; None for the user's setting.
        picked: Which of its figures are used, and with which labels.

    Raises:
        InputError: The reference is not a data set.
        AbsentError: It is not on this machine.
    """
    from atypia.data.audit.summary import broken_images, summarise

    manifest = open_figures(reference, root, picked)
    return DescribedSet({**summarise(manifest), "broken": broken_images(manifest), "notes": list(manifest.notes)})


@dataclass(frozen=True)
class DrawnSample:
    """Figures that were drawn for raters.

    Attributes:
        figures: How many.
        cases: Of how many cases.
        counts: Drawn and there, by group.
        file: The manifest.
        warnings: Groups that hold fewer than were asked for; whether the images are not here.
    """

    figures: int
    cases: int
    counts: dict[str, tuple[int, int]]
    file: Path
    warnings: tuple[str, ...]


def sample_data(
    reference: str,
    out: Path,
    each: int,
    by: str = "domain",
    only: Sequence[str] = (),
    without: Sequence[str] = (),
    seed: int = 0,
    root: Path | None = None,
    picked: Picked = ALL,
) -> DrawnSample:
    """Draws figures for raters, the same number of each domain, and saves them without labels.

    Args:
        reference: What :func:`atypia.data.sources.opening.open_data` takes.
        out: Manifest to write (.parquet).
        each: Figures of each domain.
        by: Column whose values are drawn from alike: ``domain``, or ``scanner``, ``origin``, ``species``, ``tumour``.
        only: ``column=value`` that figures must have.
        without: ``column=value`` that they must not have.
        seed: Decides the draw.
        root: Data root; None for the user's setting.
        picked: Which of the set's figures are taken.

    Raises:
        InputError: The reference is no data set, ``out`` exists or is no ``.parquet``, or a column or value is unknown.
        AbsentError: The data set is not on this machine.
    """
    from atypia.data.rating import draw_for_rating

    if out.suffix != ".parquet":
        raise InputError(must("--out", "a .parquet file", str(out), "for instance --out figures.parquet"))
    if out.exists():
        raise InputError(must("--out", "a new file: its figures may be rated already", str(out), "choose another name"))
    drawn = draw_for_rating(open_figures(reference, root, picked), each, by, _pairs(only), _pairs(without), seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    drawn.manifest.save(out)
    cases = len(set(drawn.manifest.cases.tolist()))
    warnings = [*drawn.warnings]
    if drawn.manifest.root is None:
        warnings.append(f"the images of {reference} are not here, so nobody can rate these figures yet; fix: bring the images "
                        "(docs/data.md says from where) and draw again, with the same seed")  # fmt: skip
    return DrawnSample(len(drawn.manifest), cases, drawn.counts, out, tuple(warnings))


def _pairs(texts: Sequence[str]) -> list[tuple[str, str]]:
    found = []
    for text in texts:
        column, there, value = text.partition("=")
        if not there:
            raise InputError(
                must("--only and --without", "column=value", text, 'for instance --without "tumour=melanoma"')
            )
        found.append((column.strip(), value.strip()))
    return found


def write_counts_plot(sets: Sequence[DescribedSet], file: Path) -> None:
    """Draws the counts of data sets by domain and class (.svg or .png).

    Raises:
        InputError: Another suffix.
        AbsentError: matplotlib is not installed.
    """
    from atypia.reports.drawing.data_plots import counts_plot

    counts_plot([row for one in sets for row in one.domain_counts()], file)


def write_contact_sheet(
    reference: str,
    file: Path,
    augment: Sequence[str] = (),
    seed: int = 0,
    root: Path | None = None,
    progress: Progress = silent,
    picked: Picked = ALL,
) -> None:
    """Draws random crops of a data set, plain or each in augmented versions (.png).

    Raises:
        InputError: No such data set or augmentation.
    """
    from atypia.data.audit.summary import augmented_sheet, random_sheet

    if augment:
        augmented_sheet(open_figures(reference, root, picked), augment, file, seed, progress)
    else:
        random_sheet(open_figures(reference, root, picked), file, seed, progress)


def audit_data(
    references: Sequence[str],
    splits: Sequence[Path] = (),
    *,
    near: bool = True,
    root: Path | None = None,
    progress: Progress = silent,
    picked: Picked = ALL,
) -> AuditReport:
    """Searches for unusable images, duplicates, conflicting labels, leakage and contamination.

    Args:
        references: Data sets, as :func:`atypia.data.sources.opening.open_data` takes them.
        splits: Files of saved splits of the first set.
        near: Whether near-duplicates are searched, over flips and rotations.
        root: Data root; None for the user's setting.
        progress: Told about the images that are checked.
        picked: Which figures are used, and with which labels.

    Raises:
        InputError: A reference is not a data set, or a split is of another one.
    """
    from atypia.data.audit.report import audit
    from atypia.splits.split import Split

    manifests = [open_figures(reference, root, picked) for reference in references]
    parts = []
    for path in splits:
        saved = Split.load(path)
        saved.check_manifest(manifests[0])
        parts += [
            (f"{path.stem}/{fold.name}", {"train": fold.train, "val": fold.val, "test": fold.test})
            for fold in saved.folds
        ]
    return audit(manifests, splits=parts, near=near, progress=progress, root=root)


def split_data(
    reference: str,
    out: Path,
    protocol: str = "official",
    settings: Settings = (),
    seed: int = 0,
    root: Path | None = None,
    picked: Picked = ALL,
) -> Split:
    """Divides a data set by a protocol and saves the folds as a file (.json).

    Raises:
        InputError: No such data set or protocol, or folds that cannot be trained.
    """
    from atypia.splits.protocol import make_split

    divided = make_split(protocol, open_figures(reference, root, picked), seed, **settings_of(settings))
    divided.save(out)
    return divided


def phantom_set(out: Path, n: int = 2000, seed: int = 0, progress: Progress = silent) -> dict[str, Any]:
    """Writes a procedural set of H&E crops, with domains, cases and disagreeing votes; gives its counts.

    Raises:
        WorkError: The folder cannot be written.
    """
    from atypia.data.audit.summary import summarise
    from atypia.data.phantom.dataset import write_phantom

    return summarise(write_phantom(out, n, seed, progress=progress))


def phantom_slide_set(
    out: Path,
    n: int = 4,
    mm2: float = 2.0,
    seed: int = 0,
    figures_per_mm2: float = 25.0,
    look_alikes_per_mm2: float = 35.0,
    domains: Sequence[str] | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Writes phantom slides (:func:`atypia.data.phantom.slides.write_phantom_slides`); gives the counts of the set.

    Raises:
        InputError: A parameter is out of range, or the folder holds something else.
        WorkError: The folder cannot be written.
    """
    from atypia.data.audit.summary import summarise
    from atypia.data.phantom.slides import write_phantom_slides

    return summarise(
        write_phantom_slides(
            out, n, mm2, seed, figures_per_mm2=figures_per_mm2, look_alikes_per_mm2=look_alikes_per_mm2,
            domains=domains, progress=progress,
        )
    )  # fmt: skip
