"""The core alone predicts, calibrates, serves and reports, and what needs an extra says which before it starts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atypia.base.errors import AbsentError
from atypia.base.extras import NETWORKS, PARTS, extras_installed, require

Ended = subprocess.CompletedProcess[str]
CORE_ONLY = Path(__file__).with_name("core_only.py")


@pytest.fixture
def core(tmp_path: Path, environment: dict[str, str]) -> Callable[..., Ended]:
    """Runs commands of the core; ``code`` is the exit code that is expected."""

    def core(*words: object, code: int = 0) -> Ended:
        ended = subprocess.run(
            [sys.executable, CORE_ONLY, *map(str, words)],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert ended.returncode == code, ended.stderr[-2000:]
        return ended

    return core


def test_the_core_predicts_and_reports_and_says_what_is_installed(
    core: Callable[..., Ended], crops: Path, tmp_path: Path
) -> None:
    ended = core(
        *("predict", crops, "--out", "calls.csv", "--page", "case.html", "--summary", "case.json", "--"),
        *("calibrate", "atypia", "--on", crops, "--out", "own", "--"),
        *("data", "audit", crops, "--"),
        *("study", "list", "--", "recipes", "--"),
        *("doctor", "--json"),
    )

    assert len((tmp_path / "calls.csv").read_text("utf-8").splitlines()) == 25
    assert json.loads((tmp_path / "case.json").read_text("utf-8"))
    assert "<html" in (tmp_path / "case.html").read_text("utf-8")
    assert "not enough to change anything" in ended.stdout
    checks = json.loads(ended.stdout[ended.stdout.rindex("\n[") :])
    told = {check["name"]: check for check in checks}
    assert told["installed"]["detail"].startswith("the core:")
    assert told["torch"]["state"] == "absent" and "atypia[train]" in told["torch"]["remedy"]
    assert not [check for check in checks if check["state"] == "fault"]


def test_the_core_serves(crops: Path, ask: Callable[..., Any]) -> None:
    assert len(ask([sys.executable, CORE_ONLY], crops, "figures?limit=3")["figures"]) == 3


@pytest.mark.parametrize(
    "words",
    [
        ("train", "probe", "--data", "nowhere", "--out", "o"),
        ("average", "nowhere", "--out", "o"),
        ("demo", "--out", "o"),
        ("export", "atypia", "--to", "onnx", "--out", "o.onnx"),
        ("predict", "crops", "--out", "o.csv", "--explain", "o"),
        ("predict", "--slides", "nowhere", "--out", "o", "--engine", "ray"),
        ("synth", "train", "tiny", "--data", "nowhere", "--out", "o"),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_what_needs_an_extra_says_so_before_it_starts(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from atypia.base import extras
    from atypia.cli.main import main

    monkeypatch.setattr(extras, "installed", lambda module: module not in PARTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["atypia", *words])
    with pytest.raises(SystemExit) as end:
        main()

    said = " ".join(capsys.readouterr().err.split())
    assert end.value.code == 2 and f"`atypia {words[0]}" in said
    assert "not installed; fix: pip install 'atypia[" in said
    assert not list(tmp_path.iterdir())


def test_an_import_that_fails_is_told_with_its_extra(core: Callable[..., Ended]) -> None:
    ended = core("study", "plan", "what-matters", "--size", "smoke", code=2)
    assert "`atypia study plan` needs PyTorch, which is not installed; fix: pip install 'atypia[train]'" in ended.stderr

    code = f"import sys; sys.path.insert(0, {str(CORE_ONLY.parent)!r}); import core_only; core_only.hide()"
    code += "; from atypia.workflows.train import train; train('probe', 'nowhere', 'o')"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert ended.stderr.splitlines()[-1].startswith("atypia.base.errors.AbsentError: `atypia train` needs PyTorch")


def test_every_part_has_an_extra_of_the_project() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    core_names = " ".join(project["dependencies"])

    assert {part.extra for part in PARTS.values()} == set(extras_installed()) <= set(extras)
    assert not [name for name in ("torch", "timm", "ray", "matplotlib", "scikit-learn") if name in core_names]
    # `all` means all.
    assert set(extras["all"][0].removeprefix("atypia[").removesuffix("]").split(",")) == set(extras) - {"all"}


def test_require_names_everything_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from atypia.base import extras

    monkeypatch.setattr(extras, "installed", lambda module: module != "ray" and module not in NETWORKS)
    with pytest.raises(AbsentError, match=r"needs PyTorch, torchvision, timm and Ray, .*atypia\[scale,train\]"):
        require("x", *NETWORKS, "ray")
