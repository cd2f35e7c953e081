"""Archives from elsewhere: nothing leaves the folder, nothing grows without bound."""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atypia.base.errors import DataError, WorkError
from atypia.data.sources.archives import ArchiveLimits, extract, extract_into, safe_member

Maker = Callable[[Path, dict[str, bytes]], Path]


def make_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return path


def make_tar(path: Path, files: dict[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:  # pyright: ignore[reportCallIssue, reportArgumentType]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def make_tar_with(path: Path, member: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("first.txt"))
        archive.addfile(member)
    return path


def there(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


GOOD = {"set/a.png": b"a" * 3000, "set/sub/b.csv": b"x,y\n1,2\n", "empty.txt": b""}


@pytest.mark.parametrize(
    "make",
    [
        make_zip,
        make_tar,
        lambda path, files: make_tar(path, files, "w"),
        lambda path, files: make_tar(path, files, "w:xz"),
        lambda path, files: make_tar(path, files, "w:bz2"),
    ],
    ids=["zip", "tar.gz", "tar", "tar.xz", "tar.bz2"],
)
def test_good_archives_are_unpacked_whatever_their_name(tmp_path: Path, make: Maker):
    told: list[int] = []
    archive = make(tmp_path / "archive.bin", GOOD)
    folder = extract(archive, tmp_path / "out", progress=lambda done, total, what: told.append(done))
    assert there(folder) == GOOD
    assert told[-1] == len(GOOD)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["archive.bin", "out"]


ESCAPES = ["../evil.txt", "a/../../evil.txt", "/etc/evil.txt", "C:\\evil.txt", "C:evil.txt", "..\\evil.txt", "a\nb"]


@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.parametrize("name", ESCAPES)
def test_names_that_leave_the_folder_are_refused(tmp_path: Path, make: Maker, name: str):
    archive = make(tmp_path / "archive", {"good.txt": b"1", name: b"2"})
    with pytest.raises(DataError, match=r"is refused: member .* would be written outside its folder; fix:"):
        extract(archive, tmp_path / "deep" / "out")
    assert [p.name for p in tmp_path.rglob("*")].count("evil.txt") == 0
    assert not (tmp_path / "deep" / "out").exists()
    assert list((tmp_path / "deep").iterdir()) == []


@given(st.text(alphabet="ab./\\:C\0 ", max_size=20))
@settings(deadline=None)
def test_a_safe_member_stays_inside(name: str):
    path = safe_member(name)
    if path is not None:
        assert not path.is_absolute()
        assert ".." not in path.parts
        assert Path("/base").joinpath(*path.parts).resolve().is_relative_to("/base")


def test_long_names_are_not_safe():
    assert safe_member("a" * 256) is None
    assert safe_member("/".join(["ab"] * 2000)) is None
    assert str(safe_member("a" * 255)) == "a" * 255


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_tar_are_refused(tmp_path: Path, kind: bytes):
    member = tarfile.TarInfo("odd")
    member.type, member.linkname = kind, "first.txt"
    archive = make_tar_with(tmp_path / "x.tar", member)
    with pytest.raises(DataError, match="'odd' is a link or a device"):
        extract(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_links_in_zip_are_refused(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        member = zipfile.ZipInfo("odd")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(member, "/etc/passwd")
    with pytest.raises(DataError, match="'odd' is a link or a device"):
        extract(tmp_path / "x.zip", tmp_path / "out")


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_too_many_bytes_or_members_are_refused(tmp_path: Path, make: Maker):
    archive = make(tmp_path / "archive", {"a": b"1" * 600, "b": b"2" * 600})
    with pytest.raises(DataError, match=r"unpacks to .*1,000"):
        extract(archive, tmp_path / "out", ArchiveLimits(max_bytes=1000))
    with pytest.raises(DataError, match="more than 1 members"):
        extract(archive, tmp_path / "out", ArchiveLimits(max_members=1))
    extract(archive, tmp_path / "out", ArchiveLimits(max_bytes=1200, max_members=2))
    assert len(there(tmp_path / "out")) == 2


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_a_bomb_is_stopped_while_it_grows(tmp_path: Path, make: Maker):
    archive = make(tmp_path / "bomb", {"zeros": bytes(8 << 20)})
    assert archive.stat().st_size < 20_000
    limits = ArchiveLimits(max_ratio=100, ratio_from_bytes=1 << 20)
    with pytest.raises(DataError, match="more than 100 times its size"):
        extract(archive, tmp_path / "out", limits)
    extract(archive, tmp_path / "out", ArchiveLimits(max_ratio=1e6, ratio_from_bytes=1))


def test_a_zip_that_lies_about_its_size_is_damaged(tmp_path: Path):
    archive = make_zip(tmp_path / "x.zip", {"a": b"1" * 5000})
    data = bytearray(archive.read_bytes())
    place = data.index(b"PK\x01\x02") + 24  # uncompressed size in the central directory
    data[place : place + 4] = (10).to_bytes(4, "little")
    archive.write_bytes(bytes(data))
    with pytest.raises(DataError, match="damaged"):
        extract(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.parametrize(
    "names", [("a.txt", "a.txt"), ("a.txt", "A.TXT"), ("a", "a/b"), ("a/b", "a"), ("x/./y", "x/y")]
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_that_collide_are_refused(tmp_path: Path, make: Maker, names: tuple[str, str]):
    path = tmp_path / "archive"
    if make is make_zip:
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, b"1")
    else:
        with tarfile.open(path, "w") as archive:
            for name in names:
                archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(DataError, match=r"occurs twice|lies below a file"):
        extract(path, tmp_path / "out")


def test_what_macos_adds_is_left_out(tmp_path: Path):
    archive = make_zip(
        tmp_path / "x.zip",
        {"set/a.png": b"1", "set/._a.png": b"2", "__MACOSX/set/._a.png": b"3", "set/.DS_Store": b"4"},
    )
    assert there(extract(archive, tmp_path / "out")) == {"set/a.png": b"1"}


def damaged(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_damaged_archives_say_so(tmp_path: Path):
    whole = make_tar(tmp_path / "whole.tgz", {"a": bytes(range(256)) * 400}).read_bytes()
    plain = make_tar(tmp_path / "whole.tar", {"a": bytes(range(256)) * 400}, "w").read_bytes()
    zipped = make_zip(tmp_path / "whole.zip", {"a": bytes(range(256)) * 400}).read_bytes()
    broken = bytearray(zipped)
    broken[60] ^= 0xFF
    cases = [
        whole[: len(whole) // 2],
        plain[:2000],
        zipped[:-30],
        bytes(broken),
        b"no archive",
        b"",
        gzip.compress(b"x"),
    ]
    for number, content in enumerate(cases):
        archive = damaged(tmp_path / f"{number}.bin", content)
        with pytest.raises(DataError, match=r"damaged, or not a zip or tar archive .*; fix: delete it"):
            extract(archive, tmp_path / "out")
        assert not (tmp_path / "out").exists()
    with pytest.raises(DataError, match="does not exist"):
        extract(tmp_path / "absent.zip", tmp_path / "out")


def test_encrypted_zip_says_so(tmp_path: Path):
    archive = make_zip(tmp_path / "x.zip", {"a": b"1234"})
    data = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    archive.write_bytes(bytes(data))
    with pytest.raises(DataError, match="is encrypted; fix: unpack it by hand"):
        extract(archive, tmp_path / "out")


def test_no_file_that_is_there_is_replaced(tmp_path: Path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_bytes(b"mine")
    archive = make_zip(tmp_path / "x.zip", {"a": b"theirs"})
    with pytest.raises(DataError, match="already there"):
        extract_into(archive, tmp_path / "out")
    assert (tmp_path / "out" / "a").read_bytes() == b"mine"


def test_a_full_disk_is_told_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import shutil

    archive = make_zip(tmp_path / "x.zip", {"a": b"1" * 5000})
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=4999))
    with pytest.raises(WorkError, match=r"5,000 bytes and 4,999 are free; fix: free some space"):
        extract(archive, tmp_path / "out")


def test_a_failed_unpacking_leaves_the_older_folder(tmp_path: Path):
    extract(make_zip(tmp_path / "good.zip", {"a": b"1"}), tmp_path / "out")
    with pytest.raises(DataError):
        extract(make_zip(tmp_path / "bad.zip", {"b": b"1", "../c": b"2"}), tmp_path / "out")
    assert there(tmp_path / "out") == {"a": b"1"}


@pytest.mark.parametrize("error", [TypeError("ord() expected"), NotImplementedError("flag bit 5"), IndexError("x")])
def test_what_pythons_readers_raise_on_damage_is_an_error_of_the_archive(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a", "b")
    monkeypatch.setattr(zipfile, "ZipFile", fail)
    with pytest.raises(DataError, match=r"a\.zip is damaged, or not a zip or tar archive"):
        extract(tmp_path / "a.zip", tmp_path / "out")
