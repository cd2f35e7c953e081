"""Progress: anything callable will do."""

from __future__ import annotations

from atypia.base.process.progress import Progress, silent


def work(progress: Progress) -> None:
    for done in (1, 2):
        progress(done, 2, "crops decoded")


def test_a_list_and_silence_are_progress() -> None:
    said: list[tuple[int, int, str]] = []
    work(lambda done, total, what: said.append((done, total, what)))
    assert said == [(1, 2, "crops decoded"), (2, 2, "crops decoded")]
    assert work(silent) is None
