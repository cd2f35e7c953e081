"""What an audit can find: the codes, how grave each is, and the report.

Severity decides what follows. An **error** makes figures or scores wrong and stops a training or
an evaluation unless the user names its code as an exception; a **warning** should be looked at;
an **info** explains what could not be checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from atypia.errors import LeakageError

ERROR: Final = "error"
WARNING: Final = "warning"
INFO: Final = "info"
SEVERITIES: Final = (ERROR, WARNING, INFO)

CODES: Final[Mapping[str, tuple[str, str]]] = {
    # Images.
    "missing-image": (ERROR, "a file that the table names is not there"),
    "unreadable-image": (ERROR, "a file is no image, or one that is refused"),
    "truncated-image": (ERROR, "an image ends before its last pixel"),
    "changed-image": (ERROR, "a file is not the one whose checksum the table holds"),
    "wrong-mode": (WARNING, "an image is not 8-bit RGB and is converted, or cannot be"),
    "wrong-size": (WARNING, "an image has another size than most of its set"),
    "no-images": (INFO, "the images are not on this machine, so pixels were not checked"),
    # Tables.
    "missing-cases": (WARNING, "the case is unknown, so a split cannot keep it together"),
    "missing-labels": (INFO, "figures carry no label"),
    "single-class": (WARNING, "all labels are the same: nothing can be learnt or measured"),
    # Copies within a set. They weigh some figures more than others and leak between random folds.
    "identical-within-set": (WARNING, "crops with the same pixels"),
    "turned-within-set": (WARNING, "crops with the same pixels after a flip or rotation"),
    "near-within-set": (WARNING, "crops that show the same picture, slightly altered"),
    "conflicting-labels": (ERROR, "crops with the same pixels carry different labels: at least one is wrong"),
    # Between sets, which may be one's training data and another's test.
    "figure-across-sets": (ERROR, "the same figure is in both sets"),
    "case-across-sets": (ERROR, "the same case is in both sets"),
    "identical-across-sets": (ERROR, "the same pixels are in both sets"),
    "turned-across-sets": (ERROR, "the same pixels, flipped or rotated, are in both sets"),
    "near-across-sets": (WARNING, "the same picture, slightly altered, is in both sets"),
    "known-contamination": (ERROR, "one set is known to hold figures or cases of the other"),
    "same-case-names": (WARNING, "sets that name cases independently use the same names"),
    # Between the parts of a split.
    "figure-across-parts": (ERROR, "a figure is in two parts of a split"),
    "case-across-parts": (ERROR, "a case is in two parts of a split"),
    "identical-across-parts": (ERROR, "the same pixels are in two parts of a split"),
    "turned-across-parts": (ERROR, "the same pixels, flipped or rotated, are in two parts of a split"),
    "near-across-parts": (WARNING, "the same picture, slightly altered, is in two parts of a split"),
    "teacher-across-parts": (ERROR, "a teacher was trained on figures that its student is measured on"),
    "unknown-teacher": (ERROR, "a teacher does not tell what it was trained on"),
    "unknown-figures": (ERROR, "a split names figures that are not in the set"),
}
"""Every code with its severity and its meaning."""

SHOWN = 5


@dataclass(frozen=True)
class Finding:
    """One thing that an audit found.

    Attributes:
        code: Key of :data:`CODES`.
        message: What, where and how many, in one sentence, with the remedy where there is one.
        figures: The figures concerned, as ``id``, or ``set: id`` where several sets are.
        facts: Counts and groups for programs, JSON-able.
    """

    code: str
    message: str
    figures: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def severity(self) -> str:
        """``error``, ``warning`` or ``info``; it follows from the code."""
        return CODES[self.code][0]

    def as_dict(self) -> dict[str, Any]:
        """The finding as JSON-able values."""
        return {
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            "figures": list(self.figures),
            "facts": dict(self.facts),
        }


@dataclass(frozen=True)
class AuditReport:
    """All that an audit found, the gravest first.

    Attributes:
        sets: What was audited: ``name, task, figures, images, fingerprint`` of each set.
        findings: Sorted by severity, then in the order of the checks.
    """

    sets: tuple[Mapping[str, Any], ...]
    findings: tuple[Finding, ...]

    @property
    def has_errors(self) -> bool:
        """Whether any finding is an error."""
        return any(finding.severity == ERROR for finding in self.findings)

    def of(self, code: str) -> list[Finding]:
        """The findings with this code."""
        return [finding for finding in self.findings if finding.code == code]

    def count(self, severity: str) -> int:
        """How many findings have this severity."""
        return sum(finding.severity == severity for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON-able values."""
        return {
            "sets": [dict(one) for one in self.sets],
            "errors": self.count(ERROR),
            "warnings": self.count(WARNING),
            "findings": [finding.as_dict() for finding in self.findings],
        }

    def text(self) -> str:
        """The report for people, plain lines."""
        lines = []
        for one in self.sets:
            pixels = "with images" if one["images"] else "labels only"
            lines.append(f"{one['name']}: {one['figures']:,} figures, {pixels}")
        for finding in self.findings:
            lines += ["", f"{finding.severity.upper()} {finding.code}", f"  {finding.message}"]
            if finding.figures:
                lines.append(f"  {listed(finding.figures)}")
        if not self.findings:
            lines += ["", "nothing was found"]
        lines += ["", f"{counted(self.count(ERROR), 'error')}, {counted(self.count(WARNING), 'warning')}"]
        return "\n".join(lines)


def by_severity(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Findings with the gravest first; the order among equals is kept."""
    return tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))


def raise_leakage(findings: Sequence[Finding], allow: Iterable[str], what: str) -> list[str]:
    """Raises for errors that the user has not named as exceptions.

    Args:
        findings: What was found.
        allow: Codes that the user accepts.
        what: What is stopped («training on ami-br»).

    Returns:
        The messages of the other findings: warnings, and errors that are allowed.

    Raises:
        LeakageError: Names every error and the exception to pass.
    """
    allowed = set(allow)
    errors = [finding for finding in findings if finding.severity == ERROR and finding.code not in allowed]
    if errors:
        said = "; ".join(finding.message for finding in errors)
        codes = list(dict.fromkeys(finding.code for finding in errors))
        options = " ".join(f"--allow {code}" for code in codes)
        raise LeakageError(f"{what} is refused: {said}; to go on in spite of it: {options}")
    return [f"{finding.code}: {finding.message}" for finding in by_severity(findings) if finding.severity != INFO]


def listed(figures: Sequence[str]) -> str:
    """The first few figures as text.

    >>> listed(["a", "b"])
    'a, b'
    """
    more = f" and {len(figures) - SHOWN:,} more" if len(figures) > SHOWN else ""
    return ", ".join(figures[:SHOWN]) + more


def counted(number: int, noun: str) -> str:
    """A number with its noun.

    >>> counted(1, "error"), counted(1200, "error")
    ('1 error', '1,200 errors')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
