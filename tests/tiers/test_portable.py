"""Other systems, as far as this one can show them: processes that are spawned, Windows's names, code pages and paths."""

from __future__ import annotations

import ast
import ntpath
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path, PureWindowsPath
from typing import Any

import pytest

from atypia.base.runs import NAME_BYTES, safe_name
from atypia.splits.protocols.domains import fold_names
from atypia.studies import ledger

ROOT = Path(__file__).parents[2]
WINDOWS_LIKE = Path(__file__).with_name("windows_like.py")
FILES = sorted(path for folder in ("src", "tools", "benchmarks") for path in (ROOT / folder).rglob("*.py"))
ELSEWHERE = {"os", "Image", "tarfile", "archive", "kind", "self", "maker"}
"""Owners of an `open` that gives bytes, or no file at all."""


def calls(path: Path) -> Iterator[tuple[str, str, ast.Call]]:
    """Name of what is called, what it belongs to, and the call."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            yield node.func.attr, owner.id if isinstance(owner, ast.Name) else "", node
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id, "", node


def words(call: ast.Call) -> set[str]:
    return {keyword.arg or "" for keyword in call.keywords}


# Encodings and processes ------------------------------------------------------------------------


def names_no_encoding(name: str, owner: str, call: ast.Call) -> bool:
    """Whether a call opens text in the system's own encoding, which is no UTF-8 on Windows."""
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    texts = [one.value for one in given if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    if name in ("read_text", "write_text"):
        return len(call.args) < (1 if name == "read_text" else 2) and "encoding" not in words(call)
    if name in ("open", "fdopen", "TextIOWrapper"):
        binary = any("b" in text and len(text) <= 3 for text in texts)
        return owner not in ELSEWHERE and not binary and "encoding" not in words(call)
    return name in ("NamedTemporaryFile", "TemporaryFile") and "w" in "".join(texts) and "encoding" not in words(call)


def test_text_is_opened_with_its_encoding() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path in FILES
        for name, owner, call in calls(path)
        if names_no_encoding(name, owner, call) and "build_opener" not in ast.unparse(call)
    ]
    assert len(FILES) > 300
    assert not found


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        ("path.read_text()", True),
        ("path.read_text('utf-8')", False),
        ("path.write_text(t)", True),
        ("path.write_text(t, encoding='utf-8')", False),
        ("open(p)", True),
        ("open(p, 'rb')", False),
        ("path.open('w')", True),
        ("os.open(p, f)", False),
    ],
)
def test_the_search_finds_what_names_no_encoding(code: str, wrong: bool, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(code, "utf-8")
    assert [names_no_encoding(*one) for one in calls(tmp_path / "a.py")] == [wrong]


def test_every_pool_of_processes_is_spawned() -> None:
    """Forked processes inherit threads' locks and do not exist on Windows; spawned ones do everywhere."""
    pools = 0
    for path in (path for path in FILES if ROOT / "src" in path.parents):
        for name, owner, call in calls(path):
            if name == "get_context":
                assert [ast.unparse(one) for one in call.args] == ["'spawn'"], path
                pools += 1
            assert name not in ("fork", "set_start_method"), path
            assert name != "Pool" or owner not in ("multiprocessing", "mp", "context"), path
            if name == "ProcessPoolExecutor":
                assert "mp_context" in words(call), path
            assert name != "Process" or owner not in ("multiprocessing", "mp"), path
    assert pools >= 2


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_pools_work_whatever_the_caller_s_own_way_is(method: str, tmp_path: Path, environment: dict[str, str]) -> None:
    script = tmp_path / "pools.py"
    script.write_text(
        "import sys, multiprocessing\n"
        "from atypia.engines.engine import ENGINES, LOCAL\n"
        "from atypia.engines.tasks import Setup, Work\n"
        "def square(item, progress): return item * item\n"
        "def lost(item, reason): return reason\n"
        "def made(queue): queue.put(sorted(ENGINES[LOCAL]([1, 2, 3], Work(square, lost), Setup(workers=2))))\n"
        "if __name__ == '__main__':\n"
        "    context = multiprocessing.get_context(sys.argv[1]); queue = context.Queue()\n"
        "    child = context.Process(target=made, args=(queue,)); child.start()\n"
        "    print(queue.get(timeout=200)); child.join()\n",
        "utf-8",
    )
    ended = subprocess.run(
        [sys.executable, script, method], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.stdout.strip() == "[1, 4, 9]", ended.stderr[-2000:]


# Names and paths of Windows ----------------------------------------------------------------------


def reserved(name: str) -> bool:
    """By the standard library."""
    if hasattr(ntpath, "isreserved"):
        return ntpath.isreserved(name)  # pyright: ignore[reportAttributeAccessIssue]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return PureWindowsPath(name).is_reserved()


@pytest.mark.parametrize(
    "text", ["CON", "nul", "Aux.svs", "com1", "COM1.ome.tif", "lpt9", "prn.", "case:1", 'a"b', "a<b>c|d?e*f", "end. ", "a\\b"]
)  # fmt: skip
def test_names_of_output_can_be_written_on_windows(text: str) -> None:
    name = safe_name(text)
    assert not reserved(name) and PureWindowsPath(name).parts == (name,)
    assert not set(name) & set('<>:"/\\|?*') and name[-1] not in " ." and len(name.encode()) <= NAME_BYTES
    (fold,) = fold_names([text])
    assert not reserved(fold) and PureWindowsPath(fold).parts == (fold,)


def test_other_names_stay_as_they_are() -> None:
    for name in ("console", "com10", "null", "auxiliary.svs", "case 7"):
        assert safe_name(name) == name
    assert fold_names(["Con", "con", "Nul"]) == ["domain-con", "domain-con-2", "domain-nul"]


def test_a_table_with_paths_of_windows_finds_its_crops(crops: Path, tmp_path: Path) -> None:
    from atypia.data.sources.opening import open_data

    names = sorted(path.relative_to(crops).as_posix() for path in crops.rglob("*.png"))
    lines = [f"{name.replace('/', chr(92))},{number % 2},{number % 3}" for number, name in enumerate(names)]
    (crops / "mine.csv").write_text("image,label,case_id\r\n" + "\r\n".join(lines) + "\r\n", "cp1252")
    manifest = open_data(str(crops / "mine.csv"))
    assert sorted(manifest.table["image"].to_pylist()) == names


def test_a_process_is_never_asked_by_a_signal_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(pid: int, number: int) -> None:
        raise AssertionError("on Windows this interrupts the process")

    monkeypatch.setattr(ledger.os, "kill", kill)
    with pytest.raises(AssertionError):
        ledger._known(1)
    monkeypatch.setattr(ledger.os, "name", "nt")
    assert ledger._known(1) == ""


# The command line --------------------------------------------------------------------------------


@pytest.fixture
def windows(tmp_path: Path, environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """Runs commands with what Windows has, on a console of Western Europe."""
    own = environment | {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0", "LC_ALL": "C.UTF-8", "COLUMNS": "100"}
    own.pop("NO_COLOR", None)

    def windows(*words: object, code: int = 0) -> subprocess.CompletedProcess[bytes]:
        ended = subprocess.run(
            [sys.executable, "-X", "warn_default_encoding", WINDOWS_LIKE, *map(str, words)],
            cwd=tmp_path, env=own, capture_output=True, timeout=400, check=False,
        )  # fmt: skip
        assert ended.returncode == code, ended.stderr.decode("cp1252")[-3000:]
        return ended

    return windows


def test_predictions_on_a_machine_like_windows(windows: Callable[..., Any], crops: Path, tmp_path: Path) -> None:
    strange = crops / "Пациент 7 – ½ 患者"
    (crops / "atypical").rename(strange)
    ended = windows(
        *("data", "phantom", "--out", "many", "-n", "60", "--"),  # as many as are drawn in processes
        *("predict", crops, "--out", "calls.csv", "--page", "case.html", "--"),
        *("data", "audit", "many", "--"),
        *("doctor",),
    )

    assert "Traceback" not in ended.stderr.decode("cp1252")
    assert ended.stdout.decode("cp1252").count("atypia") > 1
    assert strange.name in (tmp_path / "calls.csv").read_text("utf-8-sig")
    assert '<meta charset="utf-8"' in (tmp_path / "case.html").read_text("utf-8").lower()
    assert len(list((tmp_path / "many").rglob("*.png"))) == 60


def test_slides_in_processes_on_a_machine_like_windows(
    windows: Callable[..., Any], crops: Path, tmp_path: Path
) -> None:
    from PIL import Image

    figures, lines = sorted(crops.rglob("*.png")), ["slide,points,name,mpp"]
    for name in ("con", "Übersicht"):
        slide = Image.new("RGB", (400, 300), (225, 190, 215))
        for number, place in enumerate([(36, 36), (136, 86)]):  # centred on the points
            slide.paste(Image.open(figures[number]), place)
        slide.save(tmp_path / f"{name}.png")
        lines.append(f"{name}.png,points.csv,{name},0.25")
    (tmp_path / "points.csv").write_text("x,y\r\n100,100\r\n200,150\r\n", "utf-8")
    (tmp_path / "slides.csv").write_text("\r\n".join(lines) + "\r\n", "cp1252")

    windows("predict", "--slides", "slides.csv", "--out", "out", "--workers", "2")

    assert {path.name for path in (tmp_path / "out").iterdir() if path.is_dir() and path.name[0] != "."} == {
        "_con",
        "Übersicht",
    }
    assert (tmp_path / "out" / "slides.csv").read_text("utf-8-sig").count("done") == 2


def test_names_beyond_the_console_s_code_page_are_no_fault(windows: Callable[..., Any], tmp_path: Path) -> None:
    ended = windows("predict", "患者.svs", "--out", "x.csv", code=2)
    assert "error:" in ended.stderr.decode("cp1252") and "Traceback" not in ended.stderr.decode("cp1252")
