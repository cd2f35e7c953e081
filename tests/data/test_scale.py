"""µm/px: what files say, and what counts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fixtures.slides import gradient, write_ome

from atypia.base.errors import DataError, InputError
from atypia.data.slides import scale
from atypia.data.slides.readers import open_slide

tifffile = pytest.importorskip("tifffile", reason="needs the extra `slides`")

NAME = "a.tif"
UNITS = {"µm": 1.0, "μm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6, "Å": 1e-4, "in": 25_400.0}


def stated(mpp: float, place: str = scale.TIFF) -> scale.Statement:
    return scale.Statement(mpp, place, f"file: {place}")


def ome(x: str, y: str, unit: str | None, prefix: str = "", quote: str = '"') -> str:
    units = "" if unit is None else "".join(f" PhysicalSize{axis}Unit={quote}{unit}{quote}" for axis in "XY")
    return (f"<{prefix}OME xmlns={quote}http://www.openmicroscopy.org/Schemas/OME/2016-06{quote}><{prefix}Image>"
            f"<{prefix}Pixels SizeX={quote}640{quote} SizeY={quote}480{quote} PhysicalSizeX={quote}{x}{quote} "
            f"PhysicalSizeY={quote}{y}{quote}{units}/></{prefix}Image></{prefix}OME>")  # fmt: skip


@given(
    st.floats(0.06, 19),
    st.sampled_from([*UNITS, None]),
    st.sampled_from(["", "OME:"]),
    st.sampled_from(['"', "'"]),
)
def test_any_unit_of_ome_gives_the_same_size(mpp: float, unit: str | None, prefix: str, quote: str) -> None:
    value = repr(mpp / UNITS.get(unit or "µm", 1.0))
    (found,) = scale.ome_statements(ome(value, value, unit, prefix, quote), 640, 480)
    assert found.mpp == pytest.approx(mpp, rel=1e-9) and found.source == "file: OME-XML"


@given(st.floats(0.06, 19), st.sampled_from(["micron", "um", "µm", "\\u00B5m", "mm", "nm", "cm"]))
def test_any_unit_of_imagej_gives_the_same_size(mpp: float, unit: str) -> None:
    factor = {"mm": 1e3, "nm": 1e-3, "cm": 1e4}.get(unit, 1.0)
    per_unit = factor / mpp
    (found,) = scale.imagej_statements(f"ImageJ=1.53\nunit={unit}\n", [per_unit, per_unit])
    assert found.mpp == pytest.approx(mpp, rel=1e-9) and found.place == scale.IMAGEJ


@given(st.floats(0.06, 19), st.sampled_from([(2, 25_400.0), (3, 10_000.0)]))
def test_resolution_tags(mpp: float, unit: tuple[int, float]) -> None:
    (found,) = scale.tiff_statements([unit[1] / mpp] * 2, unit[0])
    assert found.mpp == pytest.approx(mpp)
    assert scale.tiff_statements([unit[1] / mpp] * 2, 1) == []


@given(st.floats(0.06, 19), st.floats(0.06, 19))
def test_two_sizes_count_only_where_they_agree(one: float, other: float) -> None:
    far = abs(one - other) > 0.05 * max(one, other)
    statements = [stated(one, scale.OME), stated(other)]
    for given_mpp, said in ((None, statements), (other, statements[:1])):
        if far:
            with pytest.raises(DataError, match=r"one value \(to 5%\).*--mpp-from (given or --mpp-from )?ome"):
                scale.choose_mpp(NAME, said, given_mpp)
        else:
            assert scale.choose_mpp(NAME, said, given_mpp).mpp == (one if given_mpp is None else other)
    assert scale.choose_mpp(NAME, statements, mpp_from=scale.TIFF) == scale.Scale(other, "file: tiff")
    assert scale.choose_mpp(NAME, statements, 7.0, scale.GIVEN, "--magnification 2").source == "--magnification 2"


def test_what_cannot_be_used_is_named_and_does_not_count() -> None:
    (screen,) = scale.tiff_statements([72, 72], 2)
    (oblong,) = scale.tiff_statements([40_000, 20_000], 3)
    assert math.isnan(screen.mpp) and "352.8 µm/px, outside 0.05 to 20" in screen.problem
    assert "pixels must be square" in oblong.problem
    assert scale.choose_mpp(NAME, [screen], 0.25) == scale.Scale(0.25, "given by --mpp")
    assert scale.unused_notes(NAME, [screen])[0].startswith("a.tif: not used: 352.8 µm/px")
    assert scale.statement(scale.TIFF, "file", 0.0, 0.0) == scale.statement(scale.TIFF, "file", None, 0.25) == []


def test_options_that_say_nothing() -> None:
    with pytest.raises(InputError, match="`--mpp-from` must be one of auto, given, openslide"):
        scale.choose_mpp(NAME, [], mpp_from="metadata")
    with pytest.raises(InputError, match="`--mpp` must be given with --mpp-from given"):
        scale.choose_mpp(NAME, [], mpp_from=scale.GIVEN)
    with pytest.raises(DataError, match=r"`--mpp-from` must be a place of a\.tif that states one µm/px, got ome"):
        scale.choose_mpp(NAME, [stated(0.25)], mpp_from=scale.OME)
    for mpp in (0.0, -1.0, math.inf):
        with pytest.raises(DataError, match="`mpp` must be a positive number"):
            scale.choose_mpp(NAME, [], mpp)


def test_magnification() -> None:
    assert scale.mpp_from_magnification(None, 20) == (0.5, "given by --magnification 20")
    assert scale.mpp_from_magnification(0.26, 40) == (0.26, "given by --mpp")
    with pytest.raises(InputError, match=r"`--mpp and --magnification` must be one size, got 0\.5 and 40"):
        scale.mpp_from_magnification(0.5, 40)
    with pytest.raises(InputError, match="`--magnification` must be from 1 to 200"):
        scale.mpp_from_magnification(None, 0)


# Files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"tile": None, "compression": "zlib"}, {"compression": "zlib"}])
@pytest.mark.parametrize(("value", "unit"), [(0.25, "µm"), (250, "nm"), (2.5e-4, "mm"), (2.5e-5, "cm")])
def test_ome_in_every_layout(tmp_path: Path, options: dict[str, Any], value: float, unit: str) -> None:
    size = {f"PhysicalSize{axis}": value for axis in "XY"} | {f"PhysicalSize{axis}Unit": unit for axis in "XY"}
    with open_slide(write_ome(tmp_path / "a.ome.tif", [gradient()], metadata=size, **options)) as slide:
        assert slide.mpp == pytest.approx(0.25)
        assert slide.facts.statements[0].source == "file: OME-XML"


def test_imagej_writes_its_unit_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "ij.tif"
    tifffile.imwrite(path, gradient(), imagej=True, resolution=(4, 4), metadata={"unit": "um", "axes": "YXS"})
    with open_slide(path) as slide:
        assert slide.mpp == pytest.approx(0.25) and slide.facts.statements[0].source == "file: ImageJ"


def test_a_file_that_contradicts_itself_has_no_size(tmp_path: Path) -> None:
    size = {f"PhysicalSize{axis}": 0.25 for axis in "XY"}
    options: dict[str, Any] = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}
    with open_slide(write_ome(tmp_path / "a.ome.tif", [gradient()], metadata=size, **options)) as slide:
        assert slide.mpp is None
        assert {one.place: one.mpp for one in slide.facts.statements} == {scale.OME: 0.25, scale.TIFF: 0.5}


@pytest.mark.real
def test_the_real_slide_keeps_its_word(real_root: Path) -> None:
    with open_slide(real_root / "slides" / "cmu-1-small-region.svs") as slide:
        said = slide.facts.statements
    assert scale.choose_mpp(NAME, said) == scale.Scale(0.499, "file: aperio/openslide")
    assert scale.choose_mpp(NAME, said, 0.5).mpp == 0.5
    with pytest.raises(
        DataError, match=r"0\.25 \(given by --mpp\) and 0\.499 \(file: aperio/openslide\); fix: --mpp-from given"
    ):
        scale.choose_mpp(NAME, said, 0.25)
