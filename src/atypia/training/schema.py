"""The schema of recipes that train a network: every value has a type, a range and a default."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from atypia.base.config import StrictModel
from atypia.base.records import DEFAULT_THRESHOLD
from atypia.data.images.geometry import CropGeometry

Moment = Annotated[float, Field(ge=0, lt=1)]


class GeometryConfig(StrictModel):
    """How crops are cut; see :class:`atypia.data.images.geometry.CropGeometry`."""

    out_px: int = Field(default=128, ge=16, le=4096)
    side_um: float | None = Field(default=None, gt=0)
    side_px: int | None = Field(default=None, gt=0)

    def build(self) -> CropGeometry:
        """The geometry that the data layer works with."""
        return CropGeometry(self.out_px, self.side_um, self.side_px)


class DecisionConfig(StrictModel):
    """What is fitted on the validation fold after training, and saved in the bundle (docs/decision.md).

    The threshold becomes that of the best balanced accuracy there, in place of the recipe's.
    ``out_of_fold``: output folder of a cross-validation of the same figures by a recipe with a decision; what its
    classifiers give on their own validation parts is fitted on, for a training that has no validation part.
    ``of``: which part of these folds is fitted on. ``test`` is for folds by protocol ``lodo``: the laboratories that
    were left out, so that the decision is one for laboratories that the classifier never saw.
    """

    calibration: Literal["platt", "temperature", "isotonic"] = "platt"
    coverage: float = Field(default=0.9, gt=0, le=0.99)
    novelty: bool = True
    out_of_fold: str | None = None
    of: Literal["validation", "test"] = "validation"


class RecipeBase(StrictModel):
    """What every recipe has.

    Attributes:
        summary: One line for listings.
        backbone: Entry of the backbone catalogue.
        geometry: How crops are cut.
        input_px: Side at which crops enter the backbone; None: the crop's own side, moved to the
            nearest side that the backbone takes.
        threshold: Decision threshold on the probability of the positive class.
        decision: What is fitted on the validation fold; None: the threshold stands as it is.
    """

    summary: str
    backbone: str
    geometry: GeometryConfig = GeometryConfig()
    input_px: int | None = Field(default=None, ge=16, le=4096)
    threshold: float = Field(default=DEFAULT_THRESHOLD, gt=0, lt=1)
    decision: DecisionConfig | None = None


class ProbeRecipe(RecipeBase):
    """A linear head on a frozen backbone, fitted on features.

    Attributes:
        probe: Entry of the probe catalogue.
        options: Options of that probe; the probe's own schema checks them.
    """

    adaptation: Literal["probe"]
    probe: str
    options: dict[str, Any] = Field(default_factory=dict)


class HeadConfig(StrictModel):
    """The classifier on the pooled features: one logit, linear or behind hidden layers."""

    hidden: tuple[Annotated[int, Field(ge=1)], ...] = ()
    dropout: float = Field(default=0.0, ge=0, lt=1)


class LoraConfig(StrictModel):
    """Low-rank adapters in attention and MLP (Hu et al. 2022)."""

    rank: int = Field(default=8, ge=1, le=512)
    alpha: float = Field(default=16.0, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)


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
    """The learning-rate schedule; see :class:`atypia.training.optimisers.Schedule`.

    ``min_lr`` is where the cosines end and what the plateau does not go below. ``one-cycle`` warms
    up by itself.
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


class LossConfig(StrictModel):
    """The main loss.

    ``positive_weight``: a number, or ``observed``: negatives over positives among the figures
    that were drawn, renewed every epoch.
    """

    name: str = "bce"
    soft_labels: bool = False
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    positive_weight: Annotated[float, Field(gt=0)] | Literal["observed"] = 1.0
    gamma: float = Field(default=2.0, ge=0)


class SamplerConfig(StrictModel):
    """Which figures an epoch draws.

    ``uniform``: every figure once, shuffled. ``inverse-class``: with replacement, weight 1/class
    count. ``domain-aware``: with replacement, weights rise for rarer classes and rarer domains.
    ``pseudo-epoch``: a slide, then a positive with probability ``positive_share``.
    ``draws``: figures an epoch; None: as many as there are.
    ``hard_share``: hardest share of the training figures whose weight is multiplied by
    ``hard_factor``, refreshed every epoch (``uniform`` then draws with replacement); 0 turns
    mining off.
    """

    name: Literal["uniform", "inverse-class", "domain-aware", "pseudo-epoch"] = "uniform"
    draws: int | None = Field(default=None, ge=1)
    positive_share: float = Field(default=0.5, gt=0, lt=1)
    hard_share: float = Field(default=0.0, ge=0, lt=1)
    hard_factor: float = Field(default=2.0, ge=1)


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


class AlignmentConfig(StrictModel):
    """Log-variance alignment of domain means; ``ramp``: the weight follows the DANN ramp from 0."""

    weight: float = Field(default=1.0, gt=0)
    ramp: bool = True


class AdversarialConfig(StrictModel):
    """A linear domain head behind a gradient reversal.

    ``bounded``: features are driven on only while the head does better than chance. Unbounded, they overtake
    the head, and the domain can be read off them better than before (docs/results/generalisation.md).
    """

    weight: float = Field(default=0.1, gt=0)
    ramp: bool = True
    bounded: bool = False


class ContrastiveConfig(StrictModel):
    """Multi-Similarity mining feeding the supervised contrastive loss, on the final hidden layer."""

    weight: float = Field(default=0.5, gt=0)
    temperature: float = Field(default=0.1, gt=0)
    epsilon: float = Field(default=0.1, ge=0)


class EmaConfig(StrictModel):
    """An exponential moving average of the network."""

    momentum: float = Field(default=0.999, ge=0, lt=1)
    debias: bool = False


class DistillationConfig(StrictModel):
    """Distillation from the EMA (``teachers`` empty) or from saved classifiers.

    ``teachers``: bundle folders; ``{fold}`` in a path stands for the fold's name, so that each fold learns
    from teachers that never saw its validation figures. ``draw``: teachers that score each batch, drawn
    anew; None: all, by their mean probability. Any number has the mean of all as its expectation.
    """

    weight: float = Field(default=0.5, gt=0)
    temperature: float = Field(default=2.0, gt=0)
    warmup_epochs: float = Field(default=10.0, ge=0)
    teachers: tuple[str, ...] = ()
    draw: int | None = Field(default=None, ge=1)


class SelectConfig(StrictModel):
    """Which epoch is kept: by a validation metric, of the student or of the EMA."""

    metric: Literal["balanced_accuracy", "auroc", "loss"] = "balanced_accuracy"
    of: Literal["student", "ema"] = "student"
    best: bool = True
    patience: int | None = Field(default=None, ge=1)


class NetworkRecipe(RecipeBase):
    """A network trained by gradient descent; every part may be combined with every other.

    A method is used where its section is there.
    ``view``: share of the crop's side that the network sees, from its middle; rotations, shifts and
    scales take what they show from the whole crop.
    ``precision``: ``auto`` takes bf16 on a GPU that has it and fp32 on a CPU.
    """

    adaptation: Literal["full", "lora", "partial"]
    view: float = Field(default=1.0, ge=0.1, le=1)
    epochs: int = Field(default=20, ge=1)
    batch_size: int = Field(default=32, ge=1)
    accumulate: int = Field(default=1, ge=1)
    clip_norm: float | None = Field(default=None, gt=0)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    channels_last: bool = True
    compile: bool = False
    checkpointing: bool = False
    deterministic: bool = True
    train_last_blocks: int = Field(default=2, ge=1)
    drop_path: float = Field(default=0.0, ge=0, lt=1)
    pretrained: bool = True
    augment: str = "none"
    head: HeadConfig = HeadConfig()
    lora: LoraConfig | None = None
    optimiser: OptimiserConfig = OptimiserConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    loss: LossConfig = LossConfig()
    sampler: SamplerConfig = SamplerConfig()
    select: SelectConfig = SelectConfig()
    mixup: MixupConfig | None = None
    mixstyle: MixStyleConfig | None = None
    cbam: bool = False
    alignment: AlignmentConfig | None = None
    adversarial: AdversarialConfig | None = None
    contrastive: ContrastiveConfig | None = None
    ema: EmaConfig | None = None
    distillation: DistillationConfig | None = None

    @model_validator(mode="after")
    def _consistent(self) -> NetworkRecipe:
        if self.select.of == "ema" and self.ema is None:
            raise ValueError("select.of is ema, but there is no `ema` section; fix: add one")
        if self.distillation is not None and not self.distillation.teachers and self.ema is None:
            raise ValueError("distillation has no teachers and there is no `ema` section; fix: add one of them")
        if not self.pretrained and self.adaptation != "full":
            raise ValueError(f"pretrained: false does not go with adaptation {self.adaptation}; fix: adaptation: full")
        if self.lora is not None and self.adaptation != "lora":
            raise ValueError(f"a `lora` section does not go with adaptation {self.adaptation}; fix: adaptation: lora")
        if self.schedule.min_lr >= self.optimiser.lr:
            raise ValueError(f"schedule.min_lr must be below optimiser.lr, {self.optimiser.lr:g}; fix: lower it")
        return self


Recipe = ProbeRecipe | NetworkRecipe
