"""How long a command takes to start: `atypia --help` and the first answer, against Python that imports what both need.

Each is a process of its own; the yardstick is Python importing numpy and ONNX Runtime, which no answer can do without.
They run in turns, and the ratios are kept.

Predicted before the first run: `--help` as fast as the yardstick, a first answer three times as long.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from atypia.data.phantom.dataset import write_phantom
from benchmarks.measuring import turns

ROUNDS = 7
COMMAND = "import sys; from atypia.cli.main import main; sys.exit(main())"


def measure(rounds: int = ROUNDS) -> dict[str, Any]:
    """Median seconds of each, and the ratios."""
    with TemporaryDirectory(prefix="atypia-bench-") as folder:
        manifest = write_phantom(Path(folder) / "phantom", 8, workers=1)
        assert manifest.root is not None
        crop = str(manifest.root / manifest.table["image"][0].as_py())
        times = turns.in_turns(
            {
                "imports": lambda: _python("import numpy, onnxruntime"),
                "help": lambda: _python(COMMAND, "--help"),
                "first answer": lambda: _python(COMMAND, "predict", crop, "--out", f"{folder}/1.csv"),
            },
            rounds,
        )
    return {
        **{f"{name}_s": round(seconds, 2) for name, seconds in turns.medians(times).items()},
        "pairs": {
            "start: --help, against importing numpy and ONNX Runtime": turns.pairs(times["imports"], times["help"]),
            "start: first answer, against importing them": turns.pairs(times["imports"], times["first answer"]),
        },
    }


def _python(code: str, *words: str) -> None:
    subprocess.run([sys.executable, "-c", code, *words], check=True, capture_output=True)
