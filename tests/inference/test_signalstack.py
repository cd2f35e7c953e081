"""Runtimes leave the stack on which signals are handled as it was."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from atypia.inference.runtimes.openvino_runtime import OpenVinoRuntime
from atypia.inference.runtimes.signalstack import kept_signal_stack, signal_stack

NETWORK = Path(__file__).parent / "golden" / "0.1.0" / "brightness.onnx"
SIGNALLED = """
import gc, os, signal, sys
from pathlib import Path
from atypia.inference.runtimes.openvino_runtime import OpenVinoRuntime

heard = []
signal.signal(signal.SIGUSR1, lambda *_: heard.append(1))
opened = [OpenVinoRuntime(Path(sys.argv[1]), 1) for _ in range(2)]
while opened:
    del opened[0]
    gc.collect()
    os.kill(os.getpid(), signal.SIGUSR1)
print(len(heard))
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only there OpenVINO sets a signal stack of its own")


def test_opening_a_network_changes_no_signal_stack() -> None:
    before = signal_stack()
    assert before is not None  # pytest's faulthandler has set one
    opened = OpenVinoRuntime(NETWORK, 1)
    assert signal_stack() == before
    del opened
    assert signal_stack() == before


def test_what_was_set_meanwhile_is_undone_though_the_work_fails() -> None:
    import openvino

    before = signal_stack()
    with pytest.raises(RuntimeError, match="broken"), kept_signal_stack():
        core = openvino.Core()
        core.get_property("CPU", "FULL_DEVICE_NAME")  # loads the plugin
        assert signal_stack() != before
        raise RuntimeError("broken")
    assert signal_stack() == before


@pytest.mark.parametrize("option", [[], ["-X", "faulthandler"]], ids=["no-stack-before", "faulthandler"])
def test_signals_are_handled_after_runtimes_were_closed_in_the_order_of_opening(option: list[str]) -> None:
    command = [sys.executable, *option, "-c", SIGNALLED, str(NETWORK)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout.strip()) == (0, "2"), done.stderr
