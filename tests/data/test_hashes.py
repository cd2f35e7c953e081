"""Hashes of crops: exact, turned, near."""

from __future__ import annotations

import io

import imagehash
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageFilter
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from atypia.base.errors import InputError
from atypia.data.audit import hashes


def blobs(n: int, seed: int = 0, px: int = 128) -> np.ndarray:
    """Crops as alike as mitotic figures: a dark irregular blob in the middle of a pink field."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:px, :px] - px / 2
    crops = np.empty((n, px, px, 3), np.uint8)
    for k in range(n):
        field = (
            np.asarray(Image.fromarray(rng.integers(0, 256, (px // 8, px // 8), np.uint8)).resize((px, px), 3)) / 255
        )
        picture = 205 + 40 * (field - 0.5)
        for _ in range(6):
            cx, cy = rng.normal(0, px * 0.08, 2)
            width, height = rng.uniform(px * 0.03, px * 0.1, 2)
            picture = picture - 90 * np.exp(-(((x - cx) / width) ** 2) - ((y - cy) / height) ** 2)
        crops[k] = np.clip(np.stack([picture, picture * 0.75, picture * 0.9], -1), 0, 255)
    return crops


def eight(image: np.ndarray) -> list[np.ndarray]:
    """All eight flips and rotations, made another way than the module does."""
    return [np.rot90(side, turns) for side in (image, image[:, ::-1]) for turns in range(4)]


small = hnp.arrays(np.uint8, (5, 5, 3))


def test_views_are_the_eight_flips_and_rotations():
    image = np.arange(9).reshape(3, 3)
    ours = {hashes.view(image, number).tobytes() for number in range(8)}
    assert ours == {np.ascontiguousarray(other).tobytes() for other in eight(image)}
    assert len(ours) == 8
    assert hashes.view(image, 0) is image
    assert hashes.view(image, 1).tolist() == [[2, 1, 0], [5, 4, 3], [8, 7, 6]]


@given(small, small)
@settings(max_examples=50, deadline=None)
def test_pixel_hash_is_equal_exactly_for_equal_pixels(a: np.ndarray, b: np.ndarray):
    assert (hashes.pixel_hash(a) == hashes.pixel_hash(b)) == np.array_equal(a, b)


@given(small)
@settings(max_examples=50, deadline=None)
def test_dihedral_hash_is_the_same_for_all_views(a: np.ndarray):
    assert {hashes.dihedral_hash(np.ascontiguousarray(other)) for other in eight(a)} == {hashes.dihedral_hash(a)}


def test_pixel_hash_depends_on_shape_and_on_every_byte():
    flat = np.zeros((2, 2, 3), np.uint8)
    other = flat.copy()
    other[1, 1, 2] = 1
    assert hashes.pixel_hash(flat) != hashes.pixel_hash(np.zeros((4, 4, 3), np.uint8))
    assert hashes.pixel_hash(flat) != hashes.pixel_hash(other)
    assert hashes.dihedral_hash(flat) != hashes.dihedral_hash(other)


@pytest.mark.parametrize("bad", [np.zeros((4, 5, 3), np.uint8), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3))])
def test_other_arrays_are_refused(bad: np.ndarray):
    with pytest.raises(InputError, match=r"`crops` must be square uint8 RGB.*; fix:"):
        hashes.pixel_hash(bad)


def test_equal_groups_within_and_across_sets():
    a, b = blobs(6, 1, 32), blobs(4, 2, 32)
    a[4] = a[1]
    b[2] = a[1]
    b[3] = np.rot90(a[0])
    assert hashes.equal_groups([a, b]) == [[(0, 1), (0, 4), (1, 2)]]
    assert hashes.equal_groups([a, b], turned=True) == [[(0, 0), (1, 3)], [(0, 1), (0, 4), (1, 2)]]
    usable = [np.ones(6, bool), np.array([True, True, False, True])]
    assert hashes.equal_groups([a, b], usable) == [[(0, 1), (0, 4)]]


def test_equal_sums_alone_do_not_make_a_group():
    a = np.zeros((2, 8, 8, 3), np.uint8)
    a[0, 0, 0, 0] = a[1, 3, 4, 1] = 9
    assert hashes.equal_groups([a], turned=True) == []


def test_groups_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch):
    crops = blobs(9, 3, 16)
    crops[8] = crops[0]
    monkeypatch.setattr(hashes, "BLOCK", 2)
    monkeypatch.setattr(hashes, "COLUMNS", 3)
    assert hashes.equal_groups([crops]) == [[(0, 0), (0, 8)]]
    assert [(p.a, p.b) for p in hashes.near_pairs(hashes.thumbnails(crops))] == [(0, 8)]


def test_identity_hash_is_that_of_imagehash():
    crops = blobs(12)
    ours = hashes.perceptual_hashes(hashes.thumbnails(crops))[:, 0]
    for crop, value in zip(crops, ours, strict=True):
        theirs = int(str(imagehash.phash(Image.fromarray(crop))), 16)
        assert int(value) == theirs


def test_other_views_are_the_hashes_of_the_turned_thumbnail():
    thumbs = hashes.thumbnails(blobs(6, 4))
    ours = hashes.perceptual_hashes(thumbs)
    for number in range(8):
        turned = np.stack([hashes.view(thumb, number) for thumb in thumbs])
        assert np.array_equal(hashes.perceptual_hashes(turned)[:, 0], ours[:, number])


def altered(crop: np.ndarray, how: str, rng: np.random.Generator) -> np.ndarray:
    image = Image.fromarray(np.ascontiguousarray(crop))
    if how == "jpeg":
        file = io.BytesIO()
        image.save(file, "JPEG", quality=40)
        return np.asarray(Image.open(file))
    if how == "blur":
        return np.asarray(image.filter(ImageFilter.GaussianBlur(1.5)))
    if how == "halved":
        return np.asarray(image.resize((64, 64), 2).resize((128, 128), 2))
    if how == "darker":
        return np.clip(crop * 0.8, 0, 255).astype(np.uint8)
    if how == "noise":
        return np.clip(crop + rng.normal(0, 6, crop.shape), 0, 255).astype(np.uint8)
    return np.roll(crop, (1, 1), (0, 1))


@pytest.mark.parametrize("how", ["jpeg", "blur", "halved", "darker", "noise", "shifted by 1 px"])
def test_altered_and_turned_copies_are_found_and_nothing_else(how: str):
    rng = np.random.default_rng(5)
    crops = blobs(40, 6)
    copies = np.stack([altered(hashes.view(crop, k % 8), how, rng) for k, crop in enumerate(crops)])
    pairs = hashes.near_pairs(hashes.thumbnails(np.concatenate([crops, copies])))
    assert [(p.a, p.b) for p in pairs] == [(k, k + 40) for k in range(40)]
    for pair in pairs:  # the view that is named lies on the original
        back = hashes.view(hashes.thumbnails(copies[pair.a][None])[0], pair.view).astype(float)
        original = hashes.thumbnails(crops[pair.a][None])[0].astype(float)
        assert np.corrcoef(back.ravel(), original.ravel())[0, 1] > 0.9


def test_flat_crops_are_near_to_nothing():
    flat = np.full((3, 64, 64, 3), 230, np.uint8)
    flat[1] += 1
    assert hashes.near_pairs(hashes.thumbnails(flat)) == []


def test_progress_ends_with_all():
    told: list[tuple[int, int, str]] = []
    hashes.near_pairs(
        hashes.thumbnails(blobs(3, px=32)), progress=lambda done, total, what: told.append((done, total, what))
    )
    assert told[-1] == (3, 3, "crops compared")


@pytest.mark.parametrize(("distance", "correlation"), [(65, 0.8), (-1, 0.8), (10, 1.5)])
def test_thresholds_out_of_range_are_refused(distance: int, correlation: float):
    with pytest.raises(InputError, match=r"must be between"):
        hashes.near_pairs(np.zeros((1, 32, 32), np.uint8), distance, correlation)


@given(st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)), max_size=20))
@settings(deadline=None)
def test_joined_groups_are_the_connected_components(pairs: list[tuple[int, int]]):
    groups = hashes.connected_groups(pairs)
    seen = sorted({item for pair in pairs for item in pair})
    assert sorted(item for group in groups for item in group) == seen
    if pairs:
        rows, columns = zip(*pairs, strict=True)
        graph = coo_array((np.ones(len(pairs)), (rows, columns)), shape=(16, 16))
        labels = connected_components(graph, directed=False)[1]
        assert all(len({int(labels[item]) for item in group}) == 1 for group in groups)
        assert len({int(labels[item]) for item in seen}) == len(groups)


@pytest.mark.slow
@pytest.mark.real
def test_thresholds_separate_copies_from_other_figures(real_root):
    """The figures that the module's defaults are documented with, on AMi-Br's training part."""
    table = (real_root / "AMi-Br_Benchmark/amibr_train_split.csv").read_text(encoding="utf-8-sig").splitlines()[1:]
    names = {cell for line in table for cell in line.split(",") if cell.endswith(".png")}
    paths = sorted(p for p in (real_root / "AMi-Br_Benchmark/AMi-Br").glob("*/*.png") if p.name in names)
    crops = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])
    assert len(crops) == 2894
    thumbs = hashes.thumbnails(crops)
    assert max(pair.correlation for pair in hashes.near_pairs(thumbs, correlation=0.3)) < 0.6
    rng = np.random.default_rng(0)
    some = rng.choice(len(crops), 200, replace=False)
    copies = np.stack([altered(hashes.view(crops[k], n % 8), "jpeg", rng) for n, k in enumerate(some)])
    pairs = hashes.near_pairs(np.concatenate([thumbs, hashes.thumbnails(copies)]))
    assert {(p.a, p.b) for p in pairs} == {(int(k), 2894 + n) for n, k in enumerate(some)}
