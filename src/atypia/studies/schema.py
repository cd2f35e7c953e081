"""Study files: models × factors × seeds × protocol on data sets, as strict YAML with three sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from atypia.base.config import StrictModel
from atypia.data.images.shifts import check_shift
from atypia.data.pools import FILTERS

FULL, CPU, SMOKE = "full", "cpu", "smoke"
SIZES: Final = (FULL, CPU, SMOKE)
"""Sizes: as in the paper; with offline backbones and available public data; in minutes on the phantom set."""

FIXED, FITTED = "fixed", "fitted"
DECISIONS: Final = (FIXED, FITTED)
"""Thresholds at which results are reported: the recipe's, or the best one on each run's validation part."""

ADAPTATIONS: Final = ("probe", "full", "lora", "partial")
Adaptation = Literal["probe", "full", "lora", "partial"]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Changes = dict[str, Any]
"""Dotted keys of a recipe and their values."""


def _filter_columns(where: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    unknown = sorted(set(where) - set(FILTERS))
    if unknown:
        raise ValueError(f"no such column to select by: {', '.join(unknown)}; known: {', '.join(FILTERS)}")
    return where


class PhantomConfig(StrictModel):
    """A set of rendered figures.

    Attributes:
        n: Number of figures.
        seed: Seed of the set; sets of different seeds share no figure.
        domains: Names of phantom domains; empty for all.
    """

    n: int = Field(ge=1, le=1_000_000)
    seed: Seed = 0
    domains: tuple[str, ...] = ()


class DataConfig(StrictModel):
    """A data set; a plain string means the value of ``open``.

    Attributes:
        open: In the form of ``atypia train --data``.
        phantom: A set to render, instead.
        where: For each column the values to keep; of the label the names of classes.
        drop_overlap: Of sets that are pooled (``a+b``), figures that an earlier one has too are left out.
        drop_repeats: Repeated crops are left out, with all that carry both labels.
        labels: ``published``, or ``votes``: the majority of the raters where there is one.
        name: Name in tables; None for its own name.
    """

    open: str | None = None
    phantom: PhantomConfig | None = None
    where: Annotated[dict[str, tuple[str, ...]], AfterValidator(_filter_columns)] = Field(default_factory=dict)
    drop_overlap: bool = False
    drop_repeats: bool = False
    labels: Literal["published", "votes"] = "published"
    name: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> DataConfig:
        if (self.open is None) == (self.phantom is None):
            raise ValueError("must have exactly one of `open` and `phantom`")
        return self

    @property
    def shown(self) -> str:
        """Its name in messages before it is opened."""
        return self.name or self.open or "phantom"


def _data(value: Any) -> Any:
    return {"open": value} if isinstance(value, str) else value


def _several(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


Data = Annotated[DataConfig, BeforeValidator(_data)]


class DataSection(StrictModel):
    """What is trained and tested on.

    Attributes:
        train: Training sets; each is used separately.
        tests: Sets on which every classifier is tested, in addition to its protocol's test part.
        shifts: Fixed changes of crops (:data:`atypia.data.images.shifts.SHIFTS`) under which the test part of each
            fold is scored as well.
        allow: Codes of allowed leakage findings.
    """

    train: Annotated[tuple[Data, ...], BeforeValidator(_several), Field(min_length=1)]
    tests: tuple[Data, ...] = ()
    shifts: tuple[Annotated[str, AfterValidator(check_shift)], ...] = ()
    allow: tuple[str, ...] = ()


class ProtocolConfig(StrictModel):
    """How each training set is divided; see ``atypia data split --help``."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)


class Overrides(StrictModel):
    """Changes of recipes by dotted keys.

    Attributes:
        set: In every recipe.
        networks: In recipes that train a network.
        probes: In recipes of probes.
    """

    set: Changes = Field(default_factory=dict)
    networks: Changes = Field(default_factory=dict)
    probes: Changes = Field(default_factory=dict)

    def of(self, adaptation: str) -> Changes:
        """The changes that a recipe of this adaptation gets."""
        return {**self.set, **(self.probes if adaptation == "probe" else self.networks)}


class SyntheticConfig(StrictModel):
    """Generated figures to add to training parts, as with ``atypia synth`` and ``atypia train --add-data``.

    The study trains the generators it needs into the cache, one for each fold and share of positives, on
    that fold's training part only.

    Attributes:
        generator: A generator recipe's name or YAML file; or the folders of generators that are already trained,
            with ``{fold}`` in place of the fold's name.
        set: Changes to the recipe.
        pretrain: Crops for the unlabelled stage; None: each fold's own training part.
        guidance: Strength of classifier-free guidance.
        steps: Denoising steps.
        sampler: ``ddim`` or ``ddpm``.
        ratio: Positives for each negative in the training part.
        add_count: Generated positives that each training part gets, whatever its classes are; None: as ``ratio`` says.
        oversample: Crops generated per crop needed; above 1 if some will be dropped.
        drop_copies: Whether copies of training crops are left out.
        min_p: Least probability of the intended class by a classifier that was trained on the fold's
            training part; None for no minimum.
        judge: Recipe of that classifier.
        judge_set: Changes to that recipe.
    """

    generator: str
    set: Changes = Field(default_factory=dict)
    pretrain: Data | None = None
    guidance: float = Field(default=2.0, ge=0, le=100)
    steps: int = Field(default=50, ge=1)
    sampler: Literal["ddim", "ddpm"] = "ddim"
    ratio: float = Field(default=1.0, gt=0)
    add_count: int | None = Field(default=None, ge=1)
    oversample: float = Field(default=1.0, ge=1, le=20)
    drop_copies: bool = False
    min_p: float | None = Field(default=None, ge=0, le=1)
    judge: str = "probe"
    judge_set: Changes = Field(default_factory=dict)


class ModelConfig(Overrides):
    """Rows of a study's table: a recipe on one or several backbones.

    Attributes:
        recipe: A shipped recipe's name, or the path of a YAML file.
        backbones: Entries of the backbone catalogue; empty for the recipe's own.
        label: Name in tables; ``{backbone}`` and ``{recipe}`` are replaced.
        synthetic: Key of the study's ``synthetic``: figures that are added to training parts; None for none.
        positives: Share of the positives of each training part that is used, for training and generators alike.
    """

    recipe: str
    synthetic: str | None = None
    positives: float = Field(default=1.0, gt=0, le=1)
    backbones: tuple[str, ...] = ()
    label: str = "{recipe} · {backbone}"


class Level(Overrides):
    """One level of a factor.

    Attributes:
        label: What tables call it.
        adaptations: Adaptations that have this level; others leave it out.
    """

    label: str
    adaptations: tuple[Adaptation, ...] = ADAPTATIONS


class Factor(StrictModel):
    """A named list of levels; factors are crossed with each other and with the models."""

    name: str
    levels: tuple[Level, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _distinct(self) -> Factor:
        _no_repeats([level.label for level in self.levels], f"levels of {self.name}")
        return self


class SizeConfig(Overrides):
    """Changes made by a size; other values are those of the study.

    ``set``, ``networks`` and ``probes`` come after the models' and factors' own changes.
    """

    summary: str = ""
    data: DataSection | None = None
    protocol: ProtocolConfig | None = None
    seeds: tuple[Seed, ...] | None = None
    models: tuple[ModelConfig, ...] | None = None
    factors: tuple[Factor, ...] | None = None
    baseline: str | None = None
    synthetic: dict[str, SyntheticConfig] | None = None


class StudyConfig(StrictModel):
    """A study file.

    Attributes:
        name: Its name.
        summary: One line for listings.
        source: The paper and table that it follows.
        data: What is trained and tested on.
        protocol: How training sets are divided.
        seeds: Master seeds; each is a repeat of everything.
        models: Rows of the table.
        factors: Factors that are crossed with the models.
        decisions: At which thresholds results are reported.
        baseline: Label of the model with which others are compared by fold.
        weights: Weights files of the user's, by backbone.
        synthetic: Generated figures that rows can add, by name.
        sizes: Changes made by each size.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    summary: str
    source: str = ""
    data: DataSection
    protocol: ProtocolConfig
    seeds: tuple[Seed, ...] = Field(default=(0,), min_length=1)
    models: tuple[ModelConfig, ...] = Field(min_length=1)
    factors: tuple[Factor, ...] = ()
    decisions: tuple[Literal["fixed", "fitted"], ...] = Field(default=(FIXED,), min_length=1)
    baseline: str | None = None
    weights: dict[str, str] = Field(default_factory=dict)
    synthetic: dict[str, SyntheticConfig] = Field(default_factory=dict)
    sizes: dict[Literal["full", "cpu", "smoke"], SizeConfig] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _distinct(self) -> StudyConfig:
        _no_repeats([factor.name for factor in self.factors], "factors")
        _no_repeats([str(seed) for seed in self.seeds], "seeds")
        _no_repeats(list(self.decisions), "decisions")
        return self

    def sized(self, size: str) -> Sized:
        """The study at a size; the full size needs no entry of its own.

        Raises:
            InputError: The study has no such size.
        """
        from atypia.base.errors import InputError, must

        known: Mapping[str, SizeConfig] = {FULL: SizeConfig(), **self.sizes}
        if size not in known:
            raise InputError(must("size", f"one of {', '.join(known)}", size, f"choose a size of {self.name}"))
        changed = known[size]
        return Sized(
            study=self,
            size=size,
            data=changed.data or self.data,
            protocol=changed.protocol or self.protocol,
            seeds=changed.seeds or self.seeds,
            models=changed.models or self.models,
            factors=self.factors if changed.factors is None else changed.factors,
            baseline=changed.baseline or self.baseline,
            synthetic=self.synthetic if changed.synthetic is None else changed.synthetic,
            changes=Overrides(set=changed.set, networks=changed.networks, probes=changed.probes),
        )


class Sized(StrictModel):
    """A study at one size, ready for planning."""

    study: StudyConfig
    size: str
    data: DataSection
    protocol: ProtocolConfig
    seeds: tuple[Seed, ...]
    models: tuple[ModelConfig, ...]
    factors: tuple[Factor, ...]
    baseline: str | None
    changes: Overrides
    synthetic: dict[str, SyntheticConfig] = Field(default_factory=dict)


def _no_repeats(names: list[str], what: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{what} must differ, {twice[0]!r} is there twice")
