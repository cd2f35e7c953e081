"""The case page: what stands in it, in which order, and that nothing of the data can act in it."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atypia.base.errors import InputError
from atypia.inference.bundles.decision import CALLS
from atypia.reports.case import page as case_page
from atypia.reports.case.page import CasePage

from . import html
from .rows import crop_batch, refusals, results

VOID = {"meta", "img", "input", "link", "br"}
LINKS = {"src", "href", "action", "data", "poster", "srcset", "xlink:href"}


class Page(html.Page):
    def __init__(self, text: str) -> None:
        super().__init__(text, VOID)

    @property
    def cards(self) -> list[dict[str, str]]:
        return self.all("figure")


def page_of(p: list[float], calls: list[str] | None = None, **options: int) -> CasePage:
    page = CasePage("case 7", {"training data": "AMi-Br, training part"}, **options)
    page.add(crop_batch([f"f{i}" for i in range(len(p))]), results(p, calls))
    return page


def test_a_page_is_whole_and_says_what_matters() -> None:
    page = page_of([0.9, 0.2, 0.4, 0.7], ["atypical", "normal", "uncertain", "refused"])
    page.add(None, refusals(["outside the slide"]))
    text = page.html()
    parsed = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    assert parsed.text["h1"] == ["case 7"]
    assert "1 of 3 figures atypical (33.3 %" in text
    assert "not a medical device" in text
    assert "AMi-Br, training part" in text
    assert "All 4 crops are shown." in text
    assert "outside the slide (1)" in text
    tiles = {attributes["class"].split()[1] for attributes in parsed.all("li") if "tile" in attributes.get("class", "")}
    assert tiles == set(CALLS)


def test_cards_stand_by_falling_probability() -> None:
    parsed = Page(page_of([0.2, 0.9, 0.5]).html())
    assert [card["data-figure"] for card in parsed.cards] == ["f1", "f2", "f0"]
    assert [float(card["data-p"]) for card in parsed.cards] == [0.9, 0.5, 0.2]
    assert [card["data-call"] for card in parsed.cards] == ["atypical", "atypical", "normal"]


def test_every_crop_has_its_pixels_and_a_text() -> None:
    pixels = np.zeros((2, 8, 8, 3), np.uint8)
    pixels[0] = (200, 30, 90)
    page = CasePage("c")
    page.add(crop_batch(["a", "b"], pixels=pixels), results([0.9, 0.1], ids=["a", "b"]))
    images = Page(page.html()).all("img")
    head, _, data = images[0]["src"].partition(",")
    assert head == "data:image/jpeg;base64"
    decoded = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
    assert np.abs(decoded.astype(int) - pixels[0]).max() <= 4
    assert images[0]["alt"] == "Crop of figure a: called atypical, probability of atypical 0.900"
    assert (images[0]["width"], images[0]["height"]) == ("8", "8")


def test_large_crops_become_thumbnails_and_their_batch_is_let_go() -> None:
    batch = crop_batch(["a"], pixels=np.zeros((1, 400, 400, 3), np.uint8))
    page = CasePage("c")
    page.add(batch, results([0.9], ids=["a"]))
    (crop,) = page.chosen()
    assert crop.pixels.shape == (case_page.THUMBNAIL_PX, case_page.THUMBNAIL_PX, 3)
    small = crop_batch(["b"])
    page.add(small, results([0.8], ids=["b"]))
    assert not any(np.shares_memory(shown.pixels, small.crops) for shown in page.chosen())


HOSTILE = """<script>alert(1)</script>"'><img src=x onerror=alert(1)>{{ 7*7 }}&amp;\x00\u202e"""


def test_names_cannot_act() -> None:
    page = CasePage(HOSTILE, {HOSTILE: HOSTILE})
    page.add(crop_batch([HOSTILE]), results([0.9], ids=[HOSTILE], image=HOSTILE))
    page.add(None, refusals([HOSTILE], image=HOSTILE, x_px=1.0))
    text = page.html()
    parsed = Page(text)
    assert len(parsed.all("script")) == 1
    assert len(parsed.all("img")) == 1
    assert "49" not in parsed.text["h1"][0]
    assert "{{ 7*7 }}&amp;amp;" in text
    assert not any(name.startswith("on") for _, attributes in parsed.elements for name in attributes)
    assert "\x00" not in text
    assert "\u202e" not in text


def test_the_page_stands_alone_under_its_policy() -> None:
    text = page_of([0.9, 0.2]).html()
    parsed = Page(text)
    for _, attributes in parsed.elements:
        assert all(value.startswith("data:image/") for name, value in attributes.items() if name in LINKS)
        assert "style" not in attributes  # the policy would drop it
    assert not re.search(r"https?://|url\(|@import|fetch\(|XMLHttp|innerHTML|eval\(", text)
    (policy,) = [m["content"] for m in parsed.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    for tag in ("style", "script"):
        (body,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_a_large_case_shows_the_highest_the_uncertain_and_a_sample() -> None:
    p = np.linspace(0, 1, 401)
    page = page_of(p.tolist(), limit=40)
    chosen = page.chosen()
    ids = {crop.row["figure_id"] for crop in chosen}
    assert len(chosen) == len(ids) == 40
    assert {f"f{i}" for i in range(381, 401)} <= ids  # the 20 highest
    assert {f"f{i}" for i in range(195, 205)} <= ids or {f"f{i}" for i in range(196, 206)} <= ids  # around one half
    drawn = [int(i[1:]) for i in ids if int(i[1:]) < 190 or 211 < int(i[1:]) < 381]
    assert len(drawn) >= 8
    assert min(drawn) < 130  # the sample reaches where nothing else does
    text = page.html()
    assert "40 of 401 crops are shown: 20 with the highest probability, the 10 most uncertain" in text
    assert "361 are not shown" in text
    assert len(Page(text).cards) == 40


def test_the_choice_depends_on_the_seed_not_on_the_batches() -> None:
    p = np.linspace(0, 1, 200).tolist()
    names = [f"f{i}" for i in range(200)]
    whole = {crop.row["figure_id"] for crop in page_of(p, limit=16).chosen()}
    page = CasePage("case 7", limit=16)
    for start in reversed(range(0, 200, 7)):
        part = slice(start, start + 7)
        page.add(crop_batch(names[part]), results(p[part], ids=names[part]))
    assert {crop.row["figure_id"] for crop in page.chosen()} == whole
    assert {crop.row["figure_id"] for crop in page_of(p, limit=16, seed=1).chosen()} != whole


def test_refused_crops_are_only_drawn() -> None:
    page = page_of([0.99] * 50 + [0.1] * 10, ["refused"] * 50 + ["normal"] * 10, limit=8)
    kept = [crop.row["call"] for crop in page.chosen()]
    assert kept.count("normal") >= 6  # four of the highest and two uncertain come first
    assert len(kept) == 8


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_small_limits(limit: int) -> None:
    page = page_of([0.1, 0.5, 0.9, 0.2], limit=limit)
    assert len(page.chosen()) == limit
    assert f"{4 - limit} are not shown" in page.html()


def test_histogram_counts_every_classified_figure_once() -> None:
    page = page_of([0.0, 0.04, 0.05, 0.5, 1.0, 0.7], ["normal", "normal", "normal", "uncertain", "atypical", "refused"])
    assert page.histogram["normal"][:2] == [2, 1]
    assert page.histogram["uncertain"][10] == 1
    assert page.histogram["atypical"][19] == 1
    assert sum(map(sum, page.histogram.values())) == 5
    bars = Page(page.html()).all("rect")
    heights = [float(bar["height"]) for bar in bars]
    assert heights == [40.0, 20.0, 20.0, 20.0]
    assert [float(bar["y"]) for bar in bars] == [0.0, 20.0, 20.0, 20.0]


def test_nothing_to_show() -> None:
    text = CasePage("empty").html()
    parsed = Page(text)
    assert parsed.cards == []
    assert "No crops are available." in text
    assert "No figure was classified." in text
    assert "the rate is undefined" in text


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"`limit` must be from 0 to 5000 crops, got -1"):
        CasePage("c", limit=-1)
    with pytest.raises(InputError, match=r"`crops` must be one for each of 2 rows, got 1"):
        CasePage("c").add(crop_batch(["a"]), results([0.5, 0.5]))
    with pytest.raises(InputError, match=r"must be a name ending in \.html, got \.pdf"):
        CasePage("c").write(tmp_path / "a.pdf")


def test_write(tmp_path: Path) -> None:
    page = page_of([0.9, 0.2])
    assert page.write(tmp_path / "case.html").read_text("utf-8") == page.html()


DOM = """
const cards = DATA.map((data) => ({ dataset: data, hidden: false }));
const calls = new Set(["normal", "atypical", "uncertain", "refused"]);
const shown = [];
const listeners = {};
const node = (more) => ({ addEventListener: (what, act) => { listeners[more.id + " " + what] = act; }, ...more });
const nodes = {
  crops: { children: cards, append: (card) => { shown.push(card); } },
  controls: node({ id: "controls", hidden: true }),
  order: node({ id: "order", value: "p-down" }),
  count: { textContent: "" },
};
globalThis.document = { getElementById: (id) => nodes[id] };
globalThis.FormData = class { getAll() { return [...calls]; } };
const order = () => shown.splice(0).filter((card) => !card.hidden).map((card) => card.dataset.figure);
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="node is absent: the page's script is not run")
def test_the_script_sorts_and_filters() -> None:
    data = [
        {"figure": "f10", "call": "atypical", "p": "0.9", "uncertainty": "0.47", "novelty": "3"},
        {"figure": "f2", "call": "uncertain", "p": "0.5", "uncertainty": "1", "novelty": ""},
        {"figure": "f1", "call": "refused", "p": "", "uncertainty": "", "novelty": "8"},
    ]
    script = (Path(case_page.__file__).parents[1] / "templates" / "case.js").read_text("utf-8")
    steps = """
const found = {};
found.first = order();
for (const value of ["p-up", "uncertainty-down", "novelty-down", "figure-up"]) {
  nodes.order.value = value;
  listeners["order change"]();
  found[value] = order();
}
calls.delete("refused");
listeners["controls change"]();
found.count = nodes.count.textContent;
found.hidden = cards.filter((card) => card.hidden).map((card) => card.dataset.figure);
found.controls = nodes.controls.hidden;
console.log(JSON.stringify(found));
"""
    program = DOM.replace("DATA", json.dumps(data)) + script + steps
    done = subprocess.run(["node", "-e", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {
        "first": ["f10", "f2", "f1"],
        "p-up": ["f2", "f10", "f1"],
        "uncertainty-down": ["f2", "f10", "f1"],
        "novelty-down": ["f1", "f10", "f2"],
        "figure-up": ["f1", "f2", "f10"],
        "count": "2 of 3 crops",
        "hidden": ["f1"],
        "controls": False,
    }


@pytest.mark.real
def test_a_page_of_real_crops(real_root: Path, tmp_path: Path) -> None:
    files = sorted((real_root / "AMi-Br_Benchmark" / "AMi-Br" / "Atypical").glob("*.png"))[:60]
    names = [file.stem for file in files]
    pixels = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
    page = CasePage("AMi-Br, made-up probabilities", limit=40)
    page.add(crop_batch(names, pixels=pixels), results(np.linspace(0.01, 0.99, len(files)).tolist(), ids=names))
    path = page.write(tmp_path / "case.html")
    parsed = Page(path.read_text("utf-8"))
    assert len(parsed.cards) == 40
    assert parsed.cards[0]["data-figure"] == names[-1]
    assert path.stat().st_size < 40 * 12_000 + 40_000
