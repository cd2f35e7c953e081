"""The leaderboard: only predictions of exactly the set's figures, by a model that did not see them, become a row."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atypia.base.errors import DataError, InputError, LeakageError
from atypia.data.manifest import Manifest
from atypia.data.sources.opening import open_data
from atypia.evaluation.board import rows as rows_module
from atypia.evaluation.board import testsets
from atypia.evaluation.board.leakage import UNDECLARED, check_record, check_training
from atypia.evaluation.board.rows import BoardRow, add_row, read_rows, shipped_file
from atypia.evaluation.board.scores import read_scores
from atypia.evaluation.board.testsets import BOARD_SETS, BoardSet, board_figures, digest
from atypia.inference.bundles.bundle import load_bundle
from atypia.inference.classifier import find_model
from atypia.inference.predictions import predictions_table, write_predictions
from atypia.splits.protocol import make_split
from atypia.statistics.metrics import auroc, balanced_accuracy
from atypia.workflows.leaderboard import add_to_leaderboard, leaderboard_table

ABSENT = Path("no-data-here")


@pytest.fixture
def manifest(small_csv: Path) -> Manifest:
    return open_data(small_csv)


@pytest.fixture
def toy(manifest: Manifest, small_csv: Path, monkeypatch: pytest.MonkeyPatch) -> BoardSet:
    """A test set of one's own, in the place of the published ones."""
    labels = manifest.labels.tolist()
    found = BoardSet(
        str(small_csv), "Toy", len(manifest), sum(labels), None, digest(manifest.ids), digest(manifest.ids, labels),
        digest(manifest.ids, manifest.column("case_id")),
    )  # fmt: skip
    for module in (testsets, rows_module):
        monkeypatch.setattr(module, "BOARD_SETS", {"toy": found, str(small_csv): found})
    return found


@pytest.fixture
def scored(manifest: Manifest, tmp_path: Path) -> Callable[..., Path]:
    """Writes a CSV of probabilities; ``change`` gets the rows before they are written."""

    def write(change: Callable[[list[dict[str, Any]]], object] = lambda rows: None, name: str = "scored.csv") -> Path:
        rng = np.random.default_rng(1)
        of = zip(manifest.ids, manifest.labels, manifest.column("case_id"), strict=True)
        found = [
            {
                "figure_id": figure,
                "p_atypical": round(float(rng.uniform(0.3, 0.6) + 0.2 * label), 4),
                "label": label,
                "case_id": case,
            }
            for figure, label, case in of
        ]
        change(found)
        with (tmp_path / name).open("w", encoding="utf-8", newline="") as file:
            written = csv.DictWriter(file, list(found[0]))
            written.writeheader()
            written.writerows(found)
        return tmp_path / name

    return write


def reorder(rows: list[dict[str, Any]]) -> None:
    rows.reverse()


def test_a_row_has_the_metrics_of_its_file(
    toy: BoardSet, manifest: Manifest, scored: Callable[..., Path], tmp_path: Path
) -> None:
    file = tmp_path / "board.csv"
    added = add_to_leaderboard([scored(reorder)], "toy", "ours", threshold=0.55, file=file)
    of = {row["figure_id"]: float(row["p_atypical"]) for row in csv.DictReader(scored().open(encoding="utf-8"))}
    p = np.array([of[figure] for figure in manifest.ids])
    row = added.row
    assert row.auroc == pytest.approx(auroc(manifest.labels, p), abs=1e-6)
    assert row.balanced_accuracy == pytest.approx(balanced_accuracy(manifest.labels, (p >= 0.55).astype(int)), abs=1e-6)
    assert row.balanced_accuracy_low <= row.balanced_accuracy <= row.balanced_accuracy_high
    assert (row.figures, row.cases, row.intervals_over) == (len(manifest), len(set(manifest.cases)), "cases")
    assert row.trained_on == UNDECLARED and "leakage was not checked" in added.warnings[0]
    assert read_rows(file) == [row]


def test_several_files_are_several_models(toy: BoardSet, scored: Callable[..., Path], tmp_path: Path) -> None:
    def other(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row["p_atypical"] = 1 - row["p_atypical"]

    first, second = scored(name="a.csv"), scored(other, "b.csv")
    alone = [add_to_leaderboard([file], "toy", file.stem, file=tmp_path / "board.csv").row for file in (first, second)]
    both = add_to_leaderboard([first, second], "toy", "both", file=tmp_path / "board.csv").row
    assert both.auroc == pytest.approx(np.mean([row.auroc for row in alone]), abs=1e-6)
    assert both.models == 2 and len(both.predictions_sha256.split()) == 2


def test_without_the_data_labels_and_cases_of_the_file_are_proved_by_hash(
    toy: BoardSet, scored: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_data = add_to_leaderboard([scored()], "toy", "with", file=tmp_path / "board.csv").row
    monkeypatch.setattr(testsets, "board_figures", lambda *_: None)
    without = add_to_leaderboard([scored(reorder)], "toy", "without", file=tmp_path / "board.csv").row
    assert without.ends("auroc") == with_data.ends("auroc") and without.cases == with_data.cases

    def no_cases(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row["case_id"] = "one"

    told = add_to_leaderboard([scored(no_cases)], "toy", "no cases", file=tmp_path / "board.csv")
    assert told.row.intervals_over == "figures" and any("too narrow" in text for text in told.warnings)
    with pytest.raises(DataError, match=r"must be the published labels, got other ones"):
        add_to_leaderboard(
            [scored(lambda rows: rows[0].update(label=1 - rows[0]["label"]))], "toy", "x", file=tmp_path / "board.csv"
        )
    with pytest.raises(DataError, match=r"labels of Toy must be known.*data get"):
        add_to_leaderboard(
            [scored(lambda rows: [row.pop("label") for row in rows])], "toy", "x", file=tmp_path / "board.csv"
        )


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows.pop(), "exactly the .* figures of Toy"),
        (lambda rows: rows.append(rows[0]), "exactly the .* figures of Toy"),
        (lambda rows: rows[0].update(figure_id="another"), "exactly the .* figures of Toy"),
        (lambda rows: rows[1].update(p_atypical=1.2), "between 0 and 1, got 1.2"),
        (lambda rows: rows[1].update(p_atypical=-3), "between 0 and 1, got -3"),
        (lambda rows: rows[1].update(p_atypical=""), "a number for every figure, got none"),
        (lambda rows: rows[1].update(p_atypical="often"), "often"),
        (lambda rows: rows[1].update(label=2), "must be 0 or 1"),
        (lambda rows: [row.pop("p_atypical") for row in rows], "must have the columns figure_id and p_atypical"),
        (lambda rows: [row.update(threshold=0.4 + 0.1 * (i > 3)) for i, row in enumerate(rows)], "the same for all"),
    ],
)
def test_other_figures_and_values_are_refused(
    toy: BoardSet,
    manifest: Manifest,
    scored: Callable[..., Path],
    change: Callable[..., object],
    said: str,
    there: bool,
) -> None:
    with pytest.raises(DataError, match=said):
        read_scores(scored(change), toy, manifest if there else None)


def test_missing_figures_are_named(toy: BoardSet, manifest: Manifest, scored: Callable[..., Path]) -> None:
    with pytest.raises(
        DataError, match=rf"2 are missing \(first {min(manifest.ids[:2])}\), 1 are not of the set \(first zzz\)"
    ):
        read_scores(
            scored(lambda rows: rows.__setitem__(slice(0, 2), [{**rows[0], "figure_id": "zzz"}])), toy, manifest
        )


def test_crops_may_be_named_by_their_files(manifest: Manifest, scored: Callable[..., Path]) -> None:
    prefixed = [f"Set_{i}" for i in range(len(manifest))]
    found = BoardSet("x", "Toy", len(manifest), None, ids_sha256=digest(prefixed), prefix="Set_")

    def rename(rows: list[dict[str, Any]]) -> None:
        for i, row in enumerate(rows):
            row["figure_id"] = f"Normal\\{i}.png" if i % 2 else f"Atypical/{i}.png"

    assert read_scores(scored(rename), found).ids == tuple(sorted(prefixed))


def test_predictions_of_a_run_give_their_test_part_and_threshold(
    toy: BoardSet, manifest: Manifest, tmp_path: Path
) -> None:
    table = predictions_table(manifest, np.linspace(0.1, 0.9, len(manifest)), 0.3, part="test", run_id="abc")
    file = write_predictions(tmp_path / "p.parquet", table, {"bundle": "def"})
    found = read_scores(file, toy, manifest)
    assert found.threshold == 0.3 and found.models == ("def", "abc")
    validation = predictions_table(manifest, np.full(len(manifest), 0.5), 0.3, part="val")
    with pytest.raises(DataError, match="predictions of a test part"):
        read_scores(write_predictions(tmp_path / "v.parquet", validation), toy, manifest)


# Leakage ---------------------------------------------------------------------------------------


def scores_of(path: Path, board_set: BoardSet, manifest: Manifest) -> Sequence[Any]:
    return [read_scores(path, board_set, manifest)]


def test_declared_training_figures_are_compared(
    toy: BoardSet, manifest: Manifest, scored: Callable[..., Path], small_csv: Path, other_csv: Path
) -> None:
    found = scores_of(scored(), toy, manifest)
    told = check_training(toy, found, manifest, [str(other_csv)])
    assert told.declared.startswith("figures.csv (") and told.checked == "no figure, case or image file in common"
    with pytest.raises(LeakageError, match=r"is refused: .*share 80 figures"):
        check_training(toy, found, manifest, [str(small_csv)])
    with pytest.raises(InputError, match=r"neither a source nor a file|does not exist"):
        check_training(toy, found, manifest, ["nothing/at/all"])


def test_without_the_data_ids_and_cases_are_compared(
    toy: BoardSet, manifest: Manifest, scored: Callable[..., Path], small_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = scores_of(scored(), toy, manifest)
    with pytest.raises(LeakageError, match="8 cases of the test set are in"):
        check_training(toy, found, None, [str(small_csv)])


def test_a_training_that_holds_the_set_out_is_accepted(
    toy: BoardSet, manifest: Manifest, scored: Callable[..., Path], trained_folder: Path
) -> None:
    found = scores_of(scored(), toy, manifest)
    with pytest.raises(LeakageError, match="of a model that was trained on"):
        check_training(toy, found, manifest, [str(trained_folder)])


def test_published_sources_are_compared_by_name(scored: Callable[..., Path], manifest: Manifest, toy: BoardSet) -> None:
    found, hold_out = scores_of(scored(), toy, manifest), BOARD_SETS["ami-br"]
    told = check_training(hold_out, found, None, ["ami-br:train"], root=ABSENT)
    assert told.checked == "by the names of the sets alone"
    for reference in ("ami-br", "ami-br:test", "midog25-atypical", "atnorm-br+ami-br"):
        with pytest.raises(LeakageError, match="a row on AMi-Br"):
            check_training(hold_out, found, None, [reference], root=ABSENT)


@pytest.mark.parametrize(("model", "on", "held"), [
    ("atypia", "ami-br", True), ("atypia", "atnorm-br", True), ("atypia-amibr", "ami-br", False), ("atypia-amibr", "atnorm-br", False)
])  # fmt: skip
def test_a_shipped_model_is_known_by_name_and_fingerprint(
    scored: Callable[..., Path], manifest: Manifest, toy: BoardSet, tmp_path: Path, model: str, on: str, held: bool
) -> None:
    by_name = scored(lambda rows: [row.update(model=model) for row in rows])
    table = predictions_table(manifest, np.full(len(manifest), 0.5), 0.3)
    facts = {"bundle": load_bundle(find_model(model)).fingerprint}
    by_fingerprint = write_predictions(tmp_path / "p.parquet", table, facts)
    for file, named in ((by_name, None), (by_fingerprint, None), (scored(name="plain.csv"), model)):
        found = scores_of(file, toy, manifest)
        if held:
            with pytest.raises(LeakageError, match=f"a row of {model} on .* is refused"):
                check_training(BOARD_SETS[on], found, None, model=named)
        else:
            assert "protocol" in check_training(BOARD_SETS[on], found, None, model=named).declared


@pytest.mark.parametrize(
    ("parts", "held"), [({}, True), ({"ami-br": ["train"]}, False), ({"ami-br": ["test", "train"]}, True)]
)
def test_the_parts_that_a_bundle_records_decide(parts: dict[str, list[str]], held: bool) -> None:
    training = {"data": "ami-br", "protocol": "lodo", "parts": parts}
    if held:
        with pytest.raises(LeakageError, match="was among its training figures"):
            check_record(BOARD_SETS["ami-br"], "mine", training)
    else:
        assert check_record(BOARD_SETS["ami-br"], "mine", training) == "ami-br (part train of ami-br, protocol lodo)"
    assert check_record(BOARD_SETS["atnorm-br"], "mine", training).startswith("ami-br (")


@pytest.mark.parametrize("key", ["adapted", "calibrated"])
def test_what_a_bundle_was_fitted_to_later_decides_too(key: str) -> None:
    training = {"data": "ami-br", "protocol": "lodo", "parts": {"ami-br": ["train"]}}
    later = {**training, key: {"data": "atnorm-br", "data_fingerprint": "0" * 32}}
    assert check_record(BOARD_SETS["atnorm-br"], "mine", training)
    with pytest.raises(LeakageError, match=f"it was {key} by figures of atnorm-br"):
        check_record(BOARD_SETS["atnorm-br"], "mine", later)
    own = {**training, key: {"data": "mine", "data_fingerprint": "0" * 32}}
    assert check_record(BOARD_SETS["atnorm-br"], "mine", own).endswith(f"protocol lodo); {key} by mine")


def test_leakage_that_a_file_admits_is_refused(toy: BoardSet, manifest: Manifest, tmp_path: Path) -> None:
    table = predictions_table(manifest, np.full(len(manifest), 0.5), 0.3)
    admitted = {"warnings": ["case-across-sets: 3 cases"]}
    found = scores_of(write_predictions(tmp_path / "p.parquet", table, admitted), toy, manifest)
    with pytest.raises(LeakageError, match="says of itself: case-across-sets: 3 cases"):
        check_training(toy, found, manifest)
    harmless = {"warnings": ["identical-within-set: 2 crops"]}
    found = scores_of(write_predictions(tmp_path / "q.parquet", table, harmless), toy, manifest)
    assert check_training(toy, found, manifest).declared == UNDECLARED


# The file --------------------------------------------------------------------------------------


def test_names_are_unique_and_rows_can_be_replaced(toy: BoardSet, scored: Callable[..., Path], tmp_path: Path) -> None:
    file = tmp_path / "new" / "board.csv"
    add_to_leaderboard([scored()], "toy", "=1+1", file=file)
    with pytest.raises(InputError, match=r"has a row '=1\+1' on .*--replace"):
        add_to_leaderboard([scored()], "toy", "=1+1", file=file)
    add_to_leaderboard([scored()], "toy", "=1+1", threshold=0.4, replace=True, file=file)
    (row,) = read_rows(file)
    assert row.name == "=1+1" and row.threshold == 0.4
    assert "'=1+1" in file.read_text("utf-8")


def test_damaged_files_are_refused(toy: BoardSet, tmp_path: Path) -> None:
    assert read_rows(tmp_path / "absent.csv") == []
    (tmp_path / "other.csv").write_text("a,b\n1,2\n", "utf-8")
    with pytest.raises(DataError, match="a leaderboard's file"):
        read_rows(tmp_path / "other.csv")
    text = shipped_file().read_text("utf-8").splitlines()
    (tmp_path / "half.csv").write_text("\n".join([text[0], text[1].rpartition(",")[0].replace("826", "many")]), "utf-8")
    with pytest.raises(DataError, match="line 2"):
        read_rows(tmp_path / "half.csv")


def test_hidden_sets_take_no_rows(scored: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="not public"):
        add_to_leaderboard([scored()], "midog25-final", "x")
    with pytest.raises(InputError, match="unknown test set 'nothing'"):
        add_to_leaderboard([scored()], "nothing", "x")


# What ships ------------------------------------------------------------------------------------


def test_the_rows_that_ship_are_of_the_model_that_ships() -> None:
    bundle = load_bundle(find_model("atypia-amibr"))
    own = [row for row in read_rows(shipped_file()) if row.name == "atypia-amibr"]
    assert {row.test_set for row in own} == {"ami-br", "atnorm-br"}
    for row in own:
        assert row.bundle.startswith(bundle.fingerprint), "fix: python tools/model_report.py --model atypia-amibr"
        assert (row.figures, row.atypical) == (BOARD_SETS[row.test_set].figures, BOARD_SETS[row.test_set].atypical)


def test_tables_are_ordered_and_have_every_kind_of_row() -> None:
    table = leaderboard_table("ami-br", "auroc", own=False)
    kinds = [str(row[1]) for row in table.rows]
    assert {"checked", "rater", "published"} == set(kinds)
    shown = [str(row[3]) for row in table.rows]
    numbers = [float(text.split()[0]) for text in shown if text]
    assert numbers == sorted(numbers, reverse=True) and not any(shown[len(numbers) :])
    assert [row[1] for row in leaderboard_table("midog25-final", own=False).rows] == ["published"]
    with pytest.raises(InputError, match="balanced_accuracy or auroc"):
        leaderboard_table("ami-br", "accuracy")


@pytest.mark.real
def test_hashes_are_those_of_the_published_data(real_root: Path) -> None:
    for name in ("ami-br", "atnorm-br"):
        found = board_figures(BOARD_SETS[name], real_root)
        assert found is not None
        assert digest(found.ids) == BOARD_SETS[name].ids_sha256
    hold_out = board_figures(BOARD_SETS["ami-br"], real_root)
    assert hold_out is not None
    assert digest(hold_out.ids, hold_out.column("case_id")) == BOARD_SETS["ami-br"].cases_sha256
    for protocol in BOARD_SETS["ami-br"].disjoint:
        for fold in make_split(protocol, open_data("ami-br", real_root)).folds:
            assert not set(hold_out.ids) & {*fold.train, *fold.val}


def test_undefined_ends_survive_the_file(toy: BoardSet, tmp_path: Path) -> None:
    row = read_rows_of_rater()
    add_row(tmp_path / "board.csv", row)
    (read,) = read_rows(tmp_path / "board.csv")
    assert math.isnan(read.auroc) and read.sensitivity == row.sensitivity


def read_rows_of_rater() -> BoardRow:
    values = {
        name: 0.5 for name in BoardRow.__dataclass_fields__ if BoardRow.__dataclass_fields__[name].type == "float"
    }
    texts = {name: "" for name in BoardRow.__dataclass_fields__ if BoardRow.__dataclass_fields__[name].type == "str"}
    counts = {name: 1 for name in BoardRow.__dataclass_fields__ if BoardRow.__dataclass_fields__[name].type == "int"}
    return BoardRow(**{**values, **texts, **counts, "test_set": "toy", "name": "rater 1", "auroc": math.nan})
