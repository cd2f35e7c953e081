"""Patches around moved centres: labels, tissue beside the crop, random places, validation by a draw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from atypia.backbones.catalogue import BACKBONES
from atypia.base.errors import InputError
from atypia.data.augment.pipeline import augmentation
from atypia.data.crops.places import JoinedCrops, random_places
from atypia.data.crops.store import open_store
from atypia.data.images.geometry import CropGeometry
from atypia.data.manifest import Manifest
from atypia.inference.crops import Frame
from atypia.methods.catalogue import SAMPLERS
from atypia.methods.sampler import Population
from atypia.splits.split import Fold
from atypia.training.epochs.feed import Feed
from atypia.training.epochs.patches import PatchCentres, Patches
from atypia.training.identity import recipe_identity
from atypia.training.parts import FoldParts
from atypia.training.recipe import load_recipe, parse_recipe
from atypia.training.schema import NetworkRecipe

SIDE, SEEN, WIDTH, HEIGHT = 40, 32, 200, 160
GEOMETRY = CropGeometry(SIDE, side_px=SIDE)
VALUES = {
    "summary": "test", "adaptation": "full", "backbone": "tiny-cnn", "input_px": SEEN, "view": SEEN / SIDE,
    "geometry": {"out_px": SIDE, "side_px": SIDE}, "sampler": {"name": "pseudo-epoch", "draws": 4000, "random_share": 0.25},
    "patches": {"jitter": 0.1, "places": 60},
}  # fmt: skip


def recipe(**changes: object) -> NetworkRecipe:
    made = parse_recipe({**VALUES, **changes}, "test")
    assert isinstance(made, NetworkRecipe)
    return made


@pytest.fixture(scope="module")
def regions(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Three noisy regions; the second has positives alone, the third negatives alone."""
    root = tmp_path_factory.mktemp("regions")
    rng = np.random.default_rng(4)
    rows = []
    for number in range(3):
        pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{number}.png")
        for figure in range(12):
            label = {0: figure % 2, 1: 1, 2: 0}[number]
            x, y = rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT)
            rows.append({"figure_id": f"{number}-{figure}", "dataset": "d", "image": f"{number}.png", "case_id": str(number),
                         "slide_id": f"{number}.png", "x_px": x, "y_px": y, "label": label})  # fmt: skip
    return Manifest.from_rows(rows, "regions", "mitosis", root)


def test_a_patch_is_positive_where_any_positive_of_its_part_lies_inside() -> None:
    rng = np.random.default_rng(0)
    xy, slides = rng.uniform(0, 300, (80, 2)), rng.integers(0, 3, 80)
    targets = (rng.random(80) < 0.3).astype(np.float64)
    scale = np.where(np.arange(80) % 2, 1.0, 2.0)  # for every second crop two pixels of the slide become one
    patches = Patches(PatchCentres(xy, slides, scale, targets), SEEN, 0.1)
    positions = rng.integers(0, 80, 3000)
    moves, found = patches.draw(positions, 5)
    assert np.abs(moves).max() == 3 and len(np.unique(moves, axis=0)) == 49
    expected = []
    for position, move in zip(positions, moves, strict=True):
        middle = xy[position] + move * scale[position]
        near = (np.abs(xy - middle) < SEEN / 2 * scale[position]).all(axis=1) & (slides == slides[position])
        expected.append(targets[near].max(initial=0.0))
    assert found.tolist() == expected
    changed = found != targets[positions]
    assert changed.any() and (found[changed] == 1).all()  # a figure's own centre never leaves its patch
    again = patches.draw(positions, 5)
    assert (again[0] == moves).all() and (again[1] == found).all()


def test_a_moved_patch_shows_the_tissue_beside_the_crop() -> None:
    rng = np.random.default_rng(1)
    crops = rng.integers(0, 256, (6, SIDE, SIDE, 3), dtype=np.uint8)
    feed = Feed(crops, BACKBONES["tiny-cnn"], Frame(SEEN, SEEN / SIDE), augmentation("none"))
    moves = np.array([[3, -2], [0, 0], [-4, 4], [4, 4], [1, 0], [0, -4]])
    rows = np.arange(6)
    shown = feed.training_batch(rows, 0, moves)
    for row, (x, y) in enumerate(moves.tolist()):
        part = torch.from_numpy(crops[row, 4 + y : 36 + y, 4 + x : 36 + x]).permute(2, 0, 1)[None].float() / 255
        assert torch.allclose(shown[row : row + 1], feed.normalised(part), atol=1e-4)
    assert torch.allclose(feed.plain_batch(rows, moves), shown, atol=1e-4)
    assert torch.equal(feed.plain_batch(rows), feed.plain_batch(rows, np.zeros((6, 2), np.int64)))


def test_random_places_are_the_same_for_all_and_lie_on_their_slides(regions: Manifest) -> None:
    places = random_places(regions, GEOMETRY, 50)
    assert len(places) == 51 and places.table["label"].null_count == 51  # 17 on each of three slides
    x, y = (places.table[name].to_numpy() for name in ("x_px", "y_px"))
    assert x.min() >= SIDE / 2 and x.max() <= WIDTH - SIDE / 2 and y.min() >= SIDE / 2 and y.max() <= HEIGHT - SIDE / 2
    half = regions.take(np.arange(24))  # the places of a slide do not depend on what else is in the set
    assert random_places(half, GEOMETRY, 34).ids == places.ids[:34]
    crops = regions.take(np.arange(2))
    whole = Manifest.from_rows(
        [{**row, "x_px": None, "y_px": None} for row in crops.table.to_pylist()], "c", "mitosis", crops.root
    )
    with pytest.raises(InputError, match="`data` must be positions on slides that are at hand, got crops"):
        random_places(whole, GEOMETRY, 5)


def test_stores_are_joined() -> None:
    rng = np.random.default_rng(2)
    one, two = (rng.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8) for n in (5, 3))
    joined, both = JoinedCrops([one, two]), np.concatenate([one, two])
    rows = np.array([7, 0, 4, 5, 5])
    assert joined.shape == both.shape and joined.nbytes == both.nbytes and len(joined) == 8
    assert (joined[rows] == both[rows]).all() and (np.asarray(joined) == both).all()


def test_the_pseudo_epoch_draws_half_positives_and_a_quarter_random_places(regions: Manifest) -> None:
    parts = FoldParts(regions, open_store(regions, GEOMETRY), recipe())
    population, _ = parts.population(regions.ids)
    assert population.random is not None and int(population.random.sum()) == 60
    drawn = SAMPLERS["pseudo-epoch"](recipe().sampler, population, 0).draw(0)
    slides, random, labels = (values[drawn] for values in (population.slides, population.random, population.labels))
    first = slides == 0
    assert labels[first].mean() == pytest.approx(0.5, abs=0.04)
    assert random[first].mean() == pytest.approx(0.25, abs=0.04)
    # Where a slide has no look-alike a random place is taken, where it has no positive a look-alike.
    assert labels[slides == 1].mean() == pytest.approx(0.5, abs=0.04)
    assert (random[slides == 1] == (labels[slides == 1] == 0)).all()
    assert random[slides == 2].mean() == pytest.approx(0.25, abs=0.04)
    assert np.bincount(slides) / 4000 == pytest.approx(1 / 3, abs=0.03)
    plain = Population(population.rows, population.labels, population.targets, population.domains, population.slides)
    with pytest.raises(InputError, match="`sampler` must be pseudo-epoch where the recipe has `patches`, got uniform"):
        SAMPLERS["uniform"](load_recipe("full")[1].sampler.model_copy(update={"name": "uniform"}), population, 0)  # type: ignore[union-attr]
    assert SAMPLERS["pseudo-epoch"](recipe().sampler, plain, 0).draw(0).shape == (4000,)


def test_a_part_is_trained_with_its_own_slides_and_validated_by_one_draw(regions: Manifest) -> None:
    store = open_store(regions, GEOMETRY)
    made = recipe(select={"over": "pseudo-epoch"})
    parts = FoldParts(regions, store, made)
    ids = np.array(regions.ids)
    fold = Fold("one", tuple(ids[:24]), tuple(ids[24:]))
    population, _ = parts.population(fold.train)
    names = np.array(parts.ids)[population.rows[population.random]]
    assert {name.rpartition(" ")[2] for name in names} == {"0.png", "1.png"}
    rows, labels, moves = parts.validation(fold, 3)
    assert len(rows) == 4000 and moves is not None and np.abs(moves).max() == 3
    assert not labels.any()  # the third region has look-alikes alone, and random places of it
    assert {parts.ids[row].rpartition(" ")[2].partition("-")[0] for row in rows} == {"2.png", "2"}
    for other in (FoldParts(regions, store, made), parts):
        assert all((a == b).all() for a, b in zip(other.validation(fold, 3), (rows, labels, moves), strict=True))
    plain, y, none = FoldParts(regions, store, recipe()).validation(fold, 3)
    assert none is None and plain.tolist() == list(range(24, 36)) and not y.any()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sampler": {"name": "uniform"}}, "`patches` does not go with sampler uniform; fix: sampler: pseudo-epoch"),
        ({"view": 0.9}, "patches.jitter must be at most 0.0556, what view 0.9 leaves beside a patch, got 0.1"),
        ({"patches": None}, "sampler.random_share needs a `patches` section"),
    ],
)
def test_what_cannot_work_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(InputError) as raised:
        recipe(**changes)
    assert said in str(raised.value)


def test_recipes_without_patches_are_what_they_were(tmp_path: Path) -> None:
    for name in ("giedziun", "banerjee-e2e", "benito-convnext"):
        found = recipe_identity(load_recipe(name)[1])
        assert "patches" not in found and "over" not in found.get("select", {})
        assert "outside" not in found.get("geometry", {}) and "random_share" not in found.get("sampler", {})
