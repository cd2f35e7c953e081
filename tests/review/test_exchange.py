"""Exports and imports."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from atypia.base.files.spreadsheet import escape_formula, unescape_formula
from atypia.data.manifest import Manifest
from atypia.inference.results import RESULTS_SCHEMA
from atypia.review.figures.figures import ReviewFigures
from atypia.review.figures.opening import Opening, open_figures

NASTY = "<script>alert(1)</script>, \"two\"\nlines; '=1+1'"


def rows_of(text: str) -> list[dict[str, str]]:
    """Lines of a CSV."""
    return list(csv.DictReader(io.StringIO(text, newline="")))


def send(client, rater: str, data: bytes, status: int = 200):
    """Imports a file."""
    answer = client.http.post(
        "/imports", data={"rater": rater}, files={"file": ("../x.csv", data)}, headers={"X-Atypia": "1"}
    )
    assert answer.status_code == status, answer.text
    return answer.json()


def test_manifest_has_votes_and_soft_labels(client, tmp_path: Path) -> None:
    said = {
        0: ("normal", "normal"),  # was atypical
        1: ("normal", None),
        2: ("atypical", "normal"),  # evenly split
        3: ("unsure", None),
        4: ("not-mitosis", "not-mitosis"),
        5: ("atypical", "not-mitosis"),
    }
    for index, decisions in said.items():
        for rater, decision in zip(("Ada", "Ben"), decisions, strict=True):
            if decision is not None:
                client.decide(rater, index, decision)
    client.post("/arbitration", {"rater": "Ben", "index": 5, "decision": "atypical"})
    answer = client.http.get("/exports/manifest.parquet")
    assert answer.headers["content-disposition"] == 'attachment; filename="manifest.parquet"'
    path = tmp_path / "export.parquet"
    path.write_bytes(answer.content)
    manifest = Manifest.load(path)
    rows = {row["figure_id"]: row for row in manifest.table.to_pylist()}
    assert len(rows) == 77  # figures 2, 3 and 4 are left out
    found = {i: (rows[f"s0-{i:03d}"]["label"], rows[f"s0-{i:03d}"]["votes"], rows[f"s0-{i:03d}"]["soft_label"])
             for i in (0, 1, 5, 6)}  # fmt: skip
    assert found == {0: (0, [0, 0], 0.0), 1: (0, [0, None], 0.0), 5: (1, [1, None], 1.0), 6: (1, None, None)}
    assert rows["s0-000"]["n_raters"] == 2 and rows["s0-000"]["case_id"] == "s0-case-0"
    assert any("labels of 3 figures by review, 2 of them changed" in note for note in manifest.notes)
    assert any("evenly split: 1" in note for note in manifest.notes)
    only = client.http.get("/exports/manifest.parquet", params={"decided": True})
    assert len(pq.read_table(io.BytesIO(only.content))) == 3


def test_own_votes_are_kept_in_front(figures: ReviewFigures, reviewing: Callable, tmp_path: Path) -> None:
    rows = figures.manifest.take(range(3)).table.to_pylist()  # type: ignore[union-attr]
    for row, votes in zip(rows, ([1, 0, 1], [0, 0, None], None), strict=True):
        row |= {"votes": votes, "soft_label": None, "n_raters": None}
    voted = Manifest.from_rows(rows, "voted", root=figures.manifest.root)  # type: ignore[union-attr]
    client = reviewing(open_figures(Opening((str(voted.save(tmp_path / "voted.parquet")),))), "Ada")
    client.decide("Ada", 0, "normal")
    client.decide("Ada", 2, "atypical")
    (tmp_path / "e.parquet").write_bytes(client.http.get("/exports/manifest.parquet").content)
    found = Manifest.load(tmp_path / "e.parquet").table
    assert found["votes"].to_pylist() == [[1, 0, 1, 0], [0, 0, None, None], [None, None, None, 1]]
    assert found["soft_label"].to_pylist() == [0.0, 0.0, 1.0]
    assert found["label"].to_pylist()[0] == 0


def test_exported_decisions_train_a_model(client, tmp_path: Path) -> None:
    """From the page to a trained classifier, which is told by its warnings that labels were reviewed."""
    from atypia.splits.protocol import make_split
    from atypia.training.recipe import load_recipe
    from atypia.training.train import train
    from atypia.training.trainer import TrainingRequest

    for index in range(40):
        client.decide("Ada", index, "atypical" if index % 3 == 0 else "normal")
        client.decide("Ben", index, "atypical" if index % 2 == 0 else "normal")
    client.decide("Ben", 0, "normal")
    path = tmp_path / "manifest.parquet"
    path.write_bytes(client.http.get("/exports/manifest.parquet").content)
    manifest = Manifest.load(path)
    name, recipe = load_recipe("probe", ["backbone=tiny-cnn", "geometry.out_px=32"])
    split = make_split("kfold", manifest, 0, folds=2)
    trained = train(TrainingRequest(name, recipe, manifest, split, tmp_path / "out", folds=("fold-1",)))
    assert (trained.folds[0] / "bundle" / "model.safetensors").is_file()
    assert any("labels of" in note for note in trained.warnings)


def test_decisions_round_trip(client, reviewing: Callable, scored: ReviewFigures) -> None:
    client.decide("Ada", 1, "atypical", note=NASTY)
    client.decide("Ada", 2, "not-mitosis", note="=SUM(A1)")
    client.decide("Ben", 2, "unsure")
    client.decide("Ada", 3, None, note="only a note")
    text = client.http.get("/exports/decisions.csv").text
    lines = rows_of(text)
    assert [(line["rater"], line["figure_id"], line["decision"]) for line in lines] == [
        ("Ada", "s0-001", "atypical"), ("Ada", "s0-002", "not-mitosis"), ("Ada", "s0-003", ""),
        ("Ben", "s0-002", "unsure"),
    ]  # fmt: skip
    assert lines[1]["note"] == "'=SUM(A1)" and lines[0]["time"].endswith("Z")
    other = reviewing(scored, decisions="other.sqlite")
    assert send(other, "Ada", text.encode()) == {"taken": 2, "unknown": 0, "skipped": 1}
    found = other.get("/figures/1", params={"rater": "Ada"})
    assert (found["decision"], found["note"]) == ("atypical", NASTY)
    assert other.get("/figures/2", params={"rater": "Ada"})["note"] == "=SUM(A1)"
    assert send(other, "Ada", text.encode()) == {"taken": 0, "unknown": 0, "skipped": 3}
    assert "one of Ada, Ben" in send(other, "Cy", text.encode(), 422)["detail"]
    assert [event["kind"] for event in other.get("/decisions")] == ["import", "import"]


def test_import_of_usual_words(client) -> None:
    data = b"\xef\xbb\xbffigure_id;decision;note\ns0-010;AMF;a\ns0-011;0;\nelsewhere;normal;\ns0-012;;\n"
    assert send(client, "Guest", data) == {"taken": 2, "unknown": 1, "skipped": 1}
    assert client.get("/session")["raters"] == ["Ada", "Ben", "Guest"]
    assert client.get("/figures/11", params={"rater": "Guest"})["decision"] == "normal"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"\xff\xfe\x00", "damaged UTF-16"),
        (b"figure_id,label\na,1\n", "no column `decision`"),
        (b"figure_id,decision\ns0-001,perhaps\n", "line 2: `decision` must be"),
        (b"figure_id,decision\ns0-001,normal\ns0-001,normal\n", "occurs twice"),
        (b"figure_id,decision,note\ns0-001,normal," + b"x" * 2001 + b"\n", "at most 2000 characters"),
    ],
)
def test_malformed_imports_change_nothing(client, data: bytes, words: str) -> None:
    assert words in send(client, "Ada", data, 422)["detail"]
    assert client.get("/decisions") == []


def test_log_has_everything(client) -> None:
    client.decide("Ada", 1, "atypical", note="n")
    client.decide("Ada", 1, "normal")
    client.post("/decisions/undo", {"rater": "Ada"}, 200)
    lines = rows_of(client.http.get("/exports/log.csv").text)
    assert [(line["kind"], line["decision"], line["previous"], line["undoes"]) for line in lines] == [
        ("decision", "atypical", "", ""), ("decision", "normal", "atypical", ""), ("undo", "atypical", "normal", "2")
    ]  # fmt: skip
    assert client.get("/decisions", params={"after": 2})[0]["index"] == 1
    assert len(client.get("/decisions", params={"rater": "Ada", "index": 1, "limit": 2})) == 2


def test_geojson_of_one_slide(tmp_path: Path, reviewing: Callable, client) -> None:
    assert "decisions.csv" in client.http.get("/exports/decisions.geojson").json()["detail"]
    for name in ("a.png", "b.png"):
        Image.new("RGB", (200, 150), "pink").save(tmp_path / name, dpi=(25400 / 0.5, 25400 / 0.5))
    lines = [
        {"figure_id": f"{name}-{x}", "image": str(tmp_path / name), "x_px": float(x), "y_px": 70.0, "p_atypical": 0.7,
         "decision": 1, "call": "atypical", "novelty": None, "threshold": 0.5, "reason": None, "model": "m"}
        for name, x in (("a.png", 50), ("b.png", 60), ("a.png", 90))
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(lines, schema=RESULTS_SCHEMA), tmp_path / "calls.parquet")
    review = reviewing(open_figures(Opening((str(tmp_path / "calls.parquet"),))), "Zoë", decisions="slides.sqlite")
    review.decide("Zoë", 2, "not-mitosis", note="apoptosis")
    assert "named if there are several" in review.http.get("/exports/decisions.geojson").json()["detail"]
    found = json.loads(review.http.get("/exports/decisions.geojson", params={"slide": 0, "rater": "Zoë"}).text)
    (feature,) = found["features"]
    assert feature["geometry"]["coordinates"][0][0] == [90 - 32, 70 - 32]  # 32 µm at 0.5 µm/px: a half of 32 px
    assert feature["properties"]["classification"]["name"] == "not-mitosis"
    assert feature["properties"]["metadata"]["note"] == "apoptosis"
    assert review.get("/figures/2")["width_um"] == 32.0
    review.decide("Zoë", 2, "atypical")
    (tmp_path / "e.parquet").write_bytes(review.http.get("/exports/manifest.parquet").content)
    (row,) = Manifest.load(tmp_path / "e.parquet").table.to_pylist()
    assert (row["x_px"], row["slide_id"], row["mpp"], row["label"]) == (90.0, "a", pytest.approx(0.5, rel=1e-3), 1)


def test_results_of_plain_crops_export(small_csv: Path, tmp_path: Path, reviewing: Callable) -> None:
    image = str(small_csv.parent / "s0-004.png")
    line = {"figure_id": "x", "image": image, "x_px": None, "y_px": None, "p_atypical": 0.7, "decision": 1,
            "call": "atypical", "novelty": None, "threshold": 0.5, "reason": None, "model": "m"}  # fmt: skip
    pq.write_table(pa.Table.from_pylist([line], schema=RESULTS_SCHEMA), tmp_path / "calls.parquet")
    client = reviewing(open_figures(Opening((str(tmp_path / "calls.parquet"),))), "Ada")
    assert "decide on some first" in client.http.get("/exports/manifest.parquet").json()["detail"]
    client.decide("Ada", 0, "normal")
    (tmp_path / "e.parquet").write_bytes(client.http.get("/exports/manifest.parquet").content)
    manifest = Manifest.load(tmp_path / "e.parquet")
    row = manifest.table.to_pylist()[0]
    assert manifest.root is not None and (manifest.root / row["image"]) == Path(image).resolve()
    assert (row["width_px"], row["label"], len(row["sha256"])) == (32, 0, 64)


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@a", "'a", "''=", "\tx", "plain", "", "a=1"])
def test_shield_is_undone(text: str) -> None:
    kept = escape_formula(text) or ""
    assert unescape_formula(kept) == text and not kept.startswith(("=", "+", "-", "@", "\t"))
