"""What a bundle was fitted to after its training, and whether it is to be tested on that.

``atypia train adapt`` and ``atypia calibrate`` change a bundle by a laboratory's own figures and record this among the
facts of its training. The bundle may be moved without the folders beside it, so an adapted one carries a hash of each
figure that it learned; the cases, which may be names of patients, stay in the folder that lies beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from atypia.base import runs
from atypia.base.errors import AtypiaError, count_noun
from atypia.data.audit.contamination import named_contamination
from atypia.data.audit.findings import SAME_FIGURES, AuditFinding
from atypia.data.audit.hashes import dihedral_hash
from atypia.data.crops.store import CropStore
from atypia.data.manifest import Manifest
from atypia.inference.bundles.bundle import Bundle

ADAPTED: Final = "adapted"
"""Key among the facts of a bundle's training: from which model, on which figures, when."""
HASHES: Final = "figure_hashes"
"""Key there: the learned figures, as :func:`figure_hashes` gives them."""
DIGITS: Final = 16
CV: Final = "cross-validation"
"""Folder beside an adapted bundle, with the figures that it learned."""
FIGURES: Final = ("learned figure", "learned figures")


def fitted_to(training: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The facts of each later fit among those of a training, by their key."""
    return {
        key: facts
        for key, facts in training.items()
        if isinstance(facts, Mapping) and "data" in facts and "data_fingerprint" in facts
    }


def figure_hashes(store: CropStore, rows: npt.NDArray[np.int64] | None = None) -> list[str]:
    """A hash of each crop, the same for its flips and rotations: :data:`DIGITS` hex digits each, sorted.

    Args:
        store: The crops.
        rows: Which of them, shape (n,); None: all that could be read.
    """
    picked = np.flatnonzero(store.usable) if rows is None else rows
    return sorted({dihedral_hash(np.asarray(store.crops[row]))[:DIGITS] for row in picked})


def fitted_findings(bundle: Bundle, manifest: Manifest, store: CropStore) -> list[AuditFinding]:
    """Whether a bundle was fitted to figures of a set, by what the bundle itself carries.

    Args:
        bundle: It may have been adapted or calibrated.
        manifest: The set to test it on.
        store: Its crops, cut as they were when the bundle was adapted.
    """
    found = []
    for key, facts in fitted_to(bundle.training).items():
        name, hashes = str(facts["data"]), facts.get(HASHES)
        known = set(hashes) & set(figure_hashes(store)) if isinstance(hashes, list | tuple) else set()
        if facts["data_fingerprint"] == manifest.fingerprint:
            found.append(AuditFinding(SAME_FIGURES, f"{bundle.name} was {key} by the figures of {manifest.name}"))
        elif known:
            said = f"{manifest.name} holds {count_noun(len(known), *FIGURES)} by which {bundle.name} was {key} ({name})"
            found.append(AuditFinding(SAME_FIGURES, said, facts={"n": len(known)}))
        elif key == ADAPTED:
            # Of a bundle without hashes the name alone tells; with them a set of the same name may be another one.
            named = named_contamination(name, manifest)
            found += [one for one in named if hashes is None or one.code != SAME_FIGURES]
    return found


def learned_beside(bundle: Bundle, folder: Path) -> Manifest | None:
    """The figures by which a bundle was adapted, where the folder of its training still lies beside it; else None."""
    facts = fitted_to(bundle.training).get(ADAPTED)
    try:
        manifest = Manifest.load(folder.resolve().parent / CV / runs.MANIFEST) if facts is not None else None
    except (AtypiaError, OSError):
        return None
    if manifest is None or facts is None or manifest.fingerprint != facts["data_fingerprint"]:
        return None  # another training's
    return manifest
