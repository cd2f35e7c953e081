"""``atypia export``: deployable formats of a classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from atypia.base.errors import count_noun
from atypia.cli.shared.console import note, show_json, warn
from atypia.cli.shared.options import Json, Root

EXAMPLE = "Example: `atypia export runs/full/fold-1/bundle --to onnx --out model.onnx --half`"


def register(app: typer.Typer) -> None:
    """Adds the verb."""

    @app.command("export", epilog=EXAMPLE)
    def export(
        bundle: Annotated[
            str,
            typer.Argument(
                help="A bundle's folder, or a shipped model's name; a training's folder --to challenge: all its folds."
            ),
        ],
        to: Annotated[str, typer.Option(help="onnx, openvino or challenge (a container for MIDOG 2025, track 2).")],
        out: Annotated[Path, typer.Option(help="File (onnx) or folder to write.")],
        half: Annotated[bool, typer.Option("--half", help="Store the weights in half precision.")] = False,
        int8: Annotated[bool, typer.Option("--int8", help="Quantise to 8-bit integers; needs --calibrate.")] = False,
        calibrate: Annotated[
            str | None,
            typer.Option(help="Labelled data for quantisation and for measuring the loss.", show_default=False),
        ] = None,
        weights: Annotated[
            Path | None, typer.Option(help="The backbone's weights in a local file.", show_default=False)
        ] = None,
        root: Root = None,
        as_json: Json = False,
    ) -> None:
        """Export a classifier with its preprocessing to formats that run without torch.

        The exported network is compared with torch before it is written. A container of a model that is stored in 8-bit
        integers, as those that ship, holds that network as it is.
        """
        from atypia.workflows.export import export_model, export_warnings

        report = export_model(bundle, to, out, half=half, int8=int8, calibrate=calibrate, weights=weights, root=root)
        exported, loss = report.exported, report.loss
        if as_json:
            show_json(report.as_dict())
        note(
            f"{report.form}: {exported.path} ({exported.size_bytes / 1e6:.1f} MB); largest difference from torch "
            f"{exported.logit_difference:.1e} (logits), {exported.feature_difference:.1e} (features)"
        )
        if report.stored:
            note("the network is the model's own in 8-bit integers, as it is stored: the answers of `atypia predict`")
        if report.members:
            note(f"{len(report.members)} networks, whose probabilities are averaged: {', '.join(report.members)}")
        if loss is not None:
            note(
                f"{report.method} int8 on {count_noun(loss.figures, 'other figure')}: balanced accuracy "
                f"{loss.balanced_accuracy_before:.4f} → {loss.balanced_accuracy:.4f} ({-loss.lost:+.4f}), "
                f"AUROC {loss.auroc_before:.4f} → {loss.auroc:.4f}, {loss.decisions_changed:.2%} of the classes changed"
            )
        for text in export_warnings(report):
            warn(text)
