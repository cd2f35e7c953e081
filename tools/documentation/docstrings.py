"""Docstrings in the house's form (sections ``Args:``, ``Raises:``; roles and ``>>>`` of reStructuredText) as Markdown."""

from __future__ import annotations

import inspect
import re
import textwrap

SECTIONS = {
    "Args": "Arguments", "Attributes": "Attributes", "Returns": "Returns", "Yields": "Yields", "Raises": "Raises",
    "Warns": "Warns", "Example": "Example", "Note": "Note",
}  # fmt: skip


def markdown(text: str | None) -> str:
    """A docstring as Markdown."""
    lines = inspect.cleandoc(text or "").splitlines()
    out: list[str] = []
    position = 0
    while position < len(lines):
        line = lines[position]
        title = line.removesuffix(":")
        if line.endswith(":") and title in SECTIONS and not line.startswith(" "):
            body, position = _indented(lines, position + 1)
            out += [f"**{SECTIONS[title]}**", "", *_section(title, body), ""]
        elif line.lstrip().startswith(">>> "):
            block, position = _example(lines, position)
            out += ["```pycon", *textwrap.dedent("\n".join(block)).splitlines(), "```", ""]
        elif line.endswith("::") or (line.startswith("    ") and (not out or not out[-1])):
            if line.endswith("::"):
                out += [inline(line[:-1]), ""]
                position += 1
            body, position = _indented(lines, position)
            out += ["```text", *body, "```", ""]
        else:
            out.append(inline(line))
            position += 1
    return re.sub(r"\n{3,}", "\n\n", "\n".join(out)).strip()


def first_sentence(text: str | None) -> str:
    """What a table says of it: the first sentence, on one line."""
    paragraph = " ".join(inspect.cleandoc(text or "").partition("\n\n")[0].split())
    said = ""
    for part in re.split(r"(?<=\.)\s(?=[A-Z«`])", paragraph):
        said = f"{said} {part}".strip()
        # Else the point was that of an abbreviation, as in «(Ann. Math. Statist. 1947)».
        if said.count("(") == said.count(")"):
            break
    return inline(said).replace("|", "\\|")


def inline(text: str) -> str:
    """Roles and literals of a line as Markdown."""
    text = re.sub(r":\w+:`~?([^`<]+)`", lambda found: f"`{short(found[1])}`", text)
    text = re.sub(r"``([^`]+)``", r"`\1`", text)
    return re.sub(r"(?<![\\`\w])\*(?=\w+\b(?!\*))", r"\\*", text) if "**" not in text and text.count("*") == 1 else text


def short(name: str) -> str:
    """A dotted name as it is written in prose: without the modules before it."""
    parts = name.split(".")
    if parts[-1].isupper():  # a list that these pages do not show: where it can be read
        return name
    classes = [number for number, part in enumerate(parts) if part[:1].isupper()]
    return ".".join(parts[classes[0] :]) if classes else parts[-1] if name.startswith("atypia.") else name


def _indented(lines: list[str], start: int) -> tuple[list[str], int]:
    body: list[str] = []
    position = start
    while position < len(lines) and (not lines[position] or lines[position].startswith(" ")):
        body.append(lines[position])
        position += 1
    return textwrap.dedent("\n".join(body)).strip("\n").splitlines(), position


def _example(lines: list[str], start: int) -> tuple[list[str], int]:
    position = start
    while position < len(lines) and lines[position].strip():
        position += 1
    return lines[start:position], position


def _section(title: str, body: list[str]) -> list[str]:
    if title in {"Returns", "Yields", "Note", "Example"}:
        return markdown("\n".join(body)).splitlines()
    entries: list[tuple[str, list[str]]] = []
    for line in body:
        name, colon, rest = line.partition(": ")
        if line and not line.startswith(" ") and colon:
            entries.append((name, [rest]))
        elif entries:
            entries[-1][1].append(line.strip())
        elif line:
            entries.append(("", [line.strip()]))
    return [
        f"- `{name}`: {inline(' '.join(text))}" if name else f"- {inline(' '.join(text))}" for name, text in entries
    ]
