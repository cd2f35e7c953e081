"""The set: plan, votes, files, resumption, determinism, and how hard it is."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from atypia.base import records as r
from atypia.base.errors import InputError, WorkError
from atypia.data.manifest import Manifest
from atypia.data.phantom import dataset
from atypia.data.phantom.chromatin import MORPHOLOGIES
from atypia.data.phantom.dataset import write_phantom
from atypia.data.phantom.domains import DOMAINS
from atypia.data.phantom.plan import ATYPICAL_MIX, CASE_FIGURES, NORMAL_MIX, case_part, plan_figures, vote_probability
from atypia.data.phantom.render import render_crop

ALL = list(DOMAINS.values())


def file_hashes(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*.png")}


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 400), seed=st.integers(0, 2**31), m=st.integers(1, 4))
def test_a_larger_set_begins_with_the_smaller_one(n: int, seed: int, m: int):
    small, large = list(plan_figures(n, seed, ALL[:m])), list(plan_figures(n + 57, seed, ALL[:m]))
    assert len(small) == n
    assert small == large[:n]
    assert [f.index for f in large] == list(range(n + 57))


def test_cases_have_one_domain_one_part_and_a_plausible_size():
    figures = list(plan_figures(3000, 1, ALL))
    cases: dict[int, list] = {}
    for figure in figures:
        cases.setdefault(figure.case, []).append(figure)
    whole = [group for case, group in cases.items() if case != figures[-1].case]
    assert all(CASE_FIGURES[0] <= len(group) <= CASE_FIGURES[1] for group in whole)
    assert all(len({(f.domain.name, f.part) for f in group}) == 1 for group in cases.values())


@pytest.mark.parametrize("n_domains", [1, 2, 3, 4, 5, 8])
def test_a_quarter_of_the_cases_of_every_domain_is_the_test_part(n_domains: int):
    cases = range(8 * n_domains)
    for domain in range(n_domains):
        parts = [case_part(case, n_domains) for case in cases if case % n_domains == domain]
        assert parts.count("test") == 2
        assert parts.count("train") == 6


def test_raters_disagree_on_about_a_fifth_and_the_label_is_the_majority():
    figures = list(plan_figures(4000, 0, ALL))
    votes = np.array([f.votes for f in figures])
    split = (votes.min(1) != votes.max(1)).mean()
    assert 0.16 < split < 0.26
    assert [f.label for f in figures] == (votes.sum(1) >= 2).astype(int).tolist()
    # The first rater is the strictest.
    assert votes.mean(0)[0] < votes.mean(0)[1] < votes.mean(0)[2]
    severity = np.array([f.severity for f in figures])
    doubtful = (severity > 0.4) & (severity < 0.6)
    assert (votes.min(1) != votes.max(1))[doubtful].mean() > 3 * (votes.min(1) != votes.max(1))[~doubtful].mean()


def test_votes_follow_their_probability():
    # Normal noise of sd 0.15: at severity 0.65 one sd above the threshold, 84.1 %.
    assert vote_probability(0.65) == pytest.approx(0.8413, abs=1e-4)
    assert vote_probability(0.6, leaning=0.05) == pytest.approx(0.8413, abs=1e-4)
    figures = list(plan_figures(6000, 2, ALL))
    near = [f for f in figures if 0.45 < f.severity < 0.55]
    expected = np.mean([vote_probability(f.severity) for f in near])
    assert np.mean([f.votes[1] for f in near]) == pytest.approx(expected, abs=4 * 0.5 / len(near) ** 0.5)


def test_prevalence_follows_the_domain():
    rates = [sum(f.label for f in plan_figures(1500, 0, [replace(ALL[0], atypia_rate=q)])) / 1500 for q in (0.1, 0.5)]
    assert 0.05 < rates[0] < 0.22
    assert 0.4 < rates[1] < 0.6


def test_phases_name_what_each_rater_sees():
    for figure in plan_figures(500, 0, ALL):
        for vote, phase in zip(figure.votes, figure.phases, strict=True):
            assert MORPHOLOGIES[phase].atypical == bool(vote)


def test_mixes_name_every_morphology_once_and_sum_to_one():
    assert set(NORMAL_MIX) | set(ATYPICAL_MIX) == set(MORPHOLOGIES)
    assert all(not MORPHOLOGIES[name].atypical for name in NORMAL_MIX)
    assert sum(NORMAL_MIX.values()) == pytest.approx(1)
    assert sum(ATYPICAL_MIX.values()) == pytest.approx(1)


def test_written_set_is_whole_and_loads_again(tmp_path: Path):
    told = []
    manifest = write_phantom(tmp_path / "set", 45, seed=3, progress=lambda *a: told.append(a))
    assert told[0] == (0, 45, "phantom crops")
    assert told[-1] == (45, 45, "phantom crops")
    loaded = Manifest.load(tmp_path / "set" / "manifest.parquet")
    assert loaded.fingerprint == manifest.fingerprint
    assert loaded.root == tmp_path / "set"
    names = [f.domain.name for f in plan_figures(45, 3, ALL)]
    assert loaded.ids == [f"phantom-3-{name}-{i:06d}" for i, name in enumerate(names)]
    assert set(loaded.column(r.DATASET)) == {"phantom-3"}
    assert set(loaded.column(r.PART)) <= {"train", "test"}
    assert set(loaded.column(r.MPP)) == {0.25}
    for image, label, sha in zip(loaded.column(r.IMAGE), loaded.labels, loaded.column(r.SHA256), strict=True):
        assert image.startswith("atypical/" if label else "normal/")
        data = (tmp_path / "set" / image).read_bytes()
        assert hashlib.sha256(data).hexdigest() == sha
        with Image.open(tmp_path / "set" / image) as opened:
            assert (opened.size, opened.mode) == ((128, 128), "RGB")
    assert len({(tmp_path / "set" / image).stat().st_size for image in loaded.column(r.IMAGE)}) == 1
    votes = np.stack(list(loaded.column(r.VOTES)))
    assert loaded.column(r.SOFT_LABEL) == pytest.approx(votes.mean(1))
    cases = {case: set() for case in loaded.cases}
    for case, domain in zip(loaded.cases, loaded.column(r.DOMAIN), strict=True):
        cases[case].add(domain)
    assert all(len(domains) == 1 for domains in cases.values())
    parameters = json.loads((tmp_path / "set" / "phantom.json").read_text())
    assert (parameters["n"], parameters["seed"], len(parameters["domains"])) == (45, 3, len(DOMAINS))


def test_two_processes_write_the_same_bytes_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dataset, "SMALL", 1)
    one = write_phantom(tmp_path / "one", 30, seed=1, workers=1)
    two = write_phantom(tmp_path / "two", 30, seed=1, workers=2)
    assert file_hashes(tmp_path / "one") == file_hashes(tmp_path / "two")
    assert one.fingerprint == two.fingerprint


def test_an_interrupted_set_has_no_manifest_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "set"

    def stop(done: int, total: int, what: str) -> None:
        if done >= 24:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_phantom(folder, 30, progress=stop)
    there = file_hashes(folder)
    assert len(there) == 24
    assert not (folder / "manifest.parquet").exists()
    # One image was torn by a crash of the machine; it is drawn again, the others are kept.
    torn = folder / next(iter(there))
    torn.write_bytes(torn.read_bytes()[:700])
    drawn = []
    real = dataset.render_crop
    monkeypatch.setattr(dataset, "render_crop", lambda *a: drawn.append(a) or real(*a))
    write_phantom(folder, 30)
    assert len(drawn) == 7
    assert file_hashes(folder).items() >= there.items()
    drawn.clear()
    write_phantom(folder, 30)
    assert drawn == []
    write_phantom(folder, 33)
    assert len(drawn) == 3


def test_a_removed_image_is_drawn_again(tmp_path: Path):
    manifest = write_phantom(tmp_path, 5, domains=["ash"])
    gone = tmp_path / manifest.column(r.IMAGE)[2]
    before = gone.read_bytes()
    gone.unlink()
    again = write_phantom(tmp_path, 5, domains=["ash"])
    assert gone.read_bytes() == before
    assert again.fingerprint == manifest.fingerprint


def test_what_cannot_be_written_is_refused(tmp_path: Path):
    write_phantom(tmp_path / "set", 4, domains=["rose"])
    with pytest.raises(InputError, match="other parameters; fix: choose another folder"):
        write_phantom(tmp_path / "set", 4, seed=9, domains=["rose"])
    with pytest.raises(InputError, match=r"`n` must be at least 4, as many as .* got 3"):
        write_phantom(tmp_path / "set", 3, domains=["rose"])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="holds something that is no phantom set"):
        write_phantom(tmp_path / "mine", 4)
    with pytest.raises(InputError, match="`folder` must be a folder"):
        write_phantom(tmp_path / "mine" / "thesis.txt", 4)
    with pytest.raises(InputError, match="`n` must be at least 1, got 0"):
        write_phantom(tmp_path / "new", 0)
    with pytest.raises(InputError, match="`workers` must be at least 1, got 0"):
        write_phantom(tmp_path / "new", 1, workers=0)
    with pytest.raises(InputError, match="unknown phantom domain 'rosy'; did you mean 'rose'"):
        write_phantom(tmp_path / "new", 1, domains=["rosy"])
    with pytest.raises(InputError, match="`domains` must be a list of domains, got rose"):
        write_phantom(tmp_path / "new", 1, domains="rose")
    with pytest.raises(InputError, match="one or more different domains"):
        write_phantom(tmp_path / "new", 1, domains=["rose", "rose"])
    (tmp_path / "set" / "phantom.json").write_text("{")
    with pytest.raises(WorkError, match=r"phantom\.json is damaged"):
        write_phantom(tmp_path / "set", 4, domains=["rose"])
    assert not (tmp_path / "new").exists()


# How hard the set is. Thresholded size, shape and radial darkness of the central chromatin stand
# for a model: they need no pretrained weights and are computed in a millisecond.

_Y, _X = np.mgrid[:128, :128] - 63.5
_R = np.hypot(_X, _Y)
_DISC = _R < 36


def shape_features(crop: np.ndarray) -> np.ndarray:
    grey = crop.astype(float).mean(axis=2)
    ring = _R // 6
    found = list(np.quantile(grey[_DISC], [0.02, 0.1, 0.3, 0.5, 0.8]))
    for level in (70, 95, 120):
        mask = (grey < level) & _DISC
        area = mask.sum()
        sizes = np.bincount(ndimage.label(mask)[0].ravel())[1:]
        largest = sizes.max() / area if area else 0.0
        edge = (mask ^ ndimage.binary_erosion(mask)).sum()
        hole = ndimage.binary_fill_holes(mask).sum() - area
        spread = np.cov(np.stack([_X[mask], _Y[mask]])) if area > 5 else np.zeros((2, 2))
        axes = np.sqrt(np.maximum(np.linalg.eigvalsh(spread), 0))
        found += [area, (sizes > 12).sum(), largest, edge, edge / np.sqrt(area + 1.0), hole, *axes]
    return np.array(found + [grey[ring == k].mean() for k in range(6)])


def background_features(crop: np.ndarray) -> np.ndarray:
    outside = crop[_R > 62].astype(float)
    return np.concatenate([outside.mean(0), outside.std(0), np.quantile(outside.mean(1), [0.05, 0.5, 0.95])])


def probe():
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=500))


def test_a_probe_learns_the_shape_and_loses_in_another_domain():
    # The same figures, scanned and stained as the home domain or as another.
    home, away = DOMAINS["brick"], DOMAINS["ash"]
    figures = list(plan_figures(270, 11, [home]))
    cut = next(f.index for f in figures if f.index >= 160 and f.case != figures[f.index - 1].case)
    y = np.array([f.label for f in figures])

    def features(domain, wanted):
        return np.stack(
            [shape_features(render_crop(domain, f.morphology, f.severity, 11, f.index, f.case)) for f in wanted]
        )

    model = probe().fit(features(home, figures[:cut]), y[:cut])
    own = balanced_accuracy_score(y[cut:], model.predict(features(home, figures[cut:])))
    other = balanced_accuracy_score(y[cut:], model.predict(features(away, figures[cut:])))
    assert 0.68 < own < 0.92
    assert other < own - 0.1


def test_background_does_not_tell_the_label():
    # One domain, so that only the crop itself could tell.
    figures = list(plan_figures(160, 5, [DOMAINS["violet"]]))
    y = np.array([f.label for f in figures])
    crops = [render_crop(f.domain, f.morphology, f.severity, 5, f.index, f.case) for f in figures]
    # The standard error of an AUROC of one half is 0.05 with 45 positives among 160.
    x = np.stack([background_features(crop) for crop in crops])
    scores = cross_val_predict(probe(), x, y, cv=StratifiedKFold(5), method="predict_proba")[:, 1]
    assert abs(roc_auc_score(y, scores) - 0.5) < 0.14
