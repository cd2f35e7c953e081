"""Teachers that are asked once: what they say, that it is kept, and that students learn from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from atypia.base import runs
from atypia.base.errors import InputError, LeakageError
from atypia.base.paths import cache_root
from atypia.data.augment.colour import jitter_stains
from atypia.data.crops.store import open_store
from atypia.data.manifest import Manifest
from atypia.data.phantom.dataset import write_phantom
from atypia.inference.bundles.bundle import Bundle, load_bundle
from atypia.inference.classifier import Classifier
from atypia.inference.runtimes.torch_runtime import TorchRuntime
from atypia.methods.mixing import Mix
from atypia.methods.network import Output
from atypia.methods.options import Variants
from atypia.methods.terms.distillation import distillation_loss, mixed_logits
from atypia.splits.protocol import make_split
from atypia.splits.split import Split
from atypia.training.epochs import answers as asked
from atypia.training.epochs.answers import Figures, answers, mean_answers, stain_variant
from atypia.training.epochs.objective import Objective, StepInput
from atypia.training.recipe import load_recipe, parse_recipe
from atypia.training.schema import NetworkRecipe
from atypia.training.train import train
from atypia.training.trainer import TrainingRequest

SMALL = ("backbone=tiny-cnn", "epochs=1", "geometry.out_px=64", "input_px=64")
NETWORK = (*SMALL, "pretrained=false", "batch_size=16", "sampler.draws=32", "select.best=false")


def fit(data: Manifest, out: Path, split: Split, *changes: str, recipe: str = "full", fold: str = "") -> Path:
    name, made = load_recipe(recipe, changes)
    folds = (fold,) if fold else tuple(one.name for one in split.folds[:2])
    train(TrainingRequest(name, made, data, split, out, folds=folds))
    return out


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_phantom(tmp_path_factory.mktemp("phantom"), 120, seed=5, workers=1)


@pytest.fixture(scope="module")
def lodo(phantom: Manifest) -> Split:
    return make_split("lodo", phantom, 0)


@pytest.fixture(scope="module")
def teachers(phantom: Manifest, lodo: Split, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A network and a probe, for each of two domains that are left out, and the two of all figures."""
    out = tmp_path_factory.mktemp("teachers")
    whole = make_split("everything", phantom, 0)
    for name, split in (("lodo", lodo), ("all", whole)):
        fit(phantom, out / name / "network", split, *NETWORK)
        fit(phantom, out / name / "probe", split, "backbone=tiny-cnn", "geometry.out_px=64", recipe="probe")
    return out / "lodo", out / "all"


@pytest.fixture
def bundle(teachers: tuple[Path, Path], lodo: Split) -> Bundle:
    return load_bundle(teachers[0] / "network" / lodo.folds[0].name / runs.BUNDLE)


@pytest.fixture
def figures(phantom: Manifest, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Figures:
    """Every fourth figure, in pieces of ten."""
    monkeypatch.setattr(asked, "PIECE", 10)
    return Figures(phantom, open_store(phantom, bundle.geometry), np.arange(0, len(phantom), 4))


def test_the_answer_is_the_mean_logit_over_flips_turns_and_stains(
    figures: Figures, bundle: Bundle, tmp_path: Path
) -> None:
    """As scoring by hand: one view after the other, each as it is and in each change of stain."""
    crops = figures.store.crops[figures.rows]
    runtime = TorchRuntime(bundle)
    by_hand = []
    for stained in (crops, stain_variant(crops, 1), stain_variant(crops, 2)):
        for flip in (False, True):
            for turns in range(4):
                view = np.rot90(stained[:, :, ::-1] if flip else stained, turns, axes=(1, 2))
                by_hand.append(runtime.run(np.ascontiguousarray(view))[0])
    found = answers(bundle, figures, Variants(8, 2), cache=tmp_path)
    assert found.shape == (len(figures.rows), 24)
    np.testing.assert_allclose(found.mean(1), np.mean(by_hand, axis=0), atol=1e-5)
    assert found.std(axis=1).max() > 1e-4  # the forms differ, so there is something to average


def test_views_alone_are_those_of_predict_tta(figures: Figures, bundle: Bundle, tmp_path: Path) -> None:
    bundle.save(tmp_path / "b")
    p = Classifier.load(str(tmp_path / "b"), runtime="torch", tta=True).probabilities(figures.store.crops[figures.rows])
    found = answers(bundle, figures, Variants(8, 0), cache=tmp_path).mean(1)
    np.testing.assert_allclose(1 / (1 + np.exp(-found)), p, atol=1e-5)


def test_teachers_are_brought_together_by_their_mean_probability(
    figures: Figures, bundle: Bundle, teachers: tuple[Path, Path], lodo: Split
) -> None:
    probe = load_bundle(teachers[0] / "probe" / lodo.folds[0].name / runs.BUNDLE)
    each = [answers(one, figures, Variants(8, 1)).mean(1) for one in (bundle, probe)]
    told = mean_answers([bundle, probe], figures, Variants(8, 1))
    p = np.mean([1 / (1 + np.exp(-z.astype(np.float64))) for z in each], axis=0)
    np.testing.assert_allclose(told[figures.rows].numpy(), np.log(p / (1 - p)), atol=1e-5)
    others = np.setdiff1d(np.arange(len(figures.manifest)), figures.rows)
    assert bool(told[others].isnan().all())


def test_stain_variants_are_fixed_and_come_in_opposite_pairs() -> None:
    rng = np.random.default_rng(0)
    crops = rng.integers(60, 200, (3, 16, 16, 3), dtype=np.uint8)
    first, second = stain_variant(crops, 1), stain_variant(crops, 2)
    np.testing.assert_array_equal(stain_variant(crops[1:], 1), first[1:])  # the same for each, whatever is beside it
    assert first.shape == crops.shape and first.dtype == np.uint8
    differences = [np.abs(one.astype(int) - crops).mean() for one in (first, second, stain_variant(crops, 3))]
    assert all(1 < difference < 60 for difference in differences)
    back = (np.log((first.astype(float) + 1) / 256) + np.log((second.astype(float) + 1) / 256)) / 2
    assert np.abs(back - np.log((crops.astype(float) + 1) / 256)).mean() < 0.03
    same = jitter_stains(torch.from_numpy(crops).permute(0, 3, 1, 2) / 255, torch.ones(3, 3), torch.zeros(3, 3))
    np.testing.assert_allclose(same.permute(0, 2, 3, 1).numpy() * 255, crops, atol=0.1)


class Counted(TorchRuntime):
    """Counts the crops that it scores."""

    scored = 0

    def run(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
        Counted.scored += len(crops)
        return super().run(crops)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> type[Counted]:
    Counted.scored = 0
    monkeypatch.setattr(asked, "TorchRuntime", Counted)
    return Counted


def test_what_was_asked_once_is_read(figures: Figures, bundle: Bundle, counted: type[Counted], tmp_path: Path) -> None:
    first = answers(bundle, figures, Variants(8, 0), cache=tmp_path)
    assert counted.scored == len(figures.rows) * 8
    np.testing.assert_array_equal(answers(bundle, figures, Variants(8, 0), cache=tmp_path), first)
    assert counted.scored == len(figures.rows) * 8
    answers(bundle, figures, Variants(8, 1), cache=tmp_path)  # another question
    assert counted.scored == len(figures.rows) * 24
    changed = replace(bundle, tensors={name: value * 0.9 for name, value in bundle.tensors.items()})
    answers(changed, figures, Variants(8, 0), cache=tmp_path)  # another teacher
    assert counted.scored == len(figures.rows) * 32
    answers(bundle, replace(figures, rows=figures.rows[:-1]), Variants(8, 0), cache=tmp_path)  # other figures
    assert counted.scored == len(figures.rows) * 40 - 8


def test_an_interrupted_question_goes_on(
    figures: Figures, bundle: Bundle, counted: type[Counted], tmp_path: Path
) -> None:
    def stop_in_the_second_piece(done: int, total: int, what: str) -> None:
        assert total == len(figures.rows) * 8 and bundle.name in what
        if done == 20 * 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        answers(bundle, figures, Variants(8, 0), progress=stop_in_the_second_piece, cache=tmp_path)
    assert counted.scored == 20 * 8
    (folder,) = [path for path in (tmp_path / asked.FOLDER).iterdir() if path.is_dir()]
    assert len(list(folder.glob("*.npy"))) == 2
    (folder / "logits-00000.npy").write_bytes(b"damaged")
    found = answers(bundle, figures, Variants(8, 0), cache=tmp_path)
    assert counted.scored == (len(figures.rows) + 10) * 8  # the rest, and the piece that was damaged
    np.testing.assert_array_equal(found, answers(bundle, figures, Variants(8, 0), cache=tmp_path / "anew"))


def test_a_teacher_sees_its_own_field(phantom: Manifest, figures: Figures, bundle: Bundle, tmp_path: Path) -> None:
    """The student's crops are smaller here; the teacher's answers stay what they are on its own."""
    store = open_store(phantom, replace(bundle.geometry, out_px=32))
    other = answers(bundle, replace(figures, store=store), Variants(1, 0), cache=tmp_path)
    own = answers(bundle, figures, Variants(1, 0), cache=tmp_path)
    np.testing.assert_array_equal(other, own)


def recipe(**options: object) -> NetworkRecipe:
    term = {"name": "distillation", "weight": 1.0, "warmup_epochs": 0, **options}
    made = parse_recipe({"summary": "x", "adaptation": "full", "backbone": "tiny-cnn", "terms": [term]}, "x")
    assert isinstance(made, NetworkRecipe)
    return made


class Says(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> Output:
        z = images.mean((1, 2, 3))
        return Output(z, z, z, z)


def test_the_answer_of_a_figure_is_its_target_whatever_is_seen_of_it() -> None:
    told = torch.tensor([torch.nan, 2.0, torch.nan, -3.0, 0.5])
    made = recipe(teachers=["a", "b"], views=8, temperature=3.0)
    objective = Objective(made, 8, 1, answers={"distillation": told})
    assert objective.modules_trained.state_dict() == {}
    rows = torch.tensor([3, 1, 4])
    for seed in range(3):
        images = torch.randn(3, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
        given = StepInput(images, torch.zeros(3), torch.zeros(3, dtype=torch.int64), 0.5, seed, rows=rows)
        found = objective(Says(), None, given)["loss_distillation"]
        expected = distillation_loss(images.mean((1, 2, 3)), torch.tensor([-3.0, 2.0, 0.5]), 3.0).mean()
        torch.testing.assert_close(found, expected)


def test_mixed_figures_have_mixed_answers() -> None:
    mix = Mix(torch.tensor([1, 0]), torch.tensor([0.75, 0.75]))
    found = torch.sigmoid(mixed_logits(torch.tensor([2.0, -40.0]), mix))
    p = [float(torch.sigmoid(torch.tensor(2.0))), 0.0]
    torch.testing.assert_close(found, torch.tensor([0.75 * p[0] + 0.25 * p[1], 0.75 * p[1] + 0.25 * p[0]]))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"views": 8}, r"asks saved classifiers, and there are none; fix: name teachers"),
        ({"views": 8, "draw": 1, "teachers": ["a"]}, r"draw draws teachers for each batch.*fix: drop one"),
        ({"stains": 2, "teachers": ["a"]}, r"stains needs views; fix: views: 8"),
        ({"views": 4, "teachers": ["a"]}, r"`terms.0.views`: Input should be 1 or 8, got 4"),
    ],
)
def test_what_does_not_go_together_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        recipe(**options)


@pytest.mark.parametrize("protocol", ["lodo", "everything"])
def test_students_are_trained_by_both_protocols(
    protocol: str, phantom: Manifest, lodo: Split, teachers: tuple[Path, Path], tmp_path: Path
) -> None:
    """Left-out laboratories with a teacher each; everything with a plain list. A second seed asks nobody."""
    if protocol == "lodo":
        split, paths = lodo, [f"{teachers[0]}/{kind}/{{fold}}/bundle" for kind in ("network", "probe")]
    else:
        split = make_split(protocol, phantom, 0)
        paths = [f"{teachers[1]}/{kind}/{split.folds[0].name}/bundle" for kind in ("network", "probe")]
    changes = [f"terms.distillation.teachers={paths}".replace("'", '"'), "terms.distillation.views=8"]
    out = fit(phantom, tmp_path / "s", split, *NETWORK, *changes, fold=split.folds[0].name)
    line = (out / split.folds[0].name / runs.METRICS).read_text()
    assert '"loss_distillation"' in line
    before = {path: path.stat().st_mtime_ns for path in (cache_root() / asked.FOLDER).rglob("*.npy")}
    assert before
    name, made = load_recipe("full", [*NETWORK, *changes])
    job = TrainingRequest(name, made, phantom, split, tmp_path / "again", seed=1, folds=(split.folds[0].name,))
    train(job)
    assert {path: path.stat().st_mtime_ns for path in (cache_root() / asked.FOLDER).rglob("*.npy")} == before


def test_leakage_of_teachers_is_refused_however_they_are_asked(
    phantom: Manifest, lodo: Split, teachers: tuple[Path, Path], tmp_path: Path
) -> None:
    other = f'terms.distillation.teachers=["{teachers[0]}/network/{lodo.folds[1].name}/bundle"]'
    with pytest.raises(LeakageError, match=r"was trained on \d+ figures that .* is measured on"):
        fit(phantom, tmp_path / "s", lodo, *NETWORK, other, "terms.distillation.views=8", fold=lodo.folds[0].name)
