"""The work of ``atypia synth``: train generators, sample from them, score the samples."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from atypia.base.errors import AbsentError, InputError, must
from atypia.base.extras import NETWORKS, require
from atypia.base.process.progress import Progress, silent
from atypia.workflows.dividing import Settings, chosen_split

if TYPE_CHECKING:
    from atypia.data.manifest import Manifest
    from atypia.splits.split import Split
    from atypia.studies.findings.synthetic_gain import SyntheticGain
    from atypia.synthesis.generator import Generator
    from atypia.synthesis.sampling import SamplingRequest

GAINS_FILE: Final = "gains.parquet"
GAINS_FOLDER: Final = "gains"


@dataclass(frozen=True)
class GeneratorRun:
    """The result of a training of generators.

    Attributes:
        out: Its folder, one folder per generator.
        generators: All generators.
        trained: Names of those that were trained now; the others were complete.
        warnings: What its samples have to say.
        seconds: Wall time.
    """

    out: Path
    generators: tuple[Generator, ...]
    trained: tuple[str, ...]
    warnings: tuple[str, ...]
    seconds: float

    @property
    def kept(self) -> int:
        """Generators that were complete from an earlier call."""
        return len(self.generators) - len(self.trained)


def train_generator(
    recipe: str,
    out: Path,
    *,
    data: str | None = None,
    overrides: Sequence[str] = (),
    protocol: str = "official",
    protocol_settings: Settings = (),
    split: Split | Path | None = None,
    pretrain: str | None = None,
    pretrain_where: Sequence[str] = (),
    start: Path | None = None,
    positives: float = 1.0,
    folds: Sequence[str] = (),
    seed: int = 0,
    allow: Sequence[str] = (),
    device: str = "auto",
    root: Path | None = None,
    progress: Progress = silent,
) -> GeneratorRun:
    """Trains generators: unlabelled first, then class-conditional on each fold's training part alone.

    Args:
        recipe: A shipped generator recipe's name, or the path of a YAML file.
        out: Output folder; the same call continues there.
        data: Labelled figures: one generator per fold; None trains the unlabelled stage alone.
        overrides: Changes of the recipe, ``key=value``.
        protocol: How the labelled figures are divided.
        protocol_settings: The protocol's options.
        split: A saved split, instead of a protocol.
        pretrain: Crops for the unlabelled stage, of other cases; None for each fold's own.
        pretrain_where: ``column=value``: of those crops the ones with this value (several of a column: with any of
            them), for instance ``label=mitotic``.
        start: A trained generator's folder to start from.
        positives: Share of the positives of each training part that is used, in [0, 1].
        folds: Train for these folds only; empty for all.
        seed: Master seed.
        allow: Leakage findings that are named as exceptions.
        device: ``auto``, ``cpu`` or ``cuda``.
        root: Data root; None for the user's setting.
        progress: Told about crops and steps.

    Raises:
        InputError: The recipe, protocol or an option is not valid, or ``out`` holds another training.
        AbsentError: The data are not on this machine.
        LeakageError: Crops of the unlabelled stage share cases with a fold's validation or test part.
    """
    require("`atypia synth train`", *NETWORKS, "diffusers")
    from atypia.data.audit.findings import check_codes
    from atypia.data.sources.opening import open_data
    from atypia.splits.split import Split
    from atypia.synthesis.schema import load_generator_recipe
    from atypia.synthesis.training.train import Synthesis, train_generators
    from atypia.training.additions import subset_of_positives

    started = time.perf_counter()
    name, loaded = load_generator_recipe(recipe, overrides)
    labelled = divided = None
    if data is not None:
        chosen = chosen_split(protocol, protocol_settings, split, seed)
        labelled = open_data(data, root)
        divided = chosen if isinstance(chosen, Split) else chosen(labelled)
        divided = subset_of_positives(divided, labelled, positives, seed)
    job = Synthesis(
        name=name,
        recipe=loaded,
        out=out,
        manifest=labelled,
        split=divided,
        pretrain=_unlabelled(pretrain, pretrain_where, root),
        start=start,
        folds=tuple(folds),
        seed=seed,
        allow=check_codes(allow),
        device=device,
    )
    made = train_generators(job, progress)
    seconds = time.perf_counter() - started
    return GeneratorRun(out, tuple(made.generators), tuple(made.trained), tuple(made.warnings), seconds)


def _unlabelled(reference: str | None, where: Sequence[str], root: Path | None) -> Manifest | None:
    """The crops of the unlabelled stage."""
    from atypia.data.pools import Picked, filters_of, open_figures

    if where and reference is None:
        raise InputError(must("pretrain_where", "with --pretrain", where[0], "name the set of crops"))
    return None if reference is None else open_figures(reference, root, Picked(where=filters_of(where)))


@dataclass(frozen=True, eq=False)
class SampledSet:
    """A set of generated crops, and how long it took."""

    folder: Path
    manifest: Manifest
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """JSON-able: folder, number of figures, fingerprint."""
        return {
            "folder": str(self.folder),
            "figures": len(self.manifest),
            "fingerprint": self.manifest.fingerprint,
        }


def wanted_samples(
    *,
    normal: int | None = None,
    atypical: int | None = None,
    unlabelled: int = 0,
    guidance: float = 2.0,
    steps: int = 50,
    sampler: str = "ddim",
    seed: int = 0,
    batch: int = 64,
) -> SamplingRequest:
    """What is to be sampled, checked.

    Args:
        normal: Crops of class 0; None for none.
        atypical: Crops of class 1; None for as many as make the classes equal.
        unlabelled: Crops that are told no class.
        guidance: 1 follows the class, more exaggerates it.
        steps: Denoising steps.
        sampler: ``ddim`` or ``ddpm``.
        seed: Decides the crops.
        batch: Crops drawn at once.

    Raises:
        InputError: No such sampler.
    """
    from atypia.synthesis.model.diffusion import SamplingConfig
    from atypia.synthesis.sampling import SamplingRequest

    how = SamplingConfig(guidance, steps, cast("Literal['ddim', 'ddpm']", sampler))
    return SamplingRequest(normal, atypical, unlabelled, how, seed, batch)


def sample_generators(
    generator: Path, out: Path, wanted: SamplingRequest, device: str = "auto", progress: Progress = silent
) -> Iterator[SampledSet]:
    """Writes generated crops as ordinary data sets: PNG files and a manifest with their origin.

    Args:
        generator: A generator's folder, or one that holds a folder a fold: then each gives a set below ``out``.
        out: The set's folder; the same call continues there.
        wanted: What :func:`wanted_samples` gives.
        device: ``auto``, ``cpu`` or ``cuda``.
        progress: Told about the crops.

    Yields:
        Each set, as soon as it is complete.
    """
    require("`atypia synth sample`", *NETWORKS, "diffusers")
    from atypia.synthesis.sampling import sample_set

    for made, folder in _generators(generator, out):
        started = time.perf_counter()
        manifest = sample_set(made, folder, wanted, device, progress)
        yield SampledSet(folder, manifest, time.perf_counter() - started)


@dataclass(frozen=True)
class ScoredSamples:
    """How good generated crops are.

    Attributes:
        values: The measures, JSON-able.
        text: The same, for people.
        files: The report: JSON, text, and a picture of crops if there is one.
        kept: Which crops passed, and why the others did not; empty if none were to be kept.
        folder: Where those that passed are; None if none were to be kept.
    """

    values: dict[str, Any]
    text: str
    files: tuple[Path, ...]
    kept: str = ""
    folder: Path | None = None


def score_samples(
    samples: Path,
    data: str,
    *,
    backbone: str = "efficientnet-lite0",
    bundles: Sequence[Path] = (),
    out: Path | None = None,
    keep: Path | None = None,
    drop_copies: bool = False,
    min_p: float | None = None,
    seed: int = 0,
    root: Path | None = None,
    progress: Progress = silent,
) -> ScoredSamples:
    """FID, KID, precision, recall, density, coverage, copies of training crops, and label fidelity.

    Args:
        samples: A folder of generated crops.
        data: Real figures: those that the generator was trained on.
        backbone: Whose features are compared.
        bundles: Classifiers that judge the class.
        out: Folder of the report; None for ``samples``.
        keep: Folder to write the crops that pass to, as a set; None writes none.
        drop_copies: Copies of training crops do not pass.
        min_p: Least probability of the intended class to pass, in [0, 1].
        seed: Of what is drawn for the measures.
        root: Data root; None for the user's setting.
        progress: Told about crops and features.

    Raises:
        InputError: ``drop_copies`` or ``min_p`` without ``keep``, or data that do not go together.
        AbsentError: Data or weights are not here.
    """
    require("`atypia synth score`", *NETWORKS)
    from atypia.data.sources.opening import open_data
    from atypia.synthesis.measures.score import ScoreJob, kept_rows, open_samples, score_set, score_text, write_score
    from atypia.synthesis.measures.subset import reason, write_subset

    if (drop_copies or min_p is not None) and keep is None:
        raise InputError(
            must("keep", "given where crops are to be left out", "none", "name a folder for those that pass")
        )
    made, real = open_samples(samples), open_data(data, root)
    found = score_set(ScoreJob(made, real, backbone, tuple(bundles), seed), progress)
    files = write_score(found, out or samples)
    why = ""
    if keep is not None:
        kept = kept_rows(found, made, drop_copies, min_p)
        why = reason(kept, drop_copies, min_p)
        judges = found.judgements if min_p is not None else ()
        write_subset(made, kept, found.seen, judges, keep, why)
    return ScoredSamples(found.values, score_text(found.values), files, why, keep)


@dataclass(frozen=True)
class StudyGains:
    """What generated figures gain in a study.

    Attributes:
        gains: One a row, data set, part and metric.
        table: File of the gains.
        plots: Files of the plots; empty if they could not be drawn.
        warnings: Why they could not.
    """

    gains: tuple[SyntheticGain, ...]
    table: Path
    plots: tuple[Path, ...]
    warnings: tuple[str, ...]


def gains_of_study(study: Path, metrics: Sequence[str] | None = None) -> StudyGains:
    """What generated figures gain in a study: paired folds, with minus without, by number of positives.

    Args:
        study: The folder of a study that adds generated figures.
        metrics: Names of metrics; None for the usual ones.

    Raises:
        InputError: The study adds no figures, or no pair of its runs is complete.
    """
    import pyarrow.parquet as pq

    from atypia.base.artifacts import atomic_file
    from atypia.reports.drawing.plot_files import write_plots
    from atypia.reports.study.synthetic_gain_plots import synthetic_gain_plots
    from atypia.studies.findings.synthetic_gain import METRICS, synthetic_gains, synthetic_gains_table

    found = synthetic_gains(study, metrics or METRICS)
    table = study / GAINS_FILE
    with atomic_file(table) as file:
        pq.write_table(synthetic_gains_table(found), file)
    try:
        plots, warnings = tuple(write_plots(synthetic_gain_plots(found), study / GAINS_FOLDER)), ()
    except AbsentError as error:  # tables do not wait for matplotlib, as in a study's report
        plots, warnings = (), (str(error),)
    return StudyGains(tuple(found), table, plots, warnings)


def _generators(folder: Path, out: Path) -> list[tuple[Generator, Path]]:
    """The generator of a folder, or those of all folds in it, and where each one's samples go."""
    from atypia.base.runs import natural_key
    from atypia.synthesis.generator import META, load_generator

    if not (folder / META).is_file():
        inside = sorted((path.parent for path in folder.glob(f"*/{META}")), key=lambda path: natural_key(path.name))
        folds = [one for one in map(load_generator, inside) if one.facts.fold]
        if folds:
            return [(one, out / str(one.facts.fold)) for one in folds]
    return [(load_generator(folder), out)]
