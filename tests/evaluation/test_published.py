"""Published rows: their schema, the tables that follow from the folds, and spot checks by eye."""

from __future__ import annotations

import pytest

from atypia.backbones.catalogue import BACKBONES
from atypia.base.errors import InputError
from atypia.base.records import ATYPICAL_TASK, CLASS_NAMES
from atypia.data.sources.catalogue import SOURCES
from atypia.evaluation.published import FINAL_TEST, HIDDEN_TEST, KINDS, PAPERS, published_folds, published_rows
from atypia.statistics.differences.crossvalidation import mean_sd
from atypia.statistics.metrics import METRICS

ROWS = published_rows()


def test_every_row_speaks_the_names_of_atypia() -> None:
    assert {row.paper for row in ROWS} == set(PAPERS)
    assert {row.backbone for row in ROWS} - {None} <= set(BACKBONES)
    assert {row.adaptation for row in ROWS} - {None} == {"probe", "lora", "full"}
    assert {row.dataset for row in ROWS} - {HIDDEN_TEST, FINAL_TEST} <= set(SOURCES)
    assert {row.metric for row in ROWS} <= set(METRICS)
    assert {row.kind for row in ROWS} == set(KINDS)
    assert all(row.source and row.setting and row.model for row in ROWS)
    assert all(paper.task in CLASS_NAMES and paper.note for paper in PAPERS.values())


def test_every_row_is_whole_and_there_once() -> None:
    for row in ROWS:
        assert -1 <= row.value <= 1 if row.kind == "difference" else 0 <= row.value <= 1
        assert (row.fold is not None) == (row.kind == "fold")
        assert (row.sd is not None) == (row.kind in ("mean", "difference"))
    keys = [
        (row.paper, row.model, row.adaptation, row.dataset, row.setting, row.metric, row.kind, row.fold) for row in ROWS
    ]
    assert len(set(keys)) == len(keys)


def test_numbers_of_rows() -> None:
    counts = {name: len(published_rows([name])) for name in PAPERS}
    # Banerjee: 17 models, 3 test sets, 5 folds, 2 metrics; both recalls of two models on every fold and set.
    assert counts["banerjee"] == 17 * 3 * 5 * 2 + 2 * 3 * 5 * 2 + 17 * 3 * 2
    assert len(published_rows(["banerjee"], kind="mean")) == 17 * 3 * 2
    assert len(published_rows(["banerjee"], metric="auroc", kind="fold")) == 17 * 3 * 5
    assert counts["ammeling"] == 17 * 3 * 2 + 17 * 6
    assert len(published_rows(["giedziun"], kind="difference")) == 12 * 5
    assert counts["benito"] == 4 * 6 + 4 * 5
    assert counts["atey"] == 2 * 4
    assert counts["balezo"] == 2


def test_the_winner_of_the_challenge_is_the_highest_result_on_atypical_figures() -> None:
    (best,) = published_rows(["balezo"], dataset=FINAL_TEST)
    others = [row for row in ROWS if PAPERS[row.paper].task == ATYPICAL_TASK and row.metric == "balanced_accuracy"]
    assert max(others, key=lambda row: row.value) is best and best.value == 0.908


@pytest.mark.parametrize("metric", ["balanced_accuracy", "auroc"])
@pytest.mark.parametrize("dataset", ["ami-br", "atnorm-br", "atnorm-md"])
def test_banerjees_means_follow_from_the_folds(dataset: str, metric: str) -> None:
    differ = []
    for row in published_rows(["banerjee"], dataset, metric, "mean"):
        folds = published_folds("banerjee", dataset, metric, str(row.adaptation))[row.model]
        found = mean_sd(folds, ddof=0)
        if abs(found.mean - row.value) > 1.5e-4 or abs(found.sd - (row.sd or 0)) > 1.5e-4:
            differ.append((row.model, row.adaptation))
    assert set(differ) <= {("Prov-Gigapath", "probe")}


def test_benitos_means_follow_from_the_folds() -> None:
    means = published_rows(["benito"], kind="mean")
    assert len(means) == 4
    for row in means:
        folds = [
            other.value
            for other in published_rows(["benito"], kind="fold")
            if (other.model, other.setting) == (row.model, row.setting)
        ]
        found = mean_sd(folds, ddof=0)
        assert (found.mean, found.sd) == pytest.approx((row.value, row.sd), abs=1.01e-4)


@pytest.mark.parametrize(
    ("paper", "model", "adaptation", "dataset", "setting", "metric", "value", "sd"),
    [
        ("banerjee", "Virchow2", "lora", "ami-br", "test", "balanced_accuracy", 0.8135, 0.0145),
        ("banerjee", "Swin Transformer", "full", "atnorm-md", "test", "auroc", 0.8806, 0.0087),
        ("ammeling", "H-optimus-0", "lora", "midog2022", "out-of-domain", "auroc", 0.88, 0.02),
        ("ammeling", "Virchow", "lora", "ccmct", "100 % of the training data", "balanced_accuracy", 0.75, 0.07),
        ("ammeling", "Phikon", "lora", "midog2022", "100 % of the training data", "weighted_f1", 0.75, 0.09),
        ("ammeling", "ResNet50", "probe", "midog2022", "in-domain", "weighted_f1", 0.62, 0.05),
        ("giedziun", "EfficientNetV2-S", "full", "midog25-atypical", "augmentation: medium", "sensitivity", 0.18, 0.054),
        ("giedziun", "H-optimus-0", "lora", "midog25-atypical", "leave one domain out", "balanced_accuracy", 0.851, 0.037),
        ("benito", "Lunit SSL", "full", HIDDEN_TEST, "real only", "balanced_accuracy", 0.8621, None),
        ("atey", "DenseNet-121", "full", HIDDEN_TEST, "preliminary leaderboard", "specificity", 0.8651, None),
    ],
)  # fmt: skip
def test_numbers_read_in_the_papers(
    paper: str,
    model: str,
    adaptation: str,
    dataset: str,
    setting: str,
    metric: str,
    value: float,
    sd: float | None,
) -> None:
    found = [
        (row.value, row.sd)
        for row in published_rows([paper], dataset, metric)
        if (row.model, row.adaptation, row.setting) == (model, adaptation, setting) and row.kind != "fold"
    ]
    assert found == [(value, sd)]


def test_unknown_names() -> None:
    with pytest.raises(InputError, match="unknown paper 'banerje'; did you mean 'banerjee'"):
        published_rows(["banerje"])
    with pytest.raises(InputError, match="unknown metric 'auc'"):
        published_rows(metric="auc")
    with pytest.raises(InputError, match="`kind` must be fold or mean or single or difference, got median"):
        published_rows(kind="median")  # type: ignore[arg-type]
    assert published_folds("atey", "ami-br", "auroc", "full") == {}
