"""Hostile inputs, decided by a seed: small valid files that are damaged, and what attackers and accidents write.

An input is a kind (which readers take it), a file name, and bytes; of a bundle the bytes are of one of its files.
"""

from __future__ import annotations

import copy
import io
import json
import math
import random
import sqlite3
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from atypia.data.manifest import METADATA_KEY, Manifest

LONG = "n" * 300
NASTY: tuple[Any, ...] = (
    None, True, False, "", "x", "\0", "\ud800", "=1+1", LONG, -1, 0, 1, 1 << 63, 10**39, 10**400, 1e308, -1e308,
    math.nan, math.inf, [], [[]], {}, {"a": 1}, [1, "x", None], "../../x", "NaN", "1e400", "2020-99-99",
)  # fmt: skip
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
    sources = _sources()
    constructs = list(_constructs())
    rng.shuffle(constructs)
    kinds = sorted(sources)
    for number in range(count):
        if number % 4 == 0 and constructs:
            yield constructs.pop()
            continue
        name, content = rng.choice(sources[kinds[number % len(kinds)]])
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


# Small valid files ----------------------------------------------------------------------------


def _sources() -> dict[str, list[tuple[str, bytes]]]:
    return {
        "image": _images(),
        "slide": [("tiled.tif", _tiled()), *_images()[:2]],
        "points": _points(),
        "table": [("figures.csv", b"image,label,case_id,votes\na.png,1,c1,1|0|1\nb.png,normal,c2,\n"),
                  ("slides.csv", b"slide;points;name;mpp\na.svs;a.csv;=x;0,25\n")],
        "yaml": [("recipe.yaml", _shipped("recipes", "probe.yaml")),
                 ("study.yaml", _shipped("studies", "library", "benito-synthetic.yaml")),
                 ("generator.yaml", _shipped("synthesis", "recipes", "smoke.yaml"))],
        "bundle": list(small_bundle()),
        "manifest": _manifests(),
        "split": [("split.json", _split())],
        "archive": _archives(),
        "challenge": [("inputs.json", json.dumps([{"interface": {"slug": "x", "relative_path": "y"}}]).encode())],
    }  # fmt: skip


def _shipped(*parts: str) -> bytes:
    import atypia

    folder = Path(atypia.__file__).parent.joinpath(*parts[:-1])
    file = folder / parts[-1]
    return (file if file.is_file() else min(folder.glob("*.yaml"))).read_bytes()


def _pixels() -> Any:
    return np.random.default_rng(0).integers(0, 255, (24, 24, 3), dtype=np.uint8)


def _images() -> list[tuple[str, bytes]]:
    found = []
    image = Image.fromarray(_pixels())
    for name, form, options in (
        ("a.png", "PNG", {}),
        ("a.jpg", "JPEG", {}),
        ("a.tif", "TIFF", {"compression": "tiff_lzw"}),
        ("stack.tif", "TIFF", {"save_all": True, "append_images": [image, image.rotate(90)]}),
        ("a.bmp", "BMP", {}),
        ("a.webp", "WEBP", {}),
        ("a.jp2", "JPEG2000", {}),
    ):
        file = io.BytesIO()
        image.save(file, form, **options)
        found.append((name, file.getvalue()))
    file = io.BytesIO()
    image.convert("P").save(file, "PNG", transparency=3)
    return [*found, ("p.png", file.getvalue())]


def _tiled() -> bytes:
    import tifffile

    file = io.BytesIO()
    pixels = np.kron(_pixels(), np.ones((8, 8, 1), np.uint8))
    tifffile.imwrite(file, pixels, tile=(64, 64), photometric="rgb", resolution=(40_000, 40_000), resolutionunit=3)
    return file.getvalue()


def _points() -> list[tuple[str, bytes]]:
    polygon = {"type": "Polygon", "coordinates": [[[1, 1], [9, 1], [9, 9], [1, 9], [1, 1]]]}
    features = [
        {"type": "Feature", "id": f"f{i}", "geometry": shape, "properties": {"classification": {"name": "Mitosis"}}}
        for i, shape in enumerate(({"type": "Point", "coordinates": [3.5, 4]}, polygon))
    ]
    coco = {
        "images": [{"id": 1, "file_name": "a.svs", "width": 900, "height": 900}],
        "categories": [{"id": 1, "name": "mitotic figure"}],
        "annotations": [{"id": i, "image_id": 1, "category_id": 1, "bbox": [i, i, i + 50, i + 50]} for i in range(3)],
    }
    exact = 'image_name,vector\na.svs,"{""x1"": 1, ""y1"": 2, ""x2"": 30, ""y2"": 40}"\n'
    return [
        ("p.geojson", json.dumps({"type": "FeatureCollection", "features": features}).encode()),
        ("p.json", json.dumps(coco).encode()),
        ("p.csv", b"figure_id,x,y,class\n1,10.5,20\n2,30,40,Mitosis\n"),
        ("exact.csv", exact.encode()),
        ("p.sqlite", _sliderunner()),
    ]


def _sliderunner() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "p.sqlite"
        base = sqlite3.connect(file)
        base.executescript(
            "CREATE TABLE Slides (uid INTEGER PRIMARY KEY, filename TEXT);"
            "CREATE TABLE Classes (uid INTEGER PRIMARY KEY, name TEXT);"
            "CREATE TABLE Annotations (uid INTEGER PRIMARY KEY, slide INTEGER, type INTEGER, agreedClass INTEGER,"
            " guid TEXT, deleted INTEGER DEFAULT 0);"
            "CREATE TABLE Annotations_coordinates (uid INTEGER PRIMARY KEY, coordinateX INTEGER, coordinateY INTEGER,"
            " slide INTEGER, annoId INTEGER, orderIdx INTEGER);"
            "INSERT INTO Slides VALUES (1, 'a.svs'); INSERT INTO Classes VALUES (1, 'Mitosis');"
            "INSERT INTO Annotations VALUES (1, 1, 1, 1, 'g', 0);"
            "INSERT INTO Annotations_coordinates VALUES (1, 100, 200, 1, 1, 1);"
        )
        base.commit()
        base.close()
        return file.read_bytes()


@lru_cache(maxsize=1)
def small_bundle() -> tuple[tuple[str, bytes], ...]:
    """The files of a bundle; its configuration twice, as it is what differs."""
    from atypia.data.images.geometry import CropGeometry
    from atypia.inference.bundles.bundle import CONFIG_FILE, MODEL_FILE, PROBE, Bundle, probe_tensors
    from atypia.inference.bundles.decision import Decision

    with tempfile.TemporaryDirectory() as folder:
        tensors = probe_tensors(np.arange(4.0), 0.5)
        bundle = Bundle("b", "atypical", PROBE, "tiny-cnn", None, 32, CropGeometry(32), tensors, Decision(0.5))
        bundle.save(Path(folder) / "b")
        names = (CONFIG_FILE, MODEL_FILE, CONFIG_FILE)
        return tuple((name, (Path(folder) / "b" / name).read_bytes()) for name in names)


def _manifest() -> Manifest:
    rows = [
        {"figure_id": f"f{i}", "dataset": "d", "image": f"{i}.png", "label": i % 2, "case_id": f"c{i}", "votes": [0, 1]}
        for i in range(4)
    ]
    return Manifest.from_rows(rows, "d")


def _manifests() -> list[tuple[str, bytes]]:
    """A manifest, and others whose metadata or columns are not what they should be."""
    with tempfile.TemporaryDirectory() as folder:
        good = _manifest().save(Path(folder) / "m.parquet").read_bytes()
    found = [("m.parquet", good)]
    table = pq.read_table(io.BytesIO(good))
    meta = json.loads((table.schema.metadata or {})[METADATA_KEY])
    altered: list[bytes] = [b"[" * 50_000, b"{", b"[]", b"\xff", b"null", b'"x"', b'{"name": NaN}']
    for key in meta:
        altered += [json.dumps({**meta, key: value}).encode("utf-8", "surrogatepass") for value in NASTY]
        altered.append(json.dumps({name: value for name, value in meta.items() if name != key}).encode())
    found += [("m.parquet", _parquet(table.replace_schema_metadata({METADATA_KEY: raw}))) for raw in altered]
    texts = pa.array([b"\xff\xfe", b"b", b"c", b"d"], pa.binary()).view(pa.binary())
    no_text = pa.Array.from_buffers(pa.string(), 4, texts.buffers())
    for name, column in (("figure_id", no_text), ("image", no_text), ("label", pa.array([1, 2, 300, 4], pa.int64()))):
        at = table.schema.get_field_index(name)
        found.append(("m.parquet", _parquet(table.set_column(at, name, column))))
    return found


def _parquet(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def _split() -> bytes:
    from atypia.splits.split import Fold, Split

    with tempfile.TemporaryDirectory() as folder:
        split = Split("kfold", {"folds": 2}, 0, "m" * 32, (Fold("fold-0", ("a", "b"), ("c",), ("d",)),))
        return split.save(Path(folder) / "split.json").read_bytes()


def _archives() -> list[tuple[str, bytes]]:
    zipped, tarred = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/b.txt", "x" * 200)
        archive.writestr("c.txt", "y")
    with tarfile.open(fileobj=tarred, mode="w:gz") as archive:
        for name in ("a/b.txt", "c.txt"):
            entry = tarfile.TarInfo(name)
            entry.size = 3
            archive.addfile(entry, io.BytesIO(b"abc"))
    return [("a.zip", zipped.getvalue()), ("a.tar.gz", tarred.getvalue())]


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
    recipe = _shipped("recipes", "probe.yaml").decode()
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
