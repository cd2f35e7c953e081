"""Problems in the images and the table of one set."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from atypia.base import records as r
from atypia.base.artifacts import file_sha256
from atypia.base.errors import DataError, count_noun
from atypia.data.audit.findings import AuditFinding
from atypia.data.manifest import Manifest

RGB = "RGB"


def table_findings(manifest: Manifest) -> list[AuditFinding]:
    """Missing cases, missing labels, and labels that are all the same."""
    findings = []
    total = len(manifest)
    cases = manifest.table[r.CASE_ID]
    if cases.null_count:
        blind = [i for i, case in zip(manifest.ids, cases.to_pylist(), strict=True) if case is None]
        message = (
            f"{manifest.name}: the case of {cases.null_count:,} of {total:,} figures is unknown; a split treats each of "
            "them as its own case, so figures of one patient may be separated; fix: give `case_id`, or use the set "
            "as a whole"
        )
        findings.append(AuditFinding("missing-cases", message, tuple(blind), {"n": cases.null_count}))
    labels = manifest.table[r.LABEL]
    if labels.null_count:
        blind = [i for i, label in zip(manifest.ids, labels.to_pylist(), strict=True) if label is None]
        message = f"{manifest.name}: {labels.null_count:,} of {total:,} figures have no label"
        findings.append(AuditFinding("missing-labels", message, tuple(blind), {"n": labels.null_count}))
    known = labels.drop_null().unique().to_pylist()
    if len(known) == 1:
        name = r.CLASS_NAMES[manifest.task][known[0]]
        message = f"{manifest.name}: every label is {name}; nothing can be learnt from it, and AUROC is undefined on it"
        findings.append(AuditFinding("single-class", message, facts={"label": known[0]}))
    return findings


def image_findings(manifest: Manifest, quarantined: Mapping[str, str]) -> list[AuditFinding]:
    """Images that cannot be used, are not 8-bit RGB, or differ in size from the rest.

    Args:
        manifest: The set; its images are available.
        quarantined: Figure id to the reason for which the crop store has no crop of it.

    Returns:
        At most one finding per code.
    """
    if manifest.root is None:
        return []
    root = manifest.root
    ids, images = manifest.ids, manifest.table[r.IMAGE].to_pylist()
    checksums = manifest.table[r.SHA256].to_pylist()
    crops = [row for row, x in enumerate(manifest.table[r.X_PX].to_pylist()) if x is None]
    with ThreadPoolExecutor(min(8, 2 * (os.cpu_count() or 1))) as pool:
        headers = dict(zip(crops, pool.map(lambda row: _header(root / images[row]), crops), strict=True))

    reasons: dict[str, dict[str, str]] = defaultdict(dict)
    for row, figure in enumerate(ids):
        if figure in quarantined:
            if row in headers:
                code = _fault(root / images[row], checksums[row], headers[row])
            else:  # a position on a slide: the file may be intact, the reason states what is wrong
                code = "unreadable-image" if (root / images[row]).is_file() else "missing-image"
            reasons[code][figure] = quarantined[figure]
    modes: dict[str, str] = {
        ids[row]: header[2]
        for row, header in headers.items()
        if header is not None and header[2] != RGB and ids[row] not in quarantined
    }
    findings = [
        AuditFinding(code, _unusable(manifest, code, found), tuple(found), {"n": len(found), "reasons": found})
        for code, found in reasons.items()
        if code != "wrong-mode"
    ]
    refused = reasons.get("wrong-mode", {})
    if modes or refused:
        counts = Counter(modes.values())
        said = ", ".join(f"{number:,} {mode}" for mode, number in counts.most_common())
        converted = f"{count_noun(len(modes), 'image')} not 8-bit RGB ({said}), converted" if modes else ""
        left_out = f"{count_noun(len(refused), 'image')} in a colour mode that is refused, left out" if refused else ""
        message = f"{manifest.name}: {'; '.join(filter(None, (converted, left_out)))}"
        facts = {"modes": modes, "refused": refused}
        findings.append(AuditFinding("wrong-mode", message, (*modes, *refused), facts))
    findings += _sizes(manifest, {row: header[:2] for row, header in headers.items() if header is not None})
    return findings


def _header(path: Path) -> tuple[int, int, str] | None:
    from atypia.data.images.decoding import read_header

    try:
        header = read_header(path)
    except DataError:
        return None
    return header.width_px, header.height_px, header.mode


def _fault(path: Path, checksum: str | None, header: tuple[int, int, str] | None) -> str:
    """The code for an image of which the store has no crop."""
    from atypia.data.images.decoding import read_rgb

    if not path.is_file():
        return "missing-image"
    if checksum is not None and file_sha256(path) != checksum:
        return "changed-image"
    if header is None:
        return "unreadable-image"
    try:
        read_rgb(path)
    except DataError:
        return "wrong-mode" if header[2] != RGB and _decodes(path) else "truncated-image"
    return "unreadable-image"  # intact, but the field cannot be cut from it; the reason states why


def _decodes(path: Path) -> bool:
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
    except (OSError, SyntaxError, ValueError):
        return False
    return True


def _unusable(manifest: Manifest, code: str, found: Mapping[str, str]) -> str:
    words = {
        "missing-image": "missing",
        "unreadable-image": "no image that can be used",
        "truncated-image": "truncated or damaged",
        "changed-image": "different from the checksum in the table",
    }
    first = next(iter(found.values()))
    return (
        f"{manifest.name}: {count_noun(len(found), 'image')} {words[code]}, left out of every training and score "
        f"(first: {first})"
    )


def _sizes(manifest: Manifest, sizes: Mapping[int, tuple[int, int]]) -> list[AuditFinding]:
    counts = Counter(sizes.values())
    if len(counts) < 2:
        return []
    usual = max(counts, key=lambda size: (counts[size], size))
    odd = {manifest.ids[row]: list(size) for row, size in sizes.items() if size != usual}
    message = (
        f"{manifest.name}: {count_noun(len(odd), 'image')} of another size than the usual {usual[0]} × {usual[1]} px; "
        "each is resampled to the crop's size, so its scale may differ"
    )
    return [AuditFinding("wrong-size", message, tuple(odd), {"n": len(odd), "usual_px": list(usual), "sizes_px": odd})]
