"""Robustness of the encoders of a study: of figures that it trains on, from features that are there, beside the probes' scores."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from atypia.backbones.features import find_features
from atypia.base.errors import InputError
from atypia.data.manifest import Manifest
from atypia.evaluation.robustness import EncoderRobustness
from atypia.reports.study.encoders import encoders_table
from atypia.splits.split import Split
from atypia.studies import encoders, files
from atypia.studies.encoders import study_encoders
from atypia.studies.findings.compute import study_findings
from atypia.studies.plan import Plan

from .small import carried_out, plan_of, values

FOUND = EncoderRobustness(60, 4, 2, 1, 0.61, 11, 0.9, 0.6, 0.02, -0.1, 0.4)


@pytest.fixture
def planned(small_csv: Path, other_csv: Path, tmp_path: Path) -> tuple[Plan, Path]:
    given = values(small_csv, [other_csv])
    given["models"] = [{"recipe": "probe", "backbones": ["tiny-cnn"], "label": "probe"}]
    return plan_of(given, tmp_path)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the indices are asked of; they are made up, so that the package is not needed."""
    seen: list[dict[str, Any]] = []

    def indices(features: Any, labels: Any, domains: Any, cases: Any) -> EncoderRobustness:
        seen.append({"features": features, "labels": labels, "domains": domains, "cases": cases})
        return FOUND

    monkeypatch.setattr(encoders, "encoder_robustness", indices)
    monkeypatch.setattr(encoders, "require", lambda *_: None)
    monkeypatch.setattr(encoders, "version", lambda _: "1")
    return seen


def test_indices_are_of_the_features_of_training_figures(
    planned: tuple[Plan, Path], asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, out = planned
    carried_out(plan, out)
    (training,) = plan.trainings
    manifest = Manifest.load(out / files.MANIFESTS / f"{training.manifest}.parquet")
    held = set(manifest.ids[:10])

    def divided(_: Path) -> Any:
        """A split with the first ten figures in a test part alone."""
        return SimpleNamespace(folds=[SimpleNamespace(train=[i for i in manifest.ids if i not in held], val=[])])

    monkeypatch.setattr(encoders, "Split", SimpleNamespace(load=divided))
    (found,) = study_encoders(plan, out)
    assert found.indices == FOUND and found.labels == (training.label,) and found.input_px == 32
    (one,) = asked
    assert len(one["labels"]) == len(manifest) - 10
    assert one["features"].shape == (len(manifest) - 10, 256) and np.isfinite(one["features"]).all()
    assert one["cases"] == manifest.cases[10:].tolist()
    assert study_encoders(plan, out) == [found] and len(asked) == 1  # kept
    for damaged in ('{"a": {"ri": 1}}', "{", "[]"):
        (out / encoders.KEPT).write_text(damaged, "utf-8")
        assert study_encoders(plan, out) == [found]
    assert len(asked) == 4


def test_the_table_has_scores_beside_indices(planned: tuple[Plan, Path], asked: list[dict[str, Any]]) -> None:
    plan, out = planned
    carried_out(plan, out)
    _, findings = study_findings(plan, out)
    table = encoders_table(findings, study_encoders(plan, out), "small")
    (row,) = table.rows
    of = dict(zip([column.title for column in table.columns], row, strict=True))
    assert of["backbone"] == "tiny-cnn" and of["RI"] == 0.61 and of["CRoMa"] == 0.02 and of["left out"] == 4
    scores = [title for title in of if title.startswith("BA: ")]
    assert scores and all(0 <= float(of[title]) <= 1 for title in scores)


def test_features_that_are_gone_are_said(
    planned: tuple[Plan, Path], asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, out = planned
    carried_out(plan, out)
    monkeypatch.setattr(encoders, "find_features", lambda *_, **__: None)
    (found,) = study_encoders(plan, out)
    assert found.indices is None and "atypia study run" in found.why_not and not asked
    _, findings = study_findings(plan, out)
    table = encoders_table(findings, [found], "small")
    assert any("not in the cache" in note for note in table.notes) and len(table.rows) == 1


def test_a_study_without_probes_has_none(
    small_csv: Path, other_csv: Path, tmp_path: Path, asked: list[dict[str, Any]]
) -> None:
    given = values(small_csv, [other_csv])
    given["models"] = given["models"][1:]
    plan, out = plan_of(given, tmp_path)
    plan.save(out)
    with pytest.raises(InputError, match="with probes"):
        study_encoders(plan, out)


def test_existing_features_are_found(planned: tuple[Plan, Path]) -> None:
    from atypia.data.crops.store import open_store
    from atypia.training.recipe import parse_recipe

    plan, out = planned
    (training,) = plan.trainings
    recipe = parse_recipe(training.recipe, "probe")
    manifest = (
        Manifest.load(out / files.MANIFESTS / f"{training.manifest}.parquet")
        if (out / files.MANIFESTS).is_dir()
        else None
    )
    carried_out(plan, out)
    manifest = manifest or Manifest.load(out / files.MANIFESTS / f"{training.manifest}.parquet")
    store = open_store(manifest, recipe.geometry.build())
    found = find_features(
        store, recipe.backbone, recipe.input_px, preparation=recipe.preparation.apart(recipe.backbone)
    )
    assert found is not None and found.values.shape == (len(manifest), 256)
    assert Split.load(out / files.SPLITS / f"{training.split}.json").folds
