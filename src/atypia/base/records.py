"""Shared names: label codes, table columns, unit types.

A name is written here once; no other module spells a column or a class again.
"""

from __future__ import annotations

from typing import Final, NewType

Px = NewType("Px", int)
"""A length in pixels of the image in question."""
Um = NewType("Um", float)
"""A length in micrometres on the tissue."""
Mpp = NewType("Mpp", float)
"""Micrometres per pixel."""

NORMAL: Final = 0
ATYPICAL: Final = 1

ATYPICAL_TASK: Final = "atypical"
MITOSIS_TASK: Final = "mitosis"
CLASS_NAMES: Final[dict[str, tuple[str, str]]] = {
    ATYPICAL_TASK: ("normal", "atypical"),
    MITOSIS_TASK: ("look-alike", "mitotic"),
}
"""Names of class 0 and class 1 of each task. Class 1 is always the positive class.

``atypical``: normal (0) against atypical (1) mitotic figures.
``mitosis``: look-alikes (0, also called hard negatives) against mitotic figures (1).
"""

DEFAULT_THRESHOLD: Final = 0.5
"""Decision threshold on the probability of the positive class, unless a bundle carries another."""

ADDED_EVENT: Final = "addition"
UNDO_EVENT: Final = "undo"
"""Kinds of events in the log of a decisions file that readers of points know too."""

# Columns of a manifest: one row per figure. Unknown is null, never an invented value.
FIGURE_ID: Final = "figure_id"
DATASET: Final = "dataset"
IMAGE: Final = "image"
X_PX: Final = "x_px"
Y_PX: Final = "y_px"
CASE_ID: Final = "case_id"
SLIDE_ID: Final = "slide_id"
PART: Final = "part"
LABEL: Final = "label"
SOFT_LABEL: Final = "soft_label"
VOTES: Final = "votes"
N_RATERS: Final = "n_raters"
PHASE: Final = "phase"
SCANNER: Final = "scanner"
ORIGIN: Final = "origin"
SPECIES: Final = "species"
TUMOUR: Final = "tumour"
DOMAIN: Final = "domain"
MPP: Final = "mpp"
WIDTH_PX: Final = "width_px"
HEIGHT_PX: Final = "height_px"
SHA256: Final = "sha256"

# Columns of figures that a generator made; a manifest of real figures alone does not have them.
SYNTHETIC: Final = "synthetic"
GENERATOR: Final = "generator"
GENERATOR_FOLD: Final = "generator_fold"
SEEN: Final = "seen"
SAMPLE_SEED: Final = "sample_seed"
SAMPLE_INDEX: Final = "sample_index"
GUIDANCE: Final = "guidance"
JUDGED_P: Final = "judged_p"

DOMAIN_PARTS: Final = (SCANNER, ORIGIN, SPECIES, TUMOUR)
"""The columns whose combination is a domain, in this order."""

# Columns of a predictions table, beside those it shares with the manifest.
P_ATYPICAL: Final = "p_atypical"
DECISION: Final = "decision"
THRESHOLD: Final = "threshold"
FOLD: Final = "fold"
RUN_ID: Final = "run_id"
