"""What is trained on agrees with what was decided: votes, majorities and arbitrations in the exported manifest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atypia.base.errors import InputError
from atypia.data.manifest import Manifest
from atypia.data.sources.user import read_csv
from atypia.review.decisions.log import Event
from atypia.review.decisions.manifest import decision_manifest
from atypia.review.decisions.state import DecisionState
from atypia.review.decisions.words import ARBITRATED, DECIDED, DECISIONS, VOTES
from atypia.review.figures.figures import ReviewFigures
from atypia.review.figures.opening import Opening, open_figures
from atypia.review.media.slides import OpenSlides

RATERS = ("Ada", "Ben", "Cy")
DECISION = st.sampled_from([None, *DECISIONS])


@pytest.fixture(scope="module")
def voted(tmp_path_factory: pytest.TempPathFactory) -> ReviewFigures:
    """Three figures of a data set: votes that agree with the label, votes against it, and none."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("voted")
    for name in "abc":
        Image.new("RGB", (32, 32), "pink").save(folder / f"{name}.png")
    (folder / "set.csv").write_text("image,label,votes\na.png,1,1|1|0\nb.png,0,1|1|0\nc.png,1,\n")
    return open_figures(Opening((str(folder / "set.csv"),)))


def board_of(figures: ReviewFigures, said: list[tuple[str, str | None]], settled: str | None) -> DecisionState:
    """What raters said of the first figure, and what it was settled as."""
    decision_state = DecisionState(len(figures))
    events = [(rater, DECIDED, decision) for rater, decision in said if decision is not None]
    if settled is not None:
        events.append(("Ada", ARBITRATED, settled))
    for number, (rater, kind, decision) in enumerate(events, 1):
        decision_state.apply(Event(number, "t", rater, figures.id(0), kind, decision, None, None, None), 0)
    return decision_state


@given(st.tuples(*[DECISION] * len(RATERS)), DECISION, st.booleans())
@settings(max_examples=100, deadline=None)
def test_soft_label_is_on_the_side_of_the_label(
    voted: ReviewFigures, said: tuple[str | None, ...], settled: str | None, decided_only: bool
) -> None:
    decision_state = board_of(voted, list(zip(RATERS, said, strict=True)), settled)
    try:
        manifest = decision_manifest(voted, decision_state, OpenSlides(()), decided_only).manifest
    except InputError:
        assert decided_only
        return
    rows = {row["figure_id"]: row for row in manifest.table.to_pylist()}
    votes = [VOTES[decision] for decision in said if decision in VOTES]
    row = rows.get("a")
    if settled in VOTES:
        assert row is not None and (row["label"], row["soft_label"]) == (VOTES[settled], float(VOTES[settled]))
    elif row is not None and any(said):
        assert row["soft_label"] == sum(votes) / len(votes)
    if row is not None:
        assert (row["soft_label"] > 0.5) == (row["label"] == 1) and row["soft_label"] != 0.5
        own, reviewed = row["votes"][:3], row["votes"][3:]
        assert own == [1, 1, 0], "the data's own votes stay as they were"
        assert [vote for vote in reviewed if vote is not None] == votes, "and so do those of the reviewers"
        assert row["n_raters"] == 3 + len(votes)
    if not decided_only:  # what nobody decided stays as it was
        assert (rows["b"]["label"], rows["b"]["soft_label"]) == (0, 0.0)
        assert (rows["c"]["label"], rows["c"]["soft_label"]) == (1, None)


@pytest.mark.parametrize(
    ("said", "settled", "label"),
    [(("atypical", None), "normal", 0), (("atypical", "normal"), "atypical", 1), (("normal", "normal"), "atypical", 1)],
)
def test_arbitration_is_final(
    figures: ReviewFigures, reviewing: Callable, tmp_path: Path, said: tuple[str | None, ...], settled: str, label: int
) -> None:
    """From the page's API to a manifest, and through a second review of that manifest."""
    client = reviewing(figures, "Ada", "Ben")
    for rater, decision in zip(("Ada", "Ben"), said, strict=True):
        if decision is not None:
            client.decide(rater, 3, decision)
    client.post("/arbitration", {"rater": "Ben", "index": 3, "decision": settled})
    path = tmp_path / "export.parquet"
    path.write_bytes(client.http.get("/exports/manifest.parquet").content)
    first = next(row for row in Manifest.load(path).table.to_pylist() if row["figure_id"] == figures.id(3))
    assert (first["label"], first["soft_label"]) == (label, float(label))
    again = reviewing(open_figures(Opening((str(path),))), "Dan", decisions="again.sqlite")
    again.decide("Dan", 5, "normal")
    path.write_bytes(again.http.get("/exports/manifest.parquet").content)
    second = next(row for row in Manifest.load(path).table.to_pylist() if row["figure_id"] == figures.id(3))
    assert (second["label"], second["soft_label"]) == (label, float(label))
    assert second["votes"][: len(first["votes"])] == first["votes"]
    # Undone, the label is by the votes again.
    client.post("/decisions/undo", {"rater": "Ben"}, 200)
    assert client.review.intake.decision_state.settled == {}


def test_training_on_soft_labels_follows_the_arbitration(
    figures: ReviewFigures, reviewing: Callable, tmp_path: Path
) -> None:
    from atypia.data.crops.store import open_store
    from atypia.splits.protocol import make_split
    from atypia.training.parts import FoldParts
    from atypia.training.recipe import load_recipe

    client = reviewing(figures, "Ada")
    for index in range(80):
        client.decide("Ada", index, "atypical" if index % 2 else "normal")
        client.post("/arbitration", {"rater": "Ada", "index": index, "decision": "normal" if index % 2 else "atypical"})
    path = tmp_path / "export.parquet"
    path.write_bytes(client.http.get("/exports/manifest.parquet").content)
    manifest = Manifest.load(path)
    _, recipe = load_recipe(
        "full", ["backbone=tiny-cnn", "geometry.out_px=32", "loss.soft_labels=true", "augment=light"]
    )
    split = make_split("kfold", manifest, 0, folds=2)
    parts = FoldParts(manifest, open_store(manifest, recipe.geometry.build()), recipe)
    population, _ = parts.population(split.folds[0].train)
    assert population.targets.tolist() == population.labels.astype(float).tolist()


def test_a_table_whose_label_overrules_its_votes(voted: ReviewFigures) -> None:
    manifest = voted.manifest
    assert manifest is not None
    assert manifest.table["soft_label"].to_pylist() == [2 / 3, 0.0, None]
    assert any("1 label differs from the majority" in note for note in manifest.notes)
    root = manifest.root
    assert root is not None
    (root / "soft.csv").write_text("image,label,votes,soft_label\na.png,0,1|1|0,0.4\nb.png,,1|1|0,\n")
    stated = read_csv(root / "soft.csv").table
    assert stated["soft_label"].to_pylist() == [0.4, 2 / 3], "a soft label that is given stays"
    assert manifest.table["votes"].to_pylist()[1] == [1, 1, 0]


def test_training_warns_of_soft_labels_against_labels(voted: ReviewFigures) -> None:
    """As exports of earlier versions have them after an arbitration."""
    from atypia.training.networks import against_labels

    assert voted.manifest is not None
    assert against_labels(voted.manifest) == []
    rows = voted.manifest.table.to_pylist()
    for row, soft in zip(rows, (0.25, 0.0, 0.5), strict=True):
        row["soft_label"] = soft
    (warning,) = against_labels(Manifest.from_rows(rows, "old", root=voted.manifest.root))
    assert warning.startswith("1 soft labels lie on the other side")
