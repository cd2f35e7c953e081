"""Reads rows of a damaged SQLite file page by page, without the file's own b-tree.

SQLite refuses a whole file for one bad page. Rows are stored in leaf pages, each with the number and positions
of its rows, so every intact page gives its rows even if others are damaged. The format is described in
https://www.sqlite.org/fileformat2.html, sections 1.5 (b-tree pages), 2.1 (records) and 4.1 (write-ahead log).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HEADER_BYTES: Final = 100
"""First bytes of a database."""
DEFAULT_PAGE_BYTES: Final = 4096
WAL_HEADER_BYTES: Final = 32
FRAME_HEADER_BYTES: Final = 24
WAL_MAGIC: Final = 0x377F0682
"""The last bit gives the byte order of its checksums."""
LEAF: Final = 0x0D
"""First byte of a page with table rows."""
MAX_RECORD_BYTES: Final = 1 << 20

Value = int | float | bytes | None
"""Text is returned as bytes: in a damaged file it may not be UTF-8."""


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        rowid: Row number, equal to an integer primary key.
        values: Values in column order; text and blobs as bytes.
        texts: Which values are text.
    """

    rowid: int
    values: tuple[Value, ...]
    texts: tuple[bool, ...]


def recovered_rows(path: Path) -> Iterator[Row]:
    """Every readable row of every table, from the file and its write-ahead log.

    A row may occur several times, because the log contains earlier states of pages. Damage inside a value
    cannot be detected: the format has no checksums.
    """
    data = path.read_bytes()
    size = _page_bytes(data)
    pages = {number: data[start : start + size] for number, start in enumerate(range(0, len(data), size), 1)}
    log = path.with_name(f"{path.name}-wal")
    frames: list[tuple[int, bytes]] = []
    if log.is_file():
        content = log.read_bytes()
        step = FRAME_HEADER_BYTES + size
        for start in range(WAL_HEADER_BYTES, len(content) - FRAME_HEADER_BYTES, step):
            number = int.from_bytes(content[start : start + 4])
            page = content[start + FRAME_HEADER_BYTES : start + step]
            frames.append((number, page))
            pages[number] = page
    for number, page in [*pages.items(), *frames]:
        yield from _rows(number, page.ljust(size, b"\0"), pages, size)


def log_fault(path: Path) -> str | None:
    """What is wrong with the write-ahead log beside a database; None if nothing.

    SQLite reads such a log up to the first wrong checksum and silently ignores the rest. That is right if
    the last write was interrupted. If valid parts of the same log follow, acknowledged data is damaged.
    """
    log = path.with_name(f"{path.name}-wal")
    try:
        content = log.read_bytes()
    except OSError:
        return None
    if len(content) <= WAL_HEADER_BYTES:
        return None
    magic, size, salts = int.from_bytes(content[:4]), int.from_bytes(content[8:12]), content[16:24]
    order = "<" if magic == WAL_MAGIC else ">"
    sums = _summed(content[:24], order, (0, 0))
    if magic & ~1 != WAL_MAGIC or content[24:32] != struct.pack(">II", *sums):
        return "the header of its write-ahead log"
    step = FRAME_HEADER_BYTES + size
    starts = range(WAL_HEADER_BYTES, len(content) - step + 1, step)
    bad = None
    for start in starts:
        frame = content[start : start + step]
        if frame[8:16] != salts:
            continue  # from an earlier log, not overwritten yet
        if bad is not None:
            return f"page {bad + 1} of its write-ahead log"
        sums = _summed(frame[:8], order, sums)
        sums = _summed(frame[FRAME_HEADER_BYTES:], order, sums)
        if frame[16:24] != struct.pack(">II", *sums):
            bad = (start - WAL_HEADER_BYTES) // step
    return None


def _summed(data: bytes, order: str, sums: tuple[int, int]) -> tuple[int, int]:
    """The checksum of a write-ahead log (section 4.2 of the format), continued from ``sums``."""
    first, second = sums
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for one, other in zip(words[::2], words[1::2], strict=True):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + other + first) & 0xFFFFFFFF
    return first, second


def _page_bytes(data: bytes) -> int:
    stated = int.from_bytes(data[16:18])
    stated = 1 << 16 if stated == 1 else stated
    fits = 512 <= stated <= 1 << 16 and stated & (stated - 1) == 0
    return stated if fits else DEFAULT_PAGE_BYTES


def _rows(number: int, page: bytes, pages: dict[int, bytes], size: int) -> Iterator[Row]:
    start = HEADER_BYTES if number == 1 else 0
    if page[start] != LEAF:
        return
    count = int.from_bytes(page[start + 3 : start + 5])
    for cell in range(min(count, (size - start - 8) // 2)):
        pointer = start + 8 + 2 * cell
        row = _cell(page, int.from_bytes(page[pointer : pointer + 2]), pages, size)
        if row is not None:
            yield row


def _cell(page: bytes, at: int, pages: dict[int, bytes], size: int) -> Row | None:
    try:
        length, at = _varint(page, at)
        rowid, at = _varint(page, at)
        if not 0 < length <= MAX_RECORD_BYTES:
            return None
        largest = size - 35
        local = length
        if length > largest:
            least = (size - 12) * 32 // 255 - 23
            local = least + (length - least) % (size - 4)
            local = least if local > largest else local
        record = page[at : at + local]
        if len(record) < local:
            return None
        if local < length:
            record += _overflow(int.from_bytes(page[at + local : at + local + 4]), length - local, pages, size)
        return _record(rowid, record) if len(record) == length else None
    except IndexError:
        return None


def _overflow(number: int, wanted: int, pages: dict[int, bytes], size: int) -> bytes:
    found = b""
    while len(found) < wanted and number in pages:
        page = pages[number].ljust(size, b"\0")
        number = int.from_bytes(page[:4])
        found += page[4:]
    return found[:wanted]


def _record(rowid: int, record: bytes) -> Row | None:
    header, at = _varint(record, 0)
    if not at <= header <= len(record):
        return None
    kinds = []
    while at < header:
        kind, at = _varint(record, at)
        kinds.append(kind)
    values: list[Value] = []
    at = header
    for kind in kinds:
        width = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)[kind] if kind < 10 else (kind - 12) // 2 if kind >= 12 else -1
        part = record[at : at + width]
        if width < 0 or len(part) < width:
            return None
        at += width
        values.append(_value(kind, part))
    if at != len(record):
        return None
    return Row(rowid, tuple(values), tuple(kind >= 13 and kind % 2 == 1 for kind in kinds))


def _value(kind: int, part: bytes) -> Value:
    if kind == 0:
        return None
    if kind in (8, 9):
        return kind - 8
    if kind == 7:
        return struct.unpack(">d", part)[0]
    return part if kind >= 12 else int.from_bytes(part, signed=True)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A variable-length integer of one to nine bytes, and the position after it."""
    value = 0
    for step in range(8):
        byte = data[at + step]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + step + 1
    return value << 8 | data[at + 8], at + 9
