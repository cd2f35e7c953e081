"""The whole study of Benito-Del-Valle et al. at full size, on fabricated folders in the published layouts: each part acts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from sklearn.metrics import roc_auc_score
from tests.fixtures.layouts import cmc
from tests.fixtures.published import figure
from torch import Tensor

from atypia.backbones.catalogue import BACKBONES, IMAGENET_MEAN, IMAGENET_STD
from atypia.base import records as r
from atypia.base import runs
from atypia.base.artifacts import read_json
from atypia.data.augment.colour import Jitter
from atypia.data.augment.pipeline import augmentation
from atypia.data.augment.spatial import Affine, Flip
from atypia.data.augment.texture import Sharpness
from atypia.data.crops.store import open_store
from atypia.data.images.geometry import CropGeometry
from atypia.data.manifest import Manifest
from atypia.data.sources.catalogue import SOURCES, Expected
from atypia.engines.tasks import Setup
from atypia.inference.bundles.bundle import load_bundle
from atypia.inference.predictions import read_predictions
from atypia.studies.files import load_study, shipped_studies
from atypia.studies.plan import Plan, make_plan
from atypia.studies.run import run_study
from atypia.synthesis.generator import Generator, GeneratorSampler, load_generator
from atypia.synthesis.model.diffusion import SamplingConfig
from atypia.synthesis.model.pixels import crops_to_images
from atypia.training.epochs.loop import Loop
from atypia.training.recipe import load_recipe

SIDE, CASES, PER_CASE = 128, 6, 4
MITOSES = 8
"""On each of the two pretraining slides, beside as many look-alikes."""
ADDED, EPOCHS = 12, 6
GENERATOR = {
    "autoencoder.channels": [4, 4, 4, 8], "autoencoder.layers": 1, "autoencoder.groups": 4, "autoencoder.attention": False,
    "denoiser.layers": 1, "denoiser.heads": 2, "denoiser.head_dim": 16, "diffusion.steps": 20, "sheet_every": 0,
    **{f"{stage}.{part}": {"epochs": 2, "batch_size": 8, "lr": 0.003}
       for stage in ("pretrain", "finetune") for part in ("autoencoder", "denoiser")},
}  # fmt: skip


def write_midog25(folder: Path) -> None:
    crops = folder / "MIDOG25_Binary_Classification_Train_Set"
    crops.mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = ["image_id,filename,coordinateX,coordinateY,Tumor,Scanner,Origin,Species,expert1,expert2,expert3,majority"]
    for n in range(CASES * PER_CASE):
        name = "AMF" if n % 3 == 0 else "NMF"
        Image.fromarray(figure(rng, name == "AMF")).save(crops / f"{n + 1}.png")
        place = f"{201 + n // PER_CASE}.tiff,{n},9,canine lung cancer,3D Histech,VMU Vienna,Canine"
        lines.append(f"{n + 1}.png,{place},{name},{name},,{name}")
    (folder / "MIDOG25_Atypical_Classification_Train_Set.csv").write_text("\n".join(lines) + "\n")


def write_slide(path: Path, seed: int) -> list[tuple[int, int, int]]:
    """A slide of figures in a grid, half of them look-alikes without a dark band; class and centre of each."""
    rng = np.random.default_rng(seed)
    slide = np.full((5 * SIDE, 5 * SIDE, 3), 200, np.uint8)
    found = []
    for n in range(2 * MITOSES):
        label, x, y = int(n < MITOSES), SIDE * (n % 5), SIDE * (n // 5)
        slide[y : y + SIDE, x : x + SIDE] = figure(rng, bool(n % 2)) if label else 230
        found.append((label, x + SIDE // 2, y + SIDE // 2))
    path.parent.mkdir(parents=True)
    Image.fromarray(slide).save(path, "TIFF")
    return found


def write_pretraining(ccmct: Path, other: Path) -> None:
    """CCMCT's table and slide; CMC's database and slide."""
    name = "add0a9bbc53d1d9bac4c"
    figures = write_slide(ccmct / "WSI" / f"{name}.svs", 1)
    lines = ["x,y,label,filename,slide,split", *(f"{x},{y},{label},{name}.svs,2,test" for label, x, y in figures)]
    (ccmct / "MITOS_WSI_CCMCT_ODAEL_binary_labels.csv").write_text("\n".join(lines) + "\n")
    figures = write_slide(other / "WSI" / "deb768e5efb9d1dcbc13.svs", 2)
    path = other / "databases" / "MITOS_WSI_CMC_CODAEL_TR_ROI.sqlite"
    cmc.database(path, [(1, label + 1, (x, y)) for label, x, y in figures])


@dataclass(frozen=True)
class Training:
    """Kind of optimiser and figures of a training, and the network's tensors as each epoch was validated."""

    optimiser: str
    figures: set[str]
    states: list[dict[str, Tensor]] = field(default_factory=list)


@dataclass(frozen=True)
class Walked:
    """The first fold of the study, carried out.

    Attributes:
        plan: Of the whole study.
        folders: Run folder of each row's first fold.
        pretrained: The unlabelled stage.
        generator: The fold's.
        seen: What each run's training was, by run id.
        drawn: How each set of samples was drawn.
    """

    plan: Plan
    folders: dict[str, Path]
    pretrained: Generator
    generator: Generator
    seen: dict[str, Training]
    drawn: list[SamplingConfig]

    def training(self, row: str) -> Training:
        return self.seen[self.folders[row].parent.name]

    def history(self, row: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folders[row] / runs.METRICS).read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walked]:
    folder = tmp_path_factory.mktemp("benito")
    root, cache = folder / "data", folder / "home" / "cache"
    write_midog25(root / SOURCES["midog25-atypical"].folders[0])
    write_pretraining(root / SOURCES["ccmct"].folders[0], root / SOURCES["cmc"].folders[0])
    values = yaml.safe_load(shipped_studies()["benito-synthetic"].read_text("utf-8"))
    values["synthetic"]["added"]["set"] |= GENERATOR
    values["synthetic"]["added"] |= {"add_count": ADDED, "steps": 4}
    small = {"benito-convnext": "tiny-cnn", "benito-lunit": "tiny-vit"}
    for row in values["models"]:
        epochs = EPOCHS if row["recipe"] == "benito-convnext" else 1
        row |= {"backbones": [small[row["recipe"]]], "set": {"epochs": epochs, "batch_size": 8, "optimiser.lr": 3e-3}}
    (folder / "small.yaml").write_text(yaml.safe_dump(values), "utf-8")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("ATYPIA_HOME", str(folder / "home"))
        patched.setenv("ATYPIA_CACHE", str(cache))
        patched.setenv("ATYPIA_DATA", str(root))
        for name in ("midog25-atypical", "ccmct", "cmc"):
            patched.setitem(SOURCES._entries, name, replace(SOURCES[name], expected=Expected()))
        seen, validate = dict[str, Training](), Loop.validate

        def ends_worst(loop: Loop) -> dict[str, float]:
            """As always, but the last of several epochs scores worst, so that another one is to be kept."""
            figures = {loop.plan.ids[row] for row in loop.plan.train.rows}
            own = Training(type(loop.optimiser).__name__, figures)
            seen.setdefault(loop.plan.folder.parent.name, own).states.append(loop.network.trained_state())
            found, last = validate(loop), 1 < loop.recipe.epochs == loop.epoch + 1
            return found | {"val_auroc": found["val_auroc"] - last}

        drawn, begin = list[SamplingConfig](), GeneratorSampler.__init__

        def begins(sampler: GeneratorSampler, of: Generator, device: torch.device, settings: SamplingConfig) -> None:
            drawn.append(settings)
            begin(sampler, of, device, settings)

        patched.setattr(Loop, "validate", ends_worst)
        patched.setattr(GeneratorSampler, "__init__", begins)
        plan = make_plan(load_study(str(folder / "small.yaml")).sized("full"), folder / "out")
        first = replace(plan, runs=tuple(run for run in plan.runs if run.fold == "fold-1"))
        first.save(folder / "out")
        ran = run_study(first, folder / "out", "inline", Setup(None))
        assert not ran.failed, ran.failed
        folders = {
            plan.trainings[run.training].label: folder / "out" / "runs" / run.id / run.fold for run in first.runs
        }
        made = [load_generator(path.parent) for path in (cache / "synthesis").glob("*/*/generator.json")]
        (pretrained,) = [one for one in made if not one.facts.labelled]
        (generator,) = [one for one in made if one.facts.labelled]
        yield Walked(plan, folders, pretrained, generator, seen, [*drawn])
    shutil.rmtree(folder, ignore_errors=True)


def test_the_plan_is_the_paper_s(walked: Walked) -> None:
    assert len({run.id for run in walked.plan.runs}) == 4 * 5
    study = load_study("benito-synthetic").sized("full")
    added = study.synthetic["added"]
    assert (added.generator, added.add_count, added.set) == ("benito", 7667, {"geometry.side_px": SIDE})
    assert (added.guidance, added.sampler, added.steps) == (1.0, "ddpm", 1000)
    assert walked.drawn == [SamplingConfig(1.0, 4, "ddpm")]  # once for both networks; steps as the walk asks
    assert added.pretrain is not None and added.pretrain.where == {r.LABEL: ("mitotic",)}
    assert {row.recipe for row in study.models} == {"benito-convnext", "benito-lunit"}
    for name, side, rate in (("benito-convnext", 128, 1e-4), ("benito-lunit", 224, 1e-5)):
        recipe: Any = load_recipe(name)[1]
        assert (recipe.input_px, recipe.optimiser.name, recipe.optimiser.lr) == (side, "nadam", rate)
        assert (recipe.epochs, recipe.batch_size, recipe.schedule.restart_epochs) == (25, 16, 5)
        assert (recipe.loss.name, recipe.loss.positive_weight, recipe.sampler.name) == ("bce", 1.0, "uniform")
        assert recipe.normalisation is None and recipe.select.metric == "auroc" and recipe.select.best
        pipeline = augmentation(recipe.augment)
        assert pipeline.spatial == (Flip(0.5, 0.5), Affine(30, (0.95, 1.25), 0.05))
        assert pipeline.photometric == (Jitter(0.15, 0.15, 0.15, 0.05), Sharpness((0.25, 0.25), 0.5))
    convnext = BACKBONES["convnext-s"]
    assert (convnext.mean, convnext.std) == (IMAGENET_MEAN, IMAGENET_STD)


def test_the_unlabelled_stage_learns_from_mitoses_of_both_sets_alone(walked: Walked) -> None:
    seen = walked.pretrained.seen()
    ids = seen.table[r.FIGURE_ID].to_pylist()
    assert sorted({figure.partition("_")[0] for figure in ids}) == ["CCMCT", "CMC"]
    numbers = [int(figure.rpartition("_")[2]) for figure in ids]
    assert len(ids) == 2 * MITOSES and max(numbers) == MITOSES  # the others are look-alikes
    geometry = walked.pretrained.facts.recipe["geometry"]
    assert (geometry["out_px"], geometry["side_px"]) == (SIDE, SIDE)


def test_the_fold_s_generator_begins_there_and_saw_its_training_part_alone(walked: Walked) -> None:
    assert walked.generator.facts.parent == walked.pretrained.fingerprint
    assert walked.generator.facts.fold == "fold-1"
    split = read_json(walked.folders["ConvNeXt-S · real only"] / "split.json")["folds"][0]
    seen = set(walked.generator.seen().table[r.FIGURE_ID].to_pylist())
    assert {figure for figure in seen if figure.startswith("MIDOG25")} == set(split["train"])
    assert not seen & {*split["val"], *split["test"]} and len(seen) == 2 * MITOSES + len(split["train"])
    for made in (walked.pretrained, walked.generator):
        lines = [json.loads(line) for line in (made.folder / runs.METRICS).read_text("utf-8").splitlines()]
        for part in ("autoencoder", "denoiser"):
            losses = [line["loss"] for line in lines if line["part"] == part]
            assert losses[-1] < losses[0], (made.facts.labelled, part)


def test_crops_are_decoded_at_the_scale_of_the_fold_s_latents(walked: Walked) -> None:
    sampler = GeneratorSampler(walked.generator, torch.device("cpu"), SamplingConfig(steps=2))
    folder = walked.folders["ConvNeXt-S · real only"]
    train = read_json(folder / "split.json")["folds"][0]["train"]
    manifest = Manifest.load(folder.parent / runs.MANIFEST)
    store = open_store(manifest.take(manifest.rows_of(train)), CropGeometry(side_px=SIDE, out_px=SIDE))
    with torch.no_grad():
        images = crops_to_images(np.array(store.crops), torch.device("cpu"))
        posterior = sampler.autoencoder.encode(images).latent_dist
        drawn = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=torch.manual_seed(0))
    channels = drawn.transpose(0, 1).flatten(1)
    assert torch.allclose(sampler.shift.flatten(), channels.mean(1), atol=0.1 * float(channels.std()))
    assert torch.allclose(sampler.scale.flatten(), channels.std(1), rtol=0.1)
    given: list[Tensor] = []
    decode = sampler.autoencoder.decode
    sampler.autoencoder.decode = lambda latents: given.append(latents) or decode(latents)
    latents = torch.zeros(2, *drawn.shape[1:])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("atypia.synthesis.generator.draw_latents", lambda *_: latents)
        sampler.draw([1, 1], [0, 1])
    assert torch.allclose(given[0], sampler.shift.expand_as(latents))


@pytest.mark.parametrize("model", ["ConvNeXt-S", "Lunit ViT-S"])
def test_so_many_generated_positives_are_trained_with_and_none_is_measured(walked: Walked, model: str) -> None:
    real, both = (walked.folders[f"{model} · {row}"] for row in ("real only", "real and synthetic"))
    split, other = (read_json(folder / "split.json")["folds"][0] for folder in (real, both))
    assert split["val"] == other["val"]
    added = set(other["train"]) - set(split["train"])
    manifest = Manifest.load(both.parent / runs.MANIFEST)
    rows = manifest.take(manifest.rows_of(sorted(added)))
    assert len(added) == ADDED and rows.synthetic.all() and rows.labels.tolist() == [1] * ADDED
    assert set(rows.table[r.GENERATOR].to_pylist()) == {walked.generator.fingerprint}
    table, _ = read_predictions(both / runs.PREDICTIONS)
    assert set(table[r.FIGURE_ID].to_pylist()) == set(split["val"])
    for row, part in (("real only", split), ("real and synthetic", other)):
        assert walked.training(f"{model} · {row}").figures == set(part["train"])


@pytest.mark.parametrize("row", ["real only", "real and synthetic"])
def test_the_classifier_learns_by_restarts_and_keeps_its_best_auroc(walked: Walked, row: str) -> None:
    lines = walked.history(f"ConvNeXt-S · {row}")
    assert len(lines) == EPOCHS and lines[-1]["loss"] < 0.8 * lines[0]["loss"]
    rates = [line["lr"] for line in lines]
    assert rates[0] > rates[1] > rates[2] > rates[3] and rates[4] == 3e-3 > rates[5]  # begun again after five epochs
    trained, scores = walked.training(f"ConvNeXt-S · {row}"), [line["val_auroc"] for line in lines]
    assert trained.optimiser == "NAdam" and len(trained.states) == EPOCHS
    folder, kept = walked.folders[f"ConvNeXt-S · {row}"], int(np.argmax(scores))
    assert kept < EPOCHS - 1
    bundle = load_bundle(folder / runs.BUNDLE)
    for name, value in trained.states[kept].items():
        np.testing.assert_allclose(bundle.tensors[name], value.numpy(), atol=1e-6)
    table, _ = read_predictions(folder / runs.PREDICTIONS)
    assert roc_auc_score(table[r.LABEL], table[r.P_ATYPICAL]) == pytest.approx(max(scores), abs=1e-6)
