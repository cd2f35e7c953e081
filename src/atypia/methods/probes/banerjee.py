"""The probe of Banerjee et al.: one logit by Adam, weighted sampling, early stopping on the fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from pydantic import Field
from threadpoolctl import threadpool_limits

from atypia.base.config import StrictModel
from atypia.base.errors import InputError, must
from atypia.base.process.progress import Progress
from atypia.base.seeds import generator
from atypia.methods.catalogue import PROBES
from atypia.methods.head import FeatureRows, LinearHead, Probe, ProbeData, inverse_class_weights, sigmoid
from atypia.statistics.metrics import balanced_accuracy

BETAS, EPSILON = (0.9, 0.999), 1e-8


class BanerjeeProbeOptions(StrictModel):
    """Options of the probe; the defaults are the paper's (section 4).

    Attributes:
        lr: Initial rate of Adam.
        weight_decay: L2 term, added to the gradient.
        batch_size: Figures a step.
        epochs: At most this many.
        patience: Epochs without a better validation BA after which the fold stops.
        plateau_factor: Factor of the rate on a plateau.
        plateau_patience: Epochs without a better score before the rate is reduced.
        min_lr: Lowest rate.
    """

    lr: float = Field(default=5e-5, gt=0)
    weight_decay: float = Field(default=1e-5, ge=0)
    batch_size: int = Field(default=8, ge=1)
    epochs: int = Field(default=100, ge=1)
    patience: int = Field(default=15, ge=1)
    plateau_factor: float = Field(default=0.5, gt=0, lt=1)
    plateau_patience: int = Field(default=3, ge=0)
    min_lr: float = Field(default=1e-7, ge=0)


@dataclass
class Plateau:
    """Halves the rate when a score stops rising: ``ReduceLROnPlateau`` with mode ``max`` and its defaults.

    A score counts as better if it exceeds ``best · (1 + 1e-4)``; the rate is reduced after more than
    ``patience`` consecutive epochs without a better score, and only if it changes by more than 1e-8.
    """

    lr: float
    factor: float
    patience: int
    min_lr: float
    best: float = -np.inf
    bad: int = 0

    def step(self, score: float) -> None:
        """Takes the score of an epoch."""
        better = score > self.best * (1 + 1e-4) if np.isfinite(self.best) else True
        if better:
            self.best, self.bad = score, 0
        else:
            self.bad += 1
        if self.bad > self.patience:
            lower = max(self.lr * self.factor, self.min_lr)
            if self.lr - lower > 1e-8:
                self.lr = lower
            self.bad = 0


@dataclass
class FoldFit:
    """One fold's state: parameters, Adam's moments, schedule and the best epoch."""

    key: str
    train: npt.NDArray[np.int64]
    val: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64]
    weight: npt.NDArray[np.float64]
    plateau: Plateau
    moments: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
    steps: int = 0
    best: npt.NDArray[np.float64] | None = None
    best_score: float = -np.inf
    best_epoch: int = -1
    stale: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


class BanerjeeProbe(Probe[BanerjeeProbeOptions]):
    """Binary cross-entropy on one logit of raw features, best epoch by strictly greater validation BA."""

    name = "banerjee"
    options_model = BanerjeeProbeOptions

    def fit(self, data: ProbeData, options: BanerjeeProbeOptions, progress: Progress) -> list[LinearHead]:
        """See :meth:`atypia.methods.head.Probe.fit`."""
        labels, folds, seed = data.labels, data.folds, data.seed
        for number, fold in enumerate(folds, start=1):
            if len(np.unique(labels[fold.val])) < 2:
                raise InputError(
                    must(f"validation part {number}", "of both classes", f"{len(fold.val)} figures", "split otherwise")
                )
        x = np.hstack([data.features.astype(np.float64), np.ones((len(data.features), 1))])
        fits = [self._start(x, labels, fold, seed, options) for fold in folds]
        with threadpool_limits(1, user_api="blas"):  # a batch is too small for threads to share
            self._run(fits, x, labels, seed, options, progress)
        return [self._head(fit) for fit in fits]

    def _run(
        self,
        fits: Sequence[FoldFit],
        x: npt.NDArray[np.float64],
        labels: npt.NDArray[np.int8],
        seed: int,
        options: BanerjeeProbeOptions,
        progress: Progress,
    ) -> None:
        for epoch in range(options.epochs):
            open_fits = [fit for fit in fits if fit.stale < options.patience]
            if not open_fits:
                progress(options.epochs, options.epochs, "epochs of the probe")
                break
            for fit in open_fits:
                rng = generator(seed, "probe epoch", fit.key, epoch)
                drawn = rng.choice(fit.train, size=len(fit.train), replace=True, p=fit.probabilities)
                run_epoch(fit, x, labels, drawn, options)
                self._end_epoch(fit, x, labels, epoch)
            progress(epoch + 1, options.epochs, "epochs of the probe")

    def _start(
        self,
        x: npt.NDArray[np.float64],
        labels: npt.NDArray[np.int8],
        fold: FeatureRows,
        seed: int,
        options: BanerjeeProbeOptions,
    ) -> FoldFit:
        weights = inverse_class_weights(labels[fold.train])
        bound = 1 / np.sqrt(x.shape[1] - 1)
        start = generator(seed, "probe start", fold.key).uniform(-bound, bound, x.shape[1])
        plateau = Plateau(options.lr, options.plateau_factor, options.plateau_patience, options.min_lr)
        zero = np.zeros_like(start)
        return FoldFit(fold.key, fold.train, fold.val, weights / weights.sum(), start, plateau, (zero, zero.copy()))

    def _end_epoch(self, fit: FoldFit, x: npt.NDArray[np.float64], labels: npt.NDArray[np.int8], epoch: int) -> None:
        decisions = (x[fit.val] @ fit.weight >= 0).astype(np.int8)
        score = balanced_accuracy(labels[fit.val], decisions)
        fit.history.append({"epoch": epoch, "lr": fit.plateau.lr, "val_balanced_accuracy": score})
        fit.plateau.step(score)
        if score > fit.best_score:
            fit.best_score, fit.best_epoch, fit.best, fit.stale = score, epoch, fit.weight.copy(), 0
        else:
            fit.stale += 1

    def _head(self, fit: FoldFit) -> LinearHead:
        best = fit.weight if fit.best is None else fit.best
        info = {"best_epoch": fit.best_epoch, "epochs": len(fit.history), "val_balanced_accuracy": fit.best_score,
                "history": fit.history}  # fmt: skip
        return LinearHead(best[:-1].copy(), float(best[-1]), info)


def run_epoch(
    fit: FoldFit,
    x: npt.NDArray[np.float64],
    labels: npt.NDArray[np.int8],
    drawn: npt.NDArray[np.int64],
    options: BanerjeeProbeOptions,
) -> None:
    """Adam steps over the drawn rows in batches (Kingma and Ba 2015, with L2 in the gradient).

    Args:
        fit: Changed in place.
        x: Features with a column of ones, shape (n, d + 1).
        labels: Shape (n,).
        drawn: Rows in order.
        options: Rate's decay, batch size and weight decay.
    """
    first, second = fit.moments
    w = fit.weight
    for start in range(0, len(drawn), options.batch_size):
        rows = drawn[start : start + options.batch_size]
        batch = x[rows]
        gradient = (sigmoid(batch @ w) - labels[rows]) @ batch / len(rows)
        gradient += options.weight_decay * w
        fit.steps += 1
        first += (1 - BETAS[0]) * (gradient - first)
        second += (1 - BETAS[1]) * (gradient * gradient - second)
        scale = np.sqrt(second) / np.sqrt(1 - BETAS[1] ** fit.steps) + EPSILON
        w -= fit.plateau.lr / (1 - BETAS[0] ** fit.steps) * first / scale


PROBES.add(BanerjeeProbe.name, BanerjeeProbe())
