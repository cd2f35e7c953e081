"""Domains: one spelling for every scanner, laboratory, species and tumour.

The published tables spell the same thing in several ways («Hamammatsu XR» and «Hamamatsu XR»,
«canine lymphosarcoma» and «canine lymphoma»). A domain is compared by its name, so the spellings
are unified here, for the published sources and for a user's own tables alike.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from atypia.base import records as r
from atypia.base.errors import DataError, must

HAMAMATSU_XR = "Hamamatsu XR"
HAMAMATSU_S360 = "Hamamatsu S360"
APERIO_CS2 = "Aperio CS2"
APERIO_XT = "Aperio XT"
HISTECH = "3DHistech"
LEICA_SCN400 = "Leica SCN400"

UTRECHT = "UMC Utrecht"
VIENNA = "VMU Vienna"
BERLIN = "FU Berlin"
NEW_YORK = "AMC New York"

HUMAN = "human"
CANINE = "canine"

BREAST = "breast cancer"
LUNG = "lung cancer"
LYMPHOMA = "lymphoma"
MAST_CELL = "cutaneous mast cell tumour"
NEUROENDOCRINE = "neuroendocrine tumour"
SARCOMA = "soft tissue sarcoma"
MELANOMA = "melanoma"

SCANNER_MPP: Mapping[str, float] = {
    HAMAMATSU_XR: 0.23,
    HAMAMATSU_S360: 0.23,
    APERIO_CS2: 0.25,
    HISTECH: 0.25,
    APERIO_XT: 0.25,
    LEICA_SCN400: 0.25,
}
"""Published µm/px of the sets' scanners at 40×. The first four: the data papers of MIDOG 2022 and
MIDOG++ (doi 10.1038/s41597-023-02327-4). The last two: the description of the TUPAC16 auxiliary
mitosis set (doi 10.1016/j.media.2019.02.012)."""

_SPELLINGS: Mapping[str, Mapping[str, str]] = {
    r.SCANNER: {
        "hamammatsu xr": HAMAMATSU_XR,
        "hamamatsu nanozoomer xr": HAMAMATSU_XR,
        "nanozoomer xr": HAMAMATSU_XR,
        "hamammatsu s360": HAMAMATSU_S360,
        "hamamatsu nanozoomer s360": HAMAMATSU_S360,
        "aperio scanscope cs2": APERIO_CS2,
        "leica aperio cs2": APERIO_CS2,
        "leica scanscope cs2": APERIO_CS2,
        "aperio scanscope xt": APERIO_XT,
        "scanscope xt": APERIO_XT,
        "3d histech": HISTECH,
        "3dhistech pannoramic scan ii": HISTECH,
        "3d histech pannoramic scan ii": HISTECH,
        "pannoramic scan ii": HISTECH,
        "leica scn 400": LEICA_SCN400,
    },
    r.ORIGIN: {
        "umc utrecht, the netherlands": UTRECHT,
        "university medical center utrecht": UTRECHT,
        "vetmeduni vienna": VIENNA,
        "freie universität berlin": BERLIN,
        "amc new york city": NEW_YORK,
    },
    r.SPECIES: {
        "homo sapiens": HUMAN,
        "dog": CANINE,
        "canis familiaris": CANINE,
        "canis lupus familiaris": CANINE,
        "cat": "feline",
        "felis catus": "feline",
    },
    r.TUMOUR: {
        "breast carcinoma": BREAST,
        "mammary carcinoma": BREAST,
        "lung carcinoma": LUNG,
        "pulmonary carcinoma": LUNG,
        "lymphosarcoma": LYMPHOMA,
        "cutaneous melanoma": MELANOMA,
        "(sub)cutaneous soft tissue sarcoma": SARCOMA,
    },
}

_KNOWN: Mapping[str, tuple[str, ...]] = {
    r.SCANNER: tuple(SCANNER_MPP),
    r.ORIGIN: (UTRECHT, VIENNA, BERLIN, NEW_YORK),
    r.SPECIES: (HUMAN, CANINE, "feline"),
    r.TUMOUR: (BREAST, LUNG, LYMPHOMA, MAST_CELL, NEUROENDOCRINE, SARCOMA, MELANOMA),
}


def unify(column: str, text: str | None) -> str | None:
    """The standard spelling of a scanner, laboratory, species or tumour.

    Args:
        column: One of :data:`atypia.base.records.DOMAIN_PARTS`.
        text: A published or a user's spelling; case, extra spaces and American «tumor» do not
            matter.

    Returns:
        The unified spelling; an unknown name is returned with normalised spaces;
        None for an empty one.

    Raises:
        ValueError: ``column`` is none of the four.

    >>> unify("scanner", "Hamammatsu  XR")
    'Hamamatsu XR'
    >>> unify("tumour", "Cutaneous mast cell tumor")
    'cutaneous mast cell tumour'
    """
    if column not in _SPELLINGS:
        raise ValueError(must("column", " or ".join(r.DOMAIN_PARTS), column, "name a part of a domain"))
    tidy = " ".join((text or "").split())
    if not tidy:
        return None
    return _lookup(column).get(_plain(tidy), tidy)


@lru_cache(maxsize=8)
def _lookup(column: str) -> dict[str, str]:
    table = {_plain(known): known for known in _KNOWN[column]}
    table.update({_plain(spelling): known for spelling, known in _SPELLINGS[column].items()})
    return table


def _plain(text: str) -> str:
    return " ".join("tumour" if word == "tumor" else word for word in text.casefold().split())


def split_tumour(text: str) -> tuple[str | None, str | None]:
    """Species and tumour of a joint name.

    >>> split_tumour("canine lymphosarcoma")
    ('canine', 'lymphoma')
    >>> split_tumour("melanoma")
    (None, 'melanoma')
    """
    tidy = " ".join(text.split())
    first, _, rest = tidy.partition(" ")
    species = unify(r.SPECIES, first)
    if rest and species in _KNOWN[r.SPECIES]:
        return species, unify(r.TUMOUR, rest)
    return None, unify(r.TUMOUR, tidy)


def domain_columns(
    scanner: str | None = None, origin: str | None = None, species: str | None = None, tumour: str | None = None
) -> dict[str, str | None]:
    """The four columns of a domain, unified; a tumour may carry its species («human melanoma»).

    >>> domain_columns("Aperio ScanScope CS2", "FU Berlin", "Canine", "canine cutaneous mast cell tumor")["tumour"]
    'cutaneous mast cell tumour'
    """
    carried, alone = split_tumour(tumour) if tumour else (None, None)
    return {
        r.SCANNER: unify(r.SCANNER, scanner),
        r.ORIGIN: unify(r.ORIGIN, origin),
        r.SPECIES: unify(r.SPECIES, species) or carried,
        r.TUMOUR: alone,
    }


@dataclass(frozen=True)
class MidogSlide:
    """Published facts of one MIDOG++ slide.

    Attributes:
        number: Slide number; the file is ``NNN.tiff``.
        part: ``train`` or ``test``, the publishers' own division of MIDOG++.
        scanner: Unified spelling, as for the next three.
        origin: Laboratory.
        species: ``human`` or ``canine``.
        tumour: Tumour type.
        mpp: µm/px of the scanner.
    """

    number: int
    part: str
    scanner: str
    origin: str
    species: str
    tumour: str
    mpp: float

    @property
    def columns(self) -> dict[str, str | float]:
        """Manifest columns of the domain and the µm/px."""
        return {
            r.SCANNER: self.scanner,
            r.ORIGIN: self.origin,
            r.SPECIES: self.species,
            r.TUMOUR: self.tumour,
            r.MPP: self.mpp,
        }


@lru_cache(maxsize=1)
def midog_slides() -> Mapping[int, MidogSlide]:
    """The MIDOG++ slide table, by slide number; 503 slides in 10 domains.

    MIDOG 2021, AMi-Br's MIDOG21 part and MIDOG 2025 use the same numbers. The table ships with
    the package: copied unchanged from the publishers' repository (``DeepMicroscopy/MIDOGpp``).
    """
    table = files("atypia.data").joinpath("tables/midogpp_slides.csv").read_text(encoding="utf-8-sig")
    slides: dict[int, MidogSlide] = {}
    for row in csv.DictReader(table.splitlines(), delimiter=";"):
        unified = domain_columns(row["Scanner"], row["Origin"], row["Species"], row["Tumor"])
        scanner, origin, species, tumour = (str(unified[part]) for part in r.DOMAIN_PARTS)
        number = int(row["Slide"])
        slides[number] = MidogSlide(number, row["Dataset"], scanner, origin, species, tumour, SCANNER_MPP[scanner])
    return slides


LAST_MIDOG21_SLIDE = 150


def midog_case(number: int) -> str:
    """Case of a MIDOG++ slide number, the same in every set that was cut from that slide.

    >>> midog_case(2), midog_case(201)
    ('MIDOG21/002', 'MIDOG++/201')
    """
    return f"{'MIDOG21' if number <= LAST_MIDOG21_SLIDE else 'MIDOG++'}/{number:03d}"


_TUPAC_CENTRES = (
    (range(1, 24), APERIO_XT, UTRECHT),
    (range(24, 49), LEICA_SCN400, "TUPAC16 centre B"),
    (range(49, 74), LEICA_SCN400, "TUPAC16 centre C"),
)


def tupac_columns(case: int) -> dict[str, str | float]:
    """Manifest columns of a TUPAC16 auxiliary case: the domain, the µm/px, the case id.

    Cases 1 to 23 come from UMC Utrecht and are those of the AMIDA13 challenge; 24 to 48 and 49 to
    73 come from two further centres that the publishers do not name. Source: Veta et al., Medical
    Image Analysis 54 (2019), and the challenge's data page.

    Args:
        case: Case number, 1 to 73.

    Raises:
        DataError: There is no such case.
    """
    for cases, scanner, origin in _TUPAC_CENTRES:
        if case in cases:
            return {
                r.CASE_ID: f"TUPAC16/{case:02d}",
                r.SCANNER: scanner,
                r.ORIGIN: origin,
                r.SPECIES: HUMAN,
                r.TUMOUR: BREAST,
                r.MPP: SCANNER_MPP[scanner],
            }
    raise DataError(must("TUPAC16 case", "between 1 and 73", case, "check the slide name"))
