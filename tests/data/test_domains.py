"""Spellings of scanners, laboratories, species and tumours; slides and centres."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atypia.base import records as r
from atypia.base.errors import DataError
from atypia.data import domains


@pytest.mark.parametrize(
    ("column", "text", "unified"),
    [
        (r.SCANNER, "Hamammatsu XR", "Hamamatsu XR"),
        (r.SCANNER, "  hamamatsu   xr ", "Hamamatsu XR"),
        (r.SCANNER, "3D Histech", "3DHistech"),
        (r.SCANNER, "Aperio ScanScope CS2", "Aperio CS2"),
        (r.SCANNER, "Philips UFS", "Philips UFS"),
        (r.SPECIES, "Canine", "canine"),
        (r.SPECIES, "Dog", "canine"),
        (r.TUMOUR, "lymphosarcoma", "lymphoma"),
        (r.TUMOUR, "Neuroendocrine tumor", "neuroendocrine tumour"),
        (r.ORIGIN, "umc utrecht", "UMC Utrecht"),
        (r.ORIGIN, "", None),
        (r.ORIGIN, None, None),
    ],
)
def test_one_spelling(column: str, text: str | None, unified: str | None) -> None:
    assert domains.unify(column, text) == unified


@given(st.sampled_from(r.DOMAIN_PARTS), st.text(max_size=30))
def test_unifying_twice_changes_nothing(column: str, text: str) -> None:
    once = domains.unify(column, text)
    assert domains.unify(column, once) == once


def test_unknown_column_is_refused() -> None:
    with pytest.raises(ValueError, match="`column` must be scanner or origin"):
        domains.unify("colour", "red")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("human breast cancer", ("human", "breast cancer")),
        ("canine cutaneous mast cell tumor", ("canine", "cutaneous mast cell tumour")),
        ("canine lymphosarcoma", ("canine", "lymphoma")),
        ("lymphoma", (None, "lymphoma")),
        ("canine", (None, "canine")),
    ],
)
def test_tumour_carries_its_species(text: str, parts: tuple[str | None, str]) -> None:
    assert domains.split_tumour(text) == parts


def test_a_given_species_wins_over_the_carried_one() -> None:
    columns = domains.domain_columns(species="feline", tumour="canine lymphoma")
    assert (columns[r.SPECIES], columns[r.TUMOUR]) == ("feline", "lymphoma")


def test_midog_slide_table() -> None:
    slides = domains.midog_slides()
    assert len(slides) == 503
    assert len({(s.scanner, s.origin, s.species, s.tumour) for s in slides.values()}) == 10
    assert {s.scanner for s in slides.values()} == {"Hamamatsu XR", "Hamamatsu S360", "Aperio CS2", "3DHistech"}
    assert slides[1].scanner == slides[350].scanner == "Hamamatsu XR"  # one misspelt in the table, one not
    assert (slides[1].mpp, slides[150].mpp, slides[201].mpp) == (0.23, 0.25, 0.25)
    assert slides[6].part == "test"


@pytest.mark.parametrize(
    ("case", "scanner", "origin"),
    [
        (1, "Aperio XT", "UMC Utrecht"),
        (23, "Aperio XT", "UMC Utrecht"),
        (24, "Leica SCN400", "TUPAC16 centre B"),
        (48, "Leica SCN400", "TUPAC16 centre B"),
        (49, "Leica SCN400", "TUPAC16 centre C"),
        (73, "Leica SCN400", "TUPAC16 centre C"),
    ],
)
def test_tupac_centres(case: int, scanner: str, origin: str) -> None:
    columns = domains.tupac_columns(case)
    assert (columns[r.SCANNER], columns[r.ORIGIN], columns[r.CASE_ID]) == (scanner, origin, f"TUPAC16/{case:02d}")


@pytest.mark.parametrize("case", [0, 74])
def test_no_such_tupac_case(case: int) -> None:
    with pytest.raises(DataError, match="`TUPAC16 case` must be between 1 and 73"):
        domains.tupac_columns(case)
