"""The release script: version and date in every file that says them, and artefacts that are refused."""

from __future__ import annotations

import re
import tarfile
import zipfile
from pathlib import Path

import pytest
import release

ROOT = Path(__file__).parents[2]
METADATA = "Metadata-Version: 2.4\nName: atypia\nVersion: 0.2.0\nLicense-Expression: Apache-2.0\n\nWhat it is.\n"


def test_the_version_is_written_into_all_four_files(tmp_path: Path) -> None:
    names = ("pyproject.toml", "src/atypia/base/version.py", "CITATION.cff", "CHANGELOG.md")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text("utf-8"), "utf-8")
    for version, date in (("7.8.9", "2031-02-03"), ("7.9.0", "2031-03-04")):
        release.write_version(tmp_path, version, date)
        assert release.current_version(tmp_path) == version
        assert f'\nversion = "{version}"\n' in (tmp_path / "pyproject.toml").read_text("utf-8")
        assert f"\nversion: {version}\ndate-released: {date}\n" in (tmp_path / "CITATION.cff").read_text("utf-8")
        changelog = (tmp_path / "CHANGELOG.md").read_text("utf-8")
        assert f"## Unreleased\n\n## {version} - {date}\n" in changelog and release.unreleased(changelog).strip() == ""


def test_the_files_of_this_repository_agree_on_the_version() -> None:
    version = release.current_version(ROOT)
    assert f'\nversion = "{version}"\n' in (ROOT / "pyproject.toml").read_text("utf-8")
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text("utf-8")


def make_wheel(path: Path, names: tuple[str, ...], metadata: str = METADATA) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "")
        archive.writestr("atypia-0.2.0.dist-info/METADATA", metadata)
    return path


def test_a_wheel_that_lacks_or_adds_something_is_named(tmp_path: Path) -> None:
    assert release.wheel_faults(make_wheel(tmp_path / "good.whl", release.NEEDED), "0.2.0") == []
    strange = ("tests/x.py", "atypia/data/.rows.csv.lock", "atypia/__pycache__/x.cpython-311.pyc")
    faults = release.wheel_faults(make_wheel(tmp_path / "bad.whl", (*release.NEEDED[1:], *strange)), "0.2.0")
    assert faults == [
        f"bad.whl: {release.NEEDED[0]} is not in it",
        *(f"bad.whl: {name} must not be in it" for name in strange),
    ]
    other = make_wheel(tmp_path / "other.whl", release.NEEDED, METADATA.replace("Apache-2.0", "MIT"))
    assert release.wheel_faults(other, "0.2.0") == ["other.whl: version, licence and description must be there"]


def test_a_source_distribution_holds_what_git_knows(tmp_path: Path) -> None:
    path = tmp_path / "atypia-0.2.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in ("pyproject.toml", "README.md", "secret.png", "PKG-INFO"):
            archive.add(__file__, f"atypia-0.2.0/{name}")
    assert release.source_faults(path, {"pyproject.toml", "README.md", "LICENSE"}) == [
        f"{path.name}: secret.png is not in git",
        f"{path.name}: LICENSE lacks",
    ]


@pytest.mark.parametrize(
    ("version", "words"), [("0.2", "must be written plainly"), ("0.0.1", "not below"), ("x", "must be like")]
)
def test_a_version_that_cannot_be_is_refused(version: str, words: str) -> None:
    if version == "0.2":
        version = "0.02"
    with pytest.raises(SystemExit, match=re.escape(words)):
        release.check_repository(version)
