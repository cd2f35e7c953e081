"""Options shared by several commands, defined once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Root = Annotated[
    Path | None,
    typer.Option(
        help="Folder of published data. Default: $ATYPIA_DATA, else the user's data folder.", show_default=False
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Device = Annotated[str, typer.Option(help="Device of networks: auto, cpu or cuda.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change a value of the recipe; may be repeated.", show_default=False
    ),
]


def _known_codes(codes: list[str] | None) -> list[str] | None:
    if codes:
        from atypia.data.audit.findings import check_codes

        check_codes(codes)
    return codes


Allow = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CODE",
        help="Allow this leakage finding and continue; may be repeated.",
        show_default=False,
        callback=_known_codes,
    ),
]
Seed = Annotated[int, typer.Option(help="Master seed.", min=0)]
ProtocolSet = Annotated[
    list[str] | None,
    typer.Option("--protocol-set", metavar="KEY=VALUE", help="Parameter of the protocol.", show_default=False),
]
DropOverlap = Annotated[
    bool,
    typer.Option("--drop-overlap", help="With `a+b`, leave out figures of b that are also in a.", show_default=False),
]
DropRepeats = Annotated[
    bool,
    typer.Option(
        "--drop-repeats",
        help="Leave out repeated crops, and all copies of crops that have both labels.",
        show_default=False,
    ),
]
Mpp = Annotated[float | None, typer.Option(help="µm/px, if the files do not state it.", show_default=False)]
Magnification = Annotated[
    float | None, typer.Option(help="Instead of --mpp: 40 is 0.25 µm/px, 20 is 0.5.", show_default=False)
]
MppFrom = Annotated[
    str, typer.Option(help="Value to use if µm/px differ: given, openslide, ome, scn, imagej, tiff or dpi.")
]
Origin = Annotated[
    str, typer.Option(help="Origin of points: the slide's canvas (as in OpenSlide) or its bounds (as in QuPath).")
]
Offset = Annotated[
    str | None,
    typer.Option(help="X,Y: pixels added to points, for slides that were converted and cropped.", show_default=False),
]
Classes = Annotated[
    list[str] | None,
    typer.Option(
        "--class",
        help="Only points of this class and classes derived from it; may be repeated. all: every class.",
        show_default=False,
    ),
]
MinScore = Annotated[
    float | None, typer.Option(help="Only points to which a detector gave at least this score.", show_default=False)
]
Unit = Annotated[
    str, typer.Option(help="Unit of points: px (of full resolution), um, mm, or the µm of one pixel (0.5).")
]
PointFormat = Annotated[str | None, typer.Option(help="Format of the points.", show_default=False)]
BoxForm = Annotated[str, typer.Option(help="Numbers of boxes: auto, xywh (corner), xyxy or cxcywh (centre).")]
DENSITY_PANEL = "Figures by area"
Field = Annotated[
    str | None,
    typer.Option(
        help="Field of the hotspot: 2 (mm²), 10x0.237 (ten fields of 0.237 mm²), 10xd0.55 (of 0.55 mm diameter). Default: 2.",
        show_default=False,
        rich_help_panel=DENSITY_PANEL,
    ),
]
Region = Annotated[
    Path | None,
    typer.Option(
        help="GeoJSON of the area to count in, instead of all tissue.",
        show_default=False,
        rich_help_panel=DENSITY_PANEL,
    ),
]
RegionClass = Annotated[
    list[str] | None,
    typer.Option(
        help="Which regions of that file; may be repeated.", show_default=False, rich_help_panel=DENSITY_PANEL
    ),
]
Where = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN=VALUE",
        help="Take only figures with this value of part, scanner, origin, species, tumour, domain, dataset or label; may "
        "be repeated.",
        show_default=False,
    ),
]
Labels = Annotated[str, typer.Option(help="published, or votes: the majority of the raters, if there is one.")]
SplitFile = Annotated[
    Path | None, typer.Option("--split", help="A saved split, instead of a protocol.", show_default=False)
]
