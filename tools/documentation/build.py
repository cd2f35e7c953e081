"""Builds the site: ``make site``. Warnings of Sphinx, links into nothing and requests to other servers are errors.

The pages under ``docs/`` stay as a forge shows them. They are copied, together with the files of the project's root that belong to
the site, and links between them are written anew; Sphinx makes pages of the copy, in a folder named by the version; then every
page is read and every link in it followed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Final

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).parents[1]))
from documentation.links import faults

ROOT: Final = Path(__file__).parents[2]
PROJECT: Final = {
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CODE_OF_CONDUCT.md": "project/code-of-conduct.md",
    "SECURITY.md": "project/security.md",
}
"""File of the root to its page."""
LINK: Final = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
BLOCK: Final = re.compile(r"(^```.*?^```[ ]*$)", re.DOTALL | re.MULTILINE)


def main() -> None:
    """Builds, checks, and says where the site is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "site")
    out = parser.parse_args().out.resolve()
    version = version_of(ROOT)
    source, html = out / "source", out / "html" / version
    for folder in (source, html):
        shutil.rmtree(folder, ignore_errors=True)
    stage(source)
    command = ["-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q", "-j", "auto", "-d", str(out / "doctrees")]
    tools = os.pathsep.join([str(ROOT / "tools"), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"ATYPIA_DOCS_VERSION": version, "PYTHONPATH": tools}
    done = subprocess.run([sys.executable, *command, str(source), str(html)], env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"the site was not built: see the warnings above (Sphinx: {done.returncode})")
    if found := list(faults(html)):
        raise SystemExit("\n".join([*found, f"{len(found)} faulty links or requests"]))
    versions(out / "html", version)
    pages = sum(1 for _ in html.rglob("*.html"))
    print(f"{pages} pages, every link followed: {out / 'html' / 'index.html'}")


def version_of(root: Path) -> str:
    """The version, read without importing the package."""
    found = re.search(r'VERSION: Final = "([^"]+)"', (root / "src/atypia/base/version.py").read_text("utf-8"))
    if found is None:
        raise SystemExit("src/atypia/base/version.py must have a line VERSION")
    return found[1]


def stage(source: Path) -> None:
    """Copies what the site is made from to ``source``, with links that hold there."""
    docs = ROOT / "docs"
    places = {path: path.relative_to(docs).as_posix() for path in docs.rglob("*") if path.is_file()}
    places |= {ROOT / name: place for name, place in PROJECT.items()}
    places |= {ROOT / "README.md": "index.md"}
    for path, place in places.items():
        if place.startswith("site/"):  # the site's own pages stand at its top
            place = place.removeprefix("site/")
        elif path == ROOT / "README.md":
            continue
        target = source / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            target.write_text(rewritten(path, PurePosixPath(place), places), "utf-8")
        else:
            shutil.copyfile(path, target)
    _citation(source / "project" / "citation.md")
    for index in ("notebooks/index.md", "reference/python/index.md"):
        _contents(source / index)
    _notebooks(source / "notebooks")
    _unlisted(source)


def rewritten(path: Path, place: PurePosixPath, places: dict[Path, str]) -> str:
    """A page with its links written anew; a link to a file that is not in the site becomes its text."""

    def link(found: re.Match[str]) -> str:
        mark, text, target = found.groups()
        if re.match(r"[a-z]+:|#", target):
            return found[0]
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve()
        if file not in places:
            return f"{mark}[{text}]({target})" if mark else text
        if text.endswith(".md"):  # a file's name is a link's text on a forge; a reader of the site knows titles
            text = title_of(file)
        there = os.path.relpath(places[file], place.parent or ".")
        return f"{mark}[{text}]({there}{'#' + anchor if anchor else ''})"

    blocks = BLOCK.split(path.read_text("utf-8"))
    return "".join(block if block.startswith("```") else LINK.sub(link, block) for block in blocks)


def title_of(page: Path) -> str:
    """The first heading of a page, up to a colon."""
    found = re.search(r"^# ([^:\n]+)", page.read_text("utf-8"), re.MULTILINE)
    return page.name if found is None else found[1].strip()


def _citation(page: Path) -> None:
    text = (ROOT / "CITATION.cff").read_text("utf-8")
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(f"# Citation\n\n`CITATION.cff`, which reference managers read:\n\n```yaml\n{text}```\n", "utf-8")


def _contents(index: Path) -> None:
    """Adds a table of contents, hidden, of the pages that a page of its folder links to, in their order."""
    names = dict.fromkeys(re.findall(r"\]\(([\w-]+)\.md[)#]", index.read_text("utf-8")))
    with index.open("a", encoding="utf-8") as file:
        file.write("\n".join(["\n```{toctree}", ":hidden:", "", *names, "```", ""]))


def _notebooks(folder: Path) -> None:
    """Beside each rendered notebook the same as a Jupyter notebook, to download."""
    import jupytext  # pyright: ignore[reportMissingImports]  of the environment of the site

    for script in sorted((ROOT / "notebooks").glob("*.py")):
        jupytext.write(jupytext.read(script), folder / f"{script.stem}.ipynb")
        page = folder / f"{script.stem}.md"
        text = page.read_text("utf-8")
        title, _, rest = text.partition("\n")
        page.write_text(
            f"{title}\n\n{{download}}`Download as a Jupyter notebook <{script.stem}.ipynb>`\n{rest}", "utf-8"
        )


def _unlisted(source: Path) -> None:
    """Adds pages that no table of contents names to the one of «How to», or of the results."""
    lists = "\n".join(path.read_text("utf-8") for path in source.rglob("*.md"))
    named = {
        entry.strip()
        for block in re.findall(r"^```\{toctree\}\n(.*?)^```", lists, re.DOTALL | re.MULTILINE)
        for entry in block.splitlines()
    }
    for folder, page in {"": "howto", "results": "results"}.items():
        here = [path.relative_to(source).with_suffix("").as_posix() for path in sorted((source / folder).glob("*.md"))]
        rest = [name for name in here if name not in named and name != "index"]
        if rest:
            with (source / f"{page}.md").open("a", encoding="utf-8") as file:
                file.write("\n".join(["\n```{toctree}", ":maxdepth: 1", "", *rest, "```", ""]))


def versions(folder: Path, version: str) -> None:
    """Writes the list of versions that lie side by side, and the page that leads to the newest."""
    names = sorted(
        (path.name for path in folder.iterdir() if (path / "index.html").is_file()), key=_order, reverse=True
    )
    entries = [
        {"name": f"{name} (newest)" if name == names[0] else name, "version": name, "url": f"../{name}/"}
        for name in names
    ]
    (folder / "versions.json").write_text(json.dumps(entries, indent=1) + "\n", "utf-8")
    leading = f'<!doctype html>\n<meta charset="utf-8">\n<title>Atypia</title>\n<meta http-equiv="refresh" content="0; url={names[0]}/index.html">\n'
    (folder / "index.html").write_text(f'{leading}<a href="{names[0]}/index.html">Atypia {names[0]}</a>\n', "utf-8")
    print(f"versions: {', '.join(names)} (this one: {version})")


def _order(name: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", name))


if __name__ == "__main__":
    main()
