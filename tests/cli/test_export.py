"""``atypia export``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atypia.inference.export import forms
from atypia.inference.export.forms import Options, Report
from atypia.inference.export.onnx import Exported
from atypia.inference.export.quantise import QuantisationLoss

Run = Callable[..., Any]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the command asks for; the answer is made up."""
    calls: list[tuple[Any, ...]] = []

    def export(folder: Path, form: str, out: Path, options: Options) -> Report:
        calls.append((folder, form, out, options))
        loss = QuantisationLoss(300, 0.85, 0.835, 0.93, 0.92, 0.04, 0.2) if options.int8 else None
        return Report(form, Exported(out, 6_800_000, 2e-6, 3e-6), "static" if loss else None, loss)

    monkeypatch.setattr(forms, "export", export)
    return calls


def test_options_reach_the_export_and_its_facts_are_said(atypia: Run, asked: list[Any], tmp_path: Path) -> None:
    ended = atypia("export", "bundle", "--to", "onnx", "--out", tmp_path / "m.onnx", "--half", "--weights", "w.pth")

    assert asked == [(Path("bundle"), "onnx", tmp_path / "m.onnx", Options(half=True, weights_file=Path("w.pth")))]
    assert ended.code == 0 and ended.out == ""
    assert "m.onnx (6.8 MB); largest difference from torch 2.0e-06 (logits), 3.0e-06 (features)" in ended.err


def test_the_loss_of_quantisation_is_said(atypia: Run, asked: list[Any]) -> None:
    ended = atypia("export", "b", "--to", "openvino", "--out", "ir", "--int8", "--calibrate", "ami-br", "--root", "r")

    assert asked[0][3] == Options(int8=True, calibrate="ami-br", root=Path("r"))
    assert "static int8 on 300 other figures: balanced accuracy 0.8500 → 0.8350 (-0.0150)" in ended.err
    assert "AUROC 0.9300 → 0.9200, 4.00% of the classes changed" in ended.err
    assert "warning: quantisation costs more than a hundredth of balanced accuracy" in ended.err


def test_json(atypia: Run, asked: list[Any]) -> None:
    said = json.loads(atypia("export", "b", "--to", "onnx", "--out", "m.onnx", "--json").out)

    assert said == {
        "to": "onnx", "path": "m.onnx", "size_bytes": 6_800_000, "logit_difference": 2e-6, "feature_difference": 3e-6,
        "quantised": None, "loss": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--to", "tflite", "--out", "m"], "unknown form of export 'tflite'; choices: challenge, onnx, openvino"),
        (["--to", "onnx", "--out", "m.onnx"], "is no bundle: config.json is missing"),
        (["--to", "onnx", "--out", "m.onnx", "--int8"], "fix: give --int8 --calibrate DATA, or neither"),
    ],
)
def test_bad_requests_are_two(arguments: list[str], words: str, atypia: Run, tmp_path: Path) -> None:
    ended = atypia("export", tmp_path, *arguments)

    assert ended.code == 2 and ended.out == "" and words in ended.err


@pytest.mark.slow
def test_a_trained_probe_becomes_a_container(atypia: Run, trained_folder: Path, tmp_path: Path) -> None:
    bundle = next(trained_folder.glob("*/bundle"))
    ended = atypia("export", bundle, "--to", "challenge", "--out", tmp_path / "container", "--half", "--json")

    assert ended.code == 0, ended.err
    said = json.loads(ended.out)
    assert (tmp_path / "container" / "Dockerfile").is_file() and (
        tmp_path / "container" / "model" / "model.onnx"
    ).is_file()
    assert 0 <= said["logit_difference"] < 0.05
