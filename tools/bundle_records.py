"""Writes into a bundle what its training looked like, and what it gave in laboratories that were left out.

``python tools/bundle_records.py BUNDLE OUT [--data ami-br] [--part train] [--left-out RUNS…]``

The copy in OUT has the network of BUNDLE and, among its decision's facts, how the figures of ``--data`` look by laboratory
(``atypia drift``), and with ``--left-out`` sensitivity and specificity in each laboratory that those trainings
(``atypia train … --protocol lodo``, studies) left out (the corrected rate of ``atypia predict``). Nothing else changes.

Name trainings by the bundle's own recipe. Each decides by a calibration and threshold fitted on its own validation figures, as the bundle was.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from atypia.base import records as r
from atypia.data.sources.opening import open_data
from atypia.evaluation.laboratories import left_out, left_out_records
from atypia.inference.bundles.bundle import load_bundle
from atypia.inference.bundles.left_out import LEFT_OUT_KEY
from atypia.inference.bundles.training_look import LOOK_KEY
from atypia.inference.classifier import Classifier, find_model
from atypia.inference.export.derived import save_derived
from atypia.workflows.laboratory.drift import training_look


def main() -> None:
    """Writes the bundle."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("bundle")
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", default="ami-br")
    parser.add_argument("--part", default="train", help="part of the data that it was trained on; empty for all")
    parser.add_argument("--left-out", type=Path, nargs="*", default=[])
    asked = parser.parse_args()
    source = find_model(asked.bundle)
    bundle = load_bundle(source)
    manifest = open_data(asked.data)
    if asked.part:
        manifest = manifest.take(np.flatnonzero(np.array(manifest.table[r.PART].to_pylist()) == asked.part))
    words = f"{len(manifest):,} figures of {manifest.name}" + (f", part {asked.part}" if asked.part else "")
    look = training_look(manifest, Classifier.load(source), words)
    facts = {**bundle.decision.fitted, LOOK_KEY: look.as_dict()}
    if asked.left_out:
        records = left_out_records(left_out(asked.left_out), bundle.threshold)
        facts[LEFT_OUT_KEY] = [one.as_dict() for one in records]
        for one in records:
            said = f"{one.laboratory}: sensitivity {one.sensitivity:.3f}, specificity {one.specificity:.3f}"
            sys.stdout.write(said + "\n")
    save_derived(source, replace(bundle, decision=replace(bundle.decision, fitted=facts)), asked.out)
    sys.stdout.write(f"{asked.out}: {words}; laboratories {', '.join(look.figures)}\n")


if __name__ == "__main__":
    main()
