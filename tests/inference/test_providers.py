"""Where onnxruntime computes: the choice, and sessions of an onnxruntime for GPUs, which is made up (no GPU is needed)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from atypia.base.errors import InputError
from atypia.inference.runtimes import providers
from atypia.inference.runtimes.catalogue import open_runtime, run_by
from atypia.inference.runtimes.onnx_runtime import OnnxRuntime
from atypia.inference.runtimes.providers import PROCESSOR, in_integers, place_of

from .graphs import brightness_logits, network_bundle, random_crops, write_brightness

CUDA = "CUDAExecutionProvider"
WITH_GPU = [CUDA, PROCESSOR]


@pytest.mark.parametrize(
    ("device", "available", "integers", "gpu", "where", "why"),
    [
        ("auto", [PROCESSOR], False, False, "cpu", "no GPU was found"),
        (
            "auto",
            [PROCESSOR],
            False,
            True,
            "cpu",
            "there is a GPU, but the installed onnxruntime is for processors only",
        ),
        ("auto", WITH_GPU, False, True, "cuda", "the installed onnxruntime can use a GPU"),
        ("auto", WITH_GPU, True, True, "cpu", "8-bit integers, whose products onnxruntime computes on processors only"),
        ("auto", ["CoreMLExecutionProvider", PROCESSOR], False, False, "cpu", "no GPU was found"),
        ("cpu", WITH_GPU, False, True, "cpu", "asked for"),
        ("cuda", WITH_GPU, False, True, "cuda", "asked for"),
        ("coreml", ["CoreMLExecutionProvider", PROCESSOR], False, False, "coreml", "asked for"),
        ("directml", ["DmlExecutionProvider", PROCESSOR], False, False, "directml", "asked for"),
    ],
)
def test_where_a_network_is_computed(
    device: str, available: list[str], integers: bool, gpu: bool, where: str, why: str
) -> None:
    place = place_of(device, available, integers, gpu)

    assert (place.device, place.why) == (where, why)
    assert place.providers[-1] == PROCESSOR and len(place.providers) == (1 if where == "cpu" else 2)


def test_a_gpu_that_is_not_used_has_a_remedy() -> None:
    assert "pip install onnxruntime-gpu" in place_of("auto", [PROCESSOR], False, True).remedy
    assert "--runtime torch" in place_of("auto", WITH_GPU, True, True).remedy
    assert not place_of("auto", [PROCESSOR], True, False).remedy and not place_of("auto", WITH_GPU, False, True).remedy


def test_devices_that_cannot_be_used_are_refused_with_the_way_out() -> None:
    with pytest.raises(
        InputError, match=r"`device` must be one of auto, cpu, cuda, coreml, directml, got tpu; fix: le"
    ):
        place_of("tpu", [PROCESSOR], False)
    with pytest.raises(
        InputError, match=r"that the installed onnxruntime has \(cpu\), got cuda; fix: .*onnxruntime-gpu"
    ):
        place_of("cuda", [PROCESSOR], False)
    with pytest.raises(
        InputError, match=r"must be cpu for a network in 8-bit integers.*got cuda; fix: pass --runtime to"
    ):
        place_of("cuda", WITH_GPU, True)


class FakeSession:
    """A session on the processor that says it runs on a GPU, if that starts."""

    starts = True
    asked: list[list[str]] = []  # noqa: RUF012  of one test

    def __init__(self, model: Any, options: Any, providers: list[str]) -> None:
        FakeSession.asked.append(providers)
        self._real = REAL(model, options, providers=[PROCESSOR])
        self._providers = providers if FakeSession.starts else [PROCESSOR]

    def get_providers(self) -> list[str]:
        return self._providers

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


REAL = onnxruntime.InferenceSession


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> type[FakeSession]:
    monkeypatch.setattr(onnxruntime, "InferenceSession", FakeSession)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(WITH_GPU))
    monkeypatch.setattr(providers, "gpu_seen", lambda: True)
    monkeypatch.setattr(FakeSession, "starts", True)
    monkeypatch.setattr(FakeSession, "asked", [])
    return FakeSession


def test_a_gpu_is_used_where_the_installed_onnxruntime_can(gpu: type[FakeSession], tmp_path: Path) -> None:
    network = write_brightness(tmp_path / "model.onnx")
    opened = open_runtime(network)
    crops = random_crops(300)

    assert gpu.asked == [WITH_GPU] and opened.device == "cuda"  # type: ignore[attr-defined]
    assert run_by(opened).startswith("onnx ") and run_by(opened).endswith(" on cuda")
    np.testing.assert_allclose(opened.run(crops)[0], brightness_logits(crops), atol=1e-5)
    assert open_runtime(network, device="cpu").device == "cpu"  # type: ignore[attr-defined]
    assert gpu.asked[-1] == [PROCESSOR]


def test_a_gpu_that_does_not_start_is_told(
    gpu: type[FakeSession], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "starts", False)
    network = write_brightness(tmp_path / "model.onnx")
    opened = OnnxRuntime(network)

    assert (
        opened.place.why == "onnxruntime's CUDAExecutionProvider did not start" and "libraries" in opened.place.remedy
    )
    with pytest.raises(
        InputError, match=r"`device` must be one that starts on this machine, got cuda; fix: install the l"
    ):
        OnnxRuntime(network, device="cuda")


def test_integers_stay_on_the_processor_and_another_runtime_takes_the_gpu(
    gpu: type[FakeSession], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from atypia.inference.export.compact import save_compact

    save_compact(network_bundle("tiny-vit", "full"), tmp_path / "model", "small")
    assert in_integers((tmp_path / "model/model.onnx").read_bytes())
    assert OnnxRuntime(tmp_path / "model/model.onnx").device == "cpu"
    with pytest.raises(InputError, match=r"must be cpu for a network in 8-bit integers"):
        open_runtime(tmp_path / "model", device="cuda")  # torch has no GPU here
    monkeypatch.setattr("atypia.inference.networks.device_of", lambda name: torch.device("cpu"))  # as if there were one
    assert open_runtime(tmp_path / "model", device="cuda").name == "torch"


def test_a_network_in_single_precision_is_told_from_one_in_integers(tmp_path: Path) -> None:
    data = write_brightness(tmp_path / "model.onnx").read_bytes()
    assert not in_integers(data)
    model = onnx.load_from_string(data)
    model.graph.node.append(helper.make_node("QuantizeLinear", ["mean", "most"], ["bytes"]))
    assert in_integers(model.SerializeToString())


def test_openvino_computes_on_the_processor(tmp_path: Path) -> None:
    network = write_brightness(tmp_path / "model.onnx")
    with pytest.raises(InputError, match=r"`device` must be cpu for the runtime openvino, got cuda; fix: leave it out"):
        open_runtime(network, "openvino", device="cuda")
