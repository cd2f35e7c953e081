"""Sections of recipes: every value has a type, a range and a default."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SerializeAsAny, model_validator

from atypia.base.config import StrictModel, as_named_list, chosen
from atypia.data.augment.options import StepOptions
from atypia.data.images.geometry import REFUSED, CropGeometry
from atypia.data.images.stain import check_stain
from atypia.methods.options import LossOptions, SamplerOptions, TermOptions

Moment = Annotated[float, Field(ge=0, lt=1)]
Precision = Literal["auto", "fp32", "bf16"]


class GeometryConfig(StrictModel):
    """How crops are cut; see :class:`atypia.data.images.geometry.CropGeometry`."""

    out_px: int = Field(default=128, ge=16, le=4096)
    side_um: float | None = Field(default=None, gt=0)
    side_px: int | None = Field(default=None, gt=0)
    outside: Literal["refuse", "mirror"] = REFUSED
    stain: Annotated[str, AfterValidator(check_stain)] | None = None

    def build(self) -> CropGeometry:
        """The same as an object of the data layer."""
        return CropGeometry(self.out_px, self.side_um, self.side_px, self.outside, self.stain)


class RiskConfig(StrictModel):
    """An error whose expected rate on new figures the threshold limits: conformal risk control.

    Attributes:
        of: ``missed``: atypical figures called normal; ``false-alarms``: normal ones called atypical.
        at_most: The limit, in (0, 1).
    """

    of: Literal["missed", "false-alarms"] = "missed"
    at_most: float = Field(default=0.1, gt=0, lt=1)


class DecisionConfig(StrictModel):
    """What is fitted on the validation fold after training, and saved in the bundle (docs/decision.md).

    The threshold becomes that of the best balanced accuracy there, in place of the recipe's.
    ``out_of_fold``: output folder of a cross-validation of the same figures by a recipe with a decision; what its
    classifiers give on their own validation parts is fitted on, for a training that has no validation part.
    ``of``: which part of these folds is fitted on. ``test`` is for folds by protocol ``lodo``: the laboratories that
    were left out, so that the decision is one for laboratories that the classifier never saw.
    ``laboratories``: output folder of a training like this one with protocol ``lodo``; how much the laboratories that it
    left out differ is kept as the prior of ``atypia calibrate`` (docs/calibrate.md), and what its classifiers gave there for the
    corrected rate (docs/rate.md).
    ``risk``: the threshold is the one that keeps this error within its limit, instead of the best balanced accuracy's.
    """

    calibration: Literal["platt", "temperature", "isotonic"] = "platt"
    coverage: float = Field(default=0.9, gt=0, le=0.99)
    novelty: bool = True
    out_of_fold: str | None = None
    of: Literal["validation", "test"] = "validation"
    laboratories: str | None = None
    risk: RiskConfig | None = None


Channel = Annotated[float, Field(ge=0, le=1)]


Deviation = Annotated[float, Field(gt=0, le=1)]


class NormalisationConfig(StrictModel):
    """Mean and standard deviation of red, green and blue in [0, 1]."""

    mean: tuple[Channel, Channel, Channel]
    std: tuple[Deviation, Deviation, Deviation]


class HeadConfig(StrictModel):
    """The classifier on the pooled features: one logit, linear or behind hidden layers."""

    hidden: tuple[Annotated[int, Field(ge=1)], ...] = ()
    dropout: float = Field(default=0.0, ge=0, lt=1)


class LoraConfig(StrictModel):
    """Low-rank adapters in attention and MLP (Hu et al. 2022).

    ``targets``: the maps that are adapted, of ``q``, ``k``, ``v``, ``qkv`` (all three by one adapter, as timm keeps them),
    ``proj`` (the attention's output) and ``mlp``; none: ``qkv``, ``proj`` and ``mlp``.
    """

    rank: int = Field(default=8, ge=1, le=512)
    alpha: float = Field(default=16.0, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: tuple[Literal["q", "k", "v", "qkv", "proj", "mlp"], ...] = ()

    @model_validator(mode="after")
    def _apart(self) -> LoraConfig:
        if "qkv" in self.targets and {"q", "k", "v"} & set(self.targets):
            raise ValueError("lora.targets has qkv and a part of it; fix: leave one")
        return self


class OptimiserConfig(StrictModel):
    """The optimiser. ``weight_decay`` is L2 in Adam and NAdam, decoupled in AdamW."""

    name: Literal["adam", "adamw", "nadam", "sgd"] = "adamw"
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    betas: tuple[Moment, Moment] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    head_lr_factor: float = Field(default=1.0, gt=0)
    decay_norms: bool = True


class ScheduleConfig(StrictModel):
    """The learning-rate schedule; see :class:`atypia.training.epochs.optimisers.Schedule`.

    ``min_lr`` is the final rate of the cosines and the lowest rate of the plateau. ``one-cycle`` has its own
    warm-up.
    """

    name: Literal["constant", "one-cycle", "cosine", "cosine-restarts", "plateau"] = "cosine"
    warmup_epochs: float = Field(default=0.0, ge=0)
    min_lr: float = Field(default=0.0, ge=0)
    peak_at: float = Field(default=0.3, gt=0, lt=1)
    restart_epochs: int = Field(default=5, ge=1)
    factor: float = Field(default=0.5, gt=0, lt=1)
    patience: int = Field(default=3, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> ScheduleConfig:
        if self.name == "one-cycle" and (self.warmup_epochs or self.min_lr):
            raise ValueError("one-cycle has its own warm-up and end; fix: leave warmup_epochs and min_lr out")
        return self


def _loss(value: Any) -> Any:
    from atypia.methods.catalogue import LOSSES

    return chosen(value, LossOptions, lambda name: LOSSES[name].Options, "loss", "loss", "bce")


Loss = Annotated[SerializeAsAny[LossOptions], BeforeValidator(_loss)]


def _sampler(value: Any) -> Any:
    from atypia.methods.catalogue import SAMPLERS

    return chosen(value, SamplerOptions, lambda name: SAMPLERS[name].Options, "sampler", "sampler", "uniform")


Sampler = Annotated[SerializeAsAny[SamplerOptions], BeforeValidator(_sampler)]


class MixupConfig(StrictModel):
    """MixUp of images and labels; ``across_domains`` draws partners from other domains."""

    alpha: float = Field(default=0.2, gt=0)
    probability: float = Field(default=1.0, ge=0, le=1)
    across_domains: bool = False


class MixStyleConfig(StrictModel):
    """MixStyle after these stages of the backbone (0 is the first)."""

    stages: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(0, 1), min_length=1)
    alpha: float = Field(default=0.1, gt=0)
    probability: float = Field(default=0.5, ge=0, le=1)


def _terms(value: Any) -> Any:
    """Validates each term by the schema of its own options; a list, or a mapping by name."""
    value = as_named_list(value)
    if not isinstance(value, list | tuple):
        return value
    from atypia.methods.catalogue import TERMS

    return tuple(
        chosen(item, TermOptions, lambda name: TERMS[name].Options, "term", f"terms.{place}")
        for place, item in enumerate(value)
    )


Terms = Annotated[tuple[SerializeAsAny[TermOptions], ...], BeforeValidator(_terms)]


class EmaConfig(StrictModel):
    """An exponential moving average of the network."""

    momentum: float = Field(default=0.999, ge=0, lt=1)
    debias: bool = False


def _augment(value: Any) -> Any:
    if isinstance(value, str) or not isinstance(value, list | tuple):
        return value
    from atypia.data.augment.steps import STEPS

    return tuple(
        chosen(item, StepOptions, lambda name: STEPS[name].Options, "augmentation step", f"augment.{place}")
        for place, item in enumerate(value)
    )


Augment = Annotated[str | tuple[SerializeAsAny[StepOptions], ...], BeforeValidator(_augment)]


class SwaConfig(StrictModel):
    """Mean of the weights after each epoch that ends beyond this share of the training (Izmailov et al. 2018)."""

    start: float = Field(default=0.75, ge=0, lt=1)


class SwadConfig(StrictModel):
    """Dense averaging between the epochs in which validation loss stops falling and rises (Cha et al. 2021).

    ``converge``, ``tolerance``, ``ratio``: N_s, N_e and r of :class:`atypia.methods.averaging.Swad`.
    """

    converge: int = Field(default=3, ge=1)
    tolerance: int = Field(default=6, ge=1)
    ratio: float = Field(default=1.3, ge=1)


class PatchesConfig(StrictModel):
    """Training patches around moved centres, and random places, of figures on slides (Ammeling et al.).

    The crop store holds a larger field, of which ``view`` is one patch: a moved patch shows the tissue beside it. A patch is
    positive where the centre of any positive of the training part lies inside it.

    Attributes:
        jitter: Centres move by up to ± this share of the patch's side, on each axis.
        places: Random places in all, equally many on each slide, cut once for all runs; the sampler ``pseudo-epoch``
            draws them (``random_share``).
    """

    jitter: float = Field(default=0.1, ge=0, le=0.5)
    places: int = Field(default=8192, ge=1, le=1_000_000)


class SelectConfig(StrictModel):
    """Which weights are kept: of the best epoch by a validation metric, of the student or of the EMA; or an average.

    ``of: average`` keeps what `swa` or `swad` averages; the metric then drives schedule and patience alone.
    ``over``: the validation part's figures as they are; or a draw of the recipe's sampler from them, one for all epochs,
    with moved centres where there are ``patches`` (the published code of Ammeling et al.).
    """

    metric: Literal["balanced_accuracy", "auroc", "loss"] = "balanced_accuracy"
    of: Literal["student", "ema", "average"] = "student"
    best: bool = True
    patience: int | None = Field(default=None, ge=1)
    over: Literal["figures", "pseudo-epoch"] = "figures"
