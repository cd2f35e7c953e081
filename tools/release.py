"""Makes a release: ``python tools/release.py 0.2.0 [--dry-run]``.

In a clean clone of what is committed: the version and the date are written (``pyproject.toml``, ``base/version.py``, ``CITATION.cff``, the section
«Unreleased» of the changelog), the tests run, wheel and source distribution are built, their content and metadata are checked, and the wheel is
installed in a folder of its own and asked to classify. Then the commit and the tag come into this repository, and the artefacts into ``dist/``. With
``--dry-run`` the artefacts alone. Nothing is uploaded.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Final

from packaging.metadata import Metadata
from packaging.version import InvalidVersion, Version

ROOT: Final = Path(__file__).parents[1]
NEEDED: Final = (
    *(
        f"atypia/models/{model}/{name}"
        for model in ("atypia", "atypia-amibr")
        for name in ("card.md", "config.json", "model.onnx", "model.safetensors")
    ),
    "atypia/py.typed",
    "atypia/recipes/atypia.yaml",
)
"""Files without which the wheel is of no use."""
MOST_BYTES: Final = 40_000_000


def main() -> None:
    """Does all of it, in the order above; the first fault ends it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", help="for instance 0.2.0")
    parser.add_argument("--dry-run", action="store_true", help="build and check; change nothing here but dist/")
    parser.add_argument("--without-tests", action="store_true", help="with --dry-run alone")
    given = parser.parse_args()
    if given.without_tests and not given.dry_run:
        raise SystemExit("--without-tests must be given with --dry-run; fix: a release is made with its tests")
    today = dt.datetime.now(dt.UTC).date().isoformat()
    check_repository(given.version)
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "atypia"
        told("git", "clone", "--quiet", str(ROOT), str(clone))
        write_version(clone, given.version, today)
        if not given.without_tests:
            told("make", "test", cwd=clone)
        told(sys.executable, "-m", "hatchling", "build", "-d", str(ROOT / "dist"), cwd=clone)
        wheel = ROOT / "dist" / f"atypia-{given.version}-py3-none-any.whl"
        source = ROOT / "dist" / f"atypia-{given.version}.tar.gz"
        faults = [*wheel_faults(wheel, given.version), *source_faults(source, tracked(clone))]
        if faults:
            raise SystemExit("\n".join(faults))
        try_wheel(wheel, Path(folder) / "installed", given.version)
        if not given.dry_run:
            told("git", "commit", "--quiet", "--all", "--message", f"Version {given.version}", cwd=clone)
            told("git", "tag", "--annotate", f"v{given.version}", "--message", f"Atypia {given.version}", cwd=clone)
            told("git", "pull", "--quiet", "--ff-only", "--tags", str(clone), "HEAD")
    print(
        f"dist/{wheel.name} ({wheel.stat().st_size / 1e6:.1f} MB), dist/{source.name} ({source.stat().st_size / 1e6:.1f} MB)"
    )
    print(
        "dry run: nothing was committed or tagged"
        if given.dry_run
        else f"committed and tagged v{given.version}; push them yourself"
    )


def check_repository(version: str) -> None:
    """Whether this can become a release; ends with what is in the way."""
    try:
        wanted = Version(version)
    except InvalidVersion:
        raise SystemExit(f"the version must be like 0.2.0, got {version!r}") from None
    if str(wanted) != version or wanted < Version(current_version(ROOT)):
        raise SystemExit(f"the version must be written plainly and not below {current_version(ROOT)}, got {version}")
    if asked("git", "status", "--porcelain"):
        raise SystemExit("the working tree must be clean; fix: commit first")
    if asked("git", "tag", "--list", f"v{version}"):
        raise SystemExit(f"there is a tag v{version}; fix: another version")
    if not unreleased((ROOT / "CHANGELOG.md").read_text("utf-8")).strip():
        raise SystemExit("CHANGELOG.md must have lines under «## Unreleased»")


def current_version(root: Path) -> str:
    """The version as the package says it."""
    found = re.search(r'VERSION: Final = "([^"]+)"', (root / "src/atypia/base/version.py").read_text("utf-8"))
    if found is None:
        raise SystemExit("src/atypia/base/version.py must have a line VERSION")
    return found[1]


def unreleased(changelog: str) -> str:
    """What stands under «Unreleased»."""
    return changelog.partition("## Unreleased\n")[2].partition("\n## ")[0]


def dated(changelog: str, version: str, date: str) -> str:
    """The changelog with a section of this version, and an empty one above for what comes."""
    return changelog.replace("## Unreleased\n", f"## Unreleased\n\n## {version} - {date}\n", 1)


def write_version(root: Path, version: str, date: str) -> None:
    """Writes version and date into the four files that say them."""
    changes = {
        "pyproject.toml": (r'^version = "[^"]+"', f'version = "{version}"'),
        "src/atypia/base/version.py": (r'VERSION: Final = "[^"]+"', f'VERSION: Final = "{version}"'),
        "CITATION.cff": (r"^version: .*\n(?:date-released: .*\n)?", f"version: {version}\ndate-released: {date}\n"),
    }
    for name, (pattern, text) in changes.items():
        new, times = re.subn(pattern, text, (root / name).read_text("utf-8"), flags=re.MULTILINE)
        if times != 1:
            raise SystemExit(f"{name} must say the version once, got {times}")
        (root / name).write_text(new, "utf-8")
    changelog = root / "CHANGELOG.md"
    changelog.write_text(dated(changelog.read_text("utf-8"), version, date), "utf-8")


def tracked(root: Path) -> set[str]:
    """Files that git knows."""
    return set(asked("git", "ls-files", cwd=root).splitlines())


def wheel_faults(wheel: Path, version: str) -> list[str]:
    """What is wrong with a wheel: its metadata, what lacks, what should not be in it."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        damaged = archive.testzip()
        text = archive.read(f"atypia-{version}.dist-info/METADATA").decode("utf-8")
    found = [] if damaged is None else [f"{wheel.name}: {damaged} is damaged"]
    about = Metadata.from_email(text, validate=True)  # raises where a field is not valid
    if str(about.version) != version or about.license_expression != "Apache-2.0" or not about.description:
        found.append(f"{wheel.name}: version, licence and description must be there")
    found += [f"{wheel.name}: {name} is not in it" for name in NEEDED if name not in names]
    found += [f"{wheel.name}: {name} must not be in it" for name in names if not _of_use(name)]
    if wheel.stat().st_size > MOST_BYTES:
        found.append(f"{wheel.name}: must have at most {MOST_BYTES / 1e6:.0f} MB, got {wheel.stat().st_size / 1e6:.0f}")
    return found


def _of_use(name: str) -> bool:
    """Whether a file belongs into a wheel: of the package, and neither hidden (locks, caches) nor compiled."""
    hidden = any(part.startswith(".") for part in name.split("/"))
    return name.startswith(("atypia/", "atypia-")) and not hidden and not name.endswith((".pyc", ".lock", ".part"))


def source_faults(source: Path, known: set[str]) -> list[str]:
    """What is wrong with a source distribution: files that git does not know, licence or build file missing."""
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    strange = sorted(names - known - {"PKG-INFO", ""})
    lacking = [name for name in ("pyproject.toml", "LICENSE", "README.md") if name not in names]
    return [f"{source.name}: {name} is not in git" for name in strange] + [
        f"{source.name}: {name} lacks" for name in lacking
    ]


def try_wheel(wheel: Path, folder: Path, version: str) -> None:
    """Unpacks the wheel where nothing of the source is, and lets it classify, with the packages of this environment."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)  # noqa: S202  the wheel that was just built here
    here = {"PYTHONPATH": str(folder)}
    said = asked(sys.executable, "-m", "atypia", "--version", cwd=folder, environment=here)
    if version not in said:
        raise SystemExit(f"the installed wheel must say {version}, got {said.strip()!r}")
    told(sys.executable, "-m", "atypia", "data", "phantom", "--out", "phantom", "-n", "4", cwd=folder, environment=here)
    told(
        sys.executable, "-m", "atypia", "predict", "phantom/normal", "--out", "calls.csv", cwd=folder, environment=here
    )
    if not (folder / "calls.csv").read_text("utf-8").count("\n") > 1:
        raise SystemExit("the installed wheel must write calls")


def told(*command: str, cwd: Path = ROOT, environment: dict[str, str] | None = None) -> None:
    """Runs a command, with its output; ends where it fails."""
    print("$", " ".join(command), flush=True)
    done = subprocess.run(command, cwd=cwd, env=os.environ | (environment or {}), check=False)
    if done.returncode:
        raise SystemExit(f"failed ({done.returncode}): {' '.join(command)}")


def asked(*command: str, cwd: Path = ROOT, environment: dict[str, str] | None = None) -> str:
    """What a command prints; ends where it fails."""
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | (environment or {}), check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"failed ({done.returncode}): {' '.join(command)}\n{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
