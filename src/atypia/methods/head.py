"""Linear heads on frozen features, and what a probe must offer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import Parameter, signature
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from atypia.base.artifacts import fingerprint
from atypia.base.config import StrictModel, parse
from atypia.base.errors import InputError, count_noun, must
from atypia.base.process.progress import Progress, silent

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
O = TypeVar("O", bound=StrictModel)  # noqa: E741


ROWS = 4096
"""Rows that are converted to double precision at a time."""


def linear_logits(features: npt.NDArray[np.floating[Any]], weight: npt.NDArray[Any], bias: float) -> Floats:
    """``features · weight + bias``, each row on its own.

    In a matrix-vector product the order of summation of a row can depend on the other rows of the call;
    here a figure gets the same logit, to the last bit, in any batch.

    Args:
        features: Shape (n, d), any floating type.
        weight: Shape (d,).
        bias: Added to each.

    Returns:
        Shape (n,), float64.
    """
    logits, double = np.empty(len(features)), weight.astype(np.float64)
    for start in range(0, len(features), ROWS):
        rows = np.ascontiguousarray(features[start : start + ROWS], dtype=np.float64)
        logits[start : start + ROWS] = np.einsum("nd,d->n", rows, double, optimize=False) + bias
    return logits


@dataclass(frozen=True, eq=False)
class LinearHead:
    """A logit that is linear in raw features: ``p(positive) = sigmoid(x · weight + bias)``.

    Attributes:
        weight: Shape (d,), float64.
        bias: The intercept.
        info: Facts about the fit: strength, iterations, scores. JSON-able.
    """

    weight: Floats
    bias: float
    info: Mapping[str, Any] = field(default_factory=dict)

    def logits(self, features: npt.NDArray[np.floating[Any]]) -> Floats:
        """Logits (n,) of raw features (n, d); see :func:`linear_logits`."""
        return linear_logits(features, self.weight, self.bias)


@dataclass(frozen=True, eq=False)
class FeatureRows:
    """A fold as row positions of the feature matrix.

    Attributes:
        train: Rows that parameters are fitted on, shape (m,).
        val: Rows that are used for early stopping only; may be empty, shape (v,).
    """

    train: Rows
    val: Rows

    @property
    def key(self) -> str:
        """Hash of the rows: seeds derived from it do not depend on which other folds are fitted beside this one."""
        return fingerprint(*(np.ascontiguousarray(rows, dtype="<i8").tobytes() for rows in (self.train, self.val)))


@dataclass(frozen=True, eq=False)
class ProbeData:
    """The data that a probe is fitted on.

    Attributes:
        features: Shape (n, d); rows that are in no fold are never read.
        labels: Shape (n,), 1 = positive class.
        cases: Shape (n,); figures of one case are never on both sides of an inner division.
        folds: Rows of each fold.
        seed: Of everything random. A fold's result does not depend on the other folds.
        domains: Shape (n,), the domain of each figure, empty where it is unknown; None: all are unknown.
    """

    features: npt.NDArray[np.floating[Any]]
    labels: npt.NDArray[np.int8]
    cases: npt.NDArray[np.str_]
    folds: Sequence[FeatureRows]
    seed: int
    domains: npt.NDArray[np.str_] | None = None


class Probe(Generic[O]):
    """Base of every probe: options with a schema, and :meth:`fit`, which a probe defines."""

    name: ClassVar[str]
    options_model: type[O]

    def parse_options(self, options: Mapping[str, Any]) -> O:
        """Validates options.

        Raises:
            InputError: A key is unknown, or a value out of range.
        """
        return parse(self.options_model, options, f"options of probe {self.name}")

    def fit_folds(
        self,
        features: npt.NDArray[np.floating[Any]],
        labels: npt.NDArray[np.int8],
        cases: npt.NDArray[np.str_],
        folds: Sequence[FeatureRows],
        seed: int,
        options: O,
        progress: Progress = silent,
        domains: npt.NDArray[np.str_] | None = None,
    ) -> list[LinearHead]:
        """Fits one head a fold, after a check of the data.

        Args:
            features: As in :class:`ProbeData`, like the next four.
            labels: Shape (n,).
            cases: Shape (n,).
            folds: Rows of each fold.
            seed: Of everything random.
            options: As :meth:`parse_options` gives them.
            progress: Told about folds or epochs.
            domains: As in :class:`ProbeData`.

        Raises:
            InputError: A training part lacks a class, or features are not finite.
        """
        check_folds(features, labels, folds)
        return self.fit(ProbeData(features, labels, cases, folds, seed, domains), options, progress)

    def fit(self, data: ProbeData, options: O, progress: Progress) -> list[LinearHead]:
        """Fits one head a fold on data that :func:`check_folds` has passed.

        Args:
            data: Features, labels, cases, folds and seed.
            options: As :meth:`parse_options` gives them.
            progress: Told about folds or epochs.
        """
        raise NotImplementedError(f"{type(self).__name__} must define fit")


def takes_domains(method: Callable[..., Any]) -> bool:
    """Whether a probe's ``fit_folds`` is given the figures' domains: one of a plug-in may be as it was before there were any.

    >>> takes_domains(Probe().fit_folds)
    True
    """
    parameters = signature(method).parameters
    return "domains" in parameters or any(one.kind is Parameter.VAR_KEYWORD for one in parameters.values())


def check_folds(
    features: npt.NDArray[np.floating[Any]], labels: npt.NDArray[np.int8], folds: Sequence[FeatureRows]
) -> None:
    """Refuses data that no probe can be fitted on.

    Raises:
        InputError: Shapes differ, a label of a used row is neither 0 nor 1, a training part lacks a
            class, or a feature of a used row is not finite.
    """
    if features.ndim != 2 or len(features) != len(labels):
        raise InputError(must("features", f"of shape ({len(labels)}, d)", features.shape, "give one row a figure"))
    if not folds:
        raise InputError(must("folds", "at least one", 0, "choose a protocol that gives folds"))
    used = np.unique(np.concatenate([np.concatenate([fold.train, fold.val]) for fold in folds]))
    bad = int(np.count_nonzero(~np.isfinite(features[used]).all(axis=1)))
    if bad:
        raise InputError(
            must("features", "finite", f"NaN or infinity in {count_noun(bad, 'row')}", "drop those figures")
        )
    if not np.isin(labels[used], (0, 1)).all():
        raise InputError(must("labels", "0 or 1", np.unique(labels[used]).tolist(), "drop figures without a label"))
    for number, fold in enumerate(folds, start=1):
        counts = np.bincount(labels[fold.train], minlength=2)
        if counts.min() == 0:
            lacking = "positive" if counts[1] == 0 else "negative"
            raise InputError(
                must(f"training part {number}", "of both classes", f"no {lacking} figure", "split otherwise")
            )


def inverse_class_weights(labels: npt.NDArray[np.int8]) -> Floats:
    """``w_i = 1 / N_class(i)``: draws with these weights show both classes equally often (Banerjee et al., section 4).

    Args:
        labels: Shape (n,), 0 or 1.

    Returns:
        Shape (n,).
    """
    counts = np.bincount(labels, minlength=2).astype(np.float64)
    return 1 / counts[labels]


def balanced_weights(labels: npt.NDArray[np.int8]) -> Floats:
    """``w_i = n / (2 N_class(i))``: both classes have the same total weight and the mean is 1 (King and Zeng 2001).

    Args:
        labels: Shape (n,), 0 or 1; both classes occur.

    >>> balanced_weights(np.array([1, 0, 0, 0], dtype=np.int8)).round(3).tolist()
    [2.0, 0.667, 0.667, 0.667]
    """
    counts = np.bincount(labels, minlength=2).astype(np.float64)
    return len(labels) / (2 * counts[labels])


def sigmoid(logits: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """``1 / (1 + e^−z)`` in the type of the logits, without overflow."""
    small = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1, small) / (1 + small)


def log_loss(logits: npt.NDArray[Any], labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """``log(1 + e^z) − y z`` for each element, without overflow."""
    return np.logaddexp(0, logits, dtype=logits.dtype) - labels * logits
