"""Features are computed once, are those of the network, and are found again without torch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from atypia.backbones import features as module
from atypia.backbones.build import build, preprocess
from atypia.backbones.catalogue import BACKBONES
from atypia.backbones.features import VALUES, Features, _Rounding, open_features
from atypia.base.errors import InputError, WorkError


@pytest.mark.parametrize("name", ["tiny-cnn", "tiny-vit"])
def test_values_are_those_of_the_network(store: Any, name: str) -> None:
    got = open_features(store, name, dtype="float32")
    encoder = build(name, 64)
    with torch.inference_mode():
        want = encoder(preprocess(store.crops, BACKBONES[name], 64)).numpy()
    assert got.values.shape == (21, BACKBONES[name].feature_dim)
    np.testing.assert_allclose(got.values[store.usable], want[store.usable], rtol=1e-3, atol=1e-4)


def test_quarantined_rows_are_nan_and_others_are_not(store: Any) -> None:
    values = open_features(store, "tiny-vit").values
    assert np.isnan(values[[3, 20]]).all()
    assert np.isfinite(np.delete(values, [3, 20], axis=0)).all()


def test_a_store_with_nothing_usable(make_store: Callable[..., Any]) -> None:
    assert np.isnan(open_features(make_store(n=4, lost=(0, 1, 2, 3)), "tiny-vit").values).all()


def test_second_opening_computes_nothing(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int, str]] = []
    first = open_features(store, "tiny-vit", progress=lambda *told: seen.append(told))
    assert seen[0] == (0, 21, "features computed")
    assert seen[-1] == (21, 21, "features computed")
    monkeypatch.setattr(module, "_compute", lambda *args: pytest.fail("computed again"))
    second = open_features(store, "tiny-vit")
    assert second.fingerprint == first.fingerprint
    assert not second.values.flags.writeable
    assert isinstance(second.values, np.memmap)


def test_builds_are_equal_to_the_byte(store: Any, tmp_path: Path) -> None:
    paths = [open_features(store, "tiny-cnn", cache=tmp_path / side).path for side in "ab"]
    assert (paths[0] / VALUES).read_bytes() == (paths[1] / VALUES).read_bytes()


def test_fingerprint_covers_every_input(
    store: Any, make_store: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import save_file

    state = build("tiny-vit").net.state_dict()
    save_file(state, tmp_path / "a.safetensors")
    state["norm.bias"] = state["norm.bias"] + 1
    save_file(state, tmp_path / "b.safetensors")
    opened = [
        open_features(store, "tiny-vit"),
        open_features(make_store(seed=1, lost=(3, 20)), "tiny-vit"),
        open_features(store, "tiny-vit", input_px=32),
        open_features(store, "tiny-vit", dtype="float32"),
        open_features(store, "tiny-cnn"),
        open_features(store, "tiny-vit", weights_file=tmp_path / "a.safetensors"),
        open_features(store, "tiny-vit", weights_file=tmp_path / "b.safetensors"),
    ]
    monkeypatch.setattr(module, "FEATURES_VERSION", 999)
    opened.append(open_features(store, "tiny-vit"))
    assert len({features.fingerprint for features in opened}) == len(opened)
    assert opened[5].weights_sha256 != opened[6].weights_sha256
    assert opened[0].weights_sha256 is None
    np.testing.assert_array_equal(opened[0].values, opened[5].values)  # the same weights, from a file


def test_side_of_the_crop_is_moved_to_one_that_the_backbone_takes(make_store: Callable[..., Any]) -> None:
    store = make_store(n=3, side_px=72)
    assert open_features(store, "tiny-vit").input_px == 80
    assert open_features(store, "tiny-cnn").input_px == 64
    with pytest.raises(InputError, match=r"`input_px` must be a multiple of 16 for tiny-vit, got 72; fix: use 80"):
        open_features(store, "tiny-vit", input_px=72)


def test_unknown_precision(store: Any) -> None:
    with pytest.raises(InputError, match=r"`dtype` must be auto, float16 or float32, got bfloat16"):
        open_features(store, "tiny-vit", dtype="bfloat16")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("harm", ["cut", "gone", "meta", "other"])
def test_damaged_features_are_computed_anew(store: Any, harm: str) -> None:
    first = open_features(store, "tiny-vit")
    want = np.array(first.values)
    path = first.path / VALUES
    del first
    if harm == "cut":
        os.truncate(path, 200)
    elif harm == "gone":
        path.unlink()
    elif harm == "meta":
        (path.parent / "meta.json").write_text("{")
    else:
        np.save(path, np.zeros((2, 2), np.float16))
    np.testing.assert_array_equal(open_features(store, "tiny-vit").values, want)


def test_a_failure_half_way_leaves_nothing(store: Any, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(done: int, total: int, what: str) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_features(store, "tiny-vit", progress=stop)
    folder = own_home / "cache" / "features"
    assert [p.name for p in folder.iterdir() if not p.name.endswith(".lock")] == []
    assert len(open_features(store, "tiny-vit")) == 21


def test_threads_are_given_back(store: Any) -> None:
    before = torch.get_num_threads()
    open_features(store, "tiny-cnn")
    assert torch.get_num_threads() == before


def test_two_threads_make_one(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []
    compute = module._compute

    def counted(folder: Path, *rest: Any) -> None:
        made.append(folder)
        compute(folder, *rest)

    monkeypatch.setattr(module, "_compute", counted)
    results: list[Features] = []
    threads = [threading.Thread(target=lambda: results.append(open_features(store, "tiny-vit"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert len({features.fingerprint for features in results}) == 1
    assert len(results) == 3


WARM = """
import sys
from types import SimpleNamespace
import numpy as np
from atypia.backbones.features import open_features
crops = np.load(sys.argv[1])
usable = np.ones(len(crops), bool)
usable[[3, 20]] = False
store = SimpleNamespace(crops=crops, usable=usable, fingerprint=sys.argv[2], quarantined={})
features = open_features(store, "tiny-vit")
print(features.values.shape, "torch" in sys.modules, "timm" in sys.modules)
"""


def test_opening_what_is_there_imports_no_torch(store: Any, tmp_path: Path) -> None:
    open_features(store, "tiny-vit")
    np.save(tmp_path / "crops.npy", store.crops)
    command = [sys.executable, "-c", textwrap.dedent(WARM), str(tmp_path / "crops.npy"), store.fingerprint]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(21, 128) False False"


def test_meta_tells_what_was_done(store: Any) -> None:
    features = open_features(store, "tiny-vit")
    told = json.loads((features.path / "meta.json").read_text())
    assert told == features.meta
    assert told["quarantined"] == 2
    assert told["dtype"] == "float16" == str(features.values.dtype)
    assert told["weights"] == "random"
    assert 0 < told["half_rounding_error"] < module.HALF_TOLERANCE
    assert torch.__version__.startswith(told["environment"]["torch"])


# Half precision where it is exact enough.


def test_rounding_error_against_a_direct_computation() -> None:
    rng = np.random.default_rng(0)
    values = (rng.normal(size=(500, 6)) * [1, 10, 0.01, 1, 1, 0] + [0, 0, 0, 5, 100, 3]).astype(np.float32)
    rounding = _Rounding(6)
    for start in range(0, 500, 64):
        rounding.add(values[start : start + 64])
    rounding.add(np.full((3, 6), np.nan, np.float32))
    exact = values.astype(np.float64)
    errors = np.sqrt(((values.astype(np.float16) - exact) ** 2).mean(0))
    want = (errors[:5] / exact.std(0)[:5]).max()  # the constant feature says nothing
    assert rounding.worst == pytest.approx(want, rel=1e-6)
    assert not rounding.exact_enough  # spread 1 about 100: steps of 1/16


@pytest.mark.parametrize(("offset", "want"), [(0.0, "float16"), (1000.0, "float32"), (1e5, "float32")])
def test_precision_follows_the_values(store: Any, tmp_path: Path, offset: float, want: str) -> None:
    from safetensors.torch import save_file

    state = build("tiny-vit").net.state_dict()
    state["norm.bias"] = state["norm.bias"] + offset
    save_file(state, tmp_path / "w.safetensors")
    features = open_features(store, "tiny-vit", weights_file=tmp_path / "w.safetensors")
    assert str(features.values.dtype) == want == features.meta["dtype"]
    assert sorted(p.name for p in features.path.iterdir()) == ["meta.json", VALUES]
    if offset == 1e5:
        with pytest.raises(WorkError, match=r"values above what float16 can hold; fix: .*use float32"):
            open_features(store, "tiny-vit", weights_file=tmp_path / "w.safetensors", dtype="float16")


def test_infinite_features_are_an_error(store: Any, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = build("tiny-vit").net.state_dict()
    state["norm.bias"] = state["norm.bias"] + float("inf")
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(WorkError, match=r"tiny-vit gave infinite values; fix: check the weights"):
        open_features(store, "tiny-vit", weights_file=tmp_path / "w.safetensors")


def test_cache_can_be_deleted(store: Any, own_home: Path) -> None:
    first = np.array(open_features(store, "tiny-vit").values)
    shutil.rmtree(own_home / "cache")
    np.testing.assert_array_equal(open_features(store, "tiny-vit").values, first)
