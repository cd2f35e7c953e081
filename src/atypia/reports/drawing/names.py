"""Names as people are shown them: images without the folders of this machine, domains without what all of them share."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath


def is_absolute(image: str) -> bool:
    """Whether a text is an absolute path, on any operating system."""
    return PurePosixPath(image).is_absolute() or bool(PureWindowsPath(image).drive)


def file_name(image: str) -> str:
    """The file's name without folders.

    >>> file_name("/srv/patients/case 7/a.svs")
    'a.svs'
    """
    return image.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1] or image


def without_folders(text: str, image: str | Path) -> str:
    """A message without the folders of the image that it is about: pages are shared and mailed.

    Args:
        text: The message.
        image: A path of this machine, of which the absolute and the resolved form are hidden too; or a text as a
            results file has it, of any system, of which only whole paths are hidden.

    >>> without_folders("/archive/p-17/a.svs is damaged; fix: fetch it", Path("/archive/p-17/a.svs"))
    'a.svs is damaged; fix: fetch it'
    >>> without_folders("crops/1.png and C:\\\\p\\\\a.svs are damaged", "C:\\\\p\\\\a.svs")
    'crops/1.png and a.svs are damaged'
    """
    if isinstance(image, Path):
        forms = [str(form) for form in (image, image.absolute(), image.parent.resolve() / image.name)]
    else:
        forms = [image] if is_absolute(image) else []
    for form in sorted(set(forms), key=len, reverse=True):
        text = text.replace(form, file_name(form))
        folder = form.rstrip("/\\")[: -len(file_name(form))].rstrip("/\\")
        if folder.strip(".") and not folder.endswith(":"):
            text = re.sub(rf"{re.escape(folder)}[/\\]", "", text)
            text = re.sub(rf"{re.escape(folder)}(?![\w.-])", "(its folder)", text)
    return text


def short_names(images: Iterable[str]) -> dict[str, str]:
    """The displayed name of each image: for an absolute path its file name and as many folders as make it unique.

    Other names are shown unchanged.

    >>> short_names(["/srv/a/1.svs", "/srv/b/1.svs", "/srv/b/2.svs", "crops"])
    {'/srv/a/1.svs': 'a/1.svs', '/srv/b/1.svs': 'b/1.svs', '/srv/b/2.svs': '2.svs', 'crops': 'crops'}
    """
    given = list(dict.fromkeys(images))
    parts = {image: image.replace("\\", "/").strip("/").split("/") for image in given if is_absolute(image)}
    tails: Counter[str] = Counter(
        "/".join(folders[-n:]) for folders in parts.values() for n in range(1, len(folders) + 1)
    )
    others = set(given) - set(parts)
    shown = {}
    for image in given:
        folders = parts.get(image, [image])
        ends = ("/".join(folders[-n:]) for n in range(1, len(folders) + 1))
        free = (end for end in ends if tails[end] == 1 and end not in others)
        shown[image] = image if image in others else next(free, "/".join(folders))
    return shown


def short_domains(domains: Sequence[str]) -> dict[str, str]:
    """Names of domains without the parts that all of them share.

    >>> short_domains(["A | human | breast", "B | human | breast"])
    {'A | human | breast': 'A', 'B | human | breast': 'B'}
    """
    parts = {domain: domain.split(" | ") for domain in domains}
    shared = set.intersection(*(set(names) for names in parts.values())) if len(parts) > 1 else set()
    return {domain: " | ".join(n for n in names if n not in shared) or domain for domain, names in parts.items()}
