"""Hostile inputs, decided by a seed: small valid files that are damaged, and what attackers and accidents write.

An input is a kind (which readers take it), a file name, and bytes; of a bundle the bytes are of one of its files.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .small_files import LONG, NASTY, shipped, sources

WORDS = (
    b"\0",
    b"\xff\xfe",
    b"9" * 5000,
    b"[" * 2000,
    b"{",
    b'"',
    b"NaN",
    b"-",
    b"\r",
    b",",
    b";",
    b"=",
    b"\xed\xa0\x80",
)


@dataclass(frozen=True)
class Hostile:
    """One input.

    Attributes:
        kind: Key of :data:`reading.READERS`.
        name: Of the file.
        content: Its bytes.
    """

    kind: str
    name: str
    content: bytes


def hostile_inputs(count: int, seed: int = 0) -> Iterator[Hostile]:
    """As many inputs as are asked for; the same for the same seed. The nasty constructs come with any number of them."""
    rng = random.Random(seed)
    valid = sources()
    constructs = list(_constructs())
    rng.shuffle(constructs)
    kinds = sorted(valid)
    for number in range(count):
        if number % 4 == 0 and constructs:
            yield constructs.pop()
            continue
        name, content = rng.choice(valid[kinds[number % len(kinds)]])
        mutate = rng.choice((_bytes_changed, _bytes_changed, _values_changed))
        yield Hostile(kinds[number % len(kinds)], name, mutate(content, rng))


# Damage ---------------------------------------------------------------------------------------


def _bytes_changed(content: bytes, rng: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at, size = rng.randrange(len(data) + 1), rng.choice((1, 2, 4, 8, 64))
        change = rng.randrange(6)
        if change == 0:
            data[at : at + 1] = bytes([rng.randrange(256)])
        elif change == 1:
            del data[at : at + size]
        elif change == 2:
            data[at:at] = rng.choice(WORDS)
        elif change == 3:
            data[at : at + size] = rng.choice((b"\0", b"\xff", b"\x7f")) * size
        elif change == 4:
            data[at:at] = data[max(0, at - size) : at] * rng.choice((1, 50))
        else:
            del data[at:]
        if not data:
            return b""
    return bytes(data)


def _values_changed(content: bytes, rng: random.Random) -> bytes:
    """JSON with some of its values replaced; other content as by :func:`_bytes_changed`."""
    try:
        value = json.loads(content)
    except ValueError:
        return _bytes_changed(content, rng)
    for _ in range(rng.choice((1, 1, 2, 5))):
        places = list(_places(value))
        if not places:
            break
        holder, key = rng.choice(places)
        change = rng.randrange(4)
        if change == 0 and isinstance(holder, dict):
            del holder[key]
        elif change == 1 and isinstance(holder, dict):
            holder[rng.choice(("", "x", "\0", LONG))] = holder[key]
        else:
            holder[key] = copy.deepcopy(rng.choice(NASTY))
    return json.dumps(value).encode("utf-8", "surrogatepass")


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from _places(value[key])


# Constructs -----------------------------------------------------------------------------------


def _constructs() -> Iterator[Hostile]:
    for text in _yaml_constructs():
        yield Hostile("yaml", "nasty.yaml", text.encode("utf-8", "surrogatepass"))
    for kind, name in (
        ("points", "n.json"),
        ("split", "n.json"),
        ("bundle", "config.json"),
        ("challenge", "inputs.json"),
    ):
        for content in _json_constructs():
            yield Hostile(kind, name, content)
    for content in _table_constructs():
        yield Hostile("table", "nasty.csv", content)
        yield Hostile("points", "nasty.csv", content)
    for name, content in _image_constructs():
        yield Hostile("image", name, content)
        yield Hostile("slide", name, content)
    for name in ("fifo", "socket", "folder", "dangling", "circle"):
        for kind in ("image", "slide", "points", "table", "yaml", "manifest", "split", "archive"):
            yield Hostile(kind, f"{name}.special", b"")


def _yaml_constructs() -> list[str]:
    bomb = "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9))
    merged = "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} {{<<: [{', '.join(['*' + chr(97 + i)] * 9)}]}}\n" for i in range(9)
    )
    values = ("[" * 5000, "- " * 5000, "{" * 5000, "2020-99-99", "9" * 6000, "1:" * 3000 + "1", ".nan", "&x [*x]",
              "!!python/object/apply:os.system [x]", "!!binary x", "!!set {a}", "!!bool x", "!!int ''", '"\\uD800"',
              '"\\UFFFFFFFF"', "0x" + "f" * 500, "1" + "0" * 400)  # fmt: skip
    keys = ("name", "summary", "adaptation", "backbone", "geometry", "seeds", "models", "data", "network", "options")
    made = [f"{key}: {value}\n" for value in values for key in keys[:4]]
    recipe = shipped("recipes", "probe.yaml").decode()
    made += [f"{recipe}\n{key}: {value}\n" for value in (10**400, "x", "[]", "{1: 2}", "null") for key in keys]
    return [
        f"a: &a [x, x]\n{bomb}",
        f"a: &a {{x: 1}}\n{merged}",
        *made,
        "a: 1\na: 2\n",
        "? [a]\n: b\n",
        "\0",
        "\t",
        "a: b: c",
    ]


def _json_constructs() -> list[bytes]:
    texts = ("[" * 100_000, '{"a":' * 20_000, "9" * 6000, "[NaN]", "[1e400]", '["\\ud800"]', '{"a": 1, "a": 2}', "[]",
             "{}", "null", "0", '"x"', "[[[[[]]]]]", '[{"type": "Feature"}]', '{"type": "Feature", "geometry": 3}',
             '{"annotations": [], "images": 3}', '{"annotations": [3], "images": [3]}',
             '{"format": "atypia split 1"}', '{"format": 1}')  # fmt: skip
    big = '{"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": {"type": "Point", "coordinates": %s}}]}'
    category = '{"images": [{"id": 1, "file_name": "a"}], "categories": [{"id": %s, "name": "x"}], "annotations": [{"image_id": 1, "category_id": %s, "bbox": [1, 2, 3, 4]}]}'
    places = ("[1, 1e308]", "[1e308, -1e308]", f"[{'9' * 39}, 1]", "[null, 1]", '["x", 1]', "[[1], 2]", "[1]", "{}", "3",
              "[true, false]")  # fmt: skip
    return [
        *(text.encode() for text in texts),
        *((big % place).encode() for place in places),
        *((category % (value, value)).encode() for value in ("[]", "{}", "[1]", "null", "1e308", '"x"')),
        b"",
        b"\xff\xfe[]",
        b"\xef\xbb\xbf",
        b"{" + b"\0" * 100,
    ]


def _table_constructs() -> list[bytes]:
    return [
        b"",
        b"\n" * 1000,
        b"x,y\n" + b"1," * 5000,
        b"image,label\n" + b'"' + b"a" * 200_000,
        b"x,y\n1e400,1\n",
        b"x,y\nnan,inf\n",
        b"x,y\n" + b"9" * 5000 + b",1\n",
        b",".join([b"c"] * 3000),
        b"image\n" + b"n" * 5000 + b".png\n",
        b"image\n../../../../../../etc/passwd\n",
        b"image\n/dev/zero\n/dev/random\n",
        b"slide,points\n/dev/zero,/dev/zero\n",
        "image,x_px,y_px\na.png,1,\n".encode("utf-16"),
        b"image,label\na.png,\xff\xfe\n",
        b"image,x_px,y_px,mpp\na.png,1e308,1e308,1e308\n",
        b"x_um,y_um\n1,2\n",
        b"\xef\xbb\xbf\xef\xbb\xbfx,y\n1,2\n",
    ]


def _image_constructs() -> list[tuple[str, bytes]]:
    import struct
    import zlib

    def png(width: int, height: int, body: bytes) -> bytes:
        def part(kind: bytes, data: bytes) -> bytes:
            return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

        head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", body) + part(b"IEND", b"")

    nothing = zlib.compress(b"\0" * 1_000_000, 9)
    pages = [struct.pack("<H", 0) + struct.pack("<I", 8)]  # a chain that comes back to itself
    found = [
        ("bomb.png", png(50_000, 50_000, nothing)),
        ("large.png", png(8_000, 8_000, nothing)),
        ("zero.png", png(0, 0, b"")),
        ("wide.png", png(2**31 - 1, 1, nothing)),
        ("loop.tif", b"II*\0" + struct.pack("<I", 8) + pages[0]),
        ("far.tif", b"II*\0" + struct.pack("<I", 2**32 - 1)),
        ("none.tif", b"II*\0" + struct.pack("<I", 0)),
        ("big.tif", b"II+\0" + struct.pack("<HHQ", 8, 0, 2**63)),
        ("magic.jpg", b"\xff\xd8\xff"),
        ("empty.png", b""),
        ("a.gif", b"GIF89a" + b"\0" * 50),
        ("a.svs", b"not a slide"),
        ("a.mrxs", b""),
        ("a.dcm", b"\0" * 128 + b"DICM"),
    ]
    return [*found, ("shared.tif", _shared_pages(2500))]


def _shared_pages(pages: int) -> bytes:
    """A TIFF whose pages all show the same pixels."""
    import struct

    side = 256
    start, size = 8, 3 * side * side
    tags = [(256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, start),
            (277, 3, 1, 3), (278, 4, 1, side), (279, 4, 1, size)]  # fmt: skip
    length = 2 + 12 * len(tags) + 4
    first = start + size
    data = b"II*\0" + struct.pack("<I", first) + b"\x80" * size
    for page in range(pages):
        after = first + (page + 1) * length if page + 1 < pages else 0
        body = b"".join(struct.pack("<HHII", *tag) for tag in tags)
        data += struct.pack("<H", len(tags)) + body + struct.pack("<I", after)
    return data
