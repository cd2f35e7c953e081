"""Runs TIAToolbox's nucleus detector on one slide; started by Python of the user's environment of TIAToolbox.

Nothing of Atypia is imported here. The one argument is a JSON file with what is asked; the last line of standard output is
JSON: the annotation store that was written, and TIAToolbox's version. The interface is that of TIAToolbox 2.0 and 2.1
(``tiatoolbox.models.NucleusDetector``).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Detects, and says where the store is."""
    asked: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    import tiatoolbox  # pyright: ignore[reportMissingImports]
    from tiatoolbox.models import NucleusDetector  # pyright: ignore[reportMissingImports]

    slide = Path(asked["slide"])
    detector = NucleusDetector(model=asked["model"], weights=asked["weights"], batch_size=asked["batch_size"])
    settings: dict[str, Any] = {"device": asked["device"], "auto_get_mask": True, "overwrite": True}
    if asked["mpp"] is not None:  # otherwise the slide's own
        settings["wsireader_kwargs"] = {"mpp": (asked["mpp"], asked["mpp"])}
    if asked["threshold"] is not None:
        settings["threshold_abs"] = asked["threshold"]
    written = detector.run(
        images=[slide], patch_mode=False, save_dir=Path(asked["folder"]), output_type="annotationstore", **settings
    )
    stores = written.values() if isinstance(written, dict) else written if isinstance(written, list) else [written]
    (store,) = (str(one) for one in stores)
    sys.stdout.write(json.dumps({"store": store, "version": str(tiatoolbox.__version__)}) + "\n")


if __name__ == "__main__":
    main()
