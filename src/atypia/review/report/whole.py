"""The rate of all opened figures: people's decisions, and the model's calls corrected where nobody decided."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from atypia.base.errors import AbsentError, AtypiaError
from atypia.inference.bundles.bundle import Bundle
from atypia.inference.bundles.decision import DEFAULT_THRESHOLD
from atypia.inference.results import CALLED_REFUSED
from atypia.reports.case.whole import WholeRate, whole_rate
from atypia.review.decisions.state import DecisionState
from atypia.review.decisions.words import IS_ATYPICAL, IS_NORMAL, IS_NOT_MITOSIS, code_of
from atypia.review.figures.figures import ReviewFigures
from atypia.review.figures.from_tables import SAME_THRESHOLD
from atypia.statistics.error_rates import KnownErrors
from atypia.statistics.reviewed import ReviewedCounts

NO_MODEL: Final = "the probabilities are not those of one named model, so its errors are not known"


def errors_of(figures: ReviewFigures, model: str | Path | None = None) -> KnownErrors:
    """What is known of the errors of the model whose calls are reviewed.

    Args:
        figures: The figures.
        model: Where that model is; None: only shipped models are found, by their name.
    """
    from atypia.inference.bundles.left_out import errors_at
    from atypia.workflows.predict import AVERAGED

    names = figures.models
    if len(names) != 1 or figures.threshold is None:
        return KnownErrors(None, None, NO_MODEL)
    if "+" in names[0]:
        return KnownErrors(None, None, AVERAGED)
    found = model_of(figures, model)
    if isinstance(found, str):
        return KnownErrors(None, None, found)
    decision, given = found[1].decision, figures.threshold
    nearest = min((decision.threshold, *decision.points.values()), key=lambda own: abs(own - given))
    if abs(nearest - given) <= SAME_THRESHOLD:
        return errors_at(replace(decision, threshold=nearest))
    known = errors_at(replace(decision, threshold=given))
    if known.errors is None:
        return known
    apart = f"; the results' threshold, {given:.3g}, is none of this model's: it was chosen, or another model has the same name"
    return replace(known, words=known.words + apart)


def model_of(figures: ReviewFigures, model: str | Path | None = None) -> tuple[str, Bundle] | str:
    """The model whose calls are reviewed, as commands take it, and its bundle; or why it is not at hand.

    Args:
        figures: The figures, with calls of one model.
        model: Where it may be; None: only shipped models are found, by their name.
    """
    from atypia.inference.bundles.bundle import MODEL_FILE, load_bundle
    from atypia.inference.classifier import find_model

    (name,) = figures.models
    for place in (model, name):
        try:
            path = None if place is None else find_model(place)
            if path is None or not (path / MODEL_FILE).is_file():
                continue
            bundle = load_bundle(path)
        except AbsentError:
            continue
        except AtypiaError as error:
            return str(error)
        if bundle.name == name:
            return str(place), bundle
    return f"the model {name} is not at hand; name its folder with --model"


def whole_of(
    figures: ReviewFigures, state: DecisionState, known: KnownErrors, rater: str | None = None
) -> WholeRate | None:
    """The rate of all figures by one rater's decisions, or by the consensus; None without a model's probabilities.

    Open figures (nobody decided, a tie, unsure) are the model's. What is no mitosis is in no count.
    """
    if not figures.has("p"):
        return None
    codes = state.consensus() if rater is None else state.codes(rater)
    here = np.ones(len(figures), np.bool_)
    here[state.withdrawn] = False
    codes = codes[: len(figures)]
    atypical, normal = here & (codes == code_of(IS_ATYPICAL)), here & (codes == code_of(IS_NORMAL))
    called = here & np.isfinite(figures.p) & ~figures.call.mask([CALLED_REFUSED]) & (codes != code_of(IS_NOT_MITOSIS))
    rest = called & ~atypical & ~normal
    counts = ReviewedCounts(int(atypical.sum()), int(normal.sum()), _calls(figures, called), _calls(figures, rest))
    left_out = here & ~called & ~atypical & ~normal & (codes != code_of(IS_NOT_MITOSIS))
    return whole_rate(counts, figures.p[rest], known, int(left_out.sum()))


def _calls(figures: ReviewFigures, chosen: npt.NDArray[np.bool_]) -> tuple[int, int]:
    limit = DEFAULT_THRESHOLD if figures.threshold is None else figures.threshold
    above = int(np.count_nonzero(figures.p[chosen] >= limit))
    return above, int(np.count_nonzero(chosen)) - above
