"""Training of networks: one fold after the other, each resumable."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from atypia.backbones.catalogue import BACKBONES, check_input_px, nearest_input_px
from atypia.backbones.weights import locate
from atypia.base import records as r
from atypia.base import runs
from atypia.base.artifacts import fingerprint
from atypia.base.errors import InputError, must
from atypia.base.process.progress import Progress, silent
from atypia.base.seeds import derive_seed
from atypia.data.audit.findings import AuditFinding, raise_leakage
from atypia.data.augment.pipeline import augmentation
from atypia.data.crops.store import CropStore
from atypia.data.manifest import Manifest
from atypia.inference.bundles.bundle import Bundle, load_bundle
from atypia.inference.bundles.packing import unpack
from atypia.inference.classifier import named_model
from atypia.inference.crops import Frame
from atypia.inference.export.compact import whole
from atypia.inference.networks import device_of
from atypia.methods.catalogue import SAMPLERS, TERMS
from atypia.methods.network import NetworkSpec, build_network, check_spec
from atypia.methods.options import TermOptions
from atypia.methods.term import PHASES, NamedPhases
from atypia.splits.split import Fold
from atypia.training.epochs.answers import Figures, mean_answers
from atypia.training.epochs.feed import Feed
from atypia.training.epochs.loop import FoldPlan, LoopResult, run_fold
from atypia.training.epochs.objective import IDLE, Objective, check_domains
from atypia.training.epochs.phases import phases_of, phases_told_apart
from atypia.training.epochs.precision import precision_on
from atypia.training.epochs.rendered import RenderedCrops, leakage_of_rendered, rendered_crops
from atypia.training.epochs.teachers import as_teachers, leakage_of_teachers, load_teachers, teacher_paths
from atypia.training.parts import FoldParts
from atypia.training.schema import NetworkRecipe
from atypia.training.trainer import TrainedFold, TrainingRequest


def network_spec(recipe: NetworkRecipe) -> NetworkSpec:
    """The architecture that a recipe describes.

    Raises:
        InputError: A combination that cannot work.
    """
    entry = BACKBONES[recipe.backbone]
    prepared = recipe.preparation.apart(recipe.backbone)
    side = recipe.input_px
    side = nearest_input_px(entry, recipe.geometry.out_px) if side is None else check_input_px(entry, side)
    spec = NetworkSpec(
        backbone=recipe.backbone,
        input_px=side,
        adaptation=recipe.adaptation,
        hidden=recipe.head.hidden,
        dropout=recipe.head.dropout,
        lora_rank=recipe.lora.rank if recipe.lora else (8 if recipe.adaptation == "lora" else 0),
        lora_alpha=recipe.lora.alpha if recipe.lora else 16.0,
        lora_dropout=recipe.lora.dropout if recipe.lora else 0.0,
        train_last_blocks=recipe.train_last_blocks,
        cbam=recipe.cbam,
        mixstyle_stages=recipe.mixstyle.stages if recipe.mixstyle else (),
        mixstyle_alpha=recipe.mixstyle.alpha if recipe.mixstyle else 0.1,
        mixstyle_probability=recipe.mixstyle.probability if recipe.mixstyle else 0.5,
        checkpointing=recipe.checkpointing,
        drop_path=recipe.drop_path,
        view=recipe.view,
        lora_targets=recipe.lora.targets if recipe.lora else (),
        mean=prepared.mean,
        std=prepared.std,
        pooling=prepared.pooling,
    )
    check_spec(spec)
    return spec


def beginning(init: str, spec: NetworkSpec) -> Bundle:
    """The bundle that a training starts from, with all its weights.

    Raises:
        InputError: It is a probe, or has another architecture than the recipe.
        DataError: It is damaged, or there is none.
    """
    bundle = whole(load_bundle(named_model(init)))
    assert bundle.network is not None  # probes are refused above
    own = NetworkSpec.from_dict(bundle.network)
    differ = [
        key
        for key in ("backbone", "input_px", "view", "hidden", "cbam", "mean", "std", "pooling")
        if getattr(own, key) != getattr(spec, key)
    ]
    if differ:
        said = ", ".join(f"{key} {getattr(own, key)}" for key in differ)
        raise InputError(
            must(f"init {init}", f"of the recipe's {', '.join(differ)}", said, "set the recipe's to these")
        )
    return bundle


def as_tensors(bundle: Bundle) -> dict[str, torch.Tensor]:
    """All weights of a bundle, for :meth:`atypia.methods.network.Network.load_trained`."""
    return {name: torch.from_numpy(np.array(value)) for name, value in unpack(bundle.tensors).items()}


def selecting_by(recipe: NetworkRecipe) -> str:
    """The keys of a recipe that need validation figures during training; empty if none does."""
    needed = {
        "select.best": recipe.select.best,
        "select.patience": recipe.select.patience is not None,
        "swad": recipe.swad is not None,
        "the plateau schedule": recipe.schedule.name == "plateau",
    }
    return " and ".join(name for name, used in needed.items() if used)


def check_validation(recipe: NetworkRecipe, fold: str, figures: int, classes: int) -> None:
    """Refuses a validation part on which the recipe cannot select.

    Args:
        recipe: The recipe.
        fold: Name of the fold.
        figures: Figures of its validation part.
        classes: Classes that occur there.

    Raises:
        InputError: The part lacks a class, or, where the loss alone is looked at, has no figure.
    """
    if selecting_by(recipe) and classes < (1 if recipe.select.metric == "loss" else 2):
        raise InputError(
            must(f"validation part of {fold}", "of both classes", f"{figures} figures of one class or none",
                 f"use a protocol whose folds have one with both classes, or train without {selecting_by(recipe)}")
        )  # fmt: skip


class NetworkTrainer:
    """Trains networks by gradient descent.

    Args:
        job: What is asked for.
        recipe: The job's recipe.
        store: The crops of the job's manifest.
        progress: Told about crops of random places, and of rendered figures.
    """

    def __init__(
        self, job: TrainingRequest, recipe: NetworkRecipe, store: CropStore, progress: Progress = silent
    ) -> None:
        self.job, self.recipe, self.store = job, recipe, store
        self.spec = network_spec(recipe)
        self.parts = FoldParts(job.manifest, store, recipe, progress)
        self.augment = augmentation(recipe.augment, recipe.fill)
        self.device = device_of(job.device)
        self.weights_sha256 = (
            locate(recipe.backbone, job.weights_file).sha256 if recipe.pretrained and recipe.init is None else None
        )
        self.begins_with = None if recipe.init is None else beginning(recipe.init, self.spec)
        self.rendered: dict[str, RenderedCrops] = {
            term.name: rendered_crops(term.rendered, recipe, job.manifest, progress)
            for term in recipe.terms
            if term.rendered is not None
        }
        self._teachers: dict[str, list[Bundle]] = {}

    def teachers(self, fold: Fold) -> list[Bundle]:
        """The frozen teachers of a fold, read once."""
        if fold.name not in self._teachers:
            self._teachers[fold.name] = [
                bundle
                for term in self.recipe.terms
                for bundle in load_teachers(
                    teacher_paths(term.classifiers, fold), self.spec if term.variants is None else None
                )
            ]
        return self._teachers[fold.name]

    def answers(self, fold: Fold, progress: Progress) -> dict[str, torch.Tensor]:
        """Scores of a fold's training figures by the teachers that score them once, by the name of the term."""
        figures = Figures(self.job.manifest, self.store, self.job.manifest.rows_of(fold.train))
        return {
            term.name: mean_answers(self._of_term(fold, term), figures, term.variants, self.device, progress)
            for term in self.recipe.terms
            if term.variants is not None
        }

    def phases(self, fold: Fold) -> NamedPhases | None:
        """Phases of a fold's training figures, where a term of the recipe learns from them."""
        if not self._needs_phases:
            return None
        rows = self.job.manifest.rows_of(fold.train)
        return phases_of(self.job.manifest, rows, len(self.parts.ids), f"the training part of {fold.name}")

    @property
    def _needs_phases(self) -> bool:
        return any(PHASES in TERMS[term.name].needs for term in self.recipe.terms)

    def _of_term(self, fold: Fold, term: TermOptions) -> list[Bundle]:
        """The teachers of one term."""
        before = self.recipe.terms[: self.recipe.terms.index(term)]
        first = sum(len(other.classifiers) for other in before)
        return self.teachers(fold)[first : first + len(term.classifiers)]

    def inputs(self, fold: Fold) -> str:
        """Fingerprint of crops, also rendered ones, backbone weights and teachers."""
        parts = [self.store.fingerprint, self.weights_sha256, [t.fingerprint for t in self.teachers(fold)]]
        begins = [] if self.begins_with is None else [self.begins_with.fingerprint]
        made = [crops.store.fingerprint for crops in self.rendered.values()]
        return fingerprint(*parts, *begins, *self.parts.fingerprints, *made)

    def check(self, folds: Sequence[Fold]) -> list[str]:
        """Refuses teachers that were trained on figures that their student is measured on, and rendered figures that are
        among these, and a fold whose parts lack what the recipe needs; warns about soft labels, where rendered figures differ
        from the crops, and where sets name their phases apart."""
        for fold in folds:  # before the first is trained, which may take a day
            self._check_parts(fold)
        findings: list[AuditFinding] = []
        for fold in folds:
            paths = teacher_paths(self.recipe.classifiers, fold)
            findings += leakage_of_teachers(paths, self.teachers(fold), fold, self.job.manifest)
        warnings = raise_leakage(findings, self.job.allow, f"distilling on {self.job.manifest.name}")
        shared = [
            finding
            for crops in self.rendered.values()
            for fold in folds
            for finding in leakage_of_rendered(crops.manifest, fold, self.job.manifest)
        ]
        warnings += raise_leakage(shared, self.job.allow, f"rendered figures beside {self.job.manifest.name}")
        warnings += [said for crops in self.rendered.values() for said in crops.warnings]
        warnings += phases_told_apart(self.job.manifest) if self._needs_phases else []
        return [*warnings, *(against_labels(self.job.manifest) if self.recipe.loss.soft_labels else ())]

    def _check_parts(self, fold: Fold) -> None:
        _, labels, _ = self.parts.validation(fold, derive_seed(self.job.seed, fold.name))
        check_validation(self.recipe, fold.name, len(labels), len(np.unique(labels)))
        population, domains = self.parts.population(fold.train)
        check_domains(self.recipe, domains, f"training part of {fold.name}")
        # A sampler refuses a lacking class when it is made.
        SAMPLERS[self.recipe.sampler.name](self.recipe.sampler, population, self.job.seed, self.recipe.batch_size)
        self.phases(fold)

    def fit(self, folds: Sequence[Fold], run_ids: Mapping[str, str], progress: Progress) -> Iterator[TrainedFold]:
        """Trains one fold after the other."""
        for fold in folds:
            yield self.fit_one(fold, run_ids[fold.name], progress)

    def fit_one(self, fold: Fold, run_id: str, progress: Progress) -> TrainedFold:
        """Trains one fold, from its checkpoint if there is one."""
        started = time.perf_counter()
        job, recipe = self.job, self.recipe
        population, domains = self.parts.population(fold.train)
        seed = derive_seed(job.seed, fold.name)
        pretrained = recipe.pretrained and self.begins_with is None
        network = build_network(self.spec, job.weights_file, pretrained, derive_seed(seed, "network"))
        if self.begins_with is not None:
            network.load_trained(as_tensors(self.begins_with))
        counts = network.parameter_counts()
        entry = self.spec.entry
        frame = Frame(self.spec.input_px, recipe.view)
        how = (entry, frame, self.augment, self.device, recipe.channels_last)
        made = {name: crops.fed(Feed(crops.store.crops, *how)) for name, crops in self.rendered.items()}
        feed = Feed(self.parts.crops, *how)
        val, val_labels, val_moves = self.parts.validation(fold, seed)
        check_validation(recipe, fold.name, len(val), len(np.unique(val_labels)))
        scoring = [one for term in recipe.terms if term.variants is None for one in self._of_term(fold, term)]
        objective = Objective(
            recipe, network.encoder.feature_dim, domains, as_teachers(scoring, entry),
            derive_seed(seed, "objective"), self.answers(fold, progress), made, self.phases(fold),
        )  # fmt: skip
        plan = FoldPlan(
            fold.name, recipe, feed, population, val, val_labels, self.parts.ids, seed, job.out / fold.name, run_id,
            self.parts.patches(population), val_moves,
        )  # fmt: skip
        outcome = run_fold(plan, network, objective, progress)
        self.write_tensorboard(fold, outcome)
        tensors = {name: value.float().cpu().numpy() for name, value in outcome.network.trained_state().items()}
        info = {**counts, "best_epoch": outcome.best_epoch, "best_score": outcome.best_score, "epochs": len(outcome.history),
                "device": str(self.device), "precision": precision_on(recipe.precision, self.device)}  # fmt: skip
        return TrainedFold(
            fold=fold,
            tensors=tensors,
            network=self.spec.as_dict(),
            weights_sha256=None if recipe.adaptation == "full" else self.weights_sha256,
            input_px=self.spec.input_px,
            # In full precision, as the bundle will be used, whatever the precision of the training.
            logits=lambda rows: feed.logits(outcome.network, rows),
            info=info,
            history=outcome.history,
            seconds=time.perf_counter() - started,
            warnings=idle_terms(fold.name, outcome.history),
            parameters=sum(p.numel() for p in outcome.network.parameters() if p.requires_grad),
        )

    def write_tensorboard(self, fold: Fold, outcome: LoopResult) -> None:
        """Writes the epochs' lines for TensorBoard; a note says if it is not installed."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            said = f"no curves for TensorBoard, which is not installed; they are in {runs.METRICS}, or: pip install tensorboard"
            warnings.warn(said, RuntimeWarning, stacklevel=2)
            return
        with SummaryWriter(str(self.job.out / runs.TENSORBOARD / fold.name)) as writer:
            for line in outcome.history:
                for key, value in line.items():
                    if key != "epoch" and isinstance(value, int | float):
                        writer.add_scalar(key.replace("val_", "val/", 1), value, line["epoch"])


def idle_terms(fold: str, history: Sequence[Mapping[str, Any]]) -> list[str]:
    """One sentence for each term that was 0 in some batches because they had too few domains.

    Args:
        fold: Its name.
        history: Lines of the epochs, with shares named as :data:`atypia.training.epochs.objective.IDLE` says.
    """
    names = sorted({key for line in history for key in line if key.startswith(IDLE)})
    shares = {name.removeprefix(IDLE): float(np.mean([line.get(name, 0.0) for line in history])) for name in names}
    return [
        f"{fold}: {term} had no effect in {share:.0%} of the batches, which held figures of too few known domains; "
        "`sampler: {name: domain-batches}` puts several into each"
        for term, share in shares.items()
        if share > 0
    ]


def against_labels(manifest: Manifest) -> list[str]:
    """A warning if soft labels lie on the other side of 0.5 than their labels: votes that contradict a decision."""
    table = manifest.table
    pairs = zip(table[r.LABEL].to_pylist(), table[r.SOFT_LABEL].to_pylist(), strict=True)
    against = sum(None not in pair and (pair[1] - 0.5) * (pair[0] - 0.5) < 0 for pair in pairs)
    if not against:
        return []
    return [
        f"{against} soft labels lie on the other side of 0.5 than their labels, and the soft ones are trained on; "
        "an export of an earlier Atypia after arbitration has such: export the reviewed manifest anew"
    ]
