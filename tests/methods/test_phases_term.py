"""The term `phases`: its formula, what has no phase, where its gradient goes, and a training with it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from atypia import train
from atypia.base import records as r
from atypia.base.errors import InputError
from atypia.data.manifest import Manifest
from atypia.data.phantom.dataset import cached_phantom
from atypia.methods.catalogue import TERMS
from atypia.methods.network import Network, build_network
from atypia.methods.term import NamedPhases, Setting
from atypia.methods.terms.phases import Phases, PhasesOptions
from atypia.splits.protocol import make_split
from atypia.synthesis.model.conditions import condition_values
from atypia.training.epochs.objective import Objective, StepInput
from atypia.training.epochs.phases import phases_of, phases_told_apart
from atypia.training.networks import network_spec
from atypia.training.recipe import load_recipe
from atypia.training.schema import NetworkRecipe
from atypia.training.train import train as train_folds
from atypia.training.trainer import TrainingRequest

from .tiny import SIDE, recipe_with

NAMES = ("metaphase", "ring", "tripolar")
NAN = [math.nan] * 3
SHARES = torch.tensor([[1.0, 0, 0], NAN, [0.5, 0.5, 0], [0, 0, 1], NAN, [0, 1, 0], NAN, NAN])


recipe = partial(recipe_with, "phases")


def built(made: NetworkRecipe, shares: Tensor = SHARES) -> tuple[Network, Objective, Phases]:
    network = build_network(network_spec(made), pretrained=False, seed=3).eval()
    objective = Objective(made, network.encoder.feature_dim, 2, seed=5, phases=NamedPhases(NAMES, shares))
    objective.start_epoch(0, 1.0)
    term = objective.terms["phases"]
    assert isinstance(term, Phases)
    return network, objective, term


def given(rows: list[int], seed: int = 7) -> StepInput:
    count = len(rows)
    images = torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    return StepInput(images, torch.arange(count) % 2.0, torch.zeros(count).long(), 0.5, seed, rows=torch.tensor(rows))


def test_it_is_the_cross_entropy_with_the_raters_shares_over_figures_that_have_a_phase() -> None:
    network, objective, term = built(recipe())
    asked = given([2, 1, 5, 0])
    found = objective(network, None, asked)
    logs = term.head(network(asked.images).pooled).log_softmax(1)
    want = -(0.5 * logs[0, 0] + 0.5 * logs[0, 1] + logs[2, 1] + logs[3, 0]) / 3
    assert found["loss_phases"].item() == pytest.approx(want.item(), rel=1e-5)
    assert found["loss"].item() == pytest.approx((found["loss_main"] + 0.3 * want).item(), rel=1e-5)


def test_a_batch_without_phases_adds_nothing_and_has_a_gradient() -> None:
    network, objective, term = built(recipe())
    found = objective(network, None, given([1, 4, 6, 7]))
    assert found["loss_phases"].item() == 0 and found["loss"].item() == found["loss_main"].item()
    found["loss"].backward()
    assert term.head.weight.grad is None


def test_its_gradient_reaches_the_backbone_and_not_the_classifier_s_own_layers() -> None:
    network, objective, term = built(recipe())
    objective(network, None, given([0, 2, 3, 5]))["loss_phases"].backward()
    reached = {name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == {"encoder"} and bool(term.head.weight.grad.any())  # pyright: ignore[reportOptionalMemberAccess]
    assert not any("phases" in name for name in network.trained_state())


def test_mixed_figures_have_mixed_shares() -> None:
    network, objective, term = built(recipe(mixup={"alpha": 1.0, "probability": 1.0}))
    asked = given([0, 3, 5, 2])
    found = objective(network, None, asked)
    _, _, mix = objective._mixed(asked)
    assert mix is not None
    shares = torch.stack([
        mix.share[i] * SHARES[asked.rows][i] + (1 - mix.share[i]) * SHARES[asked.rows][mix.partner[i]] for i in range(4)
    ])  # fmt: skip
    logs = term.head(network(mix.images(asked.images)).pooled).log_softmax(1)
    assert found["loss_phases"].item() == pytest.approx((-(shares * logs).sum(1).mean()).item(), rel=1e-5)
    one_unknown = objective(network, None, given([0, 1, 1, 1]))  # every mix with a figure without phase is left out
    assert math.isfinite(float(one_unknown["loss"]))


def test_without_phases_or_rows_it_cannot_be_built_or_used() -> None:
    with pytest.raises(InputError, match="one with phases"):
        TERMS["phases"](PhasesOptions(name="phases"), Setting(4, 2))
    network, objective, _ = built(recipe())
    asked = given([0, 1])
    with pytest.raises(InputError, match="one with rows"):
        objective(network, None, StepInput(asked.images, asked.targets, asked.domains, 0.5, 1))


def named(phases: list[list[str | None] | None]) -> Manifest:
    figures = [
        {"figure_id": str(i), "dataset": "mine", "image": f"{i}.png", "phase": one} for i, one in enumerate(phases)
    ]
    return Manifest.from_rows(figures, "mine")


def test_shares_are_those_of_the_figures_trained_on() -> None:
    found = phases_of(
        named([["ring", "plate"], None, [None, "plate"], ["other"], ["ring", "ring"]]), np.array([0, 1, 2, 4]), 7
    )
    assert found.names == ("plate", "ring")
    assert found.shares.nan_to_num(nan=-1).tolist() == [
        [0.5, 0.5],
        [-1, -1],
        [1, 0],
        [-1, -1],
        [0, 1],
        [-1, -1],
        [-1, -1],
    ]


@pytest.mark.parametrize("phases", [[None, None], [["ring"], ["ring", "ring"]]])
def test_fewer_than_two_phases_are_refused(phases: list[list[str | None] | None]) -> None:
    with pytest.raises(InputError, match=r"at least two phases that raters named, got (none|ring)"):
        phases_of(named(phases), np.arange(2), 2)


def test_one_phase_in_several_spellings_is_one() -> None:
    spelled = named([["Ring-Shape", "ring shape"], ["RING_SHAPE", "plate"], ["ring shape", " Plate"], [""]])
    found = phases_of(spelled, np.arange(4), 4)
    assert found.names == ("Plate", "ring shape"), "the most frequent spelling; of equals the first"
    assert found.shares[:3].tolist() == [[0, 1], [0.5, 0.5], [0.5, 0.5]] and bool(found.shares[3].isnan().all())
    assert condition_values(spelled, "phase") == ["ring shape", None, None, None]


def test_sets_that_name_phases_apart_are_told() -> None:
    words = {
        "a": ["NMF metaphase", "AMF other"],
        "b": ["metaphase", "ring"],
        "c": ["Ring", "tripolar"],
        "d": [None, None],
    }
    rows = [
        {"figure_id": f"{name}{i}", "dataset": name, "image": "x", "phase": [phase]}
        for name, phases in words.items() for i, phase in enumerate(phases)
    ]  # fmt: skip
    said = phases_told_apart(Manifest.from_rows(rows, "pool"))
    assert [text.partition(" name no phase alike")[0] for text in said] == ["a and b", "a and c"]


def test_a_fold_without_phases_or_domains_is_refused_before_any_is_trained(tmp_path: Path) -> None:
    phantom = cached_phantom(48, 3)
    few = ["backbone=tiny-cnn", "input_px=32", "epochs=1", "pretrained=false", "select.best=false"]
    first, last = make_split("kfold", phantom, 0, folds=2).folds
    alone = set(first.train) - set(last.train)
    for name, without, expected in (
        ("phases", {r.PHASE}, "training part of fold-2, for the term phases` must be of at least two"),
        ("coral", {r.DOMAIN, *r.DOMAIN_PARTS}, "training part of fold-[12]` must be of at least two domains for coral"),
    ):
        rows = [
            {key: value for key, value in row.items() if row[r.FIGURE_ID] in alone or key not in without}
            for row in phantom.table.to_pylist()
        ]
        part = Manifest.from_rows(rows, "part", phantom.task, phantom.root)
        recipe_name, made = load_recipe("full", [*few, f"terms.{name}={{weight: 1}}"])
        split = make_split("kfold", part, 0, folds=2)
        with pytest.raises(InputError, match=expected):
            train_folds(TrainingRequest(recipe_name, made, part, split, tmp_path / name))
        assert not list((tmp_path / name).glob("fold-*/"))


def test_a_fold_of_one_class_is_refused_before_any_is_trained(tmp_path: Path) -> None:
    phantom = cached_phantom(48, 3)
    split = make_split("kfold", phantom, 0, folds=2)
    first, last = split.folds
    normal = tuple(figure for figure in last.train if not phantom.labels[phantom.rows_of([figure])[0]])
    few = ["backbone=tiny-cnn", "input_px=32", "epochs=1", "pretrained=false", "select.best=false"]
    name, made = load_recipe("full", few)
    job = TrainingRequest(
        name, made, phantom, replace(split, folds=(first, replace(last, train=normal)), positives={}), tmp_path
    )
    with pytest.raises(InputError, match=r"of both classes for sampler .*, got no positive"):
        train_folds(job)
    assert not list(tmp_path.glob("fold-*/"))


def test_a_training_learns_them(tmp_path: Path) -> None:
    few = (
        "backbone=tiny-cnn",
        "input_px=32",
        "epochs=3",
        "pretrained=false",
        "terms.phases={weight: 1}",
        "select.best=false",
    )
    _ = train("full", cached_phantom(48, 3), tmp_path, protocol="everything", overrides=few)
    losses = [json.loads(line)["loss_phases"] for line in next(tmp_path.glob("*/metrics.jsonl")).open()]
    assert len(losses) == 3 and losses[0] > losses[-1] > 0
