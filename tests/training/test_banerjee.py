"""The whole recipes of Banerjee et al., every part on at once, on tiny networks: each acts beside the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from peft.tuners.lora import Linear as LoraLinear

from atypia.backbones.preparation import STATISTICS
from atypia.data.phantom.dataset import write_phantom
from atypia.splits.protocol import make_split
from atypia.training import networks
from atypia.training.networks import network_spec
from atypia.training.recipe import load_recipe, shipped_recipes
from atypia.training.schema import NetworkRecipe, ProbeRecipe
from atypia.training.train import train
from atypia.training.trainer import TrainingRequest

from .walking import TRAIN, VAL, Walk, walk

ONE = np.zeros(TRAIN + VAL, dtype=np.int64)
SMALL = ["input_px=32", "geometry.out_px=32", "select.patience=null"]


@pytest.fixture(scope="module")
def end_to_end(tmp_path_factory: pytest.TempPathFactory) -> Walk:
    changes = [*SMALL, "backbone=tiny-cnn", "epochs=8", "optimiser.lr=3e-3"]
    return walk("banerjee-e2e", changes, tmp_path_factory.mktemp("e2e"), 32, ONE)


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Walk:
    """Virchow2's preset of the published scripts."""
    changes = [*SMALL, "backbone=tiny-vit", "epochs=8", "optimiser.lr=5e-3", "augment=banerjee-unrotated",
               "normalisation=imagenet", "pooling=cls"]  # fmt: skip
    return walk("banerjee-lora-as-published", changes, tmp_path_factory.mktemp("lora"), 32, ONE)


@pytest.mark.parametrize("which", ["end_to_end", "lora"])
def test_the_loss_falls_and_the_classes_are_told_apart(which: str, request: pytest.FixtureRequest) -> None:
    history = request.getfixturevalue(which).result.history
    assert history[-1]["loss_main"] < 0.8 * history[0]["loss_main"]
    assert max(line["val_auroc"] for line in history) > 0.9


@pytest.mark.parametrize("which", ["end_to_end", "lora"])
def test_an_epoch_draws_both_classes_alike_and_as_often_as_there_are_figures(
    which: str, request: pytest.FixtureRequest
) -> None:
    found: Walk = request.getfixturevalue(which)
    labels = found.loop.plan.train.labels
    drawn = np.concatenate(found.drawn)
    assert all(len(draw) == TRAIN for draw in found.drawn) and labels.mean() == 0.25
    assert labels[drawn].mean() == pytest.approx(0.5, abs=0.06)
    assert all(len(set(draw.tolist())) < TRAIN for draw in found.drawn)  # with replacement
    assert all(len(given.targets) == 8 for given in found.inputs)


@pytest.mark.parametrize("which", ["end_to_end", "lora"])
def test_the_best_epoch_by_balanced_accuracy_is_kept(which: str, request: pytest.FixtureRequest) -> None:
    found: Walk = request.getfixturevalue(which)
    scores = [line["val_balanced_accuracy"] for line in found.result.history]
    assert found.result.best_score == max(scores)
    assert found.result.best_epoch == scores.index(max(scores))  # the first of equals: strictly greater
    assert found.keeps_its_best()
    assert type(found.loop.optimiser) is torch.optim.Adam
    assert {group["weight_decay"] for group in found.loop.optimiser.param_groups} == {1e-5}


def test_the_rate_is_halved_when_the_score_stays_for_more_than_three_epochs(end_to_end: Walk) -> None:
    schedule, optimiser = end_to_end.loop.schedule, end_to_end.loop.optimiser
    assert schedule.best == end_to_end.result.best_score  # each epoch was told
    rates = []
    for score in [2.0, 0.5, 0.5, 0.5, 0.5, 0.5]:
        schedule.end_epoch(score)
        rates.append(optimiser.param_groups[0]["lr"])
    assert rates[4] == pytest.approx(rates[3] / 2)


def test_baselines_are_normalised_with_imagenet_s_statistics_and_corners_are_black(end_to_end: Walk) -> None:
    """The network's own are 0.5: black is then −1, and by ImageNet's −0.485 / 0.229."""
    mean, std = (torch.tensor(values)[:, None, None] for values in STATISTICS["imagenet"])
    feed, rows = end_to_end.loop.plan.feed, np.arange(16)
    plain = feed.plain_batch(rows)
    pixels = torch.from_numpy(end_to_end.crops[:16]).permute(0, 3, 1, 2) / 255
    assert torch.allclose(plain, (pixels - mean) / std, atol=1e-5)
    black = (0 - mean) / std
    turned = torch.cat([feed.training_batch(rows, seed) for seed in range(6)])
    corners = [turned[:, :, i, j] for i in (0, -1) for j in (0, -1)]
    dark = torch.stack([(corner - black[:, 0, 0]).abs().max(1).values < 0.5 for corner in corners])
    assert 0.05 < float(dark.float().mean()) < 0.95
    assert float(plain.min()) > float(black.max()) + 0.3  # no crop itself is black
    assert all(given.images.min() >= black.min() - 1e-4 for given in end_to_end.inputs)
    first = feed.plain_batch(end_to_end.loop.plan.train.rows[end_to_end.drawn[0][:8]])
    assert float((end_to_end.inputs[0].images - first).abs().mean()) > 0.05  # trained on augmented


def test_the_pipeline_flips_left_and_right_alone(end_to_end: Walk) -> None:
    flips = [step for step in end_to_end.loop.plan.feed.augment.spatial if type(step).__name__ == "Flip"]
    assert [(flip.horizontal, flip.vertical) for flip in flips] == [(0.5, 0.0)]  # pyright: ignore[reportAttributeAccessIssue]
    assert end_to_end.recipe.fill == "black" and load_recipe("banerjee-lora")[1].fill == "black"  # type: ignore[union-attr]


def test_adapters_of_attention_and_mlp_and_the_head_alone_are_trained(lora: Walk) -> None:
    state = lora.loop.network.state_dict()
    moved = {name for name, value in state.items() if not torch.equal(value.detach(), lora.start[name])}
    assert moved and all(name.startswith("head.") or ".lora_" in name for name in moved)
    assert not any("patch_embed" in name for name in moved)
    parts = {name.split(".lora_")[0].split(".", 4)[4] for name in moved if ".lora_" in name}
    assert parts == {"attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"}
    a = next(value for name, value in state.items() if ".lora_A" in name)
    assert a.shape[0] == 8
    adapters = [module for module in lora.loop.network.modules() if isinstance(module, LoraLinear)]
    assert len(adapters) == len({name.split(".lora_")[0] for name in moved if ".lora_" in name})
    for adapter in adapters:
        assert adapter.scaling["default"] == 16 / 8 and adapter.lora_dropout["default"].p == 0.3  # pyright: ignore[reportAttributeAccessIssue]


def test_the_class_token_alone_is_classified(lora: Walk) -> None:
    network = lora.loop.network.eval()
    assert network.head.in_features == 64  # of 128 with the mean of the patch tokens
    images = lora.loop.plan.feed.plain_batch(np.arange(2))
    with torch.no_grad():
        tokens = network.encoder.net.forward_features(images)  # type: ignore[operator]
        assert torch.allclose(network(images).pooled, tokens[:, 0], atol=1e-6)


PRESETS = {
    "uni": ("banerjee-wide", None, None, 5e-5), "prov-gigapath": ("banerjee-wide", None, None, 5e-5),
    "h-optimus-0": ("banerjee-wide", None, None, 1e-3), "h-optimus-1": ("banerjee-uncropped", None, None, 1e-3),
    "uni2-h": ("none", None, None, 5e-5), "virchow": ("banerjee-unrotated", "half", "cls", 5e-5),
    "virchow2": ("banerjee-unrotated", "half", "cls", 5e-5),
}  # fmt: skip


@pytest.mark.parametrize("backbone", PRESETS)
def test_the_published_settings_by_model(backbone: str) -> None:
    recipe = load_recipe("banerjee-lora-as-published", [f"backbone={backbone}"])[1]
    assert isinstance(recipe, NetworkRecipe)
    assert (recipe.augment, recipe.normalisation, recipe.pooling, recipe.optimiser.lr) == PRESETS[backbone]
    assert recipe.select.patience == 10 and recipe.fill == "black"
    spec = network_spec(recipe)
    assert spec.entry.feature_dim == {"uni": 1024, "virchow": 1280, "virchow2": 1280}.get(backbone, 1536)
    changed = load_recipe("banerjee-lora-as-published", [f"backbone={backbone}", "augment=basic"])[1]
    assert isinstance(changed, NetworkRecipe) and changed.augment == "basic"  # --set comes last


def test_the_published_probe_and_baselines() -> None:
    probe = load_recipe("probe-banerjee-as-published")[1]
    assert isinstance(probe, ProbeRecipe)
    assert (probe.options["lr"], probe.options["weight_decay"], probe.view, probe.input_px) == (1e-3, 1e-4, 0.875, 224)
    assert load_recipe("probe-banerjee-as-published", ["backbone=uni"])[1].view == 1
    rates = {}
    for backbone in ("efficientnetv2-m", "vit-l16", "swin-b"):
        recipe = load_recipe("banerjee-e2e-as-published", [f"backbone={backbone}"])[1]
        assert isinstance(recipe, NetworkRecipe)
        rates[backbone] = (recipe.pretrained, recipe.optimiser.lr)
        assert network_spec(recipe).entry.mean == STATISTICS["imagenet"][0]
    assert rates == {"efficientnetv2-m": (False, 5e-5), "vit-l16": (True, 1e-4), "swin-b": (True, 1e-4)}


class Built(Exception):
    """Instead of a network."""


@pytest.mark.parametrize("pretrained", [True, False])
def test_a_baseline_begins_as_its_recipe_says(
    pretrained: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(spec: object, file: object, wanted: bool, seed: int) -> None:
        raise Built(f"pretrained: {wanted}")

    monkeypatch.setattr(networks, "build_network", build)
    changes = [*SMALL, "backbone=tiny-cnn", f"pretrained={str(pretrained).lower()}"]
    recipe, manifest = (
        load_recipe("banerjee-e2e-as-published", changes)[1],
        write_phantom(tmp_path / "set", 48, workers=1),
    )
    split = make_split("kfold", manifest, 0, folds=2)
    with pytest.raises(Built, match=f"pretrained: {pretrained}"):
        train(TrainingRequest("baseline", recipe, manifest, split, tmp_path / "run", folds=("fold-1",)))


@pytest.mark.parametrize(
    ("name", "backbone"),
    [("banerjee-e2e", "tiny-cnn"), ("banerjee-lora", "tiny-vit"), ("banerjee-lora-as-published", "tiny-vit")],
)
def test_a_step_at_the_true_geometry(name: str, backbone: str, tmp_path: Path) -> None:
    """Crops of 128 px, enlarged to 224, as the full study asks for."""
    shipped = load_recipe(name)[1]
    assert (shipped.geometry.out_px, shipped.input_px) == (128, 224) and name in shipped_recipes()
    found = walk(name, [f"backbone={backbone}", "epochs=1", "sampler.draws=8"], tmp_path / "run", 128, ONE)
    assert found.inputs[0].images.shape == (8, 3, 224, 224)
    assert np.isfinite(found.result.history[0]["loss_main"])
