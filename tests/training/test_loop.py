"""The training loop: repeatable, resumable at any moment, and clear about what goes wrong."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from atypia.base.errors import InputError, WorkError
from atypia.methods.network import build_network
from atypia.training.epochs import checkpoints
from atypia.training.epochs.objective import Objective, StepInput
from atypia.training.networks import idle_terms, network_spec

LOOPS = Path(__file__).with_name("loops.py")


def load_loops() -> ModuleType:
    spec = importlib.util.spec_from_file_location("loops", LOOPS)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


loops = load_loops()

pytestmark = pytest.mark.usefixtures("one_thread")  # the killed process uses one as well


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert set(one) == set(other)
    for name in one:
        assert torch.equal(one[name], other[name]), name


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> object:
    """An undisturbed training."""
    return loops.train(tmp_path_factory.mktemp("whole"), loops.recipe())


def without_times(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{k: v for k, v in line.items() if k not in {"seconds", "images_per_s"}} for line in history]


def test_same_seed_gives_equal_bits_and_another_seed_does_not(whole, tmp_path: Path) -> None:
    again = loops.train(tmp_path / "a", loops.recipe())
    assert_same(again.network.trained_state(), whole.network.trained_state())
    assert without_times(again.history) == without_times(whole.history)
    other = loops.train(tmp_path / "b", loops.recipe(), seed=1)
    assert without_times(other.history) != without_times(whole.history)


def test_metrics_file_has_one_line_an_epoch(tmp_path: Path) -> None:
    outcome = loops.train(tmp_path, loops.recipe(epochs=2))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == outcome.history
    assert [line["epoch"] for line in lines] == [0, 1]
    assert {"loss", "loss_main", "loss_adversarial", "loss_distillation", "val_auroc", "val_ema_auroc"} <= set(lines[0])


@pytest.mark.parametrize("step", [2, 4, 9])
def test_interrupt_writes_a_checkpoint_and_the_rest_is_as_if_nothing_happened(whole, tmp_path: Path, step: int) -> None:
    seen = 0

    def interrupt(done: int, total: int, what: str) -> None:
        nonlocal seen
        seen += 1
        if seen == step:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        loops.train(tmp_path, loops.recipe(), interrupt)
    assert (tmp_path / checkpoints.LAST).is_dir()
    resumed = loops.train(tmp_path, loops.recipe())
    assert_same(resumed.network.trained_state(), whole.network.trained_state())
    assert without_times(resumed.history) == without_times(whole.history)


def test_kill_at_any_step_and_go_on(whole, tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, str(LOOPS), "7", str(tmp_path)], check=False, env=os.environ, timeout=300)
    assert run.returncode == -signal.SIGKILL
    resumed = loops.train(tmp_path, loops.recipe())
    assert_same(resumed.network.trained_state(), whole.network.trained_state())


def test_damaged_last_checkpoint_falls_back_with_a_warning(
    whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atypia.training.epochs.loop.CHECKPOINT_EVERY_S", -1.0)
    seen = 0

    def interrupt(done: int, total: int, what: str) -> None:
        nonlocal seen
        seen += 1
        if seen == 6:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        loops.train(tmp_path, loops.recipe(), interrupt)
    (tmp_path / checkpoints.LAST / checkpoints.TENSORS).write_bytes(b"damaged")
    with pytest.warns(RuntimeWarning, match="checksum.*going on from checkpoint-previous"):
        resumed = loops.train(tmp_path, loops.recipe())
    assert_same(resumed.network.trained_state(), whole.network.trained_state())


def test_checkpoint_of_another_run_is_not_used(whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atypia.training.epochs.loop.CHECKPOINT_EVERY_S", -1.0)
    loops.train(tmp_path, loops.recipe(epochs=1))
    state = checkpoints.load_checkpoint(tmp_path)
    assert state is not None
    checkpoints.save_checkpoint(tmp_path, {**state, "run_id": "another"})
    with pytest.warns(RuntimeWarning, match="of another run"):
        again = loops.train(tmp_path, loops.recipe())
    assert_same(again.network.trained_state(), whole.network.trained_state())


def test_it_learns_what_can_be_learned(tmp_path: Path) -> None:
    made = loops.recipe(epochs=8, select={"metric": "auroc"}, ema=None, terms=None, loss=None, head=None)
    outcome = loops.train(tmp_path, made)
    assert outcome.best_score > 0.95
    assert outcome.history[-1]["loss"] < outcome.history[0]["loss"]


def test_loss_that_is_not_finite_stops_with_the_figures_and_keeps_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atypia.training.epochs.loop.CHECKPOINT_EVERY_S", -1.0)
    made = loops.recipe()
    plan = loops.plan(tmp_path, made)
    honest = plan.feed.training_batch
    calls = 0

    def broken(rows: np.ndarray, seed: int, moves: object) -> Tensor:
        nonlocal calls
        calls += 1
        images = honest(rows, seed)
        return images * torch.nan if calls == 3 else images

    plan.feed.training_batch = broken
    network = loops.build_network(loops.network_spec(made), pretrained=made.pretrained)
    objective = Objective(made, network.encoder.feature_dim, 2)
    with pytest.raises(WorkError, match=r"not finite in epoch 0, step 2.*last good checkpoint.*figure-\d+"):
        loops.run_fold(plan, network, objective)
    assert checkpoints.load_checkpoint(tmp_path) is not None


def test_early_stopping_and_keeping_the_last_epoch(tmp_path: Path) -> None:
    frozen = {"name": "sgd", "lr": 1e-12, "momentum": 0.0}
    common = {"ema": None, "terms": [{"name": "adversarial"}], "optimiser": frozen, "epochs": 6}
    stopped = loops.train(tmp_path / "a", loops.recipe(**common, select={"metric": "auroc", "patience": 2}))
    assert len(stopped.history) < 6
    last = loops.train(tmp_path / "b", loops.recipe(**common, select={"metric": "auroc", "best": False}))
    assert last.best_epoch == 5


def test_gradient_accumulation_is_a_larger_batch_where_nothing_depends_on_the_batch(tmp_path: Path) -> None:
    # Without batch norm in training mode and without random parts both give the same first step.
    common = {
        "backbone": "tiny-vit", "epochs": 1, "augment": "none", "head": None, "ema": None, "terms": None,
        "loss": {"name": "bce"}, "sampler": {"name": "uniform"}, "select": {"metric": "auroc"},
        "optimiser": {"name": "sgd", "lr": 0.1, "momentum": 0.0}, "deterministic": True,
    }  # fmt: skip
    whole = loops.train(tmp_path / "a", loops.recipe(**common, batch_size=16))
    parts = loops.train(tmp_path / "b", loops.recipe(**common, batch_size=8, accumulate=2))
    one, other = whole.network.trained_state(), parts.network.trained_state()
    for name in one:
        assert torch.allclose(one[name], other[name], atol=1e-5), name


@pytest.mark.parametrize(
    "changes",
    [{"terms": [{"name": "alignment"}]}, {"mixup": {"across_domains": True}, "terms": None}, {}],
)
def test_domain_methods_refuse_a_single_domain(changes: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"at least two domains.*fix: "):
        Objective(loops.recipe(**changes), 8, 1)


def test_batches_of_too_few_domains_are_counted_and_said() -> None:
    """Alignment needs two known domains in a batch and an adversary one; without them the term is 0, and not silently."""
    recipe = loops.recipe(terms=[{"name": "alignment"}, {"name": "adversarial"}], ema=None, select={"metric": "auroc"})
    network = build_network(network_spec(recipe), None, False, 0)
    objective = Objective(recipe, network.encoder.feature_dim, 2)
    objective.start_epoch(0, 1.0)
    found = {
        str(codes): objective(network, None, StepInput(
            torch.rand(4, 3, 32, 32), torch.tensor([0.0, 1.0, 0.0, 1.0]), torch.tensor(codes), 0.5, 0
        ))
        for codes in ([0, 1, 0, 1], [1, 1, 1, 1], [-1, -1, -1, 0], [-1, -1, -1, -1])
    }  # fmt: skip
    assert [float(one["idle_alignment"]) for one in found.values()] == [0, 1, 1, 1]
    assert [float(one["idle_adversarial"]) for one in found.values()] == [0, 0, 0, 1]
    assert [bool(one["loss_alignment"] > 0) for one in found.values()] == [True, False, False, False]

    said = idle_terms(
        "fold-1", [{"idle_alignment": 0.5, "idle_adversarial": 0.0}, {"idle_alignment": 0.25, "idle_adversarial": 0.0}]
    )
    assert said == [
        "fold-1: alignment had no effect in 38% of the batches, which held figures of too few known domains; "
        "`sampler: {name: domain-batches}` puts several into each"
    ]


def test_a_term_that_is_mostly_idle_is_warned_of_and_the_sampler_mends_it(tmp_path: Path) -> None:
    """Four of 32 figures are of the second domain: a batch of four seldom holds one, unless the sampler sees to it."""
    shares = {}
    for name in ("uniform", "domain-batches"):
        recipe = loops.recipe(
            terms=[{"name": "coral"}], sampler={"name": name}, batch_size=4, epochs=1, ema=None, select={"metric": "auroc"},
            loss=None,
        )  # fmt: skip
        made = loops.plan(tmp_path / name, recipe)
        made.train.domains[:] = (np.arange(32) >= 28).astype(np.int64)
        network = build_network(network_spec(recipe), seed=0)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            history = loops.run_fold(made, network, Objective(recipe, network.encoder.feature_dim, 2)).history
        shares[name] = history[0]["idle_coral"]
        said = [str(one.message) for one in caught if "no effect" in str(one.message)]
        assert len(said) == (name == "uniform")
    assert shares["uniform"] > 0.5 and shares["domain-batches"] == 0
    assert said == []


@pytest.mark.parametrize("section", ["swa", "swad"])
def test_an_average_of_the_weights_is_kept_and_survives_an_interruption(section: str, tmp_path: Path) -> None:
    """The kept weights are the mean of the steps (SWAD) or epochs (SWA) that were averaged; a resumed run gives the same."""
    options = {"swa": {"start": 0.4}, "swad": {"converge": 1, "tolerance": 3, "ratio": 5.0}}[section]
    recipe = loops.recipe(
        **{section: options}, select={"metric": "auroc", "of": "average"}, terms=None, ema=None, epochs=3,
    )  # fmt: skip
    seen: list[dict[str, Tensor]] = []
    made = loops.plan(tmp_path / "a", recipe)
    network = build_network(network_spec(recipe), seed=0)

    def after_step(done: int, total: int, what: str) -> None:
        if section == "swad" or (done == total and what != "fold-1, epoch 1 of 3"):
            seen.append(network.trained_state())

    objective = Objective(recipe, network.encoder.feature_dim, 2)
    outcome = loops.run_fold(made, network, objective, after_step)
    kept = outcome.network.trained_state()
    for name, value in kept.items():
        if value.is_floating_point():
            assert torch.allclose(value, torch.stack([one[name] for one in seen]).mean(0), atol=1e-5), name

    class StopError(Exception):
        pass

    def stops(done: int, total: int, what: str) -> None:
        if "epoch 3" in what and done == 2:
            raise StopError

    folder = tmp_path / "b"
    second = loops.plan(folder, recipe)
    again = build_network(network_spec(recipe), seed=0)
    loop_module = sys.modules[type(made).__module__]
    loop = loop_module.Loop(second, again, Objective(recipe, again.encoder.feature_dim, 2))
    loop.checkpoint_every_s = -1.0
    folder.mkdir(parents=True)
    with pytest.raises(StopError):
        loop.run(stops)
    resumed = loops.train(folder, recipe).network.trained_state()
    assert all(torch.equal(resumed[name], value) for name, value in kept.items())


@pytest.mark.parametrize("values", [{"swa": {}}, {"select": {"of": "average"}, "swa": {}, "swad": {}},
                                    {"select": {"of": "average"}}])  # fmt: skip
def test_an_average_goes_with_its_selection(values: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"select.of: average goes with one of `swa` and `swad`; fix: set it and one"):
        loops.recipe(**{"terms": None, "ema": None, "select": {"metric": "auroc"}, **values})
