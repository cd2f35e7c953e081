"""Damaged decisions files: recognised when they are opened, never a traceback, and copied as far as they can be read."""

from __future__ import annotations

import random
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path

import pytest
from typer.testing import CliRunner

from atypia.base.errors import AtypiaError, InputError, WorkError
from atypia.review.decisions.intake import DecisionIntake
from atypia.review.decisions.log import DamagedError, file_events
from atypia.review.decisions.rescue import rescue
from atypia.review.decisions.sqlite_recovery import log_fault, recovered_rows
from atypia.review.figures.figures import ReviewFigures

DAMAGES = 50
LONG = "ä note longer than a page of the file " * 50


def fill(intake: DecisionIntake) -> None:
    """Two raters, notes of every length, undoings, an arbitration and an import."""
    for rater in ("Ada", "Bén"):
        intake.join(rater)
        for index in range(80):
            intake.decide(rater, index, ("atypical", "normal", "unsure")[index % 3], LONG if index % 7 == 0 else None)
            if index % 10 == 9:
                intake.undo(rater)
    intake.decide("Ada", 3, "not-mitosis", arbitrate=True)
    intake.take_over("Cy", [(intake.figures.id(index), "normal", "from elsewhere", None) for index in range(80)])


@pytest.fixture
def whole(figures: ReviewFigures, tmp_path: Path) -> Path:
    """A decisions file of some 260 events, closed."""
    path = tmp_path / "whole.sqlite"
    intake = DecisionIntake(path, figures)
    fill(intake)
    intake.close()
    return path


def damages(data: bytes, count: int) -> Iterator[bytes]:
    """The same file with flipped bits, zeroed and overwritten stretches, lost ends and shifted middles; seeded."""
    rng = random.Random(15)
    for number in range(count):
        changed = bytearray(data)
        at, length = rng.randrange(len(data)), rng.randrange(1, 6000)
        if number % 5 == 0:
            changed[at] ^= 1 << rng.randrange(8)
        elif number % 5 == 1:
            changed[at : at + length] = bytes(len(changed[at : at + length]))
        elif number % 5 == 2:
            changed[at : at + length] = rng.randbytes(len(changed[at : at + length]))
        elif number % 5 == 3:
            del changed[at:]
        else:
            del changed[at : at + length]
        yield bytes(changed)


def test_a_whole_file_is_copied_whole(whole: Path, figures: ReviewFigures, tmp_path: Path) -> None:
    before = file_events(whole)
    found = rescue(whole, tmp_path / "new.sqlite")
    assert (found.events, found.raters, found.lost, found.undone) == (len(before), 3, 0, 0)
    assert file_events(tmp_path / "new.sqlite") == before
    one, other = DecisionIntake(whole, figures), DecisionIntake(tmp_path / "new.sqlite", figures)
    assert one.decision_log.raters() == other.decision_log.raters() == ["Ada", "Bén", "Cy"]
    assert one.decision_state.settled == other.decision_state.settled == {3: "not-mitosis"}
    for rater in one.decision_state.raters:
        assert one.decision_state.codes(rater).tolist() == other.decision_state.codes(rater).tolist()
        assert [one.decision_state.note(rater, i) for i in range(80)] == [
            other.decision_state.note(rater, i) for i in range(80)
        ]
    other.decide("Ada", 0, "normal")
    one.close()
    other.close()


def test_random_damage(whole: Path, figures: ReviewFigures, tmp_path: Path) -> None:
    """Opening ends well or in an error that says what to do; what is rescued was there before, and opens."""
    data, before = whole.read_bytes(), {event.id: event for event in file_events(whole)}
    opened = refused = copied = 0
    for number, changed in enumerate(damages(data, DAMAGES)):
        old, new = tmp_path / f"old-{number}.sqlite", tmp_path / f"new-{number}.sqlite"
        old.write_bytes(changed)
        try:
            intake = DecisionIntake(old, figures)
            assert len(intake.whole_log()) <= len(before)
            intake.close()
            opened += 1
        except AtypiaError as error:
            assert "fix: " in str(error)
            refused += 1
        old.write_bytes(changed)  # what an opening has mended or made is set back
        for beside in tmp_path.glob(f"{old.name}-*"):
            beside.unlink()
        try:
            found = rescue(old, new, figures)
        except InputError as error:
            assert "fix: " in str(error) and not new.exists()
            continue
        copied += 1
        same = sum(astuple(before[event.id]) == astuple(event) for event in file_events(new) if event.id in before)
        assert found.events - same <= 3, "at most what the damage changed inside a note"
        again = DecisionIntake(new, figures)
        assert len(again.whole_log()) == found.events
        again.close()
    assert opened + refused == DAMAGES
    assert refused >= 30 and copied >= 40, (opened, refused, copied)


def test_lost_events_are_counted(whole: Path, figures: ReviewFigures, tmp_path: Path) -> None:
    data, before = bytearray(whole.read_bytes()), file_events(whole)
    page = 4096
    middle = next(
        n for n in range(3, len(data) // page) if data[n * page] == 0x0D and before[100].time.encode() in data[n * page : (n + 1) * page]
    )  # fmt: skip
    data[middle * page : (middle + 1) * page] = bytes(page)
    whole.write_bytes(data)
    with pytest.raises(
        DamagedError, match=r"must be an intact decisions file, got a damaged one .* --rescue .* --to NEW"
    ):
        DecisionIntake(whole, figures)
    found = rescue(whole, tmp_path / "new.sqlite")
    assert 0 < found.lost < len(before) and found.events + found.lost + found.undone == len(before)
    assert any(f"{found.lost} events are lost" in line for line in found.notes)


@pytest.mark.parametrize("share", [0.9, 0.5, 0.1, 0.005])
def test_a_truncated_file_is_a_damaged_decisions_file(whole: Path, figures: ReviewFigures, share: float) -> None:
    data = whole.read_bytes()
    whole.write_bytes(data[: int(share * len(data))])
    with pytest.raises(DamagedError, match="a damaged one"):
        DecisionIntake(whole, figures)


def test_text_that_is_not_utf8(whole: Path, figures: ReviewFigures, tmp_path: Path) -> None:
    data = whole.read_bytes()
    assert data.count("ä note".encode()) > 0
    whole.write_bytes(data.replace("ä note".encode(), b"\xff\xfe note", 1))
    with pytest.raises(DamagedError, match="UTF-8"):
        DecisionIntake(whole, figures)
    found = rescue(whole, tmp_path / "new.sqlite")
    assert found.lost == 0 and any("1 note lost characters" in line for line in found.notes)


def test_lost_figures_need_the_data(whole: Path, figures: ReviewFigures, tmp_path: Path) -> None:
    data = whole.read_bytes()
    whole.write_bytes(data.replace(figures.fingerprint.encode(), b"\xff" * len(figures.fingerprint)))
    with pytest.raises(InputError, match="`atypia serve WHAT --rescue"):
        rescue(whole, tmp_path / "new.sqlite")
    assert rescue(whole, tmp_path / "new.sqlite", figures).lost == 0
    DecisionIntake(tmp_path / "new.sqlite", figures).close()


def test_a_damaged_write_ahead_log_is_not_forgotten(figures: ReviewFigures, tmp_path: Path) -> None:
    """SQLite would drop what follows the first bad checksum, acknowledged or not, without a word."""
    path = tmp_path / "live.sqlite"
    intake = DecisionIntake(path, figures)
    fill(intake)
    killed = tmp_path / "killed.sqlite"
    for end in ("", "-wal"):
        shutil.copyfile(f"{path}{end}", f"{killed}{end}")  # as a kill leaves them
    events = intake.whole_log()
    intake.close()
    assert log_fault(killed) is None
    log = Path(f"{killed}-wal")
    data = bytearray(log.read_bytes())
    log.write_bytes(data[:-1000])  # cut short: the last event was not acknowledged
    assert log_fault(killed) is None
    data[len(data) // 2] ^= 1
    log.write_bytes(data)
    with pytest.raises(DamagedError, match="write-ahead log"):
        DecisionIntake(killed, figures)
    found = rescue(killed, tmp_path / "new.sqlite", figures)
    assert found.events >= len(events) - 3
    data[3] ^= 64
    log.write_bytes(data)
    with pytest.raises(DamagedError, match="header of its write-ahead log"):
        DecisionIntake(killed, figures)


def test_guards_and_tables_must_be_there(whole: Path, figures: ReviewFigures) -> None:
    db = sqlite3.connect(whole)
    db.execute("DROP TRIGGER log_no_update")
    db.commit()
    db.close()
    with pytest.raises(DamagedError, match="triggers"):
        DecisionIntake(whole, figures)


def test_the_file_is_private(whole: Path, figures: ReviewFigures) -> None:
    intake = DecisionIntake(whole, figures)
    intake.join("Dan")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in whole.parent.glob("whole.sqlite*")}
    intake.close()
    assert modes == {"whole.sqlite": 0o600, "whole.sqlite-wal": 0o600, "whole.sqlite-shm": 0o600}


def test_what_cannot_be_rescued(whole: Path, figures: ReviewFigures, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="which does not exist"):
        rescue(tmp_path / "none", tmp_path / "new")
    with pytest.raises(InputError, match="a file that does not exist yet"):
        rescue(whole, whole)
    text = tmp_path / "text.sqlite"
    for content in (b"", b"no database " * 1000, bytes(20000), random.Random(1).randbytes(20000)):
        text.write_bytes(content)
        with pytest.raises(InputError, match="something else"):
            rescue(text, tmp_path / "new")
        assert list(recovered_rows(text)) == []
    intake = DecisionIntake(whole, figures)
    with pytest.raises(WorkError, match="in use by another"):
        rescue(whole, tmp_path / "new")
    intake.close()


def test_command(whole: Path, tmp_path: Path, small_csv: Path) -> None:
    from atypia.cli.main import app

    new = tmp_path / "new.sqlite"
    result = CliRunner().invoke(app, ["serve", str(small_csv), "--rescue", str(whole), "--to", str(new)])
    assert result.exit_code == 0, result.exception
    assert "events of 3 raters copied, 0 lost" in result.output
    result = CliRunner().invoke(app, ["serve", "--rescue", str(whole)])
    assert isinstance(result.exception, InputError) and "given together" in str(result.exception)
