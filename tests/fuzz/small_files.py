"""Small valid files of every kind that Atypia reads, which are damaged to make hostile ones."""

from __future__ import annotations

import gzip
import io
import json
import math
import sqlite3
import tarfile
import tempfile
import zipfile
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


def sources() -> dict[str, list[tuple[str, bytes]]]:
    return {
        "image": _images(),
        "slide": [("tiled.tif", _tiled()), *_images()[:2]],
        "points": _points(),
        "table": [("figures.csv", b"image,label,case_id,votes\na.png,1,c1,1|0|1\nb.png,normal,c2,\n"),
                  ("slides.csv", b"slide;points;name;mpp\na.svs;a.csv;=x;0,25\n")],
        "yaml": [("recipe.yaml", shipped("recipes", "probe.yaml")),
                 ("study.yaml", shipped("studies", "library", "benito-synthetic.yaml")),
                 ("generator.yaml", shipped("synthesis", "recipes", "smoke.yaml"))],
        "bundle": list(small_bundle()),
        "manifest": _manifests(),
        "split": [("split.json", _split())],
        "archive": _archives(),
        "challenge": [("inputs.json", json.dumps([{"interface": {"slug": "x", "relative_path": "y"}}]).encode())],
    }  # fmt: skip


def shipped(*parts: str) -> bytes:
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
        archive.writestr(zipfile.ZipInfo("a/b.txt"), "x" * 200, zipfile.ZIP_DEFLATED)
        archive.writestr(zipfile.ZipInfo("c.txt"), "y", zipfile.ZIP_DEFLATED)
    # No time of writing in either: the same bytes at any time.
    with gzip.GzipFile(fileobj=tarred, mode="wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        for name in ("a/b.txt", "c.txt"):
            entry = tarfile.TarInfo(name)
            entry.size = 3
            archive.addfile(entry, io.BytesIO(b"abc"))
    return [("a.zip", zipped.getvalue()), ("a.tar.gz", tarred.getvalue())]
