"""Results in the order of the input, whatever the order in which crops are read."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from atypia.inference.input_order import InOrder
from atypia.inference.results import RESULTS_SCHEMA, is_results, refusal_batch, result_batch, with_all_columns


def rows(places: list[int]) -> pa.RecordBatch:
    n = len(places)
    crops = SimpleNamespace(
        ids=[str(place) for place in places],
        images=["s"] * n,
        x_px=np.ones(n),
        y_px=np.ones(n),
        classes=["c"] * n,
        read_as=(),
    )
    verdicts = SimpleNamespace(p=np.full(n, 0.5), decision=np.ones(n, np.int8), call=["normal"] * n, novelty=np.ones(n))
    return result_batch(crops, verdicts, "m", 0.5)  # pyright: ignore[reportArgumentType]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=4), st.integers(1, 5), st.randoms(use_true_random=False))
def test_rows_come_in_order_and_each_input_is_passed_on_when_it_is_over(
    slides: list[int], size: int, random: object
) -> None:
    """Slides after each other, each in any order and in batches of any size."""
    taken: list[pa.RecordBatch] = []
    ordered = InOrder([taken.append])
    before = 0
    for count in slides:
        places = list(range(before, before + count))
        random.shuffle(places)  # pyright: ignore[reportAttributeAccessIssue]
        for start in range(0, count, size):
            part = places[start : start + size]
            ordered.add(np.array(part, np.int64), rows(part))
        before += count
        assert sum(batch.num_rows for batch in taken) == before
    ordered.finish()
    assert [figure for batch in taken for figure in batch["figure_id"].to_pylist()] == [str(n) for n in range(before)]


def test_rows_without_a_place_are_next_and_gaps_do_not_lose_rows() -> None:
    taken: list[pa.RecordBatch] = []
    ordered = InOrder([taken.append])
    ordered.add(None, rows([0, 1]))
    ordered.add(np.array([7, 5]), rows([7, 5]))
    assert len(taken) == 1
    ordered.finish()
    assert [figure for batch in taken for figure in batch["figure_id"].to_pylist()] == ["0", "1", "5", "7"]


def test_results_of_earlier_versions_are_completed() -> None:
    table = pa.Table.from_batches([rows([0])])
    earlier = table.drop_columns(["class"])
    assert is_results(table.column_names) and is_results(earlier.column_names)
    assert not is_results(earlier.column_names[1:])
    assert with_all_columns(earlier).schema.equals(RESULTS_SCHEMA)
    assert with_all_columns(earlier)["class"].to_pylist() == [None] and with_all_columns(table)[
        "class"
    ].to_pylist() == ["c"]
    assert refusal_batch([], "m", 0.5).schema.equals(RESULTS_SCHEMA)
