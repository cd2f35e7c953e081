"""What a researcher does in a notebook, through the public names alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from sklearn.linear_model import LogisticRegression

import atypia

SMALL = {"geometry.out_px": 32}


@pytest.fixture(scope="module")
def noisy_csv(tmp_path_factory: pytest.TempPathFactory, paint: Callable[..., Path]) -> Path:
    """80 small crops of 8 cases and 2 laboratories; a fifth of the labels is wrong, so that no model is perfect."""
    table = paint(tmp_path_factory.mktemp("noisy") / "figures")
    head, *lines = table.read_text("utf-8").splitlines()
    for number in range(0, len(lines), 5):
        image, label, rest = lines[number].split(",", 2)
        lines[number] = f"{image},{1 - int(label)},{rest}"
    table.write_text("\n".join([head, *lines]) + "\n", "utf-8")
    return table


@pytest.fixture
def figures(noisy_csv: Path) -> atypia.Manifest:
    return atypia.open_data(noisy_csv)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, noisy_csv: Path) -> tuple[Path, Path]:
    """Two probes on two random backbones, tested on the laboratory that was left out."""
    out = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATYPIA_HOME", str(out / "home"))
        patch.setenv("ATYPIA_CACHE", str(out / "cache"))
        for backbone in ("tiny-cnn", "tiny-vit"):
            recipe = atypia.load_recipe("probe", SMALL, backbone=backbone)
            atypia.train(recipe, noisy_csv, out / backbone, protocol="lodo")
    return out / "tiny-cnn", out / "tiny-vit"


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rendered") / "phantom"
    atypia.write_phantom(folder, 16, seed=3, workers=1)
    return folder


def test_classify_crops_and_look_at_the_uncertain_ones(rendered: Path) -> None:
    said = atypia.Classifier.load().predict(rendered)
    certain = said[~(said.uncertain | said.refused)]
    assert {one.classes for one in certain} <= {("atypical",), ("normal",)} and len(certain)
    for one in said[said.uncertain]:
        assert one.classes == ("normal", "atypical") and 0 < one.p_atypical < 1
    assert sum(said.counts.values()) == len(said) == 16
    assert list(said.to_pandas()["p_atypical"]) == said.p_atypical.tolist()


def test_score_the_classifier_on_own_labels(rendered: Path) -> None:
    figures = atypia.open_data(rendered)
    said = atypia.Classifier.load().predict([rendered / name for name in figures.column("image")])
    known = said.with_labels(figures.labels, cases=figures.cases)
    scored = known[known.decisions >= 0]
    expected = atypia.metrics.sensitivity(scored.labels, scored.decisions)
    assert known.metrics(["sensitivity"]) == {"sensitivity": expected}


def test_read_an_own_table(small_csv: Path) -> None:
    figures = atypia.open_data(small_csv)
    assert repr(figures) == "<Manifest figures: 80 figures (27 atypical, 53 normal), 8 cases, 2 domains>"
    assert set(figures.column("scanner")) == {"scanner 0", "scanner 1"}


def test_audit_two_sets(figures: atypia.Manifest, paint: Callable[..., Path], tmp_path: Path) -> None:
    assert not [f for f in atypia.audit([figures]).findings if f.code == "identical-conflict"]
    twin = paint(tmp_path / "twin")
    (tmp_path / "twin" / "s0-001.png").write_bytes((tmp_path / "twin" / "s0-000.png").read_bytes())
    codes = {finding.code for finding in atypia.audit([atypia.open_data(twin)]).findings}
    assert any(code.startswith("identical") for code in codes), codes


def test_split_by_laboratory(figures: atypia.Manifest, tmp_path: Path) -> None:
    split = atypia.make_split("lodo", figures)
    for fold in split.folds:
        laboratories = [set(figures.take(figures.rows_of(part)).column("scanner")) for part in (fold.train, fold.test)]
        assert len(laboratories[1]) == 1 and not laboratories[0] & laboratories[1]
    assert atypia.Split.load(split.save(tmp_path / "split.json")) == split


def test_score_an_own_model_on_frozen_features(figures: atypia.Manifest) -> None:
    recipe = atypia.load_recipe("probe", SMALL, backbone="tiny-cnn")
    crops = atypia.open_crops(figures, recipe)
    assert crops.path == atypia.open_crops(figures, 32).path == atypia.open_crops(figures, recipe.geometry).path
    values = np.asarray(atypia.open_features(crops, recipe.backbone).values, dtype=np.float64)
    (fold, _) = atypia.make_split("lodo", figures).folds
    train, test = figures.rows_of(fold.train), figures.rows_of(fold.test)
    model = LogisticRegression(max_iter=200).fit(values[train], figures.labels[train])
    p = model.predict_proba(values[test])[:, 1]
    own = atypia.Predictions.of(p, figures.take(test), name="own")
    found = own.intervals(["auroc"])["auroc"]
    assert found.estimate == pytest.approx(atypia.metrics.auroc(figures.labels[test], p))
    assert found.n_cases == 4 and found.low <= found.estimate <= found.high


def test_train_a_probe_and_use_it(small_csv: Path, tmp_path: Path) -> None:
    recipe = atypia.load_recipe("probe", SMALL, backbone="tiny-cnn")
    assert "probe of tiny-cnn" in repr(recipe) and len(repr(recipe)) < 300
    trained = atypia.train(recipe, small_csv, tmp_path / "run", protocol="kfold", protocol_settings={"folds": 2})
    assert trained.path == tmp_path / "run" and "2 folds trained" in repr(trained)
    assert {str(name) for name in trained.to_pandas()["part"]} == {"val"}
    classifier = trained.classifier("fold-2", threshold=0.4)
    assert classifier.threshold == 0.4 and len(classifier.predict(small_csv.parent)) == 80
    again = atypia.train(recipe, small_csv, tmp_path / "run", protocol="kfold", protocol_settings={"folds": 2})
    assert again.kept == 2


def test_compare_two_runs_with_intervals(runs: tuple[Path, Path]) -> None:
    first, second = (atypia.open_results(folder) for folder in runs)
    found = first.compare(second, metrics=["balanced_accuracy", "auroc"])
    ours, theirs = (one.predictions("test").metrics(["auroc"])["auroc"] for one in (first, second))
    assert found["auroc"].estimate == pytest.approx(ours - theirs)
    assert (found.n, found.n_cases, found.left_out) == (80, 8, 0)
    assert "probe · tiny-cnn − probe · tiny-vit" in repr(found)
    own = first.compare(first)
    assert own["balanced_accuracy"].estimate == 0 and own.p["balanced_accuracy"] == 1
    with pytest.raises(atypia.AtypiaError, match="`part` must be one of test, val, external, got tset"):
        first.predictions("tset")
    with pytest.raises(atypia.AtypiaError, match=r"`part` must be one that .* holds"):
        first.predictions("external")


def test_a_table_by_laboratory(runs: tuple[Path, Path]) -> None:
    results = atypia.open_results(runs[0])
    said = results.predictions("test").groups("domain")
    assert sorted(said) == ["scanner 0", "scanner 1"]
    rows = results.to_pandas()
    rows = rows[(rows["metric"] == "auroc") & (rows["part"] == "test") & rows["domain"].notna()]
    for name, value in zip(rows["domain"], rows["value"], strict=True):
        assert said[name].metrics(["auroc"])["auroc"] == pytest.approx(value)
    assert "scanner 1" in str(results.table(domains=True))


def test_evaluate_on_another_set(runs: tuple[Path, Path], other_csv: Path, tmp_path: Path) -> None:
    tested = atypia.evaluate(runs[0], other_csv, out=tmp_path / "tested")
    said = tested.predictions()
    assert len(said) == 80 and "2 models" in repr(said)  # 40 figures, two fold models
    other = atypia.evaluate(runs[1], other_csv, out=tmp_path / "other")
    assert tested.compare(other).n == 40
    assert atypia.open_results(tested.path, about=runs[0]).predictions().rows.equals(said.rows)


def test_run_a_study_and_compare_its_rows(noisy_csv: Path, tmp_path: Path) -> None:
    study = {
        "name": "backbones",
        "summary": "a test",
        "data": {"train": str(noisy_csv)},
        "protocol": {"name": "lodo"},
        "models": [{"recipe": "probe", "backbones": [name], "label": name} for name in ("tiny-cnn", "tiny-vit")],
        "sizes": {"smoke": {"set": SMALL}},
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study), "utf-8")
    ran = atypia.run_study(tmp_path / "study.yaml", "smoke", tmp_path / "out", engine="inline")
    assert repr(ran) == f"<StudyRuns backbones, smoke: 4 done, 0 kept, 0 failed; in {tmp_path / 'out'}>"
    assert ran.labels == ["tiny-cnn", "tiny-vit"] and ran.path == tmp_path / "out"
    found = ran.compare("tiny-cnn", "tiny-vit", metrics=["auroc"])
    assert found.n == 80 and not np.isnan(found["auroc"].low)
    assert "tiny-vit" in str(ran.table()) and set(ran.to_pandas()["model"]) == set(ran.labels)
    with pytest.raises(atypia.AtypiaError, match="`label` must be one of tiny-cnn, tiny-vit"):
        ran.predictions("tiny")


def test_a_slide_with_points(rendered: Path, tmp_path: Path) -> None:
    crops = [Image.open(path) for path in sorted(rendered.glob("*/*.png"))[:3]]
    region = Image.new("RGB", (3 * 128, 128))
    for number, crop in enumerate(crops):
        region.paste(crop, (128 * number, 0))
    region.save(tmp_path / "region.png")
    centres = np.array([[64, 64], [192, 64], [320, 64]])
    said = atypia.predict_slide(tmp_path / "region.png", centres, mpp=0.25)
    assert said.p_atypical.tolist() == atypia.Classifier.load().predict(crops, mpp=0.25).p_atypical.tolist()
    lines = "x,y\n" + "".join(f"{x},{y}\n" for x, y in centres.tolist())
    (tmp_path / "points.csv").write_text(lines, "utf-8")
    found = atypia.predict_crops(
        tmp_path / "region.png", points=tmp_path / "points.csv", mpp=0.25, out=tmp_path / "calls.geojson"
    )
    assert found.predictions().p_atypical.tolist() == said.p_atypical.tolist() and found.path is not None
    with pytest.raises(atypia.AtypiaError, match=r"`points` must be of shape \(n, 2\)"):
        atypia.predict_slide(tmp_path / "region.png", [1.0, 2.0], mpp=0.25)
