"""What the API answers; the OpenAPI description at ``/openapi.json`` is generated from it and from the bodies of requests."""

from __future__ import annotations

from pydantic import BaseModel, Field


class Problem(BaseModel):
    """Why a request was refused."""

    detail: str


class Health(BaseModel):
    """The server is running."""

    status: str
    version: str
    figures: int


class Has(BaseModel):
    """Which columns are known for the figures."""

    p: bool
    label: bool
    votes: bool
    features: bool
    slides: bool
    novelty: bool


class Session(BaseModel):
    """The opened data."""

    title: str
    source: str
    task: str
    figures: int
    has: Has
    cases: list[str]
    domains: list[str]
    calls: list[str]
    raters: list[str]
    rater: str | None = Field(description="Rater, if given at the start")
    model: str | None
    threshold: float | None
    field_um: float | None
    decisions: list[str]
    sorts: list[str]
    queues: list[str]
    tags: list[str] = Field(description="Tags that are offered, and those in use")
    notes: list[str]
    fingerprint: str = Field(description="Identifies the set of figures; sent as `v`, it makes crops cacheable")
    version: str


class Figure(BaseModel):
    """A figure as one rater sees it. In blind mode `p` to `others` are empty and `figure_id` is a number."""

    index: int
    figure_id: str
    case: str | None
    domain: str | None
    p: float | None = Field(description="Probability of atypical")
    call: str | None
    uncertainty: float | None = Field(description="Binary entropy of p, in bits")
    novelty: float | None
    label: int | None = Field(description="1 atypical, 0 normal")
    votes: list[int | None] | None
    disagreement: float | None = Field(description="|p - label|")
    slide: int | None
    x_px: float | None
    y_px: float | None
    mpp: float | None
    width_um: float | None = Field(description="Physical width of the crop shown")
    decision: str | None
    note: str | None
    tags: list[str] = Field(description="The rater's tags, such as the type of atypia")
    event: int | None = Field(description="Id of the rater's latest event on it, for `seen_previous`")
    assigned: list[str] = Field(description="Raters to whom it is assigned")
    added: bool = Field(description="Whether a rater added it; the opened data does not have it")
    mpp_assumed: bool = Field(description="Whether the model assumed the µm/px")
    beyond: bool = Field(description="Whether its field reaches beyond the slide")
    others_tags: dict[str, list[str]]
    others: dict[str, str]
    settled: str | None = Field(description="Decision of an arbitration")


class FigurePage(BaseModel):
    """A part of a list of figures."""

    total: int
    offset: int
    figures: list[Figure]


class FigureList(BaseModel):
    """A part of a list of figures without offset."""

    total: int
    figures: list[Figure]


class QueueReply(BaseModel):
    """Figures to look at, most useful first, and the reasons."""

    figures: list[Figure]
    reason: dict[str, str]
    note: str = Field(description="How they were chosen")


class Rate(BaseModel):
    """Share of atypical among the decisions atypical and normal, with its exact 95 % interval."""

    value: float | None
    low: float | None
    high: float | None


class WholeRateReply(BaseModel):
    """Share of atypical figures among all: decided ones as decided, the others by the model, corrected for its errors."""

    rate: float | None
    rate_low: float | None = Field(description="Lower end of the 95 % interval")
    rate_high: float | None
    says: bool = Field(description="Whether anything can be said")
    decided: int
    by_model: int = Field(description="Figures that nobody decided as atypical or normal")
    left_out: int = Field(description="Figures that neither people nor the model decided")
    text: str
    notes: list[str]


class NextCommandReply(BaseModel):
    """The command that calibrates the model with the decided figures."""

    command: str
    file: str = Field(description="Name under which the page saves the decided figures")
    atypical: int
    normal: int
    notes: list[str]


class Rates(BaseModel):
    """The rate of all figures; null without a model's probabilities."""

    whole: WholeRateReply | None


class Rater(BaseModel):
    """A rater and their progress."""

    name: str
    decided: int
    counts: dict[str, int]
    rate: Rate
    assigned: int = Field(description="Figures assigned to the rater")


class Several(BaseModel):
    """How many figures were changed, and the event of each by its index."""

    changed: int
    events: dict[str, int]


class DecisionReply(BaseModel):
    """A decision, already written to disk."""

    id: int
    rater: str
    index: int
    figure_id: str
    decision: str | None
    previous: str | None
    note: str | None
    tags: list[str]
    time: str


class UndoneFigure(BaseModel):
    """A figure after an undo."""

    index: int
    decision: str | None
    note: str | None
    tags: list[str]
    event: int


class Undone(BaseModel):
    """What was undone; `figures` are all figures of it, several where they were decided at once."""

    id: int
    undone: int
    index: int
    decision: str | None
    note: str | None
    tags: list[str]
    kind: str
    figures: list[UndoneFigure]


class LogEntry(BaseModel):
    """One line of the log."""

    id: int
    time: str
    rater: str
    index: int
    figure_id: str
    kind: str
    decision: str | None
    previous: str | None
    note: str | None
    previous_note: str | None
    undoes: int | None
    tags: str | None
    previous_tags: str | None
    value: str | None = Field(description="What an assignment or an added figure sets, as JSON")
    previous_value: str | None
    batch: int | None = Field(description="Number shared by events made at once")


class Pair(BaseModel):
    """Agreement of two raters."""

    first: str
    second: str
    figures: int
    kappa: float | None


class AgainstOthers(BaseModel):
    """One rater against the majority of the others."""

    rater: str
    compared: int
    ties: int
    sensitivity: float | None
    specificity: float | None
    balanced_accuracy: float | None


class Consensus(BaseModel):
    """The raters' joint decisions, and their agreement."""

    raters: list[str]
    figures_with_two: int
    fleiss_kappa: float | None
    pairs: list[Pair]
    against_others: list[AgainstOthers]
    ties: int
    disputed: int = Field(description="Unsettled figures that two raters decided differently, ties among them")
    majority: dict[str, int]
    rate: Rate
    settled: int


class SlideEntry(BaseModel):
    """A slide or region; size is null if the file cannot be read or was not opened yet.

    µm/px are those of the results, else the file's.
    """

    slide: int
    name: str
    width_px: int | None
    height_px: int | None
    mpp: float | None
    figures: int
    reason: str | None


class SlideFigure(BaseModel):
    """A figure's place on its slide."""

    index: int
    x_px: float
    y_px: float
    call: str | None
    p: float | None
    decision: str | None
    side_px: float
    added: bool


class Imported(BaseModel):
    """Result of an import."""

    taken: int
    unknown: int
    skipped: int


class PredictedRow(BaseModel):
    """One crop of an upload."""

    figure_id: str
    p_atypical: float | None
    call: str
    novelty: float | None
    reason: str | None
    crop: str | None = Field(
        default=None, description="The crop as a data URL of a small JPEG; null if it was not read"
    )


class Predicted(BaseModel):
    """The model's predictions for an upload."""

    model: str
    threshold: float
    rows: list[PredictedRow]
