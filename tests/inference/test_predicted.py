"""Crops in every form that people have them, and what is said of them."""

from __future__ import annotations

import pickle
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from atypia.base.errors import AbsentError, DataError, InputError
from atypia.cli.main import app
from atypia.data.images.decoding import read_rgb
from atypia.data.phantom.dataset import write_phantom
from atypia.inference.classifier import Classifier, Member, with_threshold
from atypia.inference.predicted import Prediction, Predictions
from atypia.statistics.confusion import confusion
from atypia.statistics.metrics import auroc

SIDES = (128, 96, 160, 128)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier.load()


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """Rendered crops of 128 px, shape (5, 128, 128, 3)."""
    manifest = write_phantom(tmp_path_factory.mktemp("phantom") / "set", 8, seed=1, workers=1)
    assert manifest.root is not None
    return np.stack([read_rgb(manifest.root / image) for image in manifest.column("image")[:5]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, phantom: np.ndarray) -> Path:
    """Crops of several sizes; the last states 0.25 µm/px in 256 px and so is cut, and one file is no image."""
    made = tmp_path_factory.mktemp("crops")
    for number, side in enumerate(SIDES):
        Image.fromarray(phantom[number]).resize((side, side)).save(made / f"{number}.png")
    large = np.tile(phantom[4], (2, 2, 1))
    Image.fromarray(large).save(made / "4.png", dpi=(101600, 101600))
    (made / "5.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    return made


def commanded(folder: Path, out: Path, *options: str) -> list[dict]:
    done = CliRunner().invoke(app, ["predict", str(folder), "--out", str(out), *options])
    assert done.exit_code == 0, done.output
    return pq.read_table(out).to_pylist()


def test_every_form_of_the_same_crops_gives_what_the_command_gives(
    classifier: Classifier, folder: Path, tmp_path: Path
) -> None:
    rows = commanded(folder, tmp_path / "calls.parquet")
    said = classifier.predict(folder)
    assert [row["call"] for row in rows] == said.calls and rows[-1]["call"] == "refused"
    assert [row["p_atypical"] for row in rows[:-1]] == said.p_atypical[:-1].tolist()
    assert [row["reason"] for row in rows] == said.reasons
    paths = sorted(folder.iterdir())
    opened = [Image.open(path) for path in paths[:-1]]
    for other in (
        classifier.predict(paths[:-1]),
        classifier.predict(opened),
        classifier.predict([str(paths[0]), *opened[1:]]),
    ):
        assert other.p_atypical.tolist() == said.p_atypical[:-1].tolist()
        assert other.ids == [path.name for path in paths[:-1]]
    arrays = [np.array(image) for image in opened[:-1]]  # an array states no µm/px, as the first four files
    assert classifier.predict(arrays).p_atypical.tolist() == said.p_atypical[:4].tolist()


def test_mpp_cuts_the_field_as_the_command_does(classifier: Classifier, folder: Path, tmp_path: Path) -> None:
    rows = commanded(folder, tmp_path / "calls.parquet", "--mpp", "0.3", "--mpp-from", "given")
    said = classifier.predict(folder, mpp=0.3, mpp_from="given")
    assert [row["p_atypical"] for row in rows] == [None if p != p else p for p in said.p_atypical.tolist()]
    array = np.array(Image.open(folder / "2.png"))
    assert classifier.predict(array, mpp=0.3).p_atypical[0] == said.p_atypical[2]
    assert classifier.predict(array).p_atypical[0] != said.p_atypical[2]


def test_one_crop_is_one_prediction_and_a_batch_is_many(classifier: Classifier) -> None:
    batch = np.random.default_rng(1).integers(0, 256, (3, 128, 128, 3), dtype=np.uint8)
    many, one = classifier.predict(batch), classifier.predict(batch[1])
    assert (len(many), len(one), many.ids) == (3, 1, ["0", "1", "2"])
    assert one.p_atypical[0] == many[1].p_atypical == classifier.probabilities(batch)[1]
    assert isinstance(many[-1], Prediction) and [p.figure_id for p in many] == many.ids
    assert many[1:].ids == ["1", "2"] == many[[1, 2]].ids == many[np.array([False, True, True])].ids
    with pytest.raises(IndexError):
        many[3]


def test_an_image_changed_in_memory_states_nothing(classifier: Classifier, folder: Path) -> None:
    resized = Image.open(folder / "4.png").resize((128, 128))
    assert resized.info.get("dpi") is not None
    assert classifier.predict(resized).p_atypical[0] == classifier.predict(np.array(resized)).p_atypical[0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "`crops` must be uint8 RGB .*, got an empty list"),
        (np.zeros((9, 9, 4), np.uint8), r"`crop 0` .*got uint8 of shape \(9, 9, 4\); fix: leave the fourth channel"),
        (np.zeros((9, 9, 3)), r"got float64 of shape .*astype\('uint8'\)"),
        ([np.zeros((32, 32, 3), np.uint8), 7], "`crop 1` must be .*got int"),
        (7, "`crops` must be .*got int"),
        ("nowhere.png", r"nowhere\.png"),
    ],
)
def test_what_is_no_crop_is_named(classifier: Classifier, given: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        classifier.predict(given)  # pyright: ignore[reportArgumentType]


def test_an_array_that_is_no_single_figure_is_refused_in_its_place(classifier: Classifier) -> None:
    said = classifier.predict([np.zeros((128, 400, 3), np.uint8), np.full((128, 128, 3), 200, np.uint8)])
    assert said.refused[0] and "as long as wide" in str(said.reasons[0])
    assert np.isnan(said.p_atypical[0]) and said.decisions[0] == -1 and said.prediction_sets[0] == ()


def test_it_travels_to_another_process_by_path_and_hash(classifier: Classifier) -> None:
    crops = np.random.default_rng(2).integers(0, 256, (2, 128, 128, 3), dtype=np.uint8)
    strict = with_threshold(classifier, 0.9)
    data = pickle.dumps(strict)
    assert len(data) < 4 << 20
    again = pickle.loads(data)
    assert again.threshold == strict.threshold and again.name == strict.name
    assert again.predict(crops).p_atypical.tolist() == strict.predict(crops).p_atypical.tolist()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        there = pool.submit(classifier.predict, crops).result(timeout=120)
    assert there.p_atypical.tolist() == classifier.predict(crops).p_atypical.tolist() and there.calls


def test_another_file_at_its_path_is_noticed(classifier: Classifier) -> None:
    state = classifier.__reduce__()
    (closed,) = state[1][0]
    with pytest.raises(DataError, match="must be the classifier 00000000 that was pickled, got another"):
        state[0]((replace(closed, fingerprint="0" * 32),), False)
    member = classifier.members[0]
    with pytest.raises(InputError, match="opened from files to be pickled"):
        pickle.dumps(Classifier([Member("m", member.runtime, member.decision)]))


def test_predictions_of_any_model_are_scored_and_compared() -> None:
    rng = np.random.default_rng(3)
    y = rng.integers(0, 2, 120)
    cases = [f"case {n // 6}" for n in range(120)]
    p, q = np.clip(0.4 * y + 0.6 * rng.random(120), 0, 1), rng.random(120)
    mine = Predictions.of(p, labels=y, cases=cases, name="mine", domains=["a", "b"] * 60)
    noise = Predictions.of(q, labels=y, cases=cases, name="noise")
    counted = confusion(y, (p >= 0.5).astype(int))
    assert mine.metrics()["sensitivity"] == counted.sensitivity
    found = mine.compare(noise, ["auroc", "balanced_accuracy"])
    assert found["auroc"].estimate == pytest.approx(auroc(y, p) - auroc(y, q))
    assert found["auroc"].low < found["auroc"].estimate < found["auroc"].high
    assert found.n == 120 and found.n_cases == 20 and found.p["auroc"] < 0.01
    assert repr(found).startswith("<Comparison mine − noise: 120 figures") and len(repr(found).splitlines()) == 3
    assert {name: len(part) for name, part in mine.groups().items()} == {"a": 60, "b": 60}
    half = mine[:50].compare(noise)
    assert (half.n, half.left_out) == (50, 70)
    with pytest.raises(InputError, match="of some figures in common"):
        mine.compare(Predictions.of([0.5], ids=["x"], labels=[1]))
    with pytest.raises(DataError, match="the same for both"):
        mine.compare(noise.with_labels(1 - y, cases))
    with pytest.raises(InputError, match="of figures with labels"):
        Predictions.of(p).metrics()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"probabilities": [1.5]}, "`probabilities` must be .*between 0 and 1"),
        ({"probabilities": [0.5], "threshold": 1.0}, "`threshold` must be between"),
        ({"probabilities": [0.5], "labels": [2]}, "`labels` must be 1 of 0, 1 and None"),
        ({"probabilities": [0.5], "ids": ["a", "b"]}, "`ids` must be one for each of 1 figures"),
    ],
)
def test_predictions_that_are_none_are_refused(given: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Predictions.of(**given)


def test_a_data_frame_needs_pandas_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(AbsentError, match=r"pandas is not installed.*pip install pandas"):
        Predictions.of([0.5]).to_pandas()
