"""Crops and tiles against the pixels that they show."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from atypia.base.bytecache import ByteCache
from atypia.base.errors import DataError
from atypia.data.slides.regions import ImageFileFacts
from atypia.inference.results import RESULTS_SCHEMA
from atypia.review.figures.figures import ReviewFigures
from atypia.review.figures.opening import Opening, open_figures
from atypia.review.media import slides
from atypia.review.media.crops import STAINS, hematoxylin
from atypia.review.media.slides import OpenSlides, SlideSize, dzi, tile_box

PATIENCE_S = 60.0
"""Longest wait for a thread; only a deadlock takes it."""


def smooth(width: int, height: int) -> np.ndarray:
    """A picture of slow gradients, which JPEG keeps within a few grey levels."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height)], axis=2).astype(np.uint8)


def opened(data: bytes) -> np.ndarray:
    """Pixels of an encoded picture."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def on_slides(folder: Path, *places: tuple[str, float, float], mpp: float | None = None) -> ReviewFigures:
    """Figures at places of slides; ``mpp`` as the results state it."""
    lines = [
        {"figure_id": f"f{i}", "image": name, "x_px": x, "y_px": y, "p_atypical": 0.5, "decision": 1,
         "call": "atypical", "novelty": None, "threshold": 0.5, "reason": None, "model": "m", "mpp": mpp}
        for i, (name, x, y) in enumerate(places)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(lines, schema=RESULTS_SCHEMA), folder / "calls.parquet")
    return open_figures(Opening((str(folder / "calls.parquet"),)))


@pytest.fixture
def regions(tmp_path: Path) -> Path:
    """A folder with a region of 600 × 300 px, and a file that is none."""
    Image.fromarray(smooth(600, 300)).save(tmp_path / "region.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    return tmp_path


def test_deepzoom_geometry() -> None:
    facts = SlideSize(600, 300, 0.5)
    assert facts.top == 10
    assert tile_box(facts, 10, 0, 0) == (0, 0, 255, 255)
    assert tile_box(facts, 10, 2, 1) == (507, 253, 93, 47)
    assert tile_box(facts, 0, 0, 0) == (0, 0, 1, 1)
    for level, column, row in ((11, 0, 0), (-1, 0, 0), (10, 3, 0), (10, 0, 2), (9, 2, 0)):
        with pytest.raises(DataError, match="must be from 0 to"):
            tile_box(facts, level, column, row)
    assert 'Overlap="1" TileSize="254"><Size Width="600" Height="300"/>' in dzi(facts)


@pytest.mark.parametrize("level", [10, 9, 7, 0])
def test_tiles_show_the_region(regions: Path, level: int) -> None:
    shelf = OpenSlides((regions / "region.png",))
    down = 1 << (10 - level)
    whole = Image.fromarray(smooth(600, 300)).resize((-(-600 // down), -(-300 // down)), Image.Resampling.BOX)
    expected = np.asarray(whole).astype(int)
    left, top, width, height = tile_box(SlideSize(600, 300, None), level, 0, 0)
    tile = opened(shelf.tile(0, level, 0, 0))
    assert tile.shape == (height, width, 3)
    # The last column and row of a level may stand for fewer pixels than the others.
    inner = np.s_[: max(1, height - 1), : max(1, width - 1)]
    assert np.abs(tile[inner] - expected[top : top + height, left : left + width][inner]).max() <= 8
    shelf.close()


def test_tall_and_flat_regions(tmp_path: Path) -> None:
    Image.fromarray(smooth(40, 700)).save(tmp_path / "tall.png")
    shelf = OpenSlides((tmp_path / "tall.png",))
    tile = opened(shelf.tile(0, 10, 0, 1))
    assert np.abs(tile - smooth(40, 700)[253:509]).max() <= 8
    shelf.close()


def test_slides_through_the_api(regions: Path, reviewing: Callable) -> None:
    figures = on_slides(regions, ("region.png", 300.0, 150.0), ("region.png", 5.0, 5.0), ("broken.png", 1.0, 1.0))
    client = reviewing(figures, "Ada")
    broken, region = client.get("/slides")
    assert (region["name"], region["width_px"], region["mpp"], region["figures"]) == ("region.png", 600, None, 2)
    assert broken["width_px"] is None and "broken.png" in broken["reason"] and str(regions) not in broken["reason"]
    number = region["slide"]
    assert "xmlns" in client.http.get(f"/slides/{number}.dzi").text
    tile = client.http.get(f"/slides/{number}_files/10/1_0.jpeg")
    assert tile.headers["content-type"] == "image/jpeg" and opened(tile.content).shape == (255, 256, 3)
    for path in (f"/slides/{number}_files/10/9_0.jpeg", "/slides/7.dzi", f"/slides/{broken['slide']}.dzi"):
        assert client.http.get(path).status_code == 404
    client.decide("Ada", 1, "atypical")
    placed = client.get(f"/slides/{number}/figures", params={"rater": "Ada"})
    assert [(one["index"], one["x_px"], one["decision"], one["side_px"]) for one in placed] == [
        (0, 300.0, None, 128.0), (1, 5.0, "atypical", 128.0)
    ]  # fmt: skip
    blind = client.get(f"/slides/{number}/figures", params={"blind": True})
    assert all(one["p"] is None and one["call"] is None for one in blind)
    crop = opened(client.http.get("/figures/0/crop").content)
    assert np.array_equal(crop, smooth(600, 300)[86:214, 236:364])
    assert client.get("/figures/0")["width_um"] is None  # the file does not say its µm/px


def test_the_scale_of_a_slide_is_that_of_its_results(regions: Path, reviewing: Callable) -> None:
    """It was given to ``atypia predict``; the file does not state it."""
    client = reviewing(on_slides(regions, ("region.png", 300.0, 150.0), mpp=0.25), "Ada")
    (region,) = client.get("/slides")
    assert region["mpp"] == 0.25
    (placed,) = client.get(f"/slides/{region['slide']}/figures")
    assert placed["side_px"] == 128.0 and client.get("/figures/0")["width_um"] == 32.0


def test_unreadable_crops_say_why_without_names(small_csv: Path, tmp_path: Path, reviewing: Callable) -> None:
    (tmp_path / "set" / "atypical").mkdir(parents=True)
    secret = tmp_path / "set" / "atypical" / "told-by-name.png"
    Image.new("RGB", (32, 32), "pink").save(secret)
    client = reviewing(open_figures(Opening((str(tmp_path / "set"),))))
    assert client.http.get("/figures/0/crop").status_code == 200
    for content in (b"", b"\x89PNG\r\n\x1a\n", None):
        if content is None:
            secret.unlink()
        else:
            secret.write_bytes(content)
        answer = client.http.get("/figures/0/crop")
        assert answer.status_code == 404
        assert "figure 0" in answer.json()["detail"] and "told-by-name" not in answer.text


def test_views_and_sizes(client) -> None:
    answer = client.http.get("/figures/0/crop", params={"size": 16})
    assert answer.headers["content-type"] == "image/jpeg" and opened(answer.content).shape == (16, 16, 3)
    assert opened(client.http.get("/figures/0/crop", params={"size": 64}).content).shape == (32, 32, 3)
    stained = client.http.get("/figures/0/crop", params={"view": "hematoxylin"})
    assert stained.headers["etag"] != client.http.get("/figures/0/crop").headers["etag"]
    mark = client.get("/session")["fingerprint"]
    assert "max-age" in client.http.get("/figures/0/crop", params={"v": mark}).headers["cache-control"]
    assert "no-cache" in client.http.get("/figures/0/crop", params={"v": "old"}).headers["cache-control"]


def test_hematoxylin_alone() -> None:
    stains = STAINS / np.linalg.norm(STAINS, axis=1, keepdims=True)
    mixed = np.exp(-(0.8 * stains[0] + 0.5 * stains[1]))
    eosin = np.exp(-0.7 * stains[1])
    image = np.rint(255 * np.array([[mixed, eosin, [1.0, 1.0, 1.0]]])).astype(np.uint8)
    shown = hematoxylin(image)[0].astype(int)
    assert np.abs(shown[0] - 255 * np.exp(-0.8 * stains[0])).max() <= 3
    assert shown[1].min() >= 250 and shown[2].tolist() == [255, 255, 255]


def test_cache_is_bounded() -> None:
    cache = ByteCache[bytes](100, len)
    made: list[int] = []

    def make(number: int) -> bytes:
        made.append(number)
        return bytes(40)

    for number in (1, 2, 1, 3, 1, 2):
        cache.get((number,), lambda number=number: make(number))
    assert made == [1, 2, 3, 2]  # room for two: 3 drove out 2, which was used before 1
    assert (cache.hits, cache.misses) == (2, 4)


def test_many_slides_are_not_all_open(tmp_path: Path) -> None:
    paths = []
    for number in range(10):
        paths.append(tmp_path / f"{number}.png")
        Image.new("RGB", (64, 64), (number, 0, 0)).save(paths[-1])
    shelf = OpenSlides(tuple(paths))
    for number in (*range(10), 0):
        assert shelf.field(number, 32.0, 32.0, 8)[0, 0, 0] == number
    assert len(shelf._open) == 8
    shelf.close()


class Plain:
    """A slide of one colour that is as slow to open as a test wants, and notices use after its end."""

    width_px = height_px = 64
    mpp = 0.25

    def __init__(self, is_broken: bool = False) -> None:
        self.is_broken = is_broken
        self.is_closed = False
        self.facts = ImageFileFacts()

    def read(self, x_px: float, y_px: float, side_px: int) -> np.ndarray:
        assert not self.is_closed, "read after it was closed"
        time.sleep(0)  # lets another thread in
        if self.is_broken:
            raise DataError("broken")
        return np.full((side_px, side_px, 3), 7, np.uint8)

    def close(self) -> None:
        assert not self.is_closed, "closed twice"
        self.is_closed = True


def test_a_slide_that_is_slow_to_open_delays_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    opening, go_on = Event(), Event()

    def slow(path: Path) -> slides._Opened:
        if path.name == "slow":
            opening.set()
            assert go_on.wait(PATIENCE_S)
        return slides._Opened(Plain(), None)  # type: ignore[arg-type]

    monkeypatch.setattr(slides, "_opened", slow)
    shelf = OpenSlides((Path("slow"), Path("other")))
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(shelf.facts, 0)
        assert opening.wait(PATIENCE_S)
        other = pool.submit(shelf.facts, 1)
        assert other.result(PATIENCE_S).mpp == 0.25, "the other slide does not wait"
        assert not first.done()
        go_on.set()
        assert first.result(PATIENCE_S).width_px == 64
    shelf.close()


def test_opening_reading_and_closing_at_once_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """More threads than slides may be open, errors and closing in between: no thread waits for another in a circle."""
    made: list[Plain] = []

    def plain(path: Path) -> slides._Opened:
        made.append(Plain(is_broken=path.name in ("2.svs", "4.svs")))
        return slides._Opened(made[-1], None)  # type: ignore[arg-type]

    monkeypatch.setattr(slides, "_opened", plain)
    monkeypatch.setattr(slides, "MAX_OPEN", 2)
    for _ in range(20):
        shelf = OpenSlides(tuple(Path(f"{number}.svs") for number in range(5)))

        def use(worker: int, shelf: OpenSlides = shelf) -> int:
            found = 0
            for step in range(40):
                try:
                    found += int(shelf.field((worker * 3 + step) % 5, 1.0, 1.0, 2)[0, 0, 0] == 7)
                except DataError as error:
                    assert "was closed" in str(error) or "broken" in str(error)
            return found

        with ThreadPoolExecutor(9) as pool:
            users = [pool.submit(use, worker) for worker in range(8)]
            closer = pool.submit(shelf.close)
            closer.result(PATIENCE_S)
            for user in users:
                user.result(PATIENCE_S)
        assert all(one.is_closed for one in made), "nothing stays open"
        with pytest.raises(DataError, match="was closed"):
            shelf.field(0, 1.0, 1.0, 2)


def test_open_slides_are_bounded_while_many_threads_read(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Plain] = []

    def plain(path: Path) -> slides._Opened:
        made.append(Plain())
        return slides._Opened(made[-1], None)  # type: ignore[arg-type]

    monkeypatch.setattr(slides, "_opened", plain)
    shelf = OpenSlides(tuple(Path(f"{number}.svs") for number in range(40)))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: shelf.field(number % 40, 1.0, 1.0, 2), range(400)))
    shelf.field(0, 1.0, 1.0, 2)
    assert sum(not one.is_closed for one in made) <= slides.MAX_OPEN
    shelf.close()
    assert all(one.is_closed for one in made)


@pytest.mark.parametrize("folder", ["archive/p-17", "/archive/p 17", "archive/../archive/p-17"])
def test_messages_name_no_folders(tmp_path: Path, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = (tmp_path / folder.lstrip("/") if folder.startswith("/") else Path(folder)) / "a.png"
    path.parent.mkdir(parents=True)
    for content in (None, b"", b"\x89PNG\r\n\x1a\nnothing"):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(DataError) as error:
            OpenSlides((path,)).facts(0)
        assert "a.png" in str(error.value) and "17" not in str(error.value) and str(tmp_path) not in str(error.value)


@pytest.mark.real
def test_real_slides(real_root: Path, tmp_path: Path) -> None:
    """Tiles of a real slide are what OpenSlide reads there."""
    openslide = pytest.importorskip("openslide")
    path = real_root / "slides" / "cmu-1-small-region.svs"
    shelf = OpenSlides((path,))
    facts = shelf.facts(0)
    assert facts.mpp == pytest.approx(0.499)
    tile = opened(shelf.tile(0, facts.top, 1, 1))
    with openslide.OpenSlide(path) as slide:
        region = np.asarray(slide.read_region((253, 253), 0, (256, 256)).convert("RGB")).astype(int)
    assert np.abs(tile - region).mean() < 3
    overview = opened(shelf.tile(0, 8, 0, 0))
    assert overview.shape[0] <= 256 and overview.std() > 5
    shelf.close()
