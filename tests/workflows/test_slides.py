"""Many slides: what is kept, what is repeated, what fails, on one machine and on Ray."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module, invalidate_caches
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from atypia.base.errors import AbsentError, DataError, InputError
from atypia.base.process.cores import core_count
from atypia.data.images.geometry import CropGeometry
from atypia.engines.engine import ENGINES
from atypia.engines.tasks import Setup, Work
from atypia.inference.bundles.bundle import Bundle
from atypia.inference.runtimes.catalogue import ONNX_FILE
from atypia.workflows.slides.jobs import SlideJob, SlideSettings, distinct
from atypia.workflows.slides.predict import check_forms, predict_slides, slide_work
from atypia.workflows.slides.run import run_slides
from atypia.workflows.slides.tasks import DONE, FAILED, KEPT, SlideOutcome, SlideTask

SIDE = 256
POINTS = "x_px,y_px\n40,50\n200,100\n128,128\n300,10\n"
"""The last lies outside the slide."""

WORKS = """
import os, signal
from pathlib import Path

def steps(job, folder, settings):
    folder.joinpath("results.txt").write_text(job.slide.read_text())
    match job.slide.read_text():
        case "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        case "dies once":
            if not job.slide.with_suffix(".died").exists():
                job.slide.with_suffix(".died").touch()
                os.kill(os.getpid(), signal.SIGKILL)
        case "breaks":
            [][1]
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return {"figures": 4, "atypical": 1, "rate": 0.25, "cores": cores}
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder that stands for a model where the work does not open one."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"weights")
    return folder


@pytest.fixture
def settings(model: Path) -> SlideSettings:
    return SlideSettings((str(model),))


@pytest.fixture
def works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module that other processes can import, with a work that does what the slide's text says."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "slide_works.py").write_text(WORKS)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH")))))
    invalidate_caches()
    return import_module("slide_works")


def texts(folder: Path, **content: str) -> list[SlideJob]:
    """Jobs whose slides are text files."""
    folder.mkdir(exist_ok=True)
    (folder / "points.csv").write_text(POINTS)
    for name, text in content.items():
        (folder / f"{name}.svs").write_text(text)
    return [SlideJob(folder / f"{name}.svs", folder / "points.csv") for name in content]


def table(out: Path) -> list[dict[str, str]]:
    with open(out / "slides.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def statuses(outcomes: Sequence[SlideOutcome]) -> dict[str, str]:
    return {outcome.name: outcome.status for outcome in outcomes}


# What is kept and what is repeated ------------------------------------------------------------


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: SlideSettings) -> Callable[..., dict[str, str]]:
    """Runs jobs without other processes; returns their statuses."""

    def backwards(
        tasks: Sequence[SlideTask], work: Work[SlideTask, SlideOutcome], setup: Setup
    ) -> Iterator[SlideOutcome]:
        return (work.do(task, setup.progress) for task in reversed(tasks))

    def call(jobs: Sequence[SlideJob], given: SlideSettings = settings) -> dict[str, str]:
        return statuses(run_slides(jobs, tmp_path / "out", given, inline_work, engine="backwards"))

    monkeypatch.setitem(ENGINES._entries, "backwards", backwards)
    return call


def inline_work(job: SlideJob, folder: Path, settings: SlideSettings) -> Mapping[str, Any]:
    text = job.slide.read_text()
    if text == "bad":
        raise DataError("no µm/px; fix: give them")
    if text == "bug":
        raise KeyError("key")
    (folder / "results.txt").write_text(text)
    return {"figures": len(text), "atypical": 1, "rate": None if text == "none" else 1 / len(text)}


def test_a_second_call_keeps_what_is_valid(run: Any, tmp_path: Path) -> None:
    jobs = texts(tmp_path / "slides", one="abcd", two="bad", three="bug", four="none")
    assert run(jobs) == {"one": DONE, "two": FAILED, "three": FAILED, "four": DONE}
    rows = {row["name"]: row for row in table(tmp_path / "out")}
    assert list(rows) == ["one", "two", "three", "four"]  # in the order of the jobs, not of the work
    assert (rows["one"]["figures"], rows["one"]["atypical"], rows["one"]["rate"]) == ("4", "1", "0.25")
    assert rows["one"]["slide"] == str(tmp_path / "slides" / "one.svs") and rows["one"]["reason"] == ""
    assert rows["two"]["reason"] == "no µm/px; fix: give them" and rows["two"]["figures"] == ""
    assert rows["three"]["reason"].startswith("KeyError: 'key' (test_slides.py:")
    assert rows["four"]["rate"] == ""
    assert not (tmp_path / "out" / "two").exists()

    (tmp_path / "slides" / "two.svs").write_text("good")
    assert run(jobs) == {"one": KEPT, "two": DONE, "three": FAILED, "four": KEPT}
    kept = table(tmp_path / "out")[0]
    assert kept["rate"] == "0.25" and kept["status"] == KEPT


@pytest.mark.parametrize("ends", [SystemExit(3), KeyboardInterrupt()])
def test_the_end_of_the_process_is_no_failure_of_a_slide(
    ends: BaseException, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(job: SlideJob, folder: Path, settings: SlideSettings) -> Mapping[str, Any]:
        raise ends

    monkeypatch.setitem(globals(), "inline_work", stop)
    with pytest.raises(type(ends)):
        run(texts(tmp_path / "slides", one="abcd"))
    assert not (tmp_path / "out" / "one").exists()


def test_what_changed_is_repeated(run: Any, tmp_path: Path, settings: SlideSettings, model: Path) -> None:
    jobs = texts(tmp_path / "slides", one="abcd", two="efgh")
    folder = tmp_path / "out" / "one"
    run(jobs)
    assert run(jobs) == {"one": KEPT, "two": KEPT}

    (tmp_path / "slides" / "one.svs").write_text("abce")
    assert run(jobs) == {"one": DONE, "two": KEPT}
    assert (folder / "results.txt").read_text() == "abce"

    (folder / "results.txt").unlink()
    assert run(jobs) == {"one": DONE, "two": KEPT}
    (folder / "results.txt").write_text("cut")
    assert run(jobs) == {"one": DONE, "two": KEPT}
    (folder / "done.json").write_text("{")
    assert run(jobs) == {"one": DONE, "two": KEPT}

    assert run([replace(jobs[0], mpp=0.5), jobs[1]]) == {"one": DONE, "two": KEPT}
    assert run(jobs) == {"one": DONE, "two": KEPT}
    assert run(jobs, replace(settings, mpp=0.5)) == {"one": DONE, "two": DONE}
    assert run(jobs) == {"one": DONE, "two": DONE}
    (model / "card.md").write_text("words")
    assert run(jobs) == {"one": KEPT, "two": KEPT}
    (model / "model.onnx").write_bytes(b"others")
    assert run(jobs) == {"one": DONE, "two": DONE}
    moved = model.rename(tmp_path / "elsewhere")
    assert run(jobs, replace(settings, models=(str(moved),))) == {"one": KEPT, "two": KEPT}

    (tmp_path / "slides" / "points.csv").write_text(POINTS + "1,1\n")
    settings = replace(settings, models=(str(moved),))
    assert run(jobs, settings) == {"one": DONE, "two": DONE}
    # What a failed repetition leaves is what was there before, and the table says that it failed.
    (tmp_path / "slides" / "one.svs").write_text("bad")
    assert run(jobs, settings) == {"one": FAILED, "two": KEPT}
    assert (folder / "results.txt").read_text() == "abce"
    (tmp_path / "slides" / "one.svs").unlink()
    assert run(jobs, settings) == {"one": FAILED, "two": KEPT}
    assert "one.svs cannot be read: No such file" in table(tmp_path / "out")[0]["reason"]


def test_a_slide_that_is_not_there_is_named_and_not_its_points(run: Any, tmp_path: Path) -> None:
    (tmp_path / "points").mkdir()
    (tmp_path / "points" / "other.csv").write_text(POINTS)
    assert run([SlideJob(tmp_path / "one.svs", tmp_path / "points")]) == {"one": FAILED}
    assert "one.svs cannot be read: No such file" in table(tmp_path / "out")[0]["reason"]


def test_points_in_a_folder_and_the_files_of_mirax_count(run: Any, tmp_path: Path) -> None:
    folder = tmp_path / "slides"
    (folder / "one").mkdir(parents=True)
    (folder / "points").mkdir()
    (folder / "one.mrxs").write_text("abcd")
    for name in ("one", "other"):
        (folder / "points" / f"{name}.csv").write_text(POINTS)
    jobs = [SlideJob(folder / "one.mrxs", folder / "points")]
    assert run(jobs) == {"one": DONE}
    (folder / "points" / "other.csv").write_text("changed")
    assert run(jobs) == {"one": KEPT}
    (folder / "points" / "one.csv").write_text(POINTS + "1,1\n")
    assert run(jobs) == {"one": DONE}
    (folder / "one" / "Data0000.dat").write_bytes(b"tiles")
    assert run(jobs) == {"one": DONE}
    assert run(jobs) == {"one": KEPT}


def test_the_table_is_there_after_an_interruption(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: SlideSettings
) -> None:
    def stopped(
        tasks: Sequence[SlideTask], work: Work[SlideTask, SlideOutcome], setup: Setup
    ) -> Iterator[SlideOutcome]:
        yield work.do(tasks[0], setup.progress)
        raise KeyboardInterrupt

    monkeypatch.setitem(ENGINES._entries, "stopped", stopped)
    jobs, seen = texts(tmp_path / "slides", one="a", two="b"), []

    def progress(done: int, total: int, what: str) -> None:
        seen.append((done, total, what))

    with pytest.raises(KeyboardInterrupt):
        run_slides(jobs, tmp_path / "out", settings, inline_work, engine="stopped", progress=progress)
    assert [row["name"] for row in table(tmp_path / "out")] == ["one"]
    assert seen == [(0, 2, "slides"), (1, 2, "slides")]


def test_bad_arguments(tmp_path: Path, settings: SlideSettings) -> None:
    jobs = texts(tmp_path / "slides", one="a")
    with pytest.raises(InputError, match="unknown engine 'slurm'; choices: local, ray, inline"):
        run_slides(jobs, tmp_path / "out", settings, inline_work, engine="slurm")
    with pytest.raises(InputError, match="`workers` must be a positive whole number, got 0; fix: leave it out"):
        run_slides(jobs, tmp_path / "out", settings, inline_work, workers=0)
    with pytest.raises(InputError, match="`address` must be left out with the local engine"):
        run_slides(jobs, tmp_path / "out", settings, inline_work, address="host:1")
    with pytest.raises(AbsentError, match="`model` must be"):
        run_slides(jobs, tmp_path / "out", replace(settings, models=("nowhere",)), inline_work)
    with pytest.raises(InputError, match=r"`forms` must be some of csv, .*html, got xlsx"):
        check_forms(["csv", "xlsx"])
    assert not (tmp_path / "out" / "one").exists()


# Workers that die -----------------------------------------------------------------------------


def test_a_worker_that_dies_takes_no_other_slide_with_it(works: Any, tmp_path: Path, settings: SlideSettings) -> None:
    jobs = texts(tmp_path / "slides", a="fine", b="dies", c="breaks", d="dies once", e="fine too")
    out = tmp_path / "out"
    outcomes = run_slides(jobs, out, settings, works.steps, workers=2)
    assert statuses(outcomes) == {"a": DONE, "b": FAILED, "c": FAILED, "d": DONE, "e": DONE}
    assert "the worker process died 2 times at this" in outcomes[1].reason
    assert outcomes[2].reason.startswith("IndexError: list index out of range (slide_works.py:")
    assert (out / "e" / "results.txt").read_text() == "fine too"
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == ["a", "d", "e"]  # nothing half-made
    if core_count() > 1:
        assert len(json.loads((out / "a" / "done.json").read_text())["cores"]) == core_count() // 2


# The work itself ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> list[SlideJob]:
    """Two slides that can be read and one that cannot, with the same points."""
    tifffile = pytest.importorskip("tifffile", reason="needs the extra `slides`")
    folder = tmp_path_factory.mktemp("slides")
    (folder / "points.csv").write_text(POINTS)
    for name in ("left", "right"):
        pixels = np.random.default_rng(len(name)).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
        tifffile.imwrite(
            folder / f"{name}.tif",
            pixels,
            photometric="rgb",
            resolution=(40_000.0, 40_000.0),
            resolutionunit="CENTIMETER",
        )
    (folder / "corrupt.tif").write_bytes((folder / "left.tif").read_bytes()[:100])
    return [SlideJob(folder / f"{name}.tif", folder / "points.csv") for name in ("left", "corrupt", "right")]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def real_settings(bundle: Bundle, models: Path) -> SlideSettings:
    """A probe on random features that sees 8 µm; exported, so that workers need not load torch."""
    pytest.importorskip("onnxscript", reason="needs the extra `export`")
    from atypia.inference.export.onnx import export_onnx

    folder = models / "bundle"
    if not folder.exists():
        sees = replace(bundle, geometry=CropGeometry(out_px=32), field_um=8.0)
        export_onnx(sees, sees.save(folder) / ONNX_FILE)
    return SlideSettings((str(folder),), forms=("parquet", "geojson", "html"), fields=True)


def test_the_work_writes_what_one_slide_gives(
    slides: list[SlideJob], real_settings: SlideSettings, tmp_path: Path
) -> None:
    from atypia.data.slides.slidecrops import slide_points
    from atypia.inference.classifier import Classifier

    folder = tmp_path / "left"
    folder.mkdir()
    (job,) = distinct(slides[:1])
    facts = slide_work(job, folder, real_settings)
    assert (facts["figures"], facts["scored"], facts["refused"]) == (4, 3, 1)
    written = pq.read_table(folder / "results.parquet")
    expected = Classifier.load(real_settings.models).predict_slide(job.slide, slide_points(job.slide, job.points))
    assert written.sort_by("figure_id").equals(expected.table().sort_by("figure_id"))
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["atypical"] == facts["atypical"] == sum(v == 1 for v in written["decision"].to_pylist())
    assert facts["rate"] == pytest.approx(facts["atypical"] / 3)
    drawn = json.loads((folder / "results.geojson").read_text())["features"]
    ring = np.array(drawn[0]["geometry"]["coordinates"][0])
    assert np.ptp(ring, axis=0).tolist() == [32, 32]  # 8 µm at 0.25 µm/px
    assert (folder / "results.html").read_text().startswith("<!")


def test_a_slide_without_a_scale_needs_one(real_settings: SlideSettings, tmp_path: Path) -> None:
    Image.fromarray(np.full((SIDE, SIDE, 3), 200, np.uint8)).save(tmp_path / "plain.png")
    (tmp_path / "points.csv").write_text(POINTS)
    job = SlideJob(tmp_path / "plain.png", tmp_path / "points.csv")
    for fields in (True, False):
        with pytest.raises(DataError, match=r"`mpp` must be known to .* 8 µm, got nothing in .*plain\.png; fix: give"):
            slide_work(job, tmp_path, replace(real_settings, fields=fields))
    facts = slide_work(replace(job, mpp=0.25), tmp_path, replace(real_settings, mpp=1e-3))  # the slide's own counts
    assert facts["scored"] == 3


def test_a_threshold_decides_for_all(slides: list[SlideJob], real_settings: SlideSettings, tmp_path: Path) -> None:
    facts = slide_work(slides[0], tmp_path, replace(real_settings, threshold=1e-6, forms=("csv",)))
    assert facts["atypical"] == 3 and facts["rate"] == 1.0
    assert not (tmp_path / "results.parquet").exists()


def without_times(out: Path) -> list[dict[str, str]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in table(out)]


@pytest.mark.slow
def test_ray_does_what_the_local_engine_does(
    slides: list[SlideJob], real_settings: SlideSettings, works: Any, tmp_path: Path, settings: SlideSettings
) -> None:
    ray = pytest.importorskip("ray", reason="needs the extra `scale`")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        first = predict_slides(slides, tmp_path / "ray", real_settings, engine="ray").outcomes
        second = predict_slides(slides, tmp_path / "ray", real_settings, engine="ray").outcomes
        jobs = texts(tmp_path / "texts", a="fine", b="dies", c="breaks", d="dies once")
        died = run_slides(jobs, tmp_path / "died", settings, works.steps, engine="ray", workers=2)
        assert ray.is_initialized()  # it was not started by the engine
    finally:
        ray.shutdown()
    local = predict_slides(slides, tmp_path / "local", real_settings).outcomes
    assert statuses(first) == statuses(local) == {"left": DONE, "corrupt": FAILED, "right": DONE}
    assert statuses(second) == {"left": KEPT, "corrupt": FAILED, "right": KEPT}
    assert "corrupt.tif" in first[1].reason and first[1].reason == local[1].reason
    for name in ("left", "right"):
        tables = [pq.read_table(tmp_path / engine / name / "results.parquet") for engine in ("ray", "local")]
        assert tables[0].equals(tables[1]) and tables[0].num_rows == 4
    again = [{**row, "status": row["status"].replace(KEPT, DONE)} for row in without_times(tmp_path / "ray")]
    assert again == without_times(tmp_path / "local")
    assert statuses(died) == {"a": DONE, "b": FAILED, "c": FAILED, "d": DONE}
    assert "the worker process died 2 times at this" in died[1].reason


def test_ray_without_ray_or_cluster(tmp_path: Path, settings: SlideSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(AbsentError, match=r"needs Ray, which is not installed; fix: pip install 'atypia\[scale\]'"):
        run_slides(texts(tmp_path / "s", a="x"), tmp_path / "out", settings, inline_work, engine="ray")
