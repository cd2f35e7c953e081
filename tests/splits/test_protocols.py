"""Every protocol of the registry, and what each promises beyond that."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atypia.base import records as r
from atypia.base.errors import InputError
from atypia.data.manifest import Manifest
from atypia.splits.catalogue import PROTOCOLS
from atypia.splits.leakage import CASE_ACROSS_PARTS, check_split
from atypia.splits.protocol import make_split
from atypia.splits.split import Split

from .dividing import assert_grouped, divided

LEAKING = [name for name, protocol in PROTOCOLS.items() if protocol.caveat]
GROUPED = [name for name in PROTOCOLS if name not in LEAKING]
DOCS = Path(__file__).parents[2] / "docs" / "protocols.md"


def test_the_protocols_of_the_plan_are_there():
    assert set(PROTOCOLS) >= {
        "official",
        "kfold",
        "lodo",
        "monte-carlo",
        "cross-domain",
        "pooled-95-5",
        "holdout-75-25",
        "banerjee",
        "ammeling-as-published",
        "giedziun-as-published",
    }


@pytest.mark.parametrize("name", PROTOCOLS)
def test_entries_are_complete_and_documented(name):
    protocol = PROTOCOLS[name]
    assert protocol.name == name
    for text in (protocol.summary, protocol.source, protocol.leakage):
        assert len(text) > 5
    row = next((line for line in DOCS.read_text("utf-8").splitlines() if line.startswith(f"| `{name}` |")), None)
    assert row is not None, f"docs/protocols.md has no row for {name}"
    for option in protocol.options.model_fields:
        assert f"`{option}`" in row, f"docs/protocols.md does not name {name}'s option {option}"


@pytest.mark.parametrize("task", r.CLASS_NAMES)
@pytest.mark.parametrize("name", GROUPED)
def test_no_case_is_on_two_sides(name, task, make):
    manifest = make(task=task)
    split = divided(name, manifest)
    assert_grouped(split, manifest)
    assert check_split(split, manifest) == []
    assert split.warnings == ()


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**31), data_seed=st.integers(0, 100), mean_size=st.floats(1, 20))
@pytest.mark.parametrize("name", GROUPED)
def test_no_case_is_on_two_sides_whatever_the_data(name, seed, data_seed, mean_size):
    manifest = random_manifest(data_seed, mean_size)
    try:
        split = divided(name, manifest, seed)
    except InputError as error:
        assert "; fix: " in str(error)  # too little data is refused, with the remedy
        return
    assert_grouped(split, manifest)
    assert check_split(split, manifest) == []


def random_manifest(seed: int, mean_size: float) -> Manifest:
    rng = np.random.default_rng(seed)
    rows = [
        {
            r.FIGURE_ID: f"{case}-{number}",
            r.DATASET: "random",
            r.IMAGE: "x.png",
            r.CASE_ID: f"{case}",
            r.SLIDE_ID: f"{case}",
            r.PART: "test" if case % 5 == 0 else "train",
            r.LABEL: int(rng.random() < 0.4),
            # Some cases were scanned twice: the parts of a domain protocol must not divide them.
            r.SCANNER: "AB"[int(rng.random() < 0.5)] if case % 7 == 0 else "ABC"[case % 3],
        }
        for case in range(20)
        for number in range(1 + rng.poisson(mean_size))
    ]
    return Manifest.from_rows(rows, "random")


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_same_seed_gives_the_same_split_in_any_order_of_rows(name, fabricated):
    first, again = divided(name, fabricated, 5), divided(name, fabricated, 5)
    assert first == again
    turned = fabricated.take(np.random.default_rng(9).permutation(len(fabricated)))
    other = divided(name, turned, 5)
    if name.startswith("ammeling-"):  # these draw by row number, as published
        assert other.folds != first.folds
    else:
        assert other.folds == first.folds


@pytest.mark.parametrize("name", PROTOCOLS)
def test_another_seed_gives_another_split_unless_it_is_published(name, fabricated):
    first, other = divided(name, fabricated, 0), divided(name, fabricated, 1)
    fixed = PROTOCOLS[name].fixed_seed is not None
    drawn = PROTOCOLS[name].validated  # without a validation part there is nothing to draw
    assert (first.folds == other.folds) == (fixed or not drawn)
    assert (first.seed, other.seed) == ((PROTOCOLS[name].fixed_seed,) * 2 if fixed else (0, 1))


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_split_survives_its_file(name, fabricated, tmp_path):
    split = divided(name, fabricated)
    assert Split.load(split.save(tmp_path / "s.json")).for_manifest(fabricated) == split


@pytest.mark.parametrize("name", LEAKING)
def test_published_leakage_is_in_the_warnings(name, fabricated):
    split = divided(name, fabricated)
    assert any("as published" in warning and CASE_ACROSS_PARTS in warning for warning in split.warnings)
    assert any(re.search(r"leakage \(case-across-parts\): up to \d+ cases", warning) for warning in split.warnings)
    with pytest.raises(InputError, match="--allow case-across-parts"):
        check_split(split, fabricated)
    assert check_split(split, fabricated, allow=[CASE_ACROSS_PARTS])


@pytest.mark.parametrize("name", PROTOCOLS)
def test_unknown_options_and_one_class_are_refused(name, fabricated, make):
    with pytest.raises(InputError, match=rf"protocol {name} is not valid:\n  `fold` is not a known key"):
        make_split(name, fabricated, fold=3)
    with pytest.raises(InputError, match=r"`label of fabricated` must be both classes.*got \d+ normal and 0 atypical"):
        divided(name, make(**{r.LABEL: 0}))
    with pytest.raises(InputError, match="`seed` must be 0 or a positive integer, got -1"):
        divided(name, fabricated, -1)


def test_an_unknown_protocol_lists_the_choices(fabricated):
    with pytest.raises(InputError, match="unknown protocol 'oficial'; did you mean 'official'"):
        make_split("oficial", fabricated)


def test_figures_without_label_are_left_out_and_counted(make):
    manifest = make()
    rows = manifest.table.to_pylist()
    for row in rows[:7]:
        row[r.LABEL] = None
        row[r.SOFT_LABEL] = 0.5
    partly = Manifest.from_rows(rows, "partly")
    split = make_split("kfold", partly)
    placed = {figure for fold in split.folds for figure in (*fold.train, *fold.val)}
    assert placed == {row[r.FIGURE_ID] for row in rows[7:]}
    assert split.warnings == ("7 figures without a label were left out of the split",)


def test_unknown_cases_are_warned_of(make):
    manifest = make(**{r.CASE_ID: None, r.SLIDE_ID: None})
    split = make_split("kfold", manifest)
    n = len(manifest)
    assert split.warnings == (
        f"{n} of {n} figures have no known case or slide: each counts as a case of its own, "
        "so leakage between them cannot be seen",
    )
    slides = make(**{r.CASE_ID: None})
    split = make_split("kfold", slides)
    slide_of = dict(zip(slides.ids, slides.table[r.SLIDE_ID].to_pylist(), strict=True))
    assert not split.warnings
    for fold in split.folds:
        assert not {slide_of[i] for i in fold.train} & {slide_of[i] for i in fold.val}
