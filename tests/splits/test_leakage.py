"""Leakage raises, names the exception, and is a warning once that is named."""

from __future__ import annotations

import pytest

from atypia.base import records as r
from atypia.base.errors import LeakageError
from atypia.data.audit.findings import CODES, ERROR
from atypia.data.manifest import Manifest
from atypia.splits.leakage import CASE_ACROSS_PARTS, IDENTICAL_ACROSS_PARTS, check_split, find_leakage
from atypia.splits.split import Fold, Split


def manifest(**columns):
    """Figures a1 a2 a3 b1 b2 c1 d1 of cases a to d."""
    rows = [
        {
            r.FIGURE_ID: figure,
            r.DATASET: "d",
            r.IMAGE: f"{figure}.png",
            r.CASE_ID: figure[0],
            r.LABEL: int(figure[1] == "1"),
            **columns,
        }
        for figure in ("a1", "a2", "a3", "b1", "b2", "c1", "d1")
    ]
    return Manifest.from_rows(rows, "hand-made")


def split(*folds: tuple[str, str, str], of: Manifest | None = None) -> Split:
    made = tuple(Fold(f"fold-{i + 1}", *(tuple(part.split()) for part in fold)) for i, fold in enumerate(folds))
    return Split("by-hand", {}, 0, (of or manifest()).fingerprint, made)


def test_a_clean_split_gives_no_warnings():
    assert check_split(split(("a1 a2 a3", "b1 b2", "c1 d1"), ("b1 b2", "a1 a2 a3", "")), manifest()) == []


@pytest.mark.parametrize(
    ("fold", "sides"),
    [
        (("a1 b1", "a2 a3", "c1"), ("train", "val")),
        (("a1 b1", "c1", "a2 a3"), ("train", "test")),
        (("b1 b2", "a1", "a2 a3"), ("val", "test")),
    ],
)
def test_a_case_on_two_sides_raises_and_can_be_allowed(fold, sides):
    leaking = split(("a1", "b1", "c1"), fold)
    with pytest.raises(LeakageError, match=f"both {sides[0]} and {sides[1]} of fold-2.*'a'.*--allow case-across-parts"):
        check_split(leaking, manifest())
    warnings = check_split(leaking, manifest(), allow=["another-code", CASE_ACROSS_PARTS])
    assert len(warnings) == 1
    assert warnings[0].startswith("allowed leakage (case-across-parts): up to 1 case in both")
    (finding,) = find_leakage(leaking, manifest())
    assert (finding.sides, finding.folds, finding.shared, finding.figures) == (sides, ("fold-2",), 1, 2)


def test_the_worst_fold_is_counted():
    leaking = split(("a1", "a2", ""), ("a1 b1", "a2 a3 b2 c1", ""))
    (finding,) = find_leakage(leaking, manifest())
    assert (finding.folds, finding.shared, finding.figures, finding.of) == (("fold-1", "fold-2"), 2, 3, 4)
    assert "2 cases in both train and val of 2 folds, first fold-1; 3 of 4 val figures" in finding.text()


def test_another_exception_does_not_help():
    leaking = split(("a1", "a2", ""))
    with pytest.raises(LeakageError, match="case-across-parts"):
        check_split(leaking, manifest(), allow=[IDENTICAL_ACROSS_PARTS])


def test_unknown_cases_are_grouped_by_slide_or_stand_alone():
    parts = split(("a1", "a2", ""))
    assert check_split(parts, manifest(**{r.CASE_ID: None})) == []
    with pytest.raises(LeakageError, match="slide:s"):
        check_split(parts, manifest(**{r.CASE_ID: None, r.SLIDE_ID: "s"}))


def test_figures_placed_twice_or_unknown_cannot_be_allowed():
    everything = [CASE_ACROSS_PARTS, IDENTICAL_ACROSS_PARTS]
    with pytest.raises(LeakageError, match=r"1 figure placed twice, first 'a1' in train and test.*cannot be allowed"):
        check_split(split(("a1 a2", "b1", "a1")), manifest(), allow=everything)
    with pytest.raises(LeakageError, match="placed twice, first 'b1' in val and val"):
        check_split(split(("a1 a2", "b1 b1", "")), manifest(), allow=everything)
    with pytest.raises(LeakageError, match="1 unknown figure, first 'x9'; fix: make a new split"):
        check_split(split(("a1 a2", "x9", "")), manifest(), allow=everything)


def test_identical_images_on_two_sides_raise():
    parts = split(("a1 a2 a3", "b1 b2", "c1"))
    groups = [["a1", "c1", "not here"], ["b1", "b2"], ["d1", "elsewhere"]]
    with pytest.raises(LeakageError, match=r"1 image in both train and test of fold-1.*'a1'.*identical-across-parts"):
        check_split(parts, manifest(), groups=groups)
    assert len(check_split(parts, manifest(), [IDENTICAL_ACROSS_PARTS], groups)) == 1
    assert check_split(parts, manifest(), groups=[["a1", "a3"], ["b1", "b2"]]) == []


def test_both_kinds_are_named_at_once():
    with pytest.raises(LeakageError, match="--allow case-across-parts --allow identical-across-parts"):
        check_split(split(("a1", "a2", "")), manifest(), groups=[["a1", "a2"]])


def test_exceptions_bear_the_codes_of_the_audit():
    for code in (CASE_ACROSS_PARTS, IDENTICAL_ACROSS_PARTS):
        assert CODES[code][0] == ERROR
