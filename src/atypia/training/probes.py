"""Training of probes: features are computed once, all folds are fitted together."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from atypia.backbones.features import Features, open_features
from atypia.backbones.preparation import Preparation
from atypia.base import records as r
from atypia.base.artifacts import fingerprint
from atypia.base.process.progress import Progress
from atypia.data.crops.shifted import shifted_store
from atypia.data.crops.store import CropStore
from atypia.inference.bundles.bundle import PROBE, Bundle, probe_tensors
from atypia.inference.bundles.decision import Decision
from atypia.methods.catalogue import PROBES
from atypia.methods.head import FeatureRows, takes_domains
from atypia.splits.split import Fold
from atypia.training.schema import ProbeRecipe, copied_view
from atypia.training.trainer import TrainedFold, TrainingRequest, stored_labels


class ProbeTrainer:
    """Fits a probe on the frozen features of a backbone.

    Args:
        job: What is asked for; its recipe is a probe's.
        recipe: The job's recipe.
        store: The crops of the job's manifest.
        progress: Told about features.
    """

    def __init__(self, job: TrainingRequest, recipe: ProbeRecipe, store: CropStore, progress: Progress) -> None:
        self.job, self.recipe = job, recipe
        self.probe = PROBES[recipe.probe]
        self.options = self.probe.parse_options(recipe.options)
        self.preparation = recipe.preparation.apart(recipe.backbone)
        self.store, self.progress = store, progress
        self.features = self._features(store, self.preparation)
        self.copies = [self._copied(name) for name in recipe.copies]

    def _features(self, store: CropStore, preparation: Preparation) -> Features:
        recipe, job = self.recipe, self.job
        return open_features(
            store,
            recipe.backbone,
            recipe.input_px,
            weights_file=job.weights_file,
            progress=self.progress,
            device=job.device,
            preparation=preparation,
        )

    def _copied(self, name: str) -> Features:
        """Features of another look of all crops."""
        share = copied_view(name)
        if share is None:
            return self._features(shifted_store(self.store, name), self.preparation)
        return self._features(self.store, replace(self.preparation, view=share))

    def inputs(self, fold: Fold) -> str:
        """Fingerprint of the features."""
        if not self.copies:
            return self.features.fingerprint
        return fingerprint("copies", self.features.fingerprint, *(one.fingerprint for one in self.copies))

    def check(self, folds: Sequence[Fold]) -> list[str]:
        """None: apart from the backbone, a probe uses nothing that was learned elsewhere."""
        return []

    def fit(self, folds: Sequence[Fold], run_ids: Mapping[str, str], progress: Progress) -> Iterator[TrainedFold]:
        """Fits all folds at once: they share every pass over the features."""
        started = time.perf_counter()
        manifest, values = self.job.manifest, np.asarray(self.features.values)
        times, count = 1 + len(self.copies), len(values)
        rows = [
            FeatureRows(
                np.concatenate([manifest.rows_of(fold.train) + number * count for number in range(times)]),
                manifest.rows_of(fold.val),
            )
            for fold in folds
        ]
        domains = np.array([name or "" for name in manifest.table[r.DOMAIN].to_pylist()])
        heads = self.probe.fit_folds(
            np.concatenate([values, *(one.values for one in self.copies)]) if self.copies else values,
            np.tile(stored_labels(manifest), times),
            np.tile(manifest.cases, times),
            rows,
            self.job.seed,
            self.options,
            progress,
            **({"domains": np.tile(domains, times)} if takes_domains(self.probe.fit_folds) else {}),
        )
        seconds = time.perf_counter() - started
        for fold, head in zip(folds, heads, strict=True):
            tensors = probe_tensors(head.weight, head.bias)
            scorer = Bundle(
                name=fold.name,
                task=manifest.task,
                adaptation=PROBE,
                backbone=self.recipe.backbone,
                weights_sha256=self.features.weights_sha256,
                input_px=self.features.input_px,
                geometry=self.recipe.geometry.build(),
                tensors=tensors,
                decision=Decision(self.recipe.threshold),
                prepared=self.preparation,
            )
            info = {key: value for key, value in head.info.items() if key != "history"}
            yield TrainedFold(
                fold=fold,
                tensors=tensors,
                network=None,
                weights_sha256=self.features.weights_sha256,
                input_px=self.features.input_px,
                logits=lambda rows, scorer=scorer: scorer.logits(values[rows]),
                info={**info, "features_fingerprint": self.features.fingerprint, "fitted_together": len(folds)},
                history=head.info.get("history") or [info],
                seconds=seconds,
                parameters=head.weight.size + 1,
                prepared=self.preparation,
            )
