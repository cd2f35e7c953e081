"""A user's own tables and folders, and every way in which they are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from atypia.base import records as r
from atypia.base.artifacts import file_sha256
from atypia.base.errors import DataError
from atypia.data.sources import user
from atypia.data.sources.layouts import class_label, majority, natural
from atypia.data.textfiles import read_table


def crop(path: Path, colour: int = 100, size: tuple[int, int] = (12, 10)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (colour, 50, 150)).save(path)
    return path


@pytest.fixture
def base(tmp_path: Path) -> Path:
    for number, name in enumerate(("a.png", "b.png", "sub/c.jpg")):
        crop(tmp_path / name, number)
    return tmp_path


def write(base: Path, text: str, name: str = "mine.csv", encoding: str = "utf-8") -> Path:
    path = base / name
    path.write_bytes(text.encode(encoding))
    return path


def by_id(path: Path) -> dict[str, dict[str, object]]:
    return {row[r.FIGURE_ID]: row for row in user.read_csv(path).table.to_pylist()}


def test_the_smallest_table(base: Path) -> None:
    manifest = user.read_csv(write(base, "image,label\na.png,1\nb.png,0\nsub/c.jpg,\n"))
    assert manifest.ids == ["a", "b", "sub/c"]
    assert manifest.table[r.LABEL].to_pylist() == [1, 0, None]
    assert (manifest.name, manifest.task, manifest.root) == ("mine", r.ATYPICAL_TASK, base)
    row = manifest.table.to_pylist()[0]
    assert (row[r.DATASET], row[r.WIDTH_PX], row[r.HEIGHT_PX]) == ("mine", 12, 10)
    assert row[r.SHA256] == file_sha256(base / "a.png")
    assert row[r.CASE_ID] is None and row[r.VOTES] is None and row[r.DOMAIN] is None and manifest.notes == ()


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffimage,label\na.png,AMF\nb.png,nmf\n",
        "image,label\r\na.png,Atypical\r\nb.png,NORMAL\r\n",
        "image;label\na.png;1\nb.png;0\n",
        "image\tlabel\na.png\tatypical\nb.png\tnormal\n",
        " image , label \n\n a.png , 1 \n\n b.png , 0 \n",
        'image,label\n"a.png","1"\n"b.png","0"',
    ],
)
def test_marks_line_ends_and_delimiters(base: Path, text: str) -> None:
    manifest = user.read_csv(write(base, text))
    assert manifest.ids == ["a", "b"] and manifest.labels.tolist() == [1, 0]


def test_every_manifest_column_is_taken(base: Path) -> None:
    path = write(
        base,
        "figure_id,image,case_id,part,votes,phase,scanner,origin,species,tumour,mpp,n_raters,dataset\n"
        "f1,a.png,p1,train,1|0|1,AMF other|,Hamammatsu XR,UMC Utrecht,Human,human breast carcinoma,0.25,3,own\n",
    )
    row = by_id(path)["f1"]
    assert row[r.VOTES] == [1, 0, 1] and row[r.SOFT_LABEL] == pytest.approx(2 / 3) and row[r.LABEL] == 1
    assert row[r.PHASE] == ["AMF other", None]
    assert row[r.DOMAIN] == "Hamamatsu XR | UMC Utrecht | human | breast cancer"
    assert (row[r.MPP], row[r.N_RATERS], row[r.DATASET], row[r.CASE_ID], row[r.PART]) == (0.25, 3, "own", "p1", "train")


def test_one_column_a_rater(base: Path) -> None:
    path = write(base, "image,expert1,Rater_2,vote 3\na.png,AMF,NMF,\nb.png,NMF,NMF,AMF\nsub/c.jpg,,,\n")
    rows = by_id(path)
    assert rows["a"][r.VOTES] == [1, 0, None]
    assert rows["a"][r.LABEL] is None and rows["a"][r.N_RATERS] == 2  # even
    assert rows["b"][r.LABEL] == 0 and rows["b"][r.SOFT_LABEL] == pytest.approx(1 / 3)
    assert rows["sub/c"][r.VOTES] is None


def test_a_given_label_is_not_overruled_by_votes(base: Path) -> None:
    assert by_id(write(base, "image,label,votes\na.png,0,1|1|1\n"))["a"][r.LABEL] == 0


def test_images_elsewhere(base: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = crop(tmp_path_factory.mktemp("other") / "x.png", 9)
    (base / "tables").mkdir()
    manifest = user.read_csv(write(base, f"image,label\n{other},1\n../a.png,0\n", "tables/t.csv"))
    assert manifest.root is not None
    assert [manifest.root / image for image in manifest.table[r.IMAGE].to_pylist()] == [other, base / "a.png"]
    assert manifest.table[r.SHA256].to_pylist() == [file_sha256(other), file_sha256(base / "a.png")]


def test_points_on_a_slide(base: Path) -> None:
    manifest = user.read_csv(write(base, "image,x_px,y_px,label\na.png,5,6.5,1\na.png,7,8,0\n"))
    assert manifest.ids == ["a_5_6.5", "a_7_8"]
    assert manifest.table[r.SHA256].null_count == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\na.png,1\n", r"no column `image`; there are: path, label"),
        ("image,lable\na.png,1\n", r"column `lable` is not known; fix: did you mean `label`\?"),
        ("image,label\na.png,maybe\n", r"line 2: `label` must be one of 0, normal, .*, got 'maybe'"),
        ("image,label\n\na.png,1\nb.png,2\n", r"line 4: `label`.*got '2'"),
        ("image,votes\na.png,1|x\n", r"line 2: `votes` must be one of .*, got 'x'"),
        ("image,label\na.png,1\nb.png,0\na.png,1\n", r"line 4: figure 'a' is also in line 2"),
        ("figure_id,image\n1,a.png\n1,b.png\n", r"line 3: figure '1' is also in line 2"),
        ("image,mpp\na.png,wide\n", r"line 2: `mpp` must be a number, got 'wide'"),
        ("image,mpp\na.png,-1\n", r"`mpp` must be between"),
        ("image,n_raters\na.png,2.5\n", r"`n_raters` must be a whole number"),
        ("image,x_px\na.png,3\n", r"only one of `x_px` and `y_px`"),
        ("image,label\n,1\n", r"line 2: `image` is empty"),
        ("image,label\na.png,1,2\n", r"line 2: 3 cells under 2 columns"),
        ("image,label,label\na.png,1,1\n", r"column `label` occurs twice"),
        ("image,label\n", r"has a header but no lines"),
        ("", r"is empty"),
        ("image\nno.png\n", r"none of the 1 images can be read.*no\.png"),
    ],
)
def test_wrong_tables(base: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        user.read_csv(write(base, text))


@pytest.mark.parametrize("content", [b"\xff\xfeimage", b"image,label\n\x89PNG\0\0"])
def test_what_is_no_text(base: Path, content: bytes) -> None:
    (base / "bad.csv").write_bytes(content)
    with pytest.raises(DataError, match="save it as UTF-8 CSV"):
        user.read_csv(base / "bad.csv")


def test_unreadable_images_are_left_out_and_counted(base: Path) -> None:
    (base / "text.png").write_text("no image")
    (base / "empty.png").write_bytes(b"")
    whole = (base / "a.png").read_bytes()
    (base / "cut.png").write_bytes(whole[:20])
    path = write(base, "image,label\na.png,1\ntext.png,1\nempty.png,0\ncut.png,0\nabsent.png,0\n")
    manifest = user.read_csv(path)
    assert manifest.ids == ["a"]
    assert "4 of 5 figures left out" in manifest.notes[0] and "text.png" in manifest.notes[0]


def test_further_columns_are_named(base: Path) -> None:
    manifest = user.read_csv(write(base, ",image,hospital\n0,a.png,x\n"))
    assert manifest.notes == ("ignored columns: (without a name), hospital",)


@pytest.mark.parametrize(("one", "zero"), [("Atypical", "Normal"), ("AMF", "NMF"), ("1", "0"), ("amf", "typical")])
def test_class_folder(tmp_path: Path, one: str, zero: str) -> None:
    folder = tmp_path / "mine"
    crop(folder / one / "x.png", 1)
    crop(folder / zero / "deep" / "x.PNG", 2)
    crop(folder / "site A" / zero / "y.tif", 3)
    manifest = user.read_folder(folder)
    labels = dict(zip(manifest.ids, manifest.labels.tolist(), strict=True))
    assert labels == {f"{one}/x": 1, f"{zero}/deep/x": 0, f"site A/{zero}/y": 0}
    assert set(manifest.table[r.DATASET].to_pylist()) == {"mine"} and manifest.root == folder


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    crop(tmp_path / "store" / "x.png")
    (tmp_path / "mine" / "AMF").mkdir(parents=True)
    (tmp_path / "mine" / "AMF" / "linked").symlink_to(tmp_path / "store")
    (tmp_path / "mine" / "AMF" / "up").symlink_to(tmp_path / "mine")
    assert user.read_folder(tmp_path / "mine").ids == ["AMF/linked/x"]


def test_same_stem_with_two_suffixes(tmp_path: Path) -> None:
    crop(tmp_path / "AMF" / "x.png", 1)
    crop(tmp_path / "AMF" / "x.jpg", 2)
    assert user.read_folder(tmp_path).ids == ["AMF/x", "AMF/x~2"]


def test_other_files_are_counted(tmp_path: Path) -> None:
    crop(tmp_path / "AMF" / "x.png")
    crop(tmp_path / "loose.png")
    (tmp_path / "AMF" / "notes.txt").write_text("hello")
    (tmp_path / "AMF" / ".hidden").write_text("hello")
    manifest = user.read_folder(tmp_path)
    assert len(manifest) == 1
    assert manifest.notes == ("2 files are no images or lie in no class folder, first loose.png",)


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"must be one with a subfolder a class, got no images; fix: arrange it as"):
        user.read_folder(tmp_path)


def test_folder_without_classes(tmp_path: Path) -> None:
    crop(tmp_path / "one.png")
    with pytest.raises(DataError, match="got 1 image outside such folders"):
        user.read_folder(tmp_path)


@given(st.lists(st.sampled_from([0, 1, None]), max_size=7))
def test_majority_is_symmetric(votes: list[int | None]) -> None:
    mirrored = [None if vote is None else 1 - vote for vote in votes]
    own, other = majority(votes), majority(mirrored)
    assert (own is None) == (other is None)
    assert own is None or other == 1 - own


@given(st.lists(st.integers(0, 10**12), unique=True))
def test_natural_order_is_that_of_the_numbers(values: list[int]) -> None:
    names = [f"a{value}.png" for value in values]
    assert sorted(names, key=natural) == [f"a{value}.png" for value in sorted(values)]


@given(st.lists(st.lists(st.text("ab c", max_size=4), min_size=2, max_size=2), min_size=1, max_size=5))
def test_tables_read_back_what_was_written(tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]) -> None:
    path = tmp_path_factory.mktemp("table") / "t.csv"
    path.write_text("x;y\n" + "".join(f"{a};{b}\n" for a, b in rows))
    kept = [{"x": a.strip(), "y": b.strip()} for a, b in rows if a.strip() or b.strip()]
    assert list(read_table(path).rows) == kept


def test_unknown_class_word() -> None:
    assert class_label("Mitotic figure", r.MITOSIS_TASK) == 1
    with pytest.raises(KeyError):
        class_label("mitotic figure")


@pytest.mark.parametrize("word", ["NA", "nan", "NULL", "None", "unknown", "n/a", "-", "?", "<NA>"])
def test_words_for_not_known_are_nobodys_case(base: Path, word: str) -> None:
    """Figures of unknown patients are not one patient, and an unknown label is none."""
    text = f"image,label,case_id,scanner,votes,mpp\na.png,{word},{word},{word},{word}|1,{word}\nb.png,0,{word},{word},{word},0.25\n"
    manifest = user.read_csv(write(base, text))
    rows = manifest.table.to_pylist()
    assert [row[r.CASE_ID] for row in rows] == [None, None] == [row[r.SCANNER] for row in rows]
    assert rows[0][r.LABEL] == 1 and rows[0][r.VOTES] == [None, 1] and rows[0][r.MPP] is None
    assert len(set(manifest.cases.tolist())) == 2 and rows[0][r.DOMAIN] is None


def test_a_table_in_another_encoding_is_read_with_a_note(base: Path) -> None:
    manifest = user.read_csv(write(base, "image,case_id\na.png,Müller\n", encoding="latin-1"))
    assert manifest.table[r.CASE_ID].to_pylist() == ["Müller"]
    assert manifest.notes == ("mine.csv is not UTF-8 and was read as Windows-1252",)


def test_a_table_without_a_header_says_so(base: Path) -> None:
    with pytest.raises(DataError, match=r"has no header line, it begins with numbers; fix: write the names"):
        user.read_csv(write(base, "1,2,3\n4,5,6\n"))
