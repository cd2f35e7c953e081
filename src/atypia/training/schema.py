"""The schema of recipes: a probe's and a network's; their sections are in :mod:`atypia.training.sections`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, Literal, Self

from pydantic import Field, PrivateAttr, field_validator, model_validator
from pydantic_core import PydanticCustomError

from atypia.backbones.catalogue import BACKBONES, Pooling
from atypia.backbones.preparation import STATISTICS, Preparation
from atypia.base.config import CHOSEN, StrictModel
from atypia.base.errors import must
from atypia.base.records import DEFAULT_THRESHOLD
from atypia.data.augment.options import Fill
from atypia.data.images.shifts import check_shift
from atypia.methods.options import LossOptions, SamplerOptions
from atypia.training.sections import (
    Augment,
    DecisionConfig,
    EmaConfig,
    GeometryConfig,
    HeadConfig,
    LoraConfig,
    Loss,
    MixStyleConfig,
    MixupConfig,
    NormalisationConfig,
    OptimiserConfig,
    PatchesConfig,
    Precision,
    Sampler,
    ScheduleConfig,
    SelectConfig,
    SwaConfig,
    SwadConfig,
    Terms,
)


class RecipeBase(StrictModel):
    """What every recipe has.

    Attributes:
        summary: One line for listings.
        backbone: Entry of the backbone catalogue.
        weights: Which of the backbone's published weights, where there are others than the entry's own; they are an
            entry too, which ``backbone`` then names.
        geometry: How crops are cut.
        input_px: Side at which crops enter the backbone; None: the crop's own side, moved to the
            nearest side that the backbone takes.
        view: Share of the crop's side that the backbone sees, from its middle; rotations, shifts and
            scales take what they show from the whole crop.
        normalisation: ``imagenet``, ``half`` (0.5 and 0.5), or ``mean`` and ``std``; None: of the backbone's weights.
        pooling: ``cls`` (class token), ``cls+mean`` (with the mean of the patch tokens), ``cls+rest`` (with the mean of all
            other tokens, registers too) or, of a network without tokens, ``avg``; None: the catalogue's.
        threshold: Decision threshold on the probability of the positive class.
        decision: What is fitted on the validation fold; None: nothing, the threshold is used as given.
    """

    summary: str
    backbone: str
    weights: str | None = None
    geometry: GeometryConfig = GeometryConfig()
    input_px: int | None = Field(default=None, ge=16, le=4096)
    view: float = Field(default=1.0, ge=0.1, le=1)
    normalisation: Literal["imagenet", "half"] | NormalisationConfig | None = None
    pooling: Pooling | None = None
    threshold: float = Field(default=DEFAULT_THRESHOLD, gt=0, lt=1)
    decision: DecisionConfig | None = None
    _name: str = PrivateAttr("recipe")

    @model_validator(mode="before")
    @classmethod
    def _weights_by_entry(cls, values: Any) -> Any:
        """``weights`` becomes the entry that has them, so that a training has one name however it was asked for."""
        tag, backbone = (values.get("weights"), values.get("backbone")) if isinstance(values, Mapping) else (None, None)
        if not isinstance(tag, str) or not isinstance(backbone, str) or backbone not in BACKBONES:
            return values
        others = dict(BACKBONES[backbone].other_weights)
        if tag not in others:
            known = ", ".join(others) or "none but its own"
            raise PydanticCustomError(
                CHOSEN,
                "{text}",
                {"text": must("weights", f"one of {backbone}'s others ({known})", tag, "leave it out")},
            )
        return {**values, "backbone": others[tag], "weights": None}

    @property
    def preparation(self) -> Preparation:
        """How crops enter the backbone, and which of its outputs is used."""
        given = self.normalisation
        named = (None, None) if given is None else (
            STATISTICS[given] if isinstance(given, str) else (given.mean, given.std)
        )  # fmt: skip
        return Preparation(*named, self.pooling, self.view)

    @property
    def name(self) -> str:
        """Its name in tables: that of its file, if :func:`atypia.workflows.opening.load_recipe` opened it."""
        return self._name

    def named(self, name: str) -> Self:
        """The same recipe with a name, which has no effect on the training."""
        copy = self.model_copy()
        copy._name = name
        return copy

    def __repr__(self) -> str:
        adaptation = getattr(self, "adaptation", "")
        return (
            f"<Recipe {self.name}: {adaptation} of {self.backbone}, crops of {self.geometry.out_px} px; {self.summary}>"
        )

    def __str__(self) -> str:
        return repr(self)


VIEW_COPY: Final = "view-"


def copied_view(name: str) -> float | None:
    """The share of the crop's side of a copy ``view-SHARE``; None for other copies.

    >>> copied_view("view-0.5"), copied_view("blur")
    (0.5, None)
    """
    if not name.startswith(VIEW_COPY):
        return None
    try:
        share = float(name.removeprefix(VIEW_COPY))
    except ValueError:
        share = math.nan
    if not 0 < share <= 1:
        raise ValueError(must("copies", "view-SHARE with a share above 0 and at most 1", name, "for instance view-0.5"))
    return share


class ProbeRecipe(RecipeBase):
    """A linear head on a frozen backbone, fitted on features.

    Attributes:
        probe: Entry of the probe catalogue.
        options: Options of that probe; the probe's own schema checks them.
        copies: Further looks of each training figure, which the head is fitted on as well: fixed changes
            (:data:`atypia.data.images.shifts.SHIFTS`) or ``view-SHARE``, the middle of the crop. Validation and test
            figures are not copied.
    """

    adaptation: Literal["probe"]
    probe: str
    options: dict[str, Any] = Field(default_factory=dict)
    copies: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _without_terms(cls, values: Any) -> Any:
        """Says why a probe takes no terms, where a list of its keys would not."""
        if isinstance(values, Mapping) and values.get("terms"):
            said = must(
                "terms", "absent where features are frozen, as no term could change them", "some",
                "adaptation: lora (or full) with a network's recipe, or drop them",
            )  # fmt: skip
            raise PydanticCustomError(CHOSEN, "{text}", {"text": said})
        return values

    @field_validator("copies")
    @classmethod
    def _known_copies(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            _ = copied_view(name) is None and check_shift(name)
        if len(set(names)) < len(names):
            raise ValueError("must not name a copy twice")
        return names


class NetworkRecipe(RecipeBase):
    """A network trained by gradient descent; every part may be combined with every other.

    A method is used if its section is given; ``terms`` are added to the main loss, and each is changed by its
    name: ``--set terms.irm.weight=10``.
    ``fill``: what spatial augmentation shows beyond the border of the crop: its reflection, or black.
    ``precision``: ``auto`` takes bf16 where the hardware multiplies in it (GPU, AMX, AMD with AVX-512), else fp32.
    ``init``: a bundle's folder or a shipped model's name, whose network training begins with (adaptation full).
    """

    adaptation: Literal["full", "lora", "partial"]
    epochs: int = Field(default=20, ge=1)
    batch_size: int = Field(default=32, ge=1)
    accumulate: int = Field(default=1, ge=1)
    clip_norm: float | None = Field(default=None, gt=0)
    precision: Precision = "auto"
    channels_last: bool = True
    compile: bool = False
    checkpointing: bool = False
    deterministic: bool = True
    train_last_blocks: int = Field(default=2, ge=1)
    drop_path: float = Field(default=0.0, ge=0, lt=1)
    pretrained: bool = True
    init: str | None = None
    augment: Augment = "none"
    fill: Fill = "reflect"
    head: HeadConfig = HeadConfig()
    lora: LoraConfig | None = None
    optimiser: OptimiserConfig = OptimiserConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    loss: Loss = LossOptions()
    sampler: Sampler = SamplerOptions()
    patches: PatchesConfig | None = None
    select: SelectConfig = SelectConfig()
    mixup: MixupConfig | None = None
    mixstyle: MixStyleConfig | None = None
    cbam: bool = False
    terms: Terms = ()
    ema: EmaConfig | None = None
    swa: SwaConfig | None = None
    swad: SwadConfig | None = None

    @model_validator(mode="after")
    def _consistent(self) -> NetworkRecipe:
        share = getattr(self.sampler, "random_share", None)
        if self.patches is None and share:
            raise ValueError("sampler.random_share needs a `patches` section; fix: add one, or set it to 0")
        if self.patches is not None and share is None:
            raise ValueError(f"`patches` does not go with sampler {self.sampler.name}; fix: sampler: pseudo-epoch")
        if self.patches is not None and (most := (1 / self.view - 1) / 2) < self.patches.jitter - 1e-9:
            raise ValueError(
                f"patches.jitter must be at most {most:.3g}, what view {self.view:g} leaves beside a patch, got "
                f"{self.patches.jitter:g}; fix: a smaller view with a larger geometry.side_px"
            )
        if self.patches is not None and any(term.variants is not None for term in self.terms):
            raise ValueError(
                "`patches` does not go with teachers that are asked once; fix: terms.distillation.asked=null"
            )
        if self.select.of == "ema" and self.ema is None:
            raise ValueError("select.of is ema, but there is no `ema` section; fix: add one")
        if (self.select.of == "average") != ((self.swa is None) != (self.swad is None)):
            raise ValueError(
                "select.of: average goes with one of `swa` and `swad`; fix: set it and one of them, or neither"
            )
        names = [term.name for term in self.terms]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"terms must differ, {twice[0]} is there twice; fix: leave one")
        for term in self.terms:
            if fault := term.fault(averages=self.ema is not None):
                raise ValueError(fault)
        if not self.pretrained and self.adaptation != "full":
            raise ValueError(f"pretrained: false does not go with adaptation {self.adaptation}; fix: adaptation: full")
        if self.init is not None and self.adaptation != "full":
            raise ValueError(f"init does not go with adaptation {self.adaptation}; fix: adaptation: full")
        if self.lora is not None and self.adaptation != "lora":
            raise ValueError(f"a `lora` section does not go with adaptation {self.adaptation}; fix: adaptation: lora")
        if self.schedule.min_lr >= self.optimiser.lr:
            raise ValueError(f"schedule.min_lr must be below optimiser.lr, {self.optimiser.lr:g}; fix: lower it")
        return self

    @property
    def classifiers(self) -> tuple[str, ...]:
        """Folders of the saved classifiers that the terms learn from, in their order."""
        return tuple(folder for term in self.terms for folder in term.classifiers)


Recipe = ProbeRecipe | NetworkRecipe
