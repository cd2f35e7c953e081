"""A public class is known by its name: no two share one."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import atypia

ROOT = Path(atypia.__file__).parent


def public_classes(source: str) -> list[str]:
    """Names of the public classes that a module defines on its first level, protocols aside."""
    return [
        node.name
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef)
        and not node.name.startswith("_")
        and not any(ast.unparse(base).split("[")[0].endswith("Protocol") for base in node.bases)
    ]


def test_no_two_public_classes_share_a_name() -> None:
    where: dict[str, list[str]] = defaultdict(list)
    for path in sorted(ROOT.rglob("*.py")):
        for name in public_classes(path.read_text("utf-8")):
            where[name].append(path.relative_to(ROOT).as_posix())
    assert len(where) > 100
    assert {name: paths for name, paths in where.items() if len(paths) > 1} == {}


def test_the_check_sees_classes_and_leaves_protocols_out() -> None:
    source = "class A: pass\nclass _B: pass\nclass C(Protocol): pass\nclass D(Protocol[T]): pass\nclass E(A): pass\n"
    assert public_classes(source) == ["A", "E"]
