"""Classifying uploads in a process that may die."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atypia.base.errors import AbsentError
from atypia.review.figures.figures import ReviewFigures
from atypia.review.server import predicting
from atypia.review.server.predicting import DiedError, Predictor
from atypia.review.server.routes.predict import shown_name
from atypia.review.server.worker import classify_files

FAKE = """
import json, os, sys, time
print(json.dumps({"model": "fake", "threshold": 0.4, "field_um": 32.0}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    rows = []
    for path, name in request["files"]:
        data = open(path, "rb").read()
        if data == b"die":
            os.abort()
        if data == b"sleep":
            time.sleep(60)
        rows.append({"figure_id": name, "p_atypical": len(data) / 100, "call": "normal", "novelty": None,
                     "reason": os.path.basename(path)})
    print(json.dumps({"rows": rows}), flush=True)
"""


@pytest.fixture
def fake() -> Iterator[Predictor]:
    """A worker that dies over «die», hangs over «sleep», and else counts bytes."""
    predictor = Predictor("model", [sys.executable, "-S", "-c", FAKE], work_s=5.0)
    yield predictor
    predictor.close()


def png(pixels: np.ndarray | None = None) -> bytes:
    """A small PNG."""
    file = io.BytesIO()
    Image.fromarray(np.full((16, 16, 3), 200, np.uint8) if pixels is None else pixels).save(file, "PNG")
    return file.getvalue()


def upload(client, *files: tuple[str, bytes], status: int = 200):
    """Sends files to be classified."""
    answer = client.http.post("/predict", files=[("files", file) for file in files], headers={"X-Atypia": "1"})
    assert answer.status_code == status, answer.text
    return answer.json()


def test_uploads_reach_the_worker(figures: ReviewFigures, reviewing: Callable, fake: Predictor) -> None:
    client = reviewing(figures, predictor=fake)
    found = upload(client, ("../../x.png", b"abc"), ("x.png", b"12345"), ("<b>.png", b""))
    assert (found["model"], found["threshold"]) == ("fake", 0.4)
    assert [(row["figure_id"], row["p_atypical"]) for row in found["rows"]] == [
        ("x.png", 0.03), ("x.png~2", 0.05), ("<b>.png", 0.0)
    ]  # fmt: skip
    # Their names are never names of files here.
    assert [row["reason"] for row in found["rows"]] == ["upload-0001", "upload-0002", "upload-0003"]
    assert client.get("/session")["model"] == "model"


def test_a_dead_worker_costs_one_request(figures: ReviewFigures, reviewing: Callable, fake: Predictor) -> None:
    client = reviewing(figures, predictor=fake)
    upload(client, ("a", b"fine"))
    assert "ended while it read these files" in upload(client, ("a", b"die"), status=503)["detail"]
    assert upload(client, ("a", b"fine"))["rows"][0]["p_atypical"] == 0.04
    fake.work_s = 0.3
    assert "took longer than" in upload(client, ("a", b"sleep"), status=503)["detail"]
    fake.work_s = 5.0
    assert client.get("/health")["status"] == "ok"
    assert len(upload(client, ("a", b"fine"))["rows"]) == 1


def test_limits_of_count(figures: ReviewFigures, reviewing: Callable, fake: Predictor, monkeypatch) -> None:
    client = reviewing(figures, predictor=fake)
    monkeypatch.setattr("atypia.review.server.routes.predict.MAX_FILES", 2)
    assert "at most 2" in upload(client, *[("a", b"x")] * 3, status=422)["detail"]
    assert predicting.MAX_FIGURES < 100_000


def test_model_that_cannot_be_opened(tmp_path: Path) -> None:
    say = 'import json; print(json.dumps({"error": "no such model; fix: name one"}), flush=True)'
    with pytest.raises(AbsentError, match="no such model"):
        Predictor("m", [sys.executable, "-S", "-c", say]).rows([])
    with pytest.raises(DiedError):
        Predictor("m", [sys.executable, "-S", "-c", "pass"]).rows([])


@pytest.fixture(scope="module")
def brightness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network by hand whose logit is 4 · red − 4 · blue, at 16 px."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "inference"))
    try:
        from graphs import write_brightness  # type: ignore[import-not-found]
    finally:
        sys.path.pop(0)
    return write_brightness(tmp_path_factory.mktemp("model") / "model.onnx")


def test_malformed_uploads_are_rows_that_say_why(brightness: Path, tmp_path: Path) -> None:
    from atypia.inference.classifier import Classifier

    classifier = Classifier.load(brightness)
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 255
    stack = io.BytesIO()
    pages = [Image.fromarray(red), Image.new("RGB", (16, 16))]
    pages[0].save(stack, "TIFF", save_all=True, append_images=pages[1:])
    bomb = io.BytesIO()
    Image.new("L", (20_000, 20_000)).save(bomb, "PNG")
    contents = {
        "red.png": png(red), "stack.tif": stack.getvalue(), "cut.png": png(red)[:60], "text.png": b"hello",
        "bomb.png": bomb.getvalue(), "empty.png": b"", "page.tif": stack.getvalue()[:40],
    }  # fmt: skip
    files = []
    for number, (name, data) in enumerate(contents.items()):
        path = tmp_path / f"upload-{number}"
        path.write_bytes(data)
        files.append((str(path), name))
    rows = classify_files(classifier, files, 100)
    assert rows is not None
    by_name = {row["figure_id"]: row for row in rows}
    assert by_name["red.png"]["p_atypical"] == pytest.approx(1 / (1 + np.exp(-4)), abs=1e-6)
    assert by_name["stack.tif#1"]["call"] == "atypical"
    assert by_name["stack.tif#2"]["p_atypical"] == pytest.approx(0.5)
    for name in ("cut.png", "text.png", "bomb.png", "empty.png"):
        assert by_name[name]["p_atypical"] is None and by_name[name]["reason"], name
    assert any(row["figure_id"].startswith("page.tif") and row["reason"] for row in rows)
    assert str(tmp_path) not in json.dumps(rows) and "upload-" not in json.dumps(rows)
    assert classify_files(classifier, files, 1) is None


def test_real_worker(brightness: Path, figures: ReviewFigures, reviewing: Callable) -> None:
    """The process itself, started by the server, judges what it is sent."""
    predictor = Predictor(str(brightness))
    client = reviewing(figures, predictor=predictor)
    found = upload(client, ("a.png", png()), ("b.png", b"nothing"))
    assert found["rows"][0]["p_atypical"] == pytest.approx(0.5)
    assert "not a PNG, JPEG or TIFF" in found["rows"][1]["reason"]


def test_shown_names() -> None:
    assert shown_name("C:\\Users\\a\\b.png", 1) == "b.png"
    assert shown_name(None, 3) == "file 3"
    assert shown_name("a\x07\u202eb\n.png", 1) == "ab.png"
    assert len(shown_name("x" * 500, 1)) == 120
