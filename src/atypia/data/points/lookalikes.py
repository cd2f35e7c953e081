"""What a file looks like that is not of any format of points, and the way to one that is."""

from __future__ import annotations

from typing import Any, Final

SHOWN_KEYS: Final = 6
_FIRST_BYTES: Final = (
    (b"\x1f\x8b", "a gzip archive", "unpack it first"),
    (b"PK\x03\x04", "a zip archive or a spreadsheet", "unpack it, or save the sheet as CSV"),
    (b"\x80\x02", "a pickle, which is not opened because it can run programs", "save the positions as CSV or JSON"),
    (b"\x80\x03", "a pickle, which is not opened because it can run programs", "save the positions as CSV or JSON"),
    (b"\x80\x04", "a pickle, which is not opened because it can run programs", "save the positions as CSV or JSON"),
    (b"\x80\x05", "a pickle, which is not opened because it can run programs", "save the positions as CSV or JSON"),
    (b"\x93NUMPY", "a NumPy array", "save it as CSV with the columns x and y"),
    (b"\x89HDF", "HDF5", "save the positions as CSV with the columns x and y"),
    (b"PAR1", "Parquet", "save it as CSV"),
    (b"\x89PNG", "a PNG image, maybe a mask", "export the positions of its objects as CSV or GeoJSON"),
    (b"\xff\xd8\xff", "a JPEG image", "export positions as CSV or GeoJSON"),
    (b"II*\0", "a TIFF image, maybe a mask", "export the positions of its objects as CSV or GeoJSON"),
    (b"MM\0*", "a TIFF image, maybe a mask", "export the positions of its objects as CSV or GeoJSON"),
    (b"%PDF", "PDF", "export positions as CSV or GeoJSON"),
)
_HTML: Final = (b"<!doctype html", b"<html")
_KEYS: Final = (
    (
        {"nuc"},
        "HoVer-Net's JSON, whose resolution it does not state",
        "save the nuclei as TIAToolbox's annotationstore, or their centroids as CSV",
    ),
    ({"shapes", "imagePath"}, "LabelMe's JSON", "export the shapes as COCO"),
    ({"_via_img_metadata"}, "a project of the VGG annotator", "export the annotations as COCO or CSV"),
    ({"annotations", "predictions"}, "Label Studio's JSON", "export it as COCO or CSV"),
)
_ROOTS: Final = {
    "annotation": ("Pascal VOC's XML", "convert it to COCO"),
    "object-stream": ("XML of a viewer that is not read", "export GeoJSON or CSV"),
}
_BEST: Final = "export it as GeoJSON, or as CSV with the columns x and y"


def known_file(head: bytes, start: bytes) -> tuple[str, str] | None:
    """What a file is by its first bytes, and the way out; None if it may hold points.

    Args:
        head: Its first bytes.
        start: The same without a byte order mark and spaces.
    """
    for sign, what, fix in _FIRST_BYTES:
        if head.startswith(sign):
            return what, fix
    if start[:20].lower().startswith(_HTML):
        return "a web page", "download the file itself"
    return None


def looks_like(kind: str, content: Any) -> tuple[str, str]:
    """What parsed content looks like, and the way out.

    Args:
        kind: How it was parsed (:attr:`atypia.data.points.base.PointFormat.kind`).
        content: What came of it.
    """
    if kind == "json":
        first = content[0] if isinstance(content, list) and content else content
        if isinstance(first, dict):
            for keys, what, fix in _KEYS:
                if keys <= first.keys():
                    return what, fix
            named = _listed([str(key) for key in first])
            return f"{'a list of JSON objects' if content is not first else 'a JSON object'} with {named}", _BEST
        return f"JSON with {'a list of numbers or texts' if isinstance(content, list) else 'one value'}", _BEST
    if kind == "xml":
        return _ROOTS.get(content.tag, (f"XML with the root <{content.tag[:80]}>", _BEST))
    if kind == "sqlite":
        return f"a SQLite database with {_listed(sorted(content)) if content else 'no tables'}", _BEST
    if kind == "zarr":
        inside = f"only {_listed(sorted(content))}" if content else "neither x nor y"
        return f"a Zarr folder with {inside}", "save the detections as annotationstore or qupath"
    return f"other {kind}", _BEST


def _listed(names: list[str]) -> str:
    shown = ", ".join(f"`{name[:40]}`" for name in names[:SHOWN_KEYS]) or "nothing"
    return f"{shown} …" if len(names) > SHOWN_KEYS else shown
