"""Plans: from study files to runs that are known by the content of what they are made from."""

from __future__ import annotations

import csv
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from atypia.base import records as r
from atypia.base.errors import AbsentError, InputError, WorkError
from atypia.data.manifest import Manifest
from atypia.studies.files import load_study, shipped_studies
from atypia.studies.plan import Plan, make_plan
from atypia.studies.schema import DataConfig

from .small import plan_of, values

DOMAINS = [("A", "one", "x"), ("A", "two", "x"), ("B", "three", "y"), ("C", "four", "z")]


def fake(data: DataConfig, figures: int = 280) -> Manifest:
    """A table in a set's place: four domains, six cases each, published parts, both classes; no images.

    Of the sets of mitotic figures, positions on slides, as they are published.
    """
    task = r.MITOSIS_TASK if data.open in ("ccmct", "midog2022") else r.ATYPICAL_TASK
    rows: list[dict[str, Any]] = []
    for d, (scanner, origin, tumour) in enumerate(DOMAINS):
        for case in range(6):
            for k in range(figures if task == r.MITOSIS_TASK else 60):  # a thousandth must be figures enough
                name = f"{data.shown}-{d}-{case}-{k}"
                place = {r.IMAGE: f"{d}-{case}.png", r.X_PX: 50.0 * k, r.Y_PX: 300.0, r.SHA256: None}
                rows.append(
                    {r.FIGURE_ID: name, r.DATASET: data.shown, r.IMAGE: f"{name}.png", r.CASE_ID: f"{data.shown}-{d}-{case}",
                     r.SLIDE_ID: f"{data.shown}-{d}-{case}", r.PART: "test" if case == 5 else "train", r.LABEL: int(k % 3 == 0),
                     r.SCANNER: scanner, r.ORIGIN: origin, r.TUMOUR: tumour, r.SHA256: name,
                     **(place if task == r.MITOSIS_TASK else {})}
                )  # fmt: skip
    return Manifest.from_rows(rows, data.shown, task, Path("/nowhere"))


@pytest.mark.parametrize("name", shipped_studies())
def test_every_shipped_study_plans_at_every_size(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    study = load_study(name)
    assert study.name == name
    assert set(study.sizes) >= {"cpu", "smoke"}
    large = partial(fake, figures=700)  # single annotations are drawn: a thousandth must hold both classes by chance
    for size in ("full", "cpu", "smoke"):
        opener = large if name.endswith("as-published") else fake
        plan = make_plan(study.sized(size), tmp_path / size, opener=opener)
        assert plan.runs
        assert len({run.id for run in plan.runs}) == len(plan.runs), "two rows are one training"
        if size != "full":
            lacking = [why for why in plan.lacking() if "is not installed; fix: pip install" not in why]
            assert not lacking, "cpu and smoke need nothing but what is in packages"


def test_the_paper_s_numbers_of_runs(tmp_path: Path) -> None:
    def runs(name: str) -> int:
        plan = make_plan(load_study(name).sized("full"), tmp_path / name, opener=fake)
        return len(plan.runs)

    assert runs("banerjee-table3") == 17 * 5
    assert runs("ammeling-scaling") == 2 * 17 * 4 * 5
    assert runs("ammeling-cross-domain") == 17 * 3 * 5  # three tumours in the table above, five in the paper
    assert runs("giedziun-augmentation") == 13 * 5
    assert runs("giedziun-lodo") == 2 * 4
    assert runs("giedziun-settings") == 3 * 3 * 3 * 4  # four domains above
    assert runs("benito-synthetic") == 4 * 5
    assert runs("benito-beyond") == 16 * 5
    assert runs("benito-options") == 7 * 5
    assert runs("unseen-laboratories") == 4 * 3 * 4  # sizes, seeds; four domains above, six in AMi-Br


def ids(given: dict[str, Any], folder: Path) -> dict[tuple[str, str], str]:
    plan, _ = plan_of(given, folder)
    return {(plan.trainings[run.training].label, run.fold): run.id for run in plan.runs}


def test_a_run_is_another_when_an_input_is(small_csv: Path, paint: Any, tmp_path: Path) -> None:
    given = values(small_csv, [])
    first = ids(given, tmp_path / "a")
    assert ids(given, tmp_path / "b") == first
    assert len(set(first.values())) == 4

    # What decides no result changes no id.
    same = {**given, "summary": "other words", "baseline": "probe"}
    same["models"] = [given["models"][0] | {"label": "probe"}, given["models"][1]]
    assert ids(same, tmp_path / "c") == first

    def changed(name: str, **changes: Any) -> set[tuple[str, str]]:
        found = ids({**given, **changes}, tmp_path / name)
        return {key for key in first if found[key] != first[key]}

    everything = set(first)
    network = {key for key in first if key[0] == "network"}
    assert changed("seed", seeds=[1]) == everything
    assert changed("folds", protocol={"name": "kfold", "options": {"folds": 3}}) == everything
    lower = given["models"][1]["set"] | {"optimiser.lr": 1e-4}
    assert changed("lr", models=[given["models"][0], given["models"][1] | {"set": lower}]) == network

    # One other label in the data.
    table = paint(tmp_path / "repainted")
    with open(table, newline="", encoding="utf-8") as file:
        lines = list(csv.reader(file))
    before = ids(values(table, []), tmp_path / "before")
    lines[1][1] = str(1 - int(lines[1][1]))
    with open(table, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(lines)
    after = ids(values(table, []), tmp_path / "after")
    assert not set(before.values()) & set(after.values())


def test_a_plan_is_read_as_it_was_written(small_csv: Path, other_csv: Path, tmp_path: Path) -> None:
    plan, out = plan_of(values(small_csv, [other_csv]), tmp_path)
    plan.save(out)
    assert Plan.load(out) == plan
    (out / "plan.json").write_text('{"format": 1, "cells": 3}', "utf-8")
    with pytest.raises(WorkError, match=r"plan.json is damaged .*; fix: run the study again"):
        Plan.load(out)
    with pytest.raises(InputError, match="holds no study; fix: give the --out folder"):
        Plan.load(tmp_path)


def test_factors_are_crossed_and_levels_kept_to_their_adaptations(small_csv: Path, tmp_path: Path) -> None:
    factors = [
        {"name": "view", "levels": [{"label": "whole"}, {"label": "middle", "networks": {"view": 0.5},
                                                         "probes": {"geometry.side_px": 20}}]},
        {"name": "labels", "levels": [{"label": "hard"}, {"label": "soft", "networks": {"loss.soft_labels": True},
                                                          "adaptations": ["full"]}]},
    ]  # fmt: skip
    plan, _ = plan_of(values(small_csv, [], factors=factors), tmp_path)
    assert [training.label for training in plan.trainings] == [
        "probe · whole · hard", "probe · middle · hard",
        "network · whole · hard", "network · whole · soft", "network · middle · hard", "network · middle · soft",
    ]  # fmt: skip
    last = plan.trainings[-1]
    assert (last.recipe["view"], last.recipe["loss"]["soft_labels"]) == (0.5, True)
    assert last.factors == {"view": "middle", "labels": "soft"}
    assert plan.trainings[1].recipe["geometry"]["side_px"] == 20
    assert plan.trainings[2].recipe["view"] == 1.0, "a level changes no other cell"


def test_what_is_missing_is_told_and_the_rest_is_planned(small_csv: Path, tmp_path: Path) -> None:
    def opener(data: DataConfig) -> Manifest:
        if data.open == "gone":
            raise AbsentError("gone is not on this machine; fix: get it")
        return fake(data)

    given = values(small_csv, [])
    given["data"] = {"train": ["ami-br", "gone"], "tests": ["gone"]}
    _, out = plan_of(values(small_csv, []), tmp_path)
    file = tmp_path / "small.yaml"
    import yaml

    file.write_text(yaml.safe_dump(given), "utf-8")
    plan = make_plan(load_study(str(file)).sized("smoke"), out, opener=opener)
    assert len(plan.runs) == 4
    assert plan.lacking() == {"gone is not on this machine; fix: get it": ["probe", "network"]}
    assert plan.absent_tests == {"gone": "gone is not on this machine; fix: get it"}
    bare = make_plan(load_study(str(file)).sized("smoke"), out, opener=lambda d: replace(fake(d), root=None))
    assert bare.to_do() == []
    assert all("its images are not available" in text for text in bare.lacking())


def test_each_missing_set_is_told_and_rows_differ_though_what_makes_their_figures_is_missing(tmp_path: Path) -> None:
    def opener(data: DataConfig) -> Manifest:
        if data.open == "ccmct+cmc":
            raise AbsentError("cmc is not on this machine; fix: get it")
        return replace(fake(data), root=None)

    plan = make_plan(load_study("benito-synthetic").sized("full"), tmp_path, opener=opener)
    assert len(plan.runs) == len({run.id for run in plan.runs}) == 4 * 5
    lacking = {text: labels for text, labels in plan.lacking().items() if not text.startswith("weights of")}
    generated = ["ConvNeXt-S · real and synthetic", "Lunit ViT-S · real and synthetic"]
    assert lacking.pop("cmc is not on this machine; fix: get it") == generated
    ((crops, labels),) = lacking.items()
    assert crops.startswith("midog25-atypical: its images are not available") and len(labels) == 4


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"models": []}, r"`models`: .*at least 1"),
        ({"colour": 1}, r"`colour` is not a known key; known here: name, summary"),
        ({"data": {"train": {"open": "a", "phantom": {"n": 3}}}}, "exactly one of `open` and `phantom`"),
        ({"data": {"train": {"open": "a", "where": {"hue": ["x"]}}}}, "no such column to select by: hue"),
        ({"data": {"train": "a", "allow": ["case-across-part"]}}, "did you mean case-across-parts"),
        ({"factors": [{"name": "a", "levels": [{"label": "x"}, {"label": "x"}]}]}, "levels of a must differ, 'x'"),
        ({"baseline": "nobody"}, r"`baseline` must be one of network, probe, got nobody"),
        ({"models": [{"recipe": "probe"}, {"recipe": "probe"}]}, r"`label` must be different in every row"),
        ({"models": [{"recipe": "prob"}]}, r"unknown recipe 'prob'; choices: "),
        ({"models": [{"recipe": "probe", "backbones": ["tiny-cmn"]}]}, "did you mean 'tiny-cnn'"),
        ({"models": [{"recipe": "probe", "set": {"epochs": 3}}]}, r"«probe · efficientnet-lite0» is not valid:\s+`epochs`"),
        ({"models": [{"recipe": "full", "set": {"distillation": {"teachers": ["x"]}}}]}, "one without saved teachers"),
        ({"protocol": {"name": "kfold", "options": {"fold": 2}}}, "`fold` is not a known key"),
        ({"protocol": {"name": "knfold"}}, "unknown protocol 'knfold'; did you mean 'kfold'"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_study_file_is_said(
    changes: dict[str, Any], said: str, small_csv: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said):
        plan_of(values(small_csv, [], **changes), tmp_path)


def test_overrides_of_the_study_file() -> None:
    study = load_study("what-matters", ["seeds=[3, 4]", "sizes.cpu.networks.epochs=7"])
    assert study.sized("cpu").seeds == (3, 4)
    networks = study.sized("cpu").changes.networks
    assert (networks["epochs"], networks["sampler.draws"]) == (7, 960)
    with pytest.raises(InputError, match=r"unknown study 'what'; choices: ammeling-cross-domain"):
        load_study("what")
    with pytest.raises(InputError, match=r"`size` must be one of full, cpu, smoke, got tiny"):
        study.sized("tiny")


def test_what_is_set_holds_at_every_size() -> None:
    plain = load_study("atey-heldout")
    sizes = ("full", "cpu", "smoke")
    assert {plain.sized(size).seeds for size in sizes} == {(0, 1, 2), (0,)}, "a size with seeds of its own"
    changed = load_study("atey-heldout", ["seeds=[7, 8]"])
    assert {changed.sized(size).seeds for size in sizes} == {(7, 8)}

    deeper = load_study("benito-synthetic", ["protocol.options.folds=3"])
    assert [load_study("benito-synthetic").sized(size).protocol.options["folds"] for size in sizes] != [3, 3, 3]
    assert [deeper.sized(size).protocol.options["folds"] for size in sizes] == [3, 3, 3]
