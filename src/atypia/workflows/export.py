"""The work of ``atypia export``: deployable forms of a classifier.

from atypia.workflows.export import export_model

done = export_model("runs/full/fold-1/bundle", "onnx", "model.onnx", half=True)
print(done.exported.size_bytes, done.exported.logit_difference)
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Final

from atypia.base.extras import NETWORKS, require

if TYPE_CHECKING:
    from atypia.inference.export.forms import Report

WORTH_A_WARNING: Final = 0.01
"""Loss in balanced accuracy above which the user is warned."""


def export_model(
    model: str | Path,
    to: str,
    out: str | PathLike[str],
    *,
    half: bool = False,
    int8: bool = False,
    calibrate: str | None = None,
    weights: Path | None = None,
    root: Path | None = None,
) -> Report:
    """Exports a classifier, preprocessing included; the exported network is compared with torch before it is written.

    Args:
        model: A bundle's folder, a shipped model's name; or a training's folder, of which ``challenge`` takes all folds.
        to: Name in :data:`atypia.inference.export.forms.FORMS`.
        out: File or folder to write.
        half: Store the weights in half precision.
        int8: Quantise to 8-bit integers; needs ``calibrate``.
        calibrate: Labelled data for quantisation and for measuring the loss.
        weights: A file of the user with the backbone's weights.
        root: Data root; None for the user's setting.

    Raises:
        InputError: No such form, options that exclude each other, or an output that cannot be written.
        DataError: The folder is not a bundle.
        AbsentError: Weights, data, or packages of the extra ``export`` are not on this machine.
        WorkError: The exported network gives other numbers than torch.
    """
    require("`atypia export`", *NETWORKS)
    from atypia.inference.classifier import named_model
    from atypia.inference.export.forms import Options, export

    return export(named_model(model), to, Path(out), Options(half, int8, calibrate, weights, root))


def export_warnings(report: Report) -> list[str]:
    """Warnings about an export, in words."""
    said = []
    if report.stain is not None and report.form != "challenge":
        said.append(
            f"the network takes crops whose colours are normalised ({report.stain}): `atypia predict` does that, "
            "any other program must"
        )
    if report.loss is not None and report.loss.lost > WORTH_A_WARNING:
        said.append("quantisation costs more than a hundredth of balanced accuracy; consider --half instead")
    return said
