"""Getting a source: downloaded, unpacked, checked, in place; or imported from a folder."""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from atypia.base import records as r
from atypia.base.errors import AbsentError, DataError, InputError, WorkError
from atypia.data.sources import importing
from atypia.data.sources.catalogue import SOURCES, Expected, RemoteFile, Source, SourceContents
from atypia.data.sources.opening import source_folder

NAME = "test-set"


def png(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (32, 32), (shade, 0, 0)).save(file, "PNG")
    return file.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


CROPS = zipped({f"crops/{label}/{k}.png": png(16 * k + 8 * label) for label in (0, 1) for k in range(3)})
TABLE = b"label of every crop is its folder\n"


def read(folder: Path) -> SourceContents:
    paths = sorted((folder / "crops").glob("*/*.png"))
    rows = [
        {
            r.FIGURE_ID: f"{path.parent.name}-{path.stem}",
            r.IMAGE: path.relative_to(folder).as_posix(),
            r.LABEL: int(path.parent.name),
        }
        for path in paths
    ]
    return SourceContents(rows, folder)


class Server:
    """Stands in for the network: what each address sends, and what was asked for."""

    def __init__(self) -> None:
        self.files = {"https://data.example/crops.zip": CROPS, "https://data.example/table.csv": TABLE}
        self.asked: list[str] = []
        self.fails = False

    def fetch(self, url: str, target: Path, sha256=None, size=None, progress=None, **more) -> Path:
        self.asked.append(url)
        if self.fails:
            raise WorkError(f"{url} needs a network")
        target.write_bytes(self.files[url])
        return target


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Source:
    entry = Source(
        name=NAME,
        title="a set for tests",
        task=r.ATYPICAL_TASK,
        licence="CC0",
        citation="none",
        homepage="https://data.example",
        folders=("TestSet",),
        marks=("crops/0",),
        inputs=("crops", "table.csv"),
        read=read,
        expected=Expected(6, 3),
        images=True,
        files=(
            RemoteFile("https://data.example/crops.zip", "crops.zip"),
            RemoteFile("https://data.example/table.csv", "table.csv"),
        ),
        by_hand="ask the publisher",
    )
    return put(monkeypatch, entry)


def put(monkeypatch: pytest.MonkeyPatch, entry: Source) -> Source:
    len(SOURCES)  # loads the package's entries, which would come on top of a patched dictionary
    monkeypatch.setitem(SOURCES._entries, entry.name, entry)
    return entry


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()
    monkeypatch.setattr(importing, "fetch", made.fetch)
    return made


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_get_brings_a_source_and_is_done_the_second_time(source: Source, server: Server, tmp_path: Path):
    told: list[str] = []
    manifest = importing.get(NAME, tmp_path, lambda done, total, what: told.append(what))
    assert (len(manifest), int(manifest.labels.sum())) == (6, 3)
    assert visible(tmp_path) == ["TestSet"]
    assert visible(tmp_path / "TestSet") == ["crops", "table.csv"]
    assert (tmp_path / "TestSet" / "table.csv").read_bytes() == TABLE
    assert manifest.root == tmp_path / "TestSet"
    assert not (tmp_path / importing.DOWNLOADS / NAME).exists()
    assert {"files downloaded", "members unpacked"} <= set(told)
    again = importing.get(NAME, tmp_path)
    assert again.fingerprint == manifest.fingerprint
    assert len(server.asked) == 2


def test_nothing_appears_when_the_network_fails(source: Source, server: Server, tmp_path: Path):
    server.fails = True
    with pytest.raises(WorkError, match="needs a network"):
        importing.get(NAME, tmp_path)
    assert visible(tmp_path) == []
    assert source_folder(NAME, tmp_path) is None


def test_other_counts_than_published_are_refused_and_files_with_checksum_kept(
    source: Source, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    put(monkeypatch, replace(source, expected=Expected(7, 3)))
    with pytest.raises(
        DataError, match=r"the download from data\.example is not the published set: .*published 7.*found 6"
    ):
        importing.get(NAME, tmp_path)
    assert visible(tmp_path) == []
    waiting = tmp_path / importing.DOWNLOADS / NAME
    # The table may be large and is asked for again only if it differs; the archive is suspect.
    assert visible(waiting) == ["table.csv"]
    put(monkeypatch, source)
    assert len(importing.get(NAME, tmp_path)) == 6


def test_a_hostile_archive_is_refused(source: Source, server: Server, tmp_path: Path):
    server.files["https://data.example/crops.zip"] = zipped({"crops/0/1.png": png(1), "../../evil.png": png(2)})
    with pytest.raises(DataError, match="would be written outside its folder"):
        importing.get(NAME, tmp_path)
    assert visible(tmp_path) == []
    assert list(tmp_path.rglob("evil.png")) == []


def test_an_archive_with_its_own_top_folder_is_found(source: Source, server: Server, tmp_path: Path):
    inside = zipfile.ZipFile(io.BytesIO(CROPS))
    files = {f"TestSet-main/{name}": inside.read(name) for name in inside.namelist()}
    server.files["https://data.example/crops.zip"] = zipped(files)
    manifest = importing.get(NAME, tmp_path)
    assert manifest.root == tmp_path / "TestSet" / "TestSet-main"


def test_another_sources_files_in_the_same_folder_stay(source: Source, server: Server, tmp_path: Path):
    (tmp_path / "TestSet" / "other").mkdir(parents=True)
    (tmp_path / "TestSet" / "other" / "file").write_bytes(b"mine")
    assert len(importing.get(NAME, tmp_path)) == 6
    assert visible(tmp_path / "TestSet") == ["crops", "other", "table.csv"]


def test_a_half_copy_in_the_way_is_not_overwritten(source: Source, server: Server, tmp_path: Path):
    (tmp_path / "TestSet").mkdir()
    (tmp_path / "TestSet" / "table.csv").write_bytes(b"mine")
    with pytest.raises(WorkError, match=r"already holds table\.csv.*; fix: move it away"):
        importing.get(NAME, tmp_path)
    assert (tmp_path / "TestSet" / "table.csv").read_bytes() == b"mine"
    (tmp_path / "TestSet" / "table.csv").unlink()
    asked = len(server.asked)
    assert len(importing.get(NAME, tmp_path)) == 6
    assert len(server.asked) == asked  # what was unpacked and checked is used


def test_a_source_without_address_tells_how_to_get_it(
    source: Source, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    put(monkeypatch, replace(source, files=()))
    with pytest.raises(
        AbsentError, match=r"cannot be downloaded.*; fix: ask the publisher.*`atypia data import test-set --from DIR`"
    ):
        importing.get(NAME, tmp_path)


def test_a_file_name_that_leaves_the_folder_is_refused(
    source: Source, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    put(monkeypatch, replace(source, files=(RemoteFile("https://data.example/table.csv", "../../table.csv"),)))
    with pytest.raises(DataError, match="leaves its folder"):
        importing.get(NAME, tmp_path)
    assert server.asked == []


def unpacked(folder: Path) -> Path:
    zipfile.ZipFile(io.BytesIO(CROPS)).extractall(folder)
    return folder


def test_import_checks_and_remembers_and_copies_nothing(source: Source, tmp_path: Path):
    folder = unpacked(tmp_path / "anywhere")
    before = sorted(tmp_path.rglob("*"))
    manifest = importing.import_folder(NAME, folder)
    assert len(manifest) == 6
    assert manifest.root == folder
    assert sorted(tmp_path.rglob("*")) == before
    assert source_folder(NAME, tmp_path / "empty-root") == folder


def test_import_remembers_nothing_that_is_wrong(source: Source, tmp_path: Path):
    folder = unpacked(tmp_path / "set")
    (folder / "crops" / "1" / "2.png").unlink()
    with pytest.raises(DataError, match=r"published 6 figures, found 5"):
        importing.import_folder(NAME, folder)
    with pytest.raises(DataError, match="does not hold test-set in its published layout"):
        importing.import_folder(NAME, folder / "crops" / "0")
    with pytest.raises(AbsentError, match="does not exist; fix: give the folder"):
        importing.import_folder(NAME, tmp_path / "absent")
    with pytest.raises(AbsentError, match="is a file"):
        importing.import_folder(NAME, folder / "crops" / "0" / "1.png")
    with pytest.raises(InputError, match="unknown data source 'test-sett'; did you mean 'test-set'"):
        importing.import_folder("test-sett", folder)
    assert source_folder(NAME, tmp_path / "empty-root") is None


def test_every_entry_can_be_checked_or_fetched_safely():
    from atypia.data.sources.archives import safe_member
    from atypia.data.sources.download import check_url

    for entry in SOURCES.values():
        for file in entry.files:
            check_url(file.url)
            assert safe_member(file.filename) is not None
            assert file.sha256 is None or len(file.sha256) == len(hashlib.sha256().hexdigest())
