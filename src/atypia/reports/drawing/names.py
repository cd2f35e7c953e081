"""Names as people are shown them: images without the folders of this machine, domains without what all of them share."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Final

AMOUNT: Final = re.compile(r", got -?\d[\d.e+-]*(?=; )")
"""What differs between figures that are refused for one reason, as a position outside the slide; results keep it."""


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


def common_reason(reason: str, image: str) -> str:
    """A reason of refusal without what differs between figures: the image's name and the amount that was found.

    Args:
        reason: Of one figure.
        image: The file or slide that it came from, as the user named it.

    >>> common_reason("crops/1.png is truncated: its end is missing; fix: copy it again", "crops/1.png")
    'image is truncated: its end is missing; fix: copy it again'
    >>> common_reason("`x_px` must be on the slide, got -3.5; fix: leave it out", "a.svs")
    '`x_px` must be on the slide; fix: leave it out'
    """
    text = without_folders(reason, image)
    for form in dict.fromkeys((image, file_name(image))):
        text = re.sub(rf"(?<![\w./\\-]){re.escape(form)}(?![\w/\\-])", "image", text)
    return AMOUNT.sub("", text)


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
