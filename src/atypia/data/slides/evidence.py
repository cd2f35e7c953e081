"""What tells whether a slide is still the same file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from atypia.base.artifacts import fingerprint
from atypia.base.files.regularfiles import check_regular, open_regular

SAMPLE_BYTES: Final = 1 << 16


def slide_evidence(path: Path) -> dict[str, Any]:
    """A slide's path, its size, and a hash of its time of change and its first and last 64 KiB.

    Of MIRAX the files beside it count by name, size and time.

    Raises:
        DataError: It is no regular file.
        OSError: It cannot be read.
    """
    known = check_regular(path)
    with open_regular(path) as file:
        start = file.read(SAMPLE_BYTES)
        file.seek(max(0, known.st_size - SAMPLE_BYTES))
        end = file.read(SAMPLE_BYTES)
    beside = path.with_suffix("")
    parts = sorted(beside.iterdir()) if path.suffix.lower() == ".mrxs" and beside.is_dir() else []
    stats = [(part.name, part.stat().st_size, part.stat().st_mtime_ns) for part in parts]
    content = fingerprint(known.st_mtime_ns, start, end, stats)
    return {"path": str(path), "bytes": known.st_size, "content": content}
