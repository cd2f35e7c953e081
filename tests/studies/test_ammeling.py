"""The systems of Ammeling et al. on points on fabricated regions, from the study's plan to its table: true geometry, tiny nets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import log_loss
from tests.fixtures.published import REGION_PX, write_regions

from atypia.base import records as r
from atypia.base import runs
from atypia.base.errors import InputError, LeakageError
from atypia.data.augment.colour import Jitter
from atypia.data.augment.pipeline import Pipeline
from atypia.data.augment.spatial import Affine, Flip
from atypia.data.augment.texture import Blur
from atypia.data.sources.catalogue import SOURCES, Expected
from atypia.inference.bundles.bundle import load_bundle
from atypia.inference.predictions import read_predictions
from atypia.methods.samplers.pseudo_epoch import PseudoEpoch
from atypia.splits.split import Split
from atypia.studies import files
from atypia.training.epochs.patches import Patches
from atypia.training.recipe import load_recipe
from atypia.workflows.studies.study import plan_study, run_study

REGIONS, FIGURES = 10, 9
BATCH, EPOCHS = 8, 4
"""One step an epoch: what is asserted of the draws is counted over all runs."""
SMALL = {
    "epochs": EPOCHS, "batch_size": BATCH, "sampler.draws": BATCH, "patches.places": 40, "optimiser.lr": 0.003,
}  # fmt: skip
MODELS = [
    {"recipe": "ammeling-e2e", "backbones": ["tiny-cnn"], "label": "end-to-end", "set": SMALL},
    {"recipe": "probe-ammeling", "backbones": ["tiny-cnn"], "label": "probe"},
    {"recipe": "ammeling-lora", "backbones": ["tiny-vit"], "label": "LoRA", "set": SMALL},
]
CHANGES = [
    "data.train=[midog2022]",
    f"models={json.dumps(MODELS)}",
    "protocol.options={fractions: [0.4, 1.0], repeats: 2, shared_test: true}",
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """MIDOG 2022's layout, ten regions with nine figures each, one of them beyond its border."""
    root = tmp_path_factory.mktemp("root")
    folder = root / "MIDOG2022"
    rng = np.random.default_rng(2)

    def drawn(number: int, rng: np.random.Generator) -> list[tuple[float, float, bool]]:
        places = rng.uniform(20, REGION_PX - 20, (FIGURES, 2))
        if number == 3:
            places[0] = (200, -5)  # beyond the border, as two look-alikes of the published table
        return [(x, y, k % 3 == 1) for k, (x, y) in enumerate(places.tolist())]

    write_regions(folder, [(number, rng) for number in range(1, REGIONS + 1)], drawn)
    source = SOURCES["midog2022"]
    fewer = replace(source, expected=Expected(REGIONS * FIGURES, REGIONS * FIGURES // 3, cases=REGIONS))
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(SOURCES._entries, source.name, fewer)
        yield root


class Watched:
    """What was drawn in the trainings of a study."""

    def __init__(self, patched: pytest.MonkeyPatch) -> None:
        self.random, self.negative, self.relabelled, self.seen = 0, 0, 0, set[int]()
        self.moves, self.shown, self.pipelines = list[np.ndarray](), list[np.ndarray](), set[Pipeline]()
        drawn, draw, augmented = PseudoEpoch.drawn, Patches.draw, Pipeline.__call__

        def kinds(sampler: PseudoEpoch, rng: np.random.Generator) -> np.ndarray:
            found = drawn(sampler, rng)
            assert sampler.population.random is not None
            self.random += int(sampler.population.random[found].sum())
            self.negative += int((sampler.population.labels[found] == 0).sum())
            return found

        def patches(of: Patches, positions: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
            moves, targets = draw(of, positions, seed)
            self.moves.append(moves)
            self.relabelled += int((targets > of.centres.targets[positions]).sum())
            self.seen.add(of.seen_px)
            return moves, targets

        def shows(pipeline: Pipeline, images: Any, generator: Any, seen: Any = None, moves: Any = None) -> Any:
            self.pipelines.add(pipeline)
            self.shown += [] if moves is None else [moves.numpy()]
            return augmented(pipeline, images, generator, seen, moves)

        patched.setattr(Pipeline, "__call__", shows)
        patched.setattr(PseudoEpoch, "drawn", kinds)
        patched.setattr(Patches, "draw", patches)


@pytest.fixture(scope="module")
def ran(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Watched]:
    out = tmp_path_factory.mktemp("study")
    planned = plan_study("ammeling-scaling", "full", out, overrides=CHANGES, root=root)
    assert not planned.warnings
    with pytest.MonkeyPatch.context() as patched:
        watched = Watched(patched)
        return run_study(planned, engine="inline"), watched


def test_every_run_of_the_plan_is_done(ran: tuple[Any, Watched]) -> None:
    done, _ = ran
    assert len(done.plan.runs) == 3 * 2 * 2 and len(done.done) == 12 and not done.failed, done.reasons
    split = Split.load(next((done.folder / files.SPLITS).glob("*.json")))
    assert len({fold.test for fold in split.folds}) == 1 and len({fold.train for fold in split.folds}) == 4


def test_each_part_does_its_work_beside_the_others(ran: tuple[Any, Watched]) -> None:
    done, watched = ran
    draws = 8 * EPOCHS * BATCH
    assert watched.random / draws == pytest.approx(0.25, abs=0.09)
    assert watched.negative / draws == pytest.approx(0.5, abs=0.1)
    moves = np.concatenate(watched.moves)
    assert watched.seen == {224} and 20 <= np.abs(moves).max() <= 22
    assert watched.relabelled > 0  # a mitotic figure beside a look-alike, or in a random place
    assert np.array_equal(np.concatenate(watched.shown), moves)  # the tissue that is seen is the one that has the label
    (pipeline,) = watched.pipelines  # of end-to-end and LoRA alike, with the strengths of the published code
    assert pipeline.spatial == (Flip(0.5, 0.5), Affine(180, probability=0.5)) and pipeline.fill == "reflect"
    assert pipeline.photometric == (Jitter(0.1, 0.1, 0.1, 0.1, 0.5), Blur((0.1, 1.0), 0.1))
    losses = dict[str, list[list[float]]]()
    for folder in done.folder.glob(f"{files.RUNS}/*/*/{runs.METRICS}"):
        lines = [json.loads(line) for line in folder.read_text("utf-8").splitlines()]
        if len(lines) == EPOCHS:
            bundle = load_bundle(folder.parent / runs.BUNDLE)
            losses.setdefault(bundle.adaptation, []).append([line["loss_main"] for line in lines])
            scores = [line["val_loss"] for line in lines]
            assert bundle.training["info"]["best_epoch"] == int(np.argmin(scores))
            table, _ = read_predictions(folder.parent / runs.PREDICTIONS)
            p, y, part = (table[name].to_numpy() for name in (r.P_ATYPICAL, r.LABEL, r.PART))
            kept = log_loss(y[part == runs.VALIDATION], p[part == runs.VALIDATION], labels=[0, 1])
            assert kept == pytest.approx(min(scores), rel=1e-3)  # the weights of that epoch are those that are left
            rates = [line["lr"] for line in lines]
            assert max(rates[:2]) > 10 * rates[-1]  # one cycle
    assert {name: len(found) for name, found in losses.items()} == {"full": 4, "lora": 4}
    for found in losses.values():
        assert np.mean(found, axis=0)[-1] < np.mean(found, axis=0)[0]  # it learns


def test_lora_trains_adapters_and_the_head_alone(ran: tuple[Any, Watched]) -> None:
    done, _ = ran
    bundles = [load_bundle(folder) for folder in done.folder.glob(f"{files.RUNS}/*/*/{runs.BUNDLE}")]
    adapted = [bundle for bundle in bundles if bundle.adaptation == "lora"]
    assert len(adapted) == 4
    for bundle in adapted:
        assert bundle.network is not None
        assert [bundle.network[key] for key in ("lora_rank", "lora_alpha", "lora_dropout")] == [16, 16, 0.1]
        assert all(".lora_" in name or name.startswith("head.") for name in bundle.tensors)
        changed = [value for name, value in bundle.tensors.items() if ".lora_B" in name]
        assert changed and all(np.abs(value).max() > 0 for value in changed)  # they begin at zero


def test_figures_are_cut_with_the_paper_s_field_and_none_is_dropped(ran: tuple[Any, Watched]) -> None:
    done, _ = ran
    scored = set[str]()
    for folder in done.folder.glob(f"{files.RUNS}/*/*/{runs.BUNDLE}"):
        bundle = load_bundle(folder)
        network = bundle.network is not None
        assert bundle.input_px == 224 and bundle.geometry.side_px == bundle.geometry.out_px == (280 if network else 224)
        assert network is False or bundle.network["view"] == 0.8
        table, _ = read_predictions(folder.parent / runs.PREDICTIONS)
        scored |= set(table["figure_id"].to_pylist())
    split = Split.load(next((done.folder / files.SPLITS).glob("*.json")))
    placed = {figure for fold in split.folds for part in (fold.train, fold.val, fold.test) for figure in part}
    assert "MIDOG22_003_1" in placed and len(placed) == REGIONS * FIGURES
    assert scored == {figure for fold in split.folds for figure in (*fold.val, *fold.test)}


def test_the_learning_curve_is_the_table_s(ran: tuple[Any, Watched]) -> None:
    from atypia.reports.study.plots import learning_plots
    from atypia.reports.study.tables import RESULTS, study_tables
    from atypia.studies.findings.compute import study_findings

    done, _ = ran
    results, findings = study_findings(done.plan, done.folder, "auroc")
    (curves,) = learning_plots(findings)
    rows = [
        row
        for row in results.rows.to_pylist()
        if row["metric"] == "auroc" and row["part"] == runs.TEST and row["domain"] is None
    ]
    assert len(rows) == 12
    for curve in curves.curves:
        for share, value, low in zip(curve.x, curve.y, curve.low, strict=True):
            own = [row["value"] for row in rows
                   if row["model"].startswith(curve.name.partition(",")[0]) and row["fold"].endswith(f"fraction-{share / 100:g}")]  # fmt: skip
            assert len(own) == 2
            assert value == pytest.approx(np.mean(own)) and value - low == pytest.approx(np.std(own))
    tables = study_tables(results.rows, results.deltas, results.shift, results.matrix, title="ammeling")
    text = tables[RESULTS].render("markdown")
    assert "end-to-end" in text and "40 % of the data" in text and "100 % of the data" in text


def test_published_code_prepares_some_models_in_its_own_way() -> None:
    """By model: ImageNet's statistics, the class token of Virchow in LoRA, what the probes pool."""
    end_to_end, lora, probe = (f"{name}-as-published" for name in ("ammeling-e2e", "ammeling-lora", "probe-ammeling"))
    asked = {
        (end_to_end, "resnet50-tv2"): (None, None), (end_to_end, "vit-b16-in21k"): ("imagenet", None),
        (end_to_end, "vit-h14"): ("imagenet", None), (lora, "virchow"): (None, "cls"), (lora, "virchow2"): (None, "cls"),
        (lora, "uni"): (None, None), (probe, "virchow"): (None, None), (probe, "virchow2"): (None, "cls+rest"),
        (probe, "vit-h14"): (None, "cls+mean"), (probe, "h-optimus-0"): (None, None),
    }  # fmt: skip
    for (name, backbone), expected in asked.items():
        recipe = load_recipe(name, [f"backbone={backbone}"])[1]
        assert (recipe.normalisation, recipe.pooling) == expected, (name, backbone)
        text = load_recipe(name.removesuffix("-as-published"), [f"backbone={backbone}"])[1]
        assert (text.normalisation, text.pooling) == (None, None)


def test_the_plan_refuses_what_no_run_could_do(root: Path, tmp_path: Path) -> None:
    def planned(*changes: str, size: str = "full", study: str = "ammeling-scaling") -> None:
        plan_study(study, size, tmp_path / "out", overrides=[*CHANGES[:2], *changes], root=root)

    small = CHANGES[2]
    whole = json.dumps([MODELS[1] | {"set": {"geometry.side_px": None}}])
    with pytest.raises(
        InputError,
        match="`geometry of «probe»` must be a field of given side, as 90 figures of midog2022 are positions on slides, got the whole image",
    ):
        planned(small, f"models={whole}")
    with pytest.raises(
        InputError,
        match="`geometry of «end-to-end»` must be without `patches`, which need positions on slides, got 16 crops",
    ):
        planned(small, "data.train=[{phantom: {n: 16}}]")
    with pytest.raises(InputError, match=r"LoRA|lora"):
        planned(small, f"models={json.dumps([{'recipe': 'ammeling-lora', 'backbones': ['tiny-cnn']}])}")
    alone = json.dumps([MODELS[0] | {"set": {**SMALL, "select.metric": "auroc"}}])
    with pytest.raises(InputError, match=r"`validation part of seed-1-fraction-0\.1` must be of both classes"):
        planned(
            "protocol={name: ammeling-as-published, options: {fractions: [0.1], seeds: [1]}}",
            f"models={alone}",
            "data.allow=[case-across-parts]",
        )
    with pytest.raises(LeakageError, match="case-across-parts"):
        planned("protocol={name: ammeling-as-published, options: {fractions: [1.0], seeds: [1]}}")
    assert not (tmp_path / "out" / files.PLAN).exists()
