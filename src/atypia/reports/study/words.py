"""The results of a study in sentences."""

from __future__ import annotations

import math
from collections import Counter

from atypia.base import runs
from atypia.base.errors import count_noun, first_of
from atypia.reports.drawing.values import format_value
from atypia.reports.study.plots import metric_words
from atypia.reports.study.statistics import ADAPTATION_WORDS, as_best, interval_text, p_said, place_name
from atypia.statistics.differences.groups import BY_FOLD, NOT_INDEPENDENT
from atypia.studies.findings.about import StudyAbout
from atypia.studies.findings.schema import AdaptationTest, Difference, Findings

ALPHA = 0.05
BA = "balanced_accuracy"
LED_BY_CHANCE = (
    "The best of several rows on a test set is favoured by chance: its value there is an optimistic estimate of what it "
    "would reach on new cases."
)


def progress_sentence(about: StudyAbout) -> str:
    """Progress of the study."""
    total = sum(count for state, count in about.counts.items() if state != "lacking")
    done = about.counts.get("done", 0)
    rows = count_noun(about.n_rows, "row")
    text = f"{done:,} of {total:,} runs are complete ({rows}; protocol {about.protocol}; {duration_text(about.seconds)} of work)."
    others = [
        f"{count:,} {state}" for state, count in about.counts.items() if count and state not in ("done", "lacking")
    ]
    if others:
        text += f" Others: {', '.join(others)}."
    if about.counts.get("lacking"):
        text += f" {about.counts['lacking']:,} more need data or weights that are not on this machine."
    return text


def place_sentences(found: Findings, place: int) -> list[str]:
    """The best row of a place, and whether it differs significantly from the next."""
    at, scores = found.places[place], found.at(place)
    if not scores or math.isnan(scores[0].value(found.metric)):
        return []
    best = scores[0]
    sizes = f"{count_noun(at.n, 'figure')}, {at.n_positive:,} {at.classes[1]}, {_cases(found, place)}"
    value = best.interval(BA)
    lead = "the best row is" if len(scores) > 1 else "there is one row,"
    text = (
        f"On {place_name(at)} ({sizes}) {lead} {found.series[best.series].label}: balanced accuracy "
        f"{format_value(value.estimate)}{_bracket(interval_text(value))}, AUROC {format_value(best.value('auroc'))}"
        f"{_bracket(interval_text(best.interval('auroc')))}."
    )
    sentences = [text]
    of_place = [
        d for d in found.differences if d.place == place and d.metric == found.metric and not math.isnan(d.p_holm)
    ]
    if of_place:
        sentences.append(_differences(found, of_place))
    return sentences


def _differences(found: Findings, differences: list[Difference]) -> str:
    apart = [d for d in differences if d.p_holm < ALPHA]
    references = list(dict.fromkeys(found.series[d.reference].label for d in differences))
    named = references[0] if len(references) == 1 else "the reference of its group"
    if len(differences) == 1:
        (one,) = differences
        verdict = "the data tell them apart" if apart else "the data do not tell them apart"
        return (
            f"{found.series[one.series].label} differs from {named} by {one.value.estimate:+.3f}"
            f"{_bracket(interval_text(one.value))}, {p_said(one.p_holm)} after Holm's correction: {verdict}."
        )
    directions = Counter("better" if d.value.estimate > 0 else "worse" for d in apart)
    count = f"{len(apart)} of {len(differences)} rows"
    if not apart:
        return f"None of {len(differences)} rows can be told from {named} in {metric_words(found.metric)} (Holm, α = {ALPHA:g})."
    words = " and ".join(f"{n} {word}" for word, n in directions.items())
    return f"{count} can be told from {named} in {metric_words(found.metric)} after Holm's correction (α = {ALPHA:g}): {words}."


def overall_sentences(found: Findings) -> list[str]:
    """Results on folds, ranks, adaptations and raters."""
    sentences = []
    tests = sum(place.part != runs.VALIDATION for place in found.places)
    if tests and len(found.series) > 1 and not found.baseline:
        sentences.append(LED_BY_CHANCE)
    folds = [d for d in found.folds if d.metric == found.metric and not math.isnan(d.p_holm)]
    if folds:
        apart = sum(d.p_holm < ALPHA for d in folds)
        sentences.append(
            f"In cross-validation, fold by fold, {apart} of {len(folds)} differences in "
            f"{metric_words(found.metric)} remain significant after the "
            "correction for overlapping training parts (corrected resampled t) and Holm's."
        )
    for ranked in found.ranks:
        ranking = ranked.ranking
        best = [n for n, rank in zip(ranking.names, ranking.mean_ranks, strict=True) if as_best(ranking, rank)]
        named = first_of(best, 4)
        verdict = "differ" if ranking.p_f < ALPHA else "cannot be told apart"
        sentences.append(
            f"Ranked over {ranking.n_blocks} test sets and domains{f' ({ranked.group})' if ranked.group else ''}, the "
            f"rows {verdict} (Friedman, {p_said(ranking.p_f)}); within the critical difference of the best: {named}."
        )
    sentences += [_adaptation(found, one) for one in found.adaptations]
    if found.adaptations:
        sentences.append(NOT_INDEPENDENT)
    for human in found.raters:
        place = found.places[human.place]
        if place.part == runs.VALIDATION:
            continue
        values = [s.balanced_accuracy for s in human.scores if not math.isnan(s.balanced_accuracy)]
        if values:
            sentences.append(
                f"The human level on {place_name(place)}: single raters reach a balanced accuracy of "
                f"{format_value(min(values))} to {format_value(max(values))} against the majority of the others, "
                f"{format_value(human.level)} on average."
            )
    return sentences


def _adaptation(found: Findings, one: AdaptationTest) -> str:
    by_fold = next((test.outcome for test in one.tests if test.unit == BY_FOLD), None)
    by_row = next((test.outcome for test in one.tests if test.unit != BY_FOLD), None)
    words = f"{ADAPTATION_WORDS[one.first]} {format_value(one.mean_first)}, {ADAPTATION_WORDS[one.second]} {format_value(one.mean_second)}"
    values = [
        f"{p_said(outcome.p)} by {unit} ({outcome.n_first} and {outcome.n_second} values)"
        for unit, outcome in (("fold", by_fold), ("row", by_row))
        if outcome is not None
    ]
    return f"Adaptations on {place_name(found.places[one.place])}: {words} on average; {', '.join(values)}."


def warnings_of(about: StudyAbout, found: Findings) -> list[str]:
    """Reasons why the numbers are doubtful or incomplete."""
    texts = list(about.warnings)
    for place in found.places:
        if place.n_known < place.n:
            unknown = place.n - place.n_known
            texts.append(
                f"{place_name(place)}: the case of {unknown:,} of {place.n:,} figures is unknown; each counts as a case of "
                "its own, so the intervals there are too narrow"
            )
    return list(dict.fromkeys([*texts, *(f"bounded work: {limit}" for limit in found.limits)]))


def duration_text(seconds: float) -> str:
    """A duration as text.

    >>> duration_text(5400)
    '1.5 h'
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"


def _cases(found: Findings, place: int) -> str:
    at = found.places[place]
    return count_noun(at.n_cases, "case") if at.n_known else "cases unknown"


def _bracket(text: str) -> str:
    return f" (95 % interval {text})" if text and text != "n/a" else ""
