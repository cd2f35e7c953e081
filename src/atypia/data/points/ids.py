"""Ids of figures: each once on a slide."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from atypia.base.errors import count_noun


def settled_ids(ids: list[str], images: Sequence[str | None]) -> tuple[list[str], list[str]]:
    """Makes ids unique per slide: repeated ones become ``id~2``, with a note."""
    places = list(zip(images, ids, strict=True))
    if len(set(places)) == len(places):
        return ids, []
    there, again, kept = set(places), Counter[tuple[str | None, str]](), []
    seen: set[tuple[str | None, str]] = set()
    for image, figure in places:
        own = figure
        while (image, own) in seen:
            again[image, figure] += 1
            free = f"{figure}~{again[image, figure] + 1}"
            own = free if (image, free) not in there else own
        seen.add((image, own))
        kept.append(own)
    first = next(iter(again))[1]
    count = sum(own != figure for own, figure in zip(kept, ids, strict=True))
    figures = count_noun(count, "figure has", "figures have")
    return kept, [f"{figures} the id of another and got a new one (first: {first!r}, now '{first}~2')"]
