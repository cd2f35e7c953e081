"""As-published divisions: against published counts, and against scikit-learn where it still agrees."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from atypia.base import records as r
from atypia.base.errors import InputError
from atypia.data.manifest import Manifest
from atypia.splits.protocol import make_split
from atypia.splits.protocols.published import stratified_group_folds


@st.composite
def grouped(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Labels and group names; at least as many figures of each class as folds."""
    pairs = draw(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=6, max_size=30))
    labels, groups = [], []
    for number, (normal, atypical) in enumerate(pairs):
        normal, atypical = (max(normal, 1), max(atypical, 1)) if number < 5 else (max(normal, 1), atypical)
        labels += [0] * normal + [1] * atypical
        groups += [f"{number:03d}"] * (normal + atypical)
    return np.array(labels), np.array(groups)


def sklearn_folds(labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    folds = np.empty(len(labels), dtype=int)
    for number, (_, val) in enumerate(StratifiedGroupKFold(5).split(labels, labels, groups)):
        folds[val] = number
    return folds


@settings(max_examples=60, deadline=None)
@given(grouped())
def test_without_shuffling_the_folds_are_scikit_learns(data):
    """Unshuffled, the algorithm is the same before and after scikit-learn 1.8."""
    labels, groups = data
    assert (stratified_group_folds(labels, groups, 5, None) == sklearn_folds(labels, groups)).all()


@settings(max_examples=40, deadline=None)
@given(grouped(), st.integers(0, 1000))
def test_shuffling_places_each_group_by_the_counts_of_another(data, state):
    """The old behaviour: group i goes where a group with the counts of group perm[i] would go."""
    labels, groups = data
    names = np.unique(groups)
    perm = np.arange(len(names))
    np.random.RandomState(state).shuffle(perm)
    swapped_labels, swapped_groups = [], []
    for number, source in enumerate(perm):
        inside = labels[groups == names[source]]
        swapped_labels += inside.tolist()
        swapped_groups += [names[number]] * len(inside)
    swapped = sklearn_folds(np.array(swapped_labels), np.array(swapped_groups))
    fold_of = dict(zip(swapped_groups, swapped, strict=True))
    assert stratified_group_folds(labels, groups, 5, state).tolist() == [fold_of[group] for group in groups]


def test_too_few_slides_are_refused(make):
    with pytest.raises(InputError, match="`slide_id` must be 5 or more slides, got 3; fix: choose protocol kfold"):
        make_split("banerjee", make(cases=4, mean_size=20))
    with pytest.raises(InputError, match=r"`slide_id` must be known for the training part, got \d+ nulls"):
        make_split("banerjee", make(**{r.SLIDE_ID: None}))


@pytest.mark.real
def test_banerjee_has_the_published_counts(real_root):
    """From the published table alone; row order and the installed scikit-learn have no influence."""
    with (real_root / "AMi-Br_Benchmark" / "amibr_train_split.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    rows = [
        {
            r.FIGURE_ID: row["dataset_uid"].removesuffix(".png"),
            r.DATASET: "AMi-Br",
            r.IMAGE: row["dataset_uid"],
            r.SLIDE_ID: row["slide"],
            r.CASE_ID: row["slide"],
            r.PART: "train",
            r.LABEL: int(row["majority_atypical"] == "True"),
        }
        for row in reversed(table)
    ]
    test = {**rows[0], r.FIGURE_ID: "t", r.CASE_ID: "t", r.PART: "test"}
    split = make_split("banerjee", Manifest.from_rows([*rows, test], "ami-br"), seed=7)
    assert [len(fold.val) for fold in split.folds] == [592, 805, 451, 379, 667]
    assert [split.positives[fold.name][1] for fold in split.folds] == [164, 132, 129, 89, 134]
    assert split.seed == 42


@pytest.mark.real
def test_the_source_ami_br_gives_the_published_folds_and_parts(real_root):
    from atypia.data.sources.opening import open_data

    manifest = open_data("ami-br", real_root)
    banerjee, official = make_split("banerjee", manifest), make_split("official", manifest)
    assert [len(fold.val) for fold in banerjee.folds] == [592, 805, 451, 379, 667]
    for split in (banerjee, official):
        assert split.warnings == ()
        assert {len(fold.test) for fold in split.folds} == {826}
        assert {positives[2] for positives in split.positives.values()} == {184}
    # Atypia's own folds: 2,894 figures, 648 of them atypical, to within a case.
    for fold in official.folds:
        assert len(fold.val) == pytest.approx(2894 / 5, abs=25)
        assert official.positives[fold.name][1] == pytest.approx(648 / 5, abs=6)


@pytest.mark.real
def test_ammeling_has_the_published_counts(real_root):
    with (real_root / "tables" / "MIDOG2022_training_tiff.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    rows = [
        {
            r.FIGURE_ID: f"{number:05d}",
            r.DATASET: "MIDOG22",
            r.IMAGE: row["filename"],
            r.X_PX: float(row["x"]),
            r.Y_PX: float(row["y"]),
            r.CASE_ID: row["filename"],
            r.LABEL: int(row["label"]),
        }
        for number, row in enumerate(table)
    ]
    manifest = Manifest.from_rows(rows, "midog2022", r.MITOSIS_TASK)
    split = make_split("ammeling-as-published", manifest)
    assert len(split.folds) == 20
    for seed in (42, 43, 44, 45, 46):
        folds = [fold for fold in split.folds if fold.name.startswith(f"seed-{seed}-")]
        assert [len(fold.train) for fold in folds] == [13, 132, 1316, 13154]
        assert {len(fold.test) for fold in folds} == {4110}
        assert len({fold.test for fold in folds}) == 1
    # The published draw is the legacy generator's, by row number: its first test rows.
    first = np.random.RandomState(42).permutation(20552)[:4110]
    assert split.folds[0].test == tuple(sorted(f"{row:05d}" for row in first))
    # Test figures within half a crop (112 px) of one in training or validation: 14.6 % when the code was examined.
    fold = next(fold for fold in split.folds if fold.name == "seed-42-fraction-1")
    assert near_share(manifest, fold.train + fold.val, fold.test) == pytest.approx(0.146, abs=0.01)


@pytest.mark.real
def test_ammelings_draws_for_probes_and_single_tumours_are_the_published_ones(real_root):
    from atypia.data.sources.opening import open_data

    manifest = open_data("midog2022", real_root)
    probe = make_split("ammeling-probe-as-published", manifest)
    rng, n = np.random.default_rng(43), len(manifest)  # as the code does it, on row numbers
    test = rng.choice(n, size=int(np.floor(0.2 * n)), replace=False)
    pool, ids = np.setdiff1d(np.arange(n), test), np.array(manifest.ids)
    for fraction, used in ((0.001, 12), (0.01, 131), (0.1, 1315), (1.0, 13153)):
        drawn = rng.choice(pool, size=int(np.floor(len(pool) * fraction)), replace=False)
        train = rng.choice(drawn, size=int(0.8 * len(drawn)), replace=False)
        fold = next(fold for fold in probe.folds if fold.name == f"seed-43-fraction-{fraction:g}")
        assert set(fold.train) == set(ids[train]) and len(fold.train) == used
        assert set(fold.test) == set(ids[test])
        assert set(fold.train) | set(fold.val) == set(ids[drawn])
    pandas = pytest.importorskip("pandas")
    domains = make_split("ammeling-domains-as-published", manifest)
    frame = pandas.DataFrame({"id": manifest.ids, "tumour": manifest.table[r.TUMOUR].to_pylist()})
    own = frame[frame.tumour == "lymphoma"]
    tested = own.sample(frac=0.2, replace=False, random_state=44)
    val = own.drop(tested.index).sample(frac=0.2, replace=False, random_state=44)
    fold = next(fold for fold in domains.folds if fold.name == "lymphoma-repeat-3")
    assert set(fold.val) == set(val.id)
    assert set(fold.test) == set(tested.id) | set(frame[frame.tumour != "lymphoma"].id)


def near_share(manifest: Manifest, known: tuple[str, ...], test: tuple[str, ...]) -> float:
    """Share of test figures with a known figure on the same slide inside the crop's half-width."""
    from scipy.spatial import cKDTree

    rows = {name: manifest.rows_of(ids) for name, ids in (("known", known), ("test", test))}
    slides = np.unique(manifest.column(r.IMAGE).astype(str), return_inverse=True)[1]
    # Slides far apart along x make one tree of all; the largest coordinate is below 10^5.
    points = np.column_stack([manifest.column(r.X_PX) + slides * 1e6, manifest.column(r.Y_PX)])
    distance, _ = cKDTree(points[rows["known"]]).query(points[rows["test"]], p=np.inf)
    return float((distance <= 112).mean())


def test_ammeling_draws_by_row_number(fabricated):
    split = make_split("ammeling-as-published", fabricated, fractions=[1.0], seeds=[7])
    (fold,) = split.folds
    n = len(fabricated)
    drawn = np.random.RandomState(7).permutation(n)[: int(n * 0.2)]
    assert fold.test == tuple(sorted(fabricated.ids[row] for row in drawn))
    assert fold.name == "seed-7-fraction-1"
    assert len(fold.val) == int((n - len(fold.test)) * 0.2)
    assert len(fold.train) + len(fold.val) + len(fold.test) == n


def test_giedziun_stratifies_by_label_only(make):
    manifest = make(cases=300)
    split = make_split("giedziun-as-published", manifest)
    (fold,) = split.folds
    assert len(fold.val) == -(-len(manifest) // 20)
    assert split.positives["repeat-1"][1] == pytest.approx(0.05 * manifest.labels.sum(), abs=1)
    assert sorted((*fold.train, *fold.val)) == sorted(manifest.ids)
