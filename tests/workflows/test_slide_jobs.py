"""Lists of slides: how they are read, and how each slide is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from atypia.base import runs
from atypia.base.errors import DataError, InputError
from atypia.base.runs import safe_name
from atypia.workflows.slides.jobs import SlideJob, distinct, read_jobs
from atypia.workflows.slides.tasks import slide_inputs

ZARR = Path(__file__).parents[1] / "fixtures/detectors/detections.zarr"


def test_names_are_told_apart_and_do_not_depend_on_order() -> None:
    jobs = [SlideJob(Path(f"{folder}/case.svs"), Path("p.csv")) for folder in "ab"] + [
        SlideJob(Path("c/CASE.ndpi"), Path("p.csv")),
        SlideJob(Path("c/other.svs"), Path("p.csv"), "own/name"),
        SlideJob(Path("c/x.svs"), Path("p.csv"), "slides.csv"),
    ]
    named = distinct(jobs)
    names = [job.name for job in named]
    assert len({name.casefold() for name in names}) == 5
    assert names[0].startswith("case-") and names[2].startswith("CASE-") and names[3] == "own_name"
    assert names[4].startswith("slides.csv-")
    assert all(job.slide.is_absolute() and job.points.is_absolute() for job in named)
    assert [job.name for job in distinct(jobs[::-1])] == names[::-1]
    assert distinct(jobs[:1])[0].name == "case"


def test_jobs_that_cannot_be() -> None:
    job = SlideJob(Path("a.svs"), Path("p.csv"))
    with pytest.raises(InputError, match=r"a\.svs is listed twice with the same points; fix: list it once"):
        distinct([job, job])
    with pytest.raises(InputError, match="`jobs` must be at least one slide, got none; fix: name one"):
        distinct([])


@pytest.mark.parametrize("text", ["..", ".", "", "///", "a" * 300, "ü" * 300, "../../etc", "con\nx"])
def test_safe_names_are_one_short_visible_part_of_a_path(text: str) -> None:
    name = safe_name(text)
    assert name and len(name.encode()) <= runs.NAME_BYTES and not name.startswith(".")
    assert Path(name).parts == (name,) and "\n" not in name
    assert safe_name("a" * 300) != safe_name("a" * 301)


def test_lists_of_slides(tmp_path: Path) -> None:
    listed = tmp_path / "slides.csv"
    listed.write_text("slide;points;name;mpp\na.svs;a.csv;;0.5\n/data/b.svs;;second;\n")
    assert read_jobs(listed, tmp_path / "all.json") == [
        SlideJob(tmp_path / "a.svs", tmp_path / "a.csv", mpp=0.5),
        SlideJob(Path("/data/b.svs"), tmp_path / "all.json", "second"),
    ]
    with pytest.raises(DataError, match=r"slides\.csv, line 3: no points; fix: fill the cell"):
        read_jobs(listed)
    listed.write_text("slide\na.svs\n")
    with pytest.raises(DataError, match="no column `points`"):
        read_jobs(listed)
    assert read_jobs(listed, Path("p")) == [SlideJob(tmp_path / "a.svs", Path("p"))]
    listed.write_text("slide,points\na.svs,\nb.svs,\nc.svs,c.csv\n")
    assert [job.shared for job in read_jobs(listed, Path("p"))] == [True, True, False]
    listed.write_text("slide,points\na.svs,\nc.svs,c.csv\n")
    assert [job.shared for job in read_jobs(listed, Path("p"))] == [False, False]
    for wrong in ("0", "inf", "0,25"):
        listed.write_text(f'slide,points,mpp\na,p,"{wrong}"\n')
        with pytest.raises(DataError, match=r"slides\.csv, line 2: `mpp` must be a .*number"):
            read_jobs(listed)
    listed.write_text("slide,points\n")
    with pytest.raises(DataError, match="lists no slide"):
        read_jobs(listed)


@pytest.mark.parametrize("alone", [True, False])
def test_a_zarr_folder_is_the_points_of_a_slide_and_no_folder_of_them(tmp_path: Path, alone: bool) -> None:
    slide, points = tmp_path / "case.svs", tmp_path / "points" / "case.zarr"
    slide.write_text("a slide")
    shutil.copytree(ZARR, points)
    job = SlideJob(slide, points if alone else points.parent)
    first = slide_inputs(job, {})["points"]
    assert list(first) == ["case.zarr"] and slide_inputs(job, {})["points"] == first
    chunk = next(file for file in sorted((points / "x").rglob("*")) if file.is_file())
    chunk.write_bytes(chunk.read_bytes() + b"1")
    changed = slide_inputs(job, {})["points"]
    assert list(changed) == ["case.zarr"] and changed != first  # so that results of before are not kept
