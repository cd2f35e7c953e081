"""The pages of the Python interface, from the docstrings of ``atypia.__all__``: ``docs/reference/python/``."""

from __future__ import annotations

import functools
import inspect
import re
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pkgutil import walk_packages
from typing import Any, Final

import atypia
from documentation.docstrings import first_sentence, markdown, short

PAGES: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "figures": ("Figures and splits", ("open_data", "write_phantom", "Manifest", "audit", "make_split", "Split")),
    "crops": ("Crops and features", ("open_crops", "open_features")),
    "training": ("Training and evaluation", ("load_recipe", "train", "evaluate", "open_results")),
    "prediction": (
        "Prediction",
        ("Classifier", "predict_crops", "predict_slide", "predict_slides", "calibrate", "Predictions", "Comparison"),
    ),
    "studies": ("Studies", ("run_study", "report_study")),
    "numbers": ("Numbers", ("metrics", "statistics")),
    "parts": ("Own parts, errors, version", ("registry", "AtypiaError", "AtypiaDeprecationWarning", "__version__")),
}
"""Page to its title and names. A name that stands nowhere goes to the last page."""


def interface_pages() -> dict[str, str]:
    """File name to Markdown, the overview being ``index.md``."""
    placed = {name for _, names in PAGES.values() for name in names}
    rest = [name for name in atypia.__all__ if name not in placed]
    pages: dict[str, str] = {}
    rows: list[str] = []
    for page, (title, listed) in PAGES.items():
        names = [name for name in (*listed, *(rest if page == "parts" else ())) if name in atypia.__all__]
        public = {id(getattr(atypia, name)) for name in atypia.__all__}
        returned = [one for one in _returned(names) if id(one) not in public]
        entries = [*(_entry(name) for name in names), *(_class(one.__name__, one) for one in returned)]
        pages[f"{page}.md"] = "\n".join([f"# {title}\n", *entries]).rstrip() + "\n"
        rows += [f"| [`{name}`]({page}.md#{anchor(name)}) | {_summary(name)} |" for name in names]
    pages["index.md"] = "\n".join([_HEAD, "| name | what |", "|---|---|", *rows, ""])
    return pages


_HEAD = """# Python interface

Everything under `import atypia`, written from the docstrings by `make docs`. These names, their arguments and the public
attributes of what they return are [stable](../../stability.md). To learn them in order: [Python in ten minutes](../../python.md).
"""


def anchor(name: str) -> str:
    """The anchor of a name's heading, as forges and the site make it."""
    return re.sub(r"[^\w\- ]", "", f"atypia{name}".lower())


def _summary(name: str) -> str:
    return (
        "The version of this installation." if name == "__version__" else first_sentence(getattr(atypia, name).__doc__)
    )


def _entry(name: str) -> str:
    found: Any = getattr(atypia, name)
    head = f"## `atypia.{name}`\n" if name.startswith("_") else f"## atypia.{name}\n"
    if name == "__version__":
        return f"{head}\nThe version of this installation, a text such as `0.2.0`.\n"
    if isinstance(found, types.ModuleType):
        return f"{head}\n{markdown(found.__doc__)}\n\n{_module_table(found)}\n"
    signature = "" if inspect.isclass(found) and issubclass(found, Exception) else _signature(found, f"atypia.{name}")
    parts = [head, signature, markdown(inspect.getdoc(found)), ""]
    if inspect.isclass(found) and not issubclass(found, Exception):
        parts += [_member(name, *one) for one in _members(found)]
    return "\n".join(parts)


def _returned(names: Sequence[str]) -> list[type]:
    """Atypia's own classes that functions give back, in the order of the functions, each once."""
    found: dict[type, None] = {}
    for name in names:
        one = getattr(atypia, name)
        if inspect.isfunction(one):
            written = str(inspect.signature(one).return_annotation).strip("'")
            result = vars(import_module(one.__module__)).get(written.partition("[")[0])
            if inspect.isclass(result) and result.__module__.startswith("atypia."):
                found[result] = None
    return list(found)


def _class(name: str, found: type) -> str:
    """A class that is not imported by name, but given back by a function."""
    members = [_member(name, *one) for one in _members(found)]
    return "\n".join(
        [f"## {name}\n", "*Given back by a function of this page.*\n", markdown(inspect.getdoc(found)), "", *members]
    )


def _signature(found: Callable[..., Any], shown: str, skip_first: bool = False) -> str:
    parameters = list(inspect.signature(found).parameters.values())[1 if skip_first else 0 :]
    words: list[str] = []
    starred = False
    for one in parameters:
        if one.kind is one.KEYWORD_ONLY and not starred:
            words.append("*")
            starred = True
        star = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**"}.get(one.kind, "")
        starred = starred or one.kind is one.VAR_POSITIONAL
        default = "" if one.default is one.empty else f" = {_default(one.default)}"
        words.append(f"{star}{one.name}: {_hint(one.annotation)}{default}")
    returned = inspect.signature(found).return_annotation
    arrow = "" if inspect.isclass(found) or returned is inspect.Signature.empty else f" -> {_hint(returned)}"
    line = f"{shown}({', '.join(words)}){arrow}"
    if len(line) > 96:
        line = f"{shown}(\n" + "".join(f"    {word},\n" for word in words) + f"){arrow}"
    return f"```python\n{line}\n```\n"


def _default(value: object) -> str:
    if callable(value):
        return getattr(value, "__name__", "...")
    text = repr(value)
    return "..." if text.startswith("<") else text


def _hint(annotation: object) -> str:
    if annotation is inspect.Parameter.empty:
        return "Any"
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"\b(?:[a-z_]\w*\.)+(?=[A-Za-z_])", "", text.strip("'"))


def _members(owner: type) -> Iterator[tuple[str, Any, str]]:
    """Public members, those that are inherited first, in the order in which they are written: name, object, kind."""
    own = [one for one in owner.__mro__ if one.__module__.startswith("atypia.")]
    written = {name: member for one in reversed(own) for name, member in vars(one).items()}
    for name, member in written.items():
        if name.startswith("_"):
            continue
        if isinstance(member, property | functools.cached_property):
            yield name, member, "property"
        elif isinstance(member, classmethod | staticmethod):
            yield name, member.__func__, "class method" if isinstance(member, classmethod) else "static method"
        elif inspect.isfunction(member):
            yield name, member, "method"


def _member(owner: str, name: str, member: Any, kind: str) -> str:
    text = markdown(member.__doc__)
    if kind == "property":
        return f"### {owner}.{name}\n\n*property*\n\n{text}\n"
    shown = f"{owner}.{name}" if kind != "method" else f"{_variable(owner)}.{name}"
    return f"### {owner}.{name}\n\n{_signature(member, shown, skip_first=kind != 'static method')}\n{text}\n"


def _variable(owner: str) -> str:
    """What an object of a class is called in examples: ``trained_folds`` of ``TrainedFolds``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", owner).lower()


def _module_table(module: types.ModuleType) -> str:
    """The functions and classes of a module, or of the modules of a room, each with its first sentence."""
    modules = [module]
    if hasattr(module, "__path__"):
        names = [found.name for found in walk_packages(module.__path__, f"{module.__name__}.") if not found.ispkg]
        modules = [import_module(name) for name in names if not short(name).startswith("_")]
    rows: list[str] = []
    for one in modules:
        where = one.__name__.rpartition(".")[2]
        for name, found in vars(one).items():
            if getattr(found, "__module__", None) != one.__name__ or name.startswith("_") or not callable(found):
                continue
            if isinstance(found, type) and issubclass(found, Warning):
                continue
            words = ", ".join(inspect.signature(found).parameters) if not inspect.isclass(found) else "…"
            shown = f"`{where}.{name}({words})`" if len(modules) > 1 else f"`{name}({words})`"
            rows.append(f"| {shown} | {first_sentence(found.__doc__)} |")
    return "\n".join(["| function | what |", "|---|---|", *rows])
