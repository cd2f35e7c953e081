"""Checkpoints: everything comes back bit for bit, and nothing is lost to damage, a kill or a full disk."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from atypia.base.errors import DataError, WorkError
from atypia.training.epochs import checkpoints
from atypia.training.epochs.checkpoints import (
    LAST,
    PREVIOUS,
    REST,
    SUMS,
    TENSORS,
    clear_checkpoints,
    load_checkpoint,
    rng_state,
    save_checkpoint,
    set_rng_state,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def _loaded(folder: Path) -> dict[str, Any]:
    state = load_checkpoint(folder)
    assert state is not None
    return state


def test_nothing_there_is_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path) is None


def test_values_go_round(tmp_path: Path) -> None:
    state = {
        "epoch": 3, "name": "fold µ", "none": None, "yes": True, "list": [1, 2.5, [None, "x"]], "empty": {}, "no": [],
        "nan": math.nan, "inf": -math.inf, "numpy": np.float64(0.1), "by number": {0: "a", 10: {"b": torch.ones(2)}},
        "a/b": torch.zeros(1), "a": {"b": torch.ones(1)},
    }  # fmt: skip
    save_checkpoint(tmp_path, state)
    loaded = _loaded(tmp_path)
    assert math.isnan(loaded.pop("nan"))
    assert loaded.pop("inf") == -math.inf
    assert loaded["by number"][0] == "a"
    assert torch.equal(loaded["by number"][10]["b"], torch.ones(2))
    assert float(loaded["a/b"]) == 0  # names that look like paths are told apart
    assert float(loaded["a"]["b"]) == 1
    for key in ("epoch", "name", "none", "yes", "list", "empty", "no", "numpy"):
        assert loaded[key] == state[key]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.bool, torch.uint8])
def test_tensors_go_round(tmp_path: Path, dtype: torch.dtype) -> None:
    whole = (torch.randn(4, 6) * 3).to(dtype)
    state = {"whole": whole, "view": whole[1:3, ::2], "again": whole, "scalar": whole[0, 0], "empty": whole[:0]}
    save_checkpoint(tmp_path, state)
    loaded = _loaded(tmp_path)
    for name, value in state.items():
        assert loaded[name].dtype == dtype
        assert torch.equal(loaded[name], value)


def test_memory_order_is_kept(tmp_path: Path) -> None:
    last = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    save_checkpoint(tmp_path, {"last": last, "first": last.contiguous()})
    loaded = _loaded(tmp_path)
    assert loaded["last"].stride() == last.stride()
    assert loaded["first"].is_contiguous()
    assert torch.equal(loaded["last"], last)


def _steps(net: nn.Module, optimiser: torch.optim.Optimizer, seeds: range) -> None:
    for seed in seeds:
        x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
        optimiser.zero_grad()
        net(x.contiguous(memory_format=torch.channels_last)).square().mean().backward()
        optimiser.step()


OPTIMISERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
    "nadam": lambda p: torch.optim.NAdam(p, lr=0.01, foreach=True),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True),
}


@pytest.mark.parametrize("name", list(OPTIMISERS))
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_resumed_optimiser_gives_the_same_weights(tmp_path: Path, name: str, memory_format: Any) -> None:
    def fresh() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Conv2d(5, 4, 3)).to(memory_format=memory_format)
        return net, OPTIMISERS[name](net.parameters())

    whole, optimiser = fresh()
    _steps(whole, optimiser, range(6))
    first, optimiser = fresh()
    _steps(first, optimiser, range(3))
    save_checkpoint(tmp_path, {"network": first.state_dict(), "optimiser": optimiser.state_dict()})
    second, optimiser = fresh()
    state = _loaded(tmp_path)
    second.load_state_dict(state["network"])
    optimiser.load_state_dict(state["optimiser"])
    _steps(second, optimiser, range(3, 6))
    for key, value in whole.state_dict().items():
        assert torch.equal(second.state_dict()[key], value), key


def test_generators_go_round(tmp_path: Path) -> None:
    torch.manual_seed(3)
    save_checkpoint(tmp_path, {"rng": rng_state()})
    expected = torch.rand(4)
    torch.manual_seed(9)
    set_rng_state(_loaded(tmp_path)["rng"])
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize(
    ("value", "reason"), [({1, 2}, "cannot hold set at /x"), ({1: 0, "a": 0}, "keys must be strings")]
)
def test_what_cannot_be_kept_is_refused(tmp_path: Path, value: object, reason: str) -> None:
    with pytest.raises(TypeError, match=reason):
        save_checkpoint(tmp_path, {"x": value})
    assert list(tmp_path.iterdir()) == []


def _two(folder: Path) -> None:
    for epoch in (1, 2):
        save_checkpoint(folder, {"epoch": epoch, "w": torch.full((100,), float(epoch))})


def test_the_one_before_is_kept(tmp_path: Path) -> None:
    _two(tmp_path)
    save_checkpoint(tmp_path, {"epoch": 3})
    assert sorted(path.name for path in tmp_path.iterdir()) == [LAST, PREVIOUS]
    assert _loaded(tmp_path)["epoch"] == 3
    clear_checkpoints(tmp_path)
    assert load_checkpoint(tmp_path) is None


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))


DAMAGES: list[tuple[str, Callable[[Path], object]]] = [
    (TENSORS, _cut), (TENSORS, _flip), (REST, _cut), (REST, _flip), (SUMS, _cut), (TENSORS, Path.unlink),
    (SUMS, Path.unlink), (SUMS, lambda path: path.write_text("[]")), (SUMS, lambda path: path.write_text("{}")),
    (SUMS, lambda path: path.write_bytes(b"\xff\xfe")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "damage"), DAMAGES)
def test_a_damaged_one_falls_back_to_the_one_before(
    tmp_path: Path, name: str, damage: Callable[[Path], object]
) -> None:
    _two(tmp_path)
    damage(tmp_path / LAST / name)
    with pytest.warns(RuntimeWarning, match=rf"{LAST}.*going on from {PREVIOUS}"):
        assert _loaded(tmp_path)["epoch"] == 1


def test_no_good_one_is_an_error(tmp_path: Path) -> None:
    _two(tmp_path)
    _flip(tmp_path / LAST / TENSORS)
    _cut(tmp_path / PREVIOUS / REST)
    with pytest.raises(
        DataError, match=r"does not match its checksum.*; fix: delete the checkpoints in .* and train again"
    ):
        load_checkpoint(tmp_path)


def test_a_kill_between_the_renames_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _two(tmp_path)
    rename = Path.rename

    class Killed(BaseException):
        pass

    for allowed in range(3):  # part → new, last → previous, new → last
        count = 0

        def limited(self: Path, target: Path, allowed: int = allowed) -> Path:
            nonlocal count
            count += 1
            if count > allowed:
                raise Killed
            return rename(self, target)

        monkeypatch.setattr(Path, "rename", limited)
        with pytest.raises(Killed):
            save_checkpoint(tmp_path, {"epoch": 10 + allowed})
        monkeypatch.setattr(Path, "rename", rename)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert _loaded(tmp_path)["epoch"] == (2 if allowed == 0 else 10 + allowed)
    save_checkpoint(tmp_path, {"epoch": 20})
    assert _loaded(tmp_path)["epoch"] == 20


CHILD = textwrap.dedent(
    """
    import sys, torch
    from pathlib import Path
    from atypia.training.epochs.checkpoints import save_checkpoint
    folder, epoch = Path(sys.argv[1]), 0
    while True:
        save_checkpoint(folder, {"epoch": epoch, "w": torch.full((300_000,), float(epoch))})
        print(epoch, flush=True)
        epoch += 1
    """
)


def test_sigkill_at_any_moment_leaves_a_good_one(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = ""
    try:
        for _ in range(4):
            said = process.stdout.readline()
        time.sleep(0.003)  # somewhere in the writing of the next one
    finally:
        process.send_signal(signal.SIGKILL)
    last = [int(line) for line in (said + process.stdout.read()).split()][-1]
    process.wait()
    process.stdout.close()
    state = _loaded(tmp_path)
    assert state["epoch"] in (last, last + 1)  # what was reported as written is there
    assert torch.equal(state["w"], torch.full((300_000,), float(state["epoch"])))
    save_checkpoint(tmp_path, {"epoch": 1000})
    assert _loaded(tmp_path)["epoch"] == 1000
    assert sorted(path.name for path in tmp_path.iterdir()) == [LAST, PREVIOUS]


FULL = textwrap.dedent(
    """
    import resource, signal, sys, torch
    from pathlib import Path
    from atypia.base.errors import WorkError
    from atypia.training.epochs.checkpoints import load_checkpoint, save_checkpoint
    folder = Path(sys.argv[1])
    save_checkpoint(folder, {"epoch": 1})
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
    try:
        save_checkpoint(folder, {"epoch": 2, "w": torch.zeros(100_000)})
    except WorkError as error:
        print(error, "|", load_checkpoint(folder)["epoch"], "|", sorted(p.name for p in folder.iterdir()))
    """
)


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files by a POSIX call")
def test_a_disk_that_takes_no_more_keeps_the_last_good_one(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True)
    message, epoch, names = done.stdout.split(" | ")
    assert "cannot write" in message
    assert "fix: " in message
    assert epoch == "1"
    assert names.strip() == f"['{LAST}']"


def test_an_unworded_fault_of_the_library_is_an_error_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors import SafetensorError

    def fail(tensors: object, path: object, text: str) -> None:
        raise SafetensorError(text)

    monkeypatch.setattr(checkpoints, "save_file", lambda t, p: fail(t, p, "I/O error: No space left (os error 28)"))
    with pytest.raises(WorkError, match=r"cannot write .*; fix: free some space"):
        save_checkpoint(tmp_path, {"w": torch.zeros(1)})
    monkeypatch.setattr(checkpoints, "save_file", lambda t, p: fail(t, p, "something else"))
    with pytest.raises(WorkError, match=r"Input/output error; fix: check the disk") as caught:
        save_checkpoint(tmp_path, {"w": torch.zeros(1)})
    assert "something else" in str(caught.value.__cause__)
    assert list(tmp_path.iterdir()) == []
