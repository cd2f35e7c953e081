"""The audit finds what is wrong, says how grave it is, and stops a training or a test."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from atypia import records as r
from atypia.artifacts import file_sha256
from atypia.data import audit as a
from atypia.data.duplicates import Pixels
from atypia.data.findings import CODES, SEVERITIES, AuditReport, Finding, by_severity, raise_leakage
from atypia.data.manifest import Manifest
from atypia.data.opening import published_manifest
from atypia.errors import AbsentError, InputError, LeakageError


def picture(seed: int, px: int = 128) -> np.ndarray:
    """A crop of its own: soft random structure, so that no two are alike."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(60, 240, (px // 8, px // 8, 3), np.uint8))
    return np.asarray(small.resize((px, px), Image.Resampling.BICUBIC))


@dataclass
class Built:
    """A set under construction: pixels by figure id, and what its table says beside the image."""

    folder: Path
    name: str
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, figure: str, pixels: np.ndarray, label: int | None = 0, case: str | None = None, **more: Any) -> None:
        path = self.folder / f"{figure}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        self.rows.append(
            {
                r.FIGURE_ID: figure,
                r.DATASET: self.name,
                r.IMAGE: path.name,
                r.LABEL: label,
                r.CASE_ID: case,
                r.WIDTH_PX: pixels.shape[1],
                r.HEIGHT_PX: pixels.shape[0],
                r.SHA256: file_sha256(path),
                **more,
            }
        )

    def manifest(self) -> Manifest:
        return Manifest.from_rows(self.rows, self.name, root=self.folder)


@pytest.fixture
def build(tmp_path: Path):
    return lambda name: Built(tmp_path / name, name)


def clean(built: Built, n: int = 4, first: int = 0) -> Built:
    for k in range(first, first + n):
        built.add(f"{built.name}-{k}", picture(k), label=k % 2, case=f"{built.name}-case-{k // 2}")
    return built


def codes(report: AuditReport) -> list[str]:
    return [finding.code for finding in report.findings]


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


def test_training_on_conflicting_labels_is_refused_unless_named(build):
    built = clean(build("set"))
    built.add("copy", picture(0), label=1, case="set-case-0")
    manifest = built.manifest()
    store = a.open_audit_store(manifest)
    for given in (None, store):
        with pytest.raises(
            LeakageError, match=r"training on set is refused: .*in spite of it: --allow conflicting-labels$"
        ):
            a.check_training(manifest, given)
        said = a.check_training(manifest, given, allow={"conflicting-labels"})
        assert [text.split(":")[0] for text in said] == ["conflicting-labels", "identical-within-set"]
    assert a.check_training(clean(build("other")).manifest()) == []


def test_training_on_pooled_sets_that_share_crops_is_refused(build):
    first, second = clean(build("one")), clean(build("two"), first=10)
    second.add("same", picture(1), label=1, case="x")
    pooled = Manifest.concat([first.manifest(), second.manifest()])
    with pytest.raises(LeakageError, match=r"one and two: 1 group .*--allow identical-across-sets"):
        a.check_training(pooled)
    assert len(a.check_training(pooled, allow=["identical-across-sets"])) == 2


def published(name: str, figure: str, case: str | None) -> Manifest:
    return Manifest.from_rows([{r.FIGURE_ID: figure, r.DATASET: name, r.IMAGE: "x", r.LABEL: 0, r.CASE_ID: case}], name)


def test_training_on_pooled_sources_that_contain_each_other_is_refused():
    rows = [
        *published("ami-br", "MIDOG21_1", "MIDOG21/002").table.to_pylist(),
        *published("midog25-atypical", "MIDOG25_1", "MIDOG21/002").table.to_pylist(),
    ]
    pooled = Manifest.from_rows(rows, "ami-br+midog25-atypical")
    with pytest.raises(LeakageError, match="--allow known-contamination"):
        a.check_training(pooled)


def test_a_store_without_the_quarantined_figures(build):
    built = clean(build("set"), 5)
    built.add("copy", picture(4), label=1, case="set-case-2")
    manifest = built.manifest()
    (built.folder / "set-1.png").write_bytes(b"")
    store = a.open_audit_store(manifest)
    assert list(store.quarantined) == ["set-1"]
    usable = manifest.take(store.usable)
    assert a.identical_groups(usable, store) == [("set-4", "copy")]
    assert a.identical_groups(manifest, store) == [("set-4", "copy")]
    with pytest.raises(ValueError, match="the store has 6 crops, set has 2 figures"):
        Pixels.of_store(manifest.take([0, 1]), store)


def test_a_split_with_leakage_is_refused_unless_named(build):
    built = clean(build("set"))
    built.add("copy", picture(0), label=0, case="y")
    manifest = built.manifest()
    with pytest.raises(LeakageError, match=r"--allow case-across-parts --allow identical-across-parts$"):
        a.check_parts({"train": ["set-0", "set-2"], "test": ["copy", "set-3"]}, manifest)
    assert len(a.check_parts({"train": ["set-0"], "test": ["copy"]}, manifest, allow=["identical-across-parts"])) == 1


def test_testing_on_what_was_trained_on_is_refused(build):
    train, test = clean(build("one")), clean(build("two"), first=10)
    assert a.check_pair(train.manifest(), test.manifest()) == []
    with pytest.raises(LeakageError, match=r"one and one share 4 figures; .*--allow figure-across-sets$"):
        a.check_pair(train.manifest(), train.manifest())
    test.add("same", picture(1), label=1, case="x")
    with pytest.raises(
        LeakageError, match=r"testing on two what was trained on one is refused.*--allow identical-across-sets"
    ):
        a.check_pair(train.manifest(), test.manifest())


def test_testing_on_turned_copies_is_refused_where_pixels_are_given(build):
    train, test = clean(build("one")), clean(build("two"), first=10)
    test.add("turned", np.rot90(picture(1)), label=1, case="x")
    pair = train.manifest(), test.manifest()
    assert a.check_pair(*pair) == []
    stores = a.open_audit_store(pair[0]), a.open_audit_store(pair[1])
    with pytest.raises(LeakageError, match="--allow turned-across-sets"):
        a.check_pair(*pair, stores=stores)


def test_the_same_case_in_train_and_test(build):
    whole = clean(build("set"), 8).manifest()
    train, test = whole.take([0, 1, 2]), whole.take([3, 6, 7])
    with pytest.raises(LeakageError, match=r"share 1 case \(set-case-1\): 1 figure of set.*--allow case-across-sets"):
        a.check_pair(train, test)
    assert a.check_pair(train, whole.take([4, 5])) == []


def test_case_names_of_unrelated_sets_are_only_a_warning(build):
    first, second = build("one"), build("two")
    first.add("a", picture(1), case="17")
    second.add("b", picture(2), case="17")
    (said,) = a.check_pair(first.manifest(), second.manifest())
    assert said.startswith("same-case-names: one and two use the same names for 1 case (17)")


def test_published_cases_are_one_case_in_all_sources():
    train, test = published("lung-mito", "L", "LUNG-MITO/3"), published("omg-octo", "O", "LUNG-MITO/3")
    with pytest.raises(LeakageError, match="case-across-sets"):
        a.check_pair(train, test)
    (said,) = a.check_pair(published("lung-mito", "L", "3"), published("omg-octo", "O", "3"))
    assert said.startswith("same-case-names")


def test_two_sets_of_one_name_that_hold_other_files_are_different_sets(build, tmp_path: Path):
    first, second = clean(build("phantom")), Built(tmp_path / "elsewhere", "phantom")
    for k, row in enumerate(first.rows):
        second.add(row[r.FIGURE_ID], picture(100 + k), label=row[r.LABEL], case=row[r.CASE_ID])
    assert a.check_pair(first.manifest(), second.manifest()) == []


def test_known_contamination_stops_a_test_by_table_or_by_name():
    train = published("ami-br", "MIDOG21_1", "MIDOG21/002")
    test = published("midog25-atypical", "MIDOG25_1", "MIDOG21/002")
    for check in (
        lambda allow: a.check_pair(train, test, allow),
        lambda allow: a.check_pair_names("ami-br", test, allow),
    ):
        with pytest.raises(LeakageError, match=r"1,721 .*--allow known-contamination$"):
            check(())
        (said,) = check(["known-contamination"])
        assert said.startswith("known-contamination: ")


def test_infos_are_not_said_and_the_gravest_come_first():
    findings = [Finding("no-images", "x"), Finding("wrong-mode", "y"), Finding("case-across-sets", "z")]
    assert [f.message for f in by_severity(findings)] == ["z", "y", "x"]
    assert raise_leakage(findings, ["case-across-sets"], "w") == ["case-across-sets: z", "wrong-mode: y"]


def test_an_opener_of_ones_own(build):
    def absent(manifest: Manifest, progress: Any) -> Any:
        raise AbsentError("nothing here")

    report = a.audit([clean(build("set")).manifest()], store_opener=absent)
    assert codes(report) == ["no-images"]


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
