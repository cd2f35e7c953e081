"""What a training and a test ask of the audit: conflicts, shared cases and crops, and named exceptions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atypia.base import records as r
from atypia.base.errors import AbsentError, LeakageError
from atypia.data.audit import report as a
from atypia.data.audit.duplicates import Pixels
from atypia.data.audit.findings import AuditFinding, by_severity, raise_leakage
from atypia.data.manifest import Manifest

from .auditing import Built, clean, codes, picture


def test_training_on_conflicting_labels_is_refused_unless_named(build):
    built = clean(build("set"))
    built.add("copy", picture(0), label=1, case="set-case-0")
    manifest = built.manifest()
    store = a.open_audit_store(manifest)
    for given in (None, store):
        with pytest.raises(
            LeakageError, match=r"training on set is refused: .*to continue anyway: --allow conflicting-labels$"
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
    findings = [AuditFinding("no-images", "x"), AuditFinding("wrong-mode", "y"), AuditFinding("case-across-sets", "z")]
    assert [f.message for f in by_severity(findings)] == ["z", "y", "x"]
    assert raise_leakage(findings, ["case-across-sets"], "w") == ["case-across-sets: z", "wrong-mode: y"]


def test_an_opener_of_ones_own(build):
    def absent(manifest: Manifest, progress: Any) -> Any:
        raise AbsentError("nothing here")

    report = a.audit([clean(build("set")).manifest()], store_opener=absent)
    assert codes(report) == ["no-images"]
