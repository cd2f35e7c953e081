"""``atypia doctor``: what works, what is absent, what is at fault."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atypia.backbones.catalogue import BACKBONES
from atypia.data.sources.catalogue import SOURCES

Run = Callable[..., Any]


def test_everything_is_listed_and_what_is_absent_has_a_remedy(atypia: Run) -> None:
    ended = atypia("doctor", "--json")
    checks = json.loads(ended.out)

    assert ended.code == 0
    by_area = {area: [c["name"] for c in checks if c["area"] == area] for area in {c["area"] for c in checks}}
    assert by_area["data"] == list(SOURCES) and by_area["backbones"] == list(BACKBONES)
    assert by_area["folders"] == ["data root", "home", "cache"]
    assert {"python", "cores", "installed", "torch", "classifier", "runtime"} == set(by_area["machine"])
    assert {check["state"] for check in checks} <= {"ok", "absent"}
    assert all(check["remedy"] for check in checks if check["state"] == "absent")
    states = {check["name"]: check["state"] for check in checks}
    assert states["tiny-cnn"] == "ok" and states["uni"] == "absent" and states["ami-br"] == "absent"


@pytest.mark.parametrize("there", [True, False])
def test_backbones_are_listed_where_they_can_be_used(atypia: Run, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    from atypia.workflows import installation

    if not there:
        real = installation.installed
        monkeypatch.setattr(installation, "installed", lambda name: name != "torch" and real(name))
    said = atypia("doctor").out

    assert ("tiny-cnn" in said) == there
    assert (f"{len(BACKBONES)}, for training: listed where PyTorch is installed" in said) != there


def test_it_says_what_runs_the_classifier_and_why(atypia: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from atypia.inference.runtimes import providers

    monkeypatch.setattr(providers, "gpu_seen", lambda: True)
    said = next(check for check in json.loads(atypia("doctor", "--json").out) if check["name"] == "runtime")

    assert said["state"] == "ok" and said["detail"].startswith("onnx ") and " on cpu: 8-bit integers" in said["detail"]
    assert "for the GPU: pass --runtime torch" in said["remedy"]


def test_tuning_says_what_was_measured_and_what_is_used(atypia: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from atypia.inference.runtimes.catalogue import RUNTIMES

    monkeypatch.setattr("atypia.workflows.tuning.BUDGET_S", 0.01)
    for slow in ("openvino", "torch"):
        monkeypatch.setattr(type(RUNTIMES[slow]), "installed", property(lambda kind: kind.name == "onnx"))
    ended = atypia("doctor", "--tune")

    assert ended.code == 0 and "onnx: " in ended.out and "crops/s" in ended.out
    assert "onnx is used for " in ended.out and "--runtime NAME overrides it" in ended.out
    assert atypia("doctor", "--tune", "--model", "nowhere").code == 2


def test_the_text_names_remedies(atypia: Run) -> None:
    ended = atypia("doctor")

    assert ended.code == 0
    assert f"{len(SOURCES)} published sets" in ended.out and "atypia data import NAME --from DIR" in ended.out
    assert "atypia data list" in ended.out and "atnorm-br" not in ended.out
    assert "tiny-cnn" in ended.out and "--weights FILE" in ended.out


def test_a_file_where_the_cache_should_be_is_a_fault(
    atypia: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x", "utf-8")
    monkeypatch.setenv("ATYPIA_CACHE", str(tmp_path / "file" / "cache"))
    ended = atypia("doctor", "--json")

    assert ended.code == 1
    fault = [check for check in json.loads(ended.out) if check["state"] == "fault"]
    assert [check["name"] for check in fault] == ["cache"] and "$ATYPIA_CACHE" in fault[0]["remedy"]


def test_a_read_only_cache_is_a_fault_and_a_read_only_data_root_is_none(
    atypia: Run, tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    closed, access = {own_home, tmp_path / "data"}, os.access

    def refuse(path: Any, mode: int, **more: Any) -> bool:
        return not (mode == os.W_OK and path in closed) and access(path, mode, **more)

    monkeypatch.setattr(os, "access", refuse)
    ended = atypia("doctor", "--root", tmp_path / "data", "--json")

    states = {check["name"]: check["state"] for check in json.loads(ended.out) if check["area"] == "folders"}
    assert states == {"data root": "ok", "home": "fault", "cache": "fault"} and ended.code == 1


def test_a_missing_part_names_the_extra(atypia: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atypia.workflows.installation.installed", lambda module: module != "matplotlib")
    checks = {check["name"]: check for check in json.loads(atypia("doctor", "--json").out)}

    assert checks["matplotlib"]["state"] == "absent"
    assert checks["matplotlib"]["remedy"] == "pip install 'atypia[figures]'"


@pytest.mark.real
def test_real_data_is_found(atypia: Run, real_root: Path) -> None:
    checks = {check["name"]: check for check in json.loads(atypia("doctor", "--root", real_root, "--json").out)}

    assert checks["ami-br"]["state"] == "ok" and str(real_root) in checks["ami-br"]["detail"]
