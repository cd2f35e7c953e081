"""The audit finds what is wrong, says how grave it is, and stops a training or a test."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atypia.base import records as r
from atypia.base.artifacts import file_sha256
from atypia.base.errors import InputError
from atypia.data.audit import report as a
from atypia.data.audit.findings import CODES, SEVERITIES
from atypia.data.manifest import Manifest
from atypia.data.sources.opening import published_manifest

from .auditing import clean, codes, picture


def test_every_code_has_a_severity_and_a_meaning():
    assert all(severity in SEVERITIES and len(words) > 15 for severity, words in CODES.values())


def test_a_clean_set_has_no_findings(build):
    report = a.audit([clean(build("set")).manifest()])
    assert report.findings == ()
    assert not report.has_errors
    assert report.text().splitlines() == [
        "set: 4 figures, with images",
        "",
        "nothing was found",
        "",
        "0 errors, 0 warnings",
    ]


def test_copies_within_a_set(build):
    built = clean(build("set"))
    built.add("copy", picture(0), label=0, case="set-case-0")
    built.add("turned", np.rot90(picture(1)), label=1, case="set-case-0")
    soft = picture(2).astype(float) * 0.95 + 5
    built.add("near", soft.astype(np.uint8)[::-1], label=1, case="set-case-1")
    report = a.audit([built.manifest()])
    assert codes(report) == ["identical-within-set", "turned-within-set", "near-within-set"]
    identical, turned, near = report.findings
    assert identical.facts["groups"] == [["set-0", "copy"]]
    assert turned.facts["groups"] == [["set-1", "turned"]]
    assert near.facts["groups"] == [["set-2", "near"]]
    assert (near.facts["n_groups"], near.facts["n_files"], near.facts["n_redundant"]) == (1, 2, 1)
    assert near.message.endswith("(2 files, 1 redundant); 1 group with different labels")
    assert "near-within-set" not in codes(a.audit([built.manifest()], near=False))


def test_certain_copies_with_different_labels_are_an_error(build):
    built = clean(build("set"))
    built.add("copy", picture(0), label=1, case="set-case-0")
    built.add("turned", picture(0)[:, ::-1], label=0, case="set-case-0")
    built.add("unlabelled", picture(1), label=None, case="set-case-0")
    report = a.audit([built.manifest()])
    (conflict,) = report.of("conflicting-labels")
    assert conflict.severity == "error"
    assert conflict.figures == ("set-0", "copy", "turned")
    assert conflict.facts["labels"] == [[0, 1, 0]]
    assert report.has_errors


def test_copies_across_sets(build):
    first, second = clean(build("one")), clean(build("two"), first=10)
    second.add("same", picture(1), label=1, case="x")
    second.add("turned", picture(2)[::-1], label=0, case="x")
    second.add("conflict", picture(3), label=0, case="x")
    report = a.audit([first.manifest(), second.manifest()])
    assert codes(report) == ["conflicting-labels", "identical-across-sets", "turned-across-sets"]
    identical = report.of("identical-across-sets")[0]
    assert identical.facts["groups"] == [["one: one-1", "two: same"], ["one: one-3", "two: conflict"]]
    assert identical.message.startswith("one and two: 2 groups of crops with the same pixels")
    assert report.of("conflicting-labels")[0].message.startswith("one and two: 1 group")


def test_labels_of_different_tasks_do_not_conflict(build):
    first, second = clean(build("one")), build("two")
    second.add("same", picture(0), label=1, case="x")
    other = Manifest.from_rows(second.rows, "two", task=r.MITOSIS_TASK, root=second.folder)
    report = a.audit([first.manifest(), other])
    assert report.of("conflicting-labels") == []
    assert report.of("identical-across-sets")[0].facts["n_conflicting"] == 0


def test_images_that_cannot_be_used(build):
    built = clean(build("set"), 9)
    folder = built.folder
    whole = (folder / "set-0.png").read_bytes()
    (folder / "set-0.png").write_bytes(whole[: len(whole) // 2])
    (folder / "set-1.png").write_text("no image at all")
    (folder / "set-2.png").unlink()
    Image.fromarray(picture(77)).save(folder / "set-3.png")
    Image.fromarray(picture(4)).quantize(16).save(folder / "set-4.png")
    Image.fromarray(picture(5)[:, :, 0] > 100).save(folder / "set-5.png")
    Image.fromarray(picture(6, 96)).save(folder / "set-6.png")
    for row in (0, 1, 4, 5, 6):  # as a table reads that was made of these files
        built.rows[row][r.SHA256] = file_sha256(folder / f"set-{row}.png")
    report = a.audit([built.manifest()])
    assert {f.code: f.figures for f in report.findings} == {
        "truncated-image": ("set-0",),
        "unreadable-image": ("set-1",),
        "missing-image": ("set-2",),
        "changed-image": ("set-3",),
        "wrong-mode": ("set-4", "set-5"),
        "wrong-size": ("set-6",),
    }
    assert report.of("wrong-mode")[0].facts["modes"] == {"set-4": "P"}
    assert list(report.of("wrong-mode")[0].facts["refused"]) == ["set-5"]
    assert report.of("wrong-size")[0].facts["sizes_px"] == {"set-6": [96, 96]}
    assert report.has_errors


def test_a_set_without_any_usable_image_is_reported_not_raised(build):
    built = clean(build("set"), 2)
    for path in built.folder.iterdir():
        path.write_bytes(b"")
    report = a.audit([built.manifest()])
    (finding,) = report.of("unreadable-image")
    assert finding.figures == ("set-0", "set-1")


def test_tables_are_audited_without_images(build):
    rows = [{r.FIGURE_ID: f"f{k}", r.DATASET: "t", r.IMAGE: "x.png", r.LABEL: 1 if k else None} for k in range(3)]
    report = a.audit([Manifest.from_rows(rows, "t")])
    assert sorted(codes(report)) == ["missing-cases", "missing-labels", "no-images", "single-class"]
    assert report.sets[0]["images"] is False
    assert "every label is atypical" in report.of("single-class")[0].message


def test_a_set_with_images_beside_one_without(build):
    rows = [{r.FIGURE_ID: "f", r.DATASET: "t", r.IMAGE: "x.png", r.LABEL: 1, r.CASE_ID: "c"}]
    built = clean(build("set"))
    built.add("copy", picture(0), label=0, case="set-case-0")
    report = a.audit([Manifest.from_rows(rows, "t"), built.manifest()])
    assert report.of("identical-within-set")[0].facts["groups"] == [["set-0", "copy"]]


def test_leakage_between_the_parts_of_a_split(build):
    built = clean(build("set"), 6)
    built.add("copy", picture(0), label=0, case="other")
    built.add("turned", np.rot90(picture(1), 2), label=1, case="third")
    parts = {
        "train": ["set-0", "set-1", "set-2", "set-4"],
        "val": ["set-3", "copy", "set-4"],
        "test": ["turned", "set-5", "ghost"],
    }
    report = a.audit([built.manifest()], splits=[("fold-1", parts)])
    found = {f.code: f for f in report.findings if f.code.endswith(("parts", "figures"))}
    assert list(found) == [
        "unknown-figures",
        "figure-across-parts",
        "case-across-parts",
        "identical-across-parts",
        "turned-across-parts",
    ]
    assert found["unknown-figures"].figures == ("ghost",)
    assert found["figure-across-parts"].figures == ("set-4",)
    assert found["case-across-parts"].facts["cases"] == ["set-case-1", "set-case-2"]
    assert found["identical-across-parts"].figures == ("set-0", "copy")
    assert found["turned-across-parts"].figures == ("set-1", "turned")
    good = {"train": ["set-0", "set-1", "copy", "turned"], "test": ["set-2", "set-3"]}
    assert not any(code.endswith("parts") for code in codes(a.audit([built.manifest()], splits=[("good", good)])))


def test_cases_of_one_name_in_pooled_sets_are_different_cases(build):
    first, second = build("one"), build("two")
    first.add("a", picture(1), case="1")
    second.add("b", picture(2), case="1", label=1)
    pooled = Manifest.concat([first.manifest(), second.manifest()])
    assert a.check_parts({"train": ["a"], "test": ["b"]}, pooled) == []


def test_the_report_is_json_and_sorted(build):
    built = clean(build("set"))
    built.add("copy", picture(0), label=1, case=None)
    report = a.audit([built.manifest()])
    said = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert said["errors"] == 1
    assert [f["severity"] for f in said["findings"]] == ["error", "warning", "warning"]
    assert said["findings"][0]["figures"] == ["set-0", "copy"]
    assert report.text().splitlines()[2] == "ERROR conflicting-labels"
    assert report.text().splitlines()[-1] == "1 error, 2 warnings"


def test_an_audit_needs_sets_of_different_names(build):
    manifest = clean(build("set")).manifest()
    with pytest.raises(InputError, match="needs at least one set; fix:"):
        a.audit([])
    with pytest.raises(InputError, match="two sets are called set; fix:"):
        a.audit([manifest, manifest])


def test_positions_on_slides_are_audited_by_fields_around_them(tmp_path: Path):
    slide = np.concatenate([picture(1, 256), picture(1, 256)], axis=1)
    Image.fromarray(slide).save(tmp_path / "slide.png")
    rows = [
        {
            r.FIGURE_ID: f"f{x}",
            r.DATASET: "s",
            r.IMAGE: "slide.png",
            r.X_PX: x,
            r.Y_PX: 128.0,
            r.LABEL: 0,
            r.CASE_ID: "c",
        }
        for x in (128.0, 200.0, 384.0)
    ]
    report = a.audit([Manifest.from_rows(rows, "s", root=tmp_path)])
    assert report.of("identical-within-set")[0].facts["groups"] == [["f128.0", "f384.0"]]


@pytest.mark.real
def test_the_real_sets_hold_what_is_known_of_them(real_root: Path):
    names = ("ami-br", "atnorm-br", "midog25-atypical")
    report = a.audit([published_manifest(name, real_root) for name in names], root=real_root)
    (identical,) = report.of("identical-within-set")
    assert identical.message.startswith("atnorm-br: 27 groups of crops with the same pixels (62 files, 35 redundant)")
    facts = identical.facts
    assert (facts["n_groups"], facts["n_files"], facts["n_redundant"], facts["n_conflicting"]) == (27, 62, 35, 2)
    (conflict,) = report.of("conflicting-labels")
    assert conflict.facts["n_groups"] == 2
    (known,) = report.of("known-contamination")
    assert known.facts["same_position"] == 1721
    assert codes(report) == [
        "conflicting-labels",
        "known-contamination",
        "missing-cases",
        "identical-within-set",
        "no-images",
    ]
    assert report.has_errors
