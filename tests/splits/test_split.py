"""Split files: what is written is read back, and what was changed is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from atypia.base.errors import DataError, InputError
from atypia.splits.protocol import make_split
from atypia.splits.split import Fold, Split, count_positives


@pytest.fixture
def split(fabricated):
    return make_split("official", fabricated, 3, folds=4)


def edited(path, change):
    content = json.loads(path.read_text("utf-8"))
    change(content)
    path.write_text(json.dumps(content), "utf-8")
    return path


def test_a_split_is_read_back_as_it_was(split, fabricated, tmp_path):
    path = split.save(tmp_path / "deep" / "split.json")
    loaded = Split.load(path)
    assert loaded == split
    assert loaded.fingerprint == split.fingerprint
    assert loaded.for_manifest(fabricated) is loaded
    assert loaded.params == {"folds": 4, "balance_domains": True}
    assert [p.name for p in path.parent.iterdir()] == ["split.json"]


def test_the_file_tells_a_person_what_is_in_it(split, fabricated, tmp_path):
    content = json.loads(split.save(tmp_path / "s.json").read_text("utf-8"))
    labels = dict(zip(fabricated.ids, fabricated.labels.tolist(), strict=True))
    first = content["folds"][0]
    assert first["counts"]["train"] == {
        "figures": len(first["train"]),
        "positives": sum(labels[i] for i in first["train"]),
    }
    assert first["counts"]["test"]["positives"] == sum(labels[i] for i in first["test"])
    assert content["manifest"] == fabricated.fingerprint
    assert first["train"] == sorted(first["train"])


def test_one_fold_of_a_split_is_a_split(split, fabricated, tmp_path):
    one = replace(split, folds=split.folds[1:2])
    loaded = Split.load(one.save(tmp_path / "s.json"))
    loaded.check_manifest(fabricated)
    assert loaded.folds == split.folds[1:2]
    assert loaded.fingerprint != split.fingerprint


def test_the_fingerprint_follows_what_decides_a_training(split):
    fold = split.folds[0]
    moved = replace(fold, train=fold.train[1:], val=(*fold.val, fold.train[0]))
    for other in (
        replace(split, seed=4),
        replace(split, protocol="kfold"),
        replace(split, params={}),
        replace(split, manifest="0" * 32),
        replace(split, folds=(moved, *split.folds[1:])),
    ):
        assert other.fingerprint != split.fingerprint
    assert replace(split, warnings=("another",), positives={}).fingerprint == split.fingerprint


def test_another_manifest_is_refused(split, fabricated, make):
    other = make(seed=1)
    with pytest.raises(
        DataError, match=r"`split` must be one of the manifest fabricated .* got .*; fix: make a new split"
    ):
        split.check_manifest(other)
    with pytest.raises(DataError, match="another manifest"):
        split.for_manifest(fabricated.take(range(10)))


def test_counts_that_disagree_are_refused(split, fabricated, tmp_path):
    path = split.save(tmp_path / "s.json")

    def fewer(content):
        content["folds"][0]["counts"]["val"]["figures"] -= 1

    with pytest.raises(DataError, match=r"fold-1, val` must be \d+ figures, got \d+; fix"):
        Split.load(edited(path, fewer))

    wrong = replace(split, positives={**split.positives, "fold-2": (0, 0, 0)})
    loaded = Split.load(wrong.save(tmp_path / "w.json"))
    with pytest.raises(DataError, match=r"`positives of fold-2` must be \(\d+, \d+, \d+\).*got \(0, 0, 0\)"):
        loaded.check_manifest(fabricated)


def test_a_changed_file_is_refused(split, tmp_path):
    def swap(content):
        fold = content["folds"][0]
        fold["train"][0], fold["val"][0] = fold["val"][0], fold["train"][0]

    with pytest.raises(DataError, match="was changed after it was written; fix"):
        Split.load(edited(split.save(tmp_path / "s.json"), swap))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "something else"}', '{"a": NaN}'])
def test_what_is_no_split_is_refused(text, tmp_path):
    path = tmp_path / "s.json"
    path.write_text(text, "utf-8")
    with pytest.raises(DataError, match=r"s\.json.*; fix: "):
        Split.load(path)


def test_an_absent_file_and_unknown_keys_are_refused(split, tmp_path):
    with pytest.raises(DataError, match="does not exist; fix"):
        Split.load(tmp_path / "none.json")
    path = edited(split.save(tmp_path / "s.json"), lambda content: content.update(extra=1))
    with pytest.raises(InputError, match="`extra` is not a known key"):
        Split.load(path)


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a b", "x" * 121, "a\n"])
def test_a_fold_that_could_not_name_a_folder_is_refused(name):
    with pytest.raises(InputError, match="`fold` must be a name of at most 120"):
        Split("kfold", {}, 0, "m", (Fold(name, ("a",), ("b",)),))


def test_no_fold_and_two_of_a_name_are_refused():
    with pytest.raises(InputError, match="`folds` must be at least one fold"):
        Split("kfold", {}, 0, "m", ())
    fold = Fold("a", ("a",), ("b",))
    with pytest.raises(InputError, match="different names, got 'a' twice"):
        Split("kfold", {}, 0, "m", (fold, fold))


def test_positives_are_counted_by_label(fabricated):
    ids = fabricated.ids
    labels = fabricated.labels
    fold = Fold("a", tuple(ids[:20]), tuple(ids[20:50]), ())
    assert count_positives((fold,), fabricated) == {"a": (labels[:20].sum(), labels[20:50].sum(), 0)}
