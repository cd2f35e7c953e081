"""Names of images on what is handed on: pages, summaries and annotations show no folders of the machine."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath, PureWindowsPath


def is_absolute(image: str) -> bool:
    """Whether a text is a whole path of some machine, of whatever system."""
    return PurePosixPath(image).is_absolute() or bool(PureWindowsPath(image).drive)


def file_name(image: str) -> str:
    """The file's name alone.

    >>> file_name("/srv/patients/case 7/a.svs")
    'a.svs'
    """
    return image.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1] or image


def without_folders(text: str, image: str) -> str:
    """A message about an image with its name in place of its path."""
    return text.replace(image, file_name(image)) if is_absolute(image) else text


def without_own_folder(text: str, path: Path) -> str:
    """A message without the folders of the file that it names: pages are shared and mailed.

    >>> without_own_folder("/archive/p-17/a.svs is damaged; fix: fetch it", Path("/archive/p-17/a.svs"))
    'a.svs is damaged; fix: fetch it'
    """
    for folder in dict.fromkeys((path.parent, path.parent.absolute(), path.parent.resolve())):
        if str(folder) not in (".", folder.anchor):
            text = text.replace(f"{folder}{os.sep}", "").replace(str(folder), "(its folder)")
    return text


def short_names(images: Iterable[str]) -> dict[str, str]:
    """For each image what it is shown as: of a whole path its name, and as many folders as tell it from the others.

    What is no whole path is shown as it is.

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
