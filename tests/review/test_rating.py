"""From a draw to a rated set: figures without labels, blinded votes of five raters, a manifest with their majority."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atypia.base.errors import InputError
from atypia.data.manifest import Manifest
from atypia.data.rating import HIDDEN, draw_for_rating
from atypia.review.figures.opening import Opening, open_figures
from atypia.workflows.data import sample_data

TUMOURS = ("lymphoma", "melanoma", "breast cancer")


def rows(count: int = 60) -> list[dict[str, Any]]:
    return [
        {"figure_id": f"f{i:02d}", "dataset": "mine", "image": f"{i % 4}.png", "label": int(i % 5 == 0), "votes": [1, 0, 0],
         "part": "train", "case_id": f"c{i % 12}", "tumour": TUMOURS[i % 3]}
        for i in range(count)
    ]  # fmt: skip


def test_a_draw_is_random_alike_by_group_and_without_labels() -> None:
    manifest = Manifest.from_rows(rows(), "mine")
    drawn = draw_for_rating(manifest, 7, by="tumour", without=[("tumour", "breast cancer")], seed=3)
    table = drawn.manifest.table
    assert Counter(table["tumour"].to_pylist()) == {"lymphoma": 7, "melanoma": 7}
    assert all(table[column].null_count == 14 for column in HIDDEN)
    assert len(set(drawn.manifest.ids)) == 14 and drawn.manifest.ids != sorted(drawn.manifest.ids)
    assert "7 by tumour, seed 3" in drawn.manifest.notes[-1]
    # Rows in another order give the same draw, another seed another one.
    turned = Manifest.from_rows(rows()[::-1], "mine")
    assert draw_for_rating(turned, 7, "tumour", (), [("tumour", "breast cancer")], 3).manifest.ids == drawn.manifest.ids
    assert set(draw_for_rating(manifest, 7, "tumour", seed=4).manifest.ids) != set(
        draw_for_rating(manifest, 7, "tumour", seed=3).manifest.ids
    )


def test_look_alikes_are_not_drawn_and_a_small_group_is_told() -> None:
    manifest = Manifest.from_rows(rows(), "mine", task="mitosis")
    drawn = draw_for_rating(manifest, 5, by="tumour", only=[("tumour", "melanoma"), ("tumour", "lymphoma")])
    mitoses = {row["figure_id"] for row in rows() if row["label"] == 1}
    assert set(drawn.manifest.ids) <= mitoses and drawn.manifest.task == "atypical"
    assert drawn.counts == {"lymphoma": (4, 4), "melanoma": (4, 4)}
    assert drawn.warnings == ("lymphoma: all 4 figures, 5 were asked for", "melanoma: all 4 figures, 5 were asked for")


@pytest.mark.parametrize(
    ("options", "words"),
    [({"by": "colour"}, "`column` must be one of domain, scanner"), ({"only": [("tumour", "brest")]}, "one that figures have"),
     ({"by": "scanner"}, "`figures to draw from` must be at least one, got none")],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        draw_for_rating(Manifest.from_rows(rows(), "mine"), 3, **options)


def test_a_draw_of_figures_whose_images_are_not_here_says_so(tmp_path: Path) -> None:
    Manifest.from_rows(rows(), "mine").save(tmp_path / "labels.parquet")
    drawn = sample_data(str(tmp_path / "labels.parquet"), tmp_path / "figures.parquet", 3, by="tumour")
    (said,) = drawn.warnings
    assert said.startswith("the images of ") and "nobody can rate these figures yet; fix: bring the images" in said


def test_five_raters_votes_become_a_manifest(small_csv: Path, reviewing: Callable[..., Any], tmp_path: Path) -> None:
    drawn = sample_data(str(small_csv), tmp_path / "rated" / "figures.parquet", 3, by="scanner")
    assert drawn.figures == len(Manifest.load(drawn.file)) >= 3
    with pytest.raises(InputError, match="a new file"):
        sample_data(str(small_csv), drawn.file, 3, by="scanner")
    raters = ("Ada", "Bo", "Cy", "Di", "Ed")
    client = reviewing(open_figures(Opening((str(drawn.file),))), *raters)
    shown = client.get("/figures?blind=true&rater=Ada")
    assert not any(name in str(shown) for name in Manifest.load(drawn.file).ids)
    for rater, vote in zip(raters, ("atypical", "atypical", "atypical", "normal", "normal"), strict=True):
        client.decide(rater, 0, vote, blind=True)
    for rater, vote in zip(raters, ("normal", "normal", "unsure", "normal", "atypical"), strict=True):
        client.decide(rater, 1, vote, blind=True)
    answer = client.http.get("/exports/manifest.parquet?decided=true")
    file = tmp_path / "rated.parquet"
    file.write_bytes(answer.content)
    rated = Manifest.load(file)
    by_id = {row["figure_id"]: row for row in rated.table.to_pylist()}
    first, second = (by_id[client.review.figures.id(index)] for index in (0, 1))
    assert len(rated) == 2 and rated.task == "atypical"
    assert (first["label"], first["soft_label"], first["votes"]) == (1, 0.6, [1, 1, 1, 0, 0])
    assert (second["label"], second["soft_label"], second["votes"]) == (0, 0.25, [0, 0, None, 0, 1])
    assert second["n_raters"] == 4
