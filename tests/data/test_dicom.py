"""Finding the slide in a folder of DICOM files."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from atypia.base.errors import DataError
from atypia.data.slides import dicom
from atypia.data.slides.dicom import dicom_file, dicom_series, series_uid


def write(path: Path, uid: str, explicit: bool = True) -> Path:
    """The head of a DICOM file: preamble, mark, and the UID of its series."""
    text = uid.encode() + b"\0" * (len(uid) % 2)
    length = b"UI" + struct.pack("<H", len(text)) if explicit else struct.pack("<I", len(text))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\0" * 128 + b"DICM" + b"\x08\x00\x60\x00CS\x02\x00SM" + b"\x20\x00\x0e\x00" + length + text)
    return path


@pytest.fixture
def every_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom, "_opens", lambda path: "report" not in path.name)


@pytest.mark.parametrize("explicit", [True, False])
def test_the_series_is_read_from_the_head(tmp_path: Path, explicit: bool) -> None:
    assert series_uid(write(tmp_path / "a", "1.2.840.5", explicit)) == "1.2.840.5"
    (tmp_path / "b.dcm").write_bytes(b"no DICOM" * 40)
    assert series_uid(tmp_path / "b.dcm") is None and series_uid(tmp_path / "absent") is None


@pytest.mark.usefixtures("every_opens")
def test_one_series_is_found_below_a_folder_whatever_its_files_are_called(tmp_path: Path) -> None:
    for name in ("x/1", "x/2.dcm"):
        write(tmp_path / name, "1.2.3")
    write(tmp_path / "report", "1.2.9")
    (tmp_path / "notes.txt").write_text("no image")
    assert dicom_file(tmp_path) == tmp_path / "x" / "1"
    assert dicom_series(tmp_path) == {"1.2.3": tmp_path / "x" / "1"}


@pytest.mark.usefixtures("every_opens")
def test_several_series_are_named_and_none_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "a.dcm", "1.2.3")
    write(tmp_path / "b.dcm", "1.2.4")
    with pytest.raises(DataError, match=r"one DICOM series`?, got 2: .*a\.dcm, .*b\.dcm; fix: name one file"):
        dicom_file(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="a folder with a DICOM series, got a folder without one"):
        dicom_file(tmp_path / "empty")
