"""The classifier that people use: one saved network or several, from crops or slides to verdicts.

    from atypia.inference.classifier import Classifier
    classifier = Classifier.load()
    p = classifier.predict(crops)                                     # (n,) probabilities of atypical
    table = classifier.predict_slide("case.svs", Points.at(xs, ys))   # one row a figure

Neither torch nor timm is loaded where an exported network is there, as in the shipped model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from atypia.base.errors import AbsentError, InputError, must
from atypia.base.records import ATYPICAL_TASK, CLASS_NAMES
from atypia.data.images.geometry import CropGeometry
from atypia.inference.bundles.decision import REFUSED, UNCERTAIN, Decision, Verdicts
from atypia.inference.runtimes.catalogue import Runtime, open_runtime

if TYPE_CHECKING:
    import pyarrow as pa

    from atypia.data.points.base import Points
    from atypia.data.slides.streams import CropBatch, Refusal

SHIPPED: Final = "atypia"
"""Name of the model inside the package."""
MODELS: Final = Path(__file__).parents[1] / "models"
VIEWS: Final = 8
"""Flips and quarter turns of a crop that test-time augmentation averages."""

Crops = npt.NDArray[np.uint8]
Stream = Iterable["CropBatch | Refusal"]


@dataclass(frozen=True, eq=False)
class Member:
    """One network of a classifier, and how its numbers become verdicts."""

    name: str
    runtime: Runtime
    decision: Decision


class Classifier:
    """Classifies mitotic figures; use :meth:`load`.

    Several members vote: the probability is the mean of theirs and the threshold the mean of their
    thresholds. A figure is refused where more than half of the members refuse it, and uncertain where
    no more than half of them call it what the mean decides. The novelty is the mean of theirs.

    Attributes:
        members: The networks.
        tta: Whether each crop is scored in eight flips and quarter turns and the logits averaged.
        geometry: What crops show and their side: the same for all members.
        field_um: Side of the field on the tissue, in µm; None where it is not known.
        threshold: On the probability of the positive class.
        classes: Names of class 0 and class 1 (the positive class).
    """

    def __init__(self, members: Sequence[Member], tta: bool = False) -> None:
        if not members:
            raise InputError(must("members", "at least one network", "none", "name a model"))
        self.members, self.tta = tuple(members), tta
        first = members[0]
        for member in members[1:]:
            for what in ("geometry", "field_um", "task"):
                one, other = first.runtime.config.get(what), member.runtime.config.get(what)
                if one != other:
                    fix = "name models that see the same field"
                    raise InputError(must(f"{what} of {member.name}", f"as that of {first.name} ({one})", other, fix))
        config = first.runtime.config
        if config["task"] != ATYPICAL_TASK:
            fix = "score it with `atypia evaluate`"
            raise InputError(must(f"task of {first.name}", repr(ATYPICAL_TASK), repr(config["task"]), fix))
        self.geometry = CropGeometry(**config["geometry"])
        self.field_um: float | None = config.get("field_um")
        self.classes = CLASS_NAMES[config["task"]]
        self.threshold = float(np.mean([member.decision.threshold for member in members]))

    @classmethod
    def load(
        cls,
        model: str | Path | Sequence[str | Path] = SHIPPED,
        *,
        point: str | None = None,
        coverage: float | None = None,
        threshold: float | None = None,
        runtime: str | None = None,
        tta: bool = False,
    ) -> Classifier:
        """Opens a classifier.

        Args:
            model: ``atypia`` for the shipped model, a bundle's folder, or an exported file; several are averaged.
            point: Operating point by name, for instance ``sensitivity-0.90``; None for the model's threshold.
            coverage: Coverage of the prediction sets behind «uncertain»; None for the model's own.
            threshold: Decide at this probability of the positive class instead, in (0, 1); None for the model's.
            runtime: ``onnx``, ``openvino`` or ``torch``; None for the first that is there.
            tta: Whether to average over flips and quarter turns, at eight times the cost.

        Raises:
            AbsentError: The model, or what runs it, is not here.
            DataError: It is damaged.
            InputError: No such operating point or coverage, a threshold outside (0, 1), or the models do not go
                together.
        """
        given = [model] if isinstance(model, str | Path) else list(model)
        members = []
        for one in given:
            opened = open_runtime(find_model(one), runtime)
            decision = opened.decision if point is None else opened.decision.at(point)
            decision = decision if coverage is None else decision.with_coverage(coverage)
            members.append(Member(str(opened.config.get("name", one)), opened, decision))
        opened = cls(members, tta)
        return opened if threshold is None else with_threshold(opened, threshold)

    @property
    def name(self) -> str:
        """The members' names, joined by ``+``."""
        return "+".join(member.name for member in self.members)

    @property
    def passes(self) -> int:
        """Forward passes that one crop costs."""
        return len(self.members) * (VIEWS if self.tta else 1)

    @property
    def slide_geometry(self) -> CropGeometry:
        """How crops are cut from slides and from images of known µm/px: at the size that the model was trained on.

        Raises:
            InputError: The model does not say which size that is.
        """
        if self.geometry.side_um is not None or self.geometry.side_px is not None:
            return self.geometry
        if self.field_um is None:
            raise InputError(
                must(
                    "field_um", "known to cut crops from slides", f"nothing in {self.name}", "train on data with µm/px"
                )
            )
        return CropGeometry(self.geometry.out_px, side_um=self.field_um)

    def predict(self, crops: Crops) -> npt.NDArray[np.float64]:
        """Calibrated probability of the positive class, shape (n,), in [0, 1].

        Args:
            crops: RGB, shape (n, side, side, 3), uint8, of the model's side (``geometry.out_px``).

        Raises:
            InputError: The crops have another shape or type.
        """
        return self.judge(crops).p

    def judge(self, crops: Crops) -> Verdicts:
        """Probability, decision, call and novelty of crops; see :meth:`predict`."""
        verdicts = [member.decision.apply(*self._outputs(member, crops)) for member in self.members]
        return verdicts[0] if len(verdicts) == 1 else combined(verdicts, self.threshold, self.classes)

    def judged_crops(self, items: Stream) -> Iterator[tuple[CropBatch, Verdicts] | Refusal]:
        """Judges a stream of crops, in constant memory; needs no pyarrow.

        Args:
            items: Batches of crops, and refusals of figures that gave none.

        Yields:
            Each batch with its verdicts, and each refusal.
        """
        from atypia.data.slides.streams import CropBatch

        for item in items:
            yield (item, self.judge(item.crops)) if isinstance(item, CropBatch) else item

    def judged(self, items: Stream) -> Iterator[tuple[CropBatch | Refusal, pa.RecordBatch]]:
        """As :meth:`judged_crops`, with rows of results (:data:`atypia.inference.results.RESULTS_SCHEMA`);
        :mod:`atypia.inference.ordered` puts them in the order of the input.
        """
        from atypia.inference.results import refusal_batch, result_batch

        for found in self.judged_crops(items):
            if isinstance(found, tuple):
                crops, verdicts = found
                yield crops, result_batch(crops, verdicts, self.name, self.threshold)
            else:
                yield found, refusal_batch([found], self.name, self.threshold)

    def predict_files(self, inputs: Sequence[str | Path], *, mpp: float | None = None) -> pa.Table:
        """Judges image files, folders and patterns; one row a figure. ``mpp`` as for :func:`crop_files`.

        Raises:
            InputError: An input does not exist.
            DataError: There is no image.
        """
        from atypia.data.slides.streams import crop_files

        geometry = self.geometry if mpp is None else self.slide_geometry
        return self._table(crop_files(inputs, geometry, mpp=mpp, given_as="given", assumed_um=self.field_um))

    def predict_slide(
        self,
        slide: str | Path,
        points: Points,
        *,
        mpp: float | None = None,
        mpp_from: str = "auto",
        origin: str = "auto",
        offset_px: tuple[float, float] = (0.0, 0.0),
    ) -> pa.Table:
        """Judges figures on a slide or a region image; one row a point, in their order.

        Args:
            slide: The file.
            points: Where the figures are, in pixels of level 0.
            mpp: µm/px, where the file does not state it.
            mpp_from: Whom to believe where statements of µm/px differ: ``given``, or a place of the file
                (:data:`atypia.data.slides.scale.CHOICES`).
            origin: What the points count from on a slide whose scanned area is smaller than its canvas:
                ``canvas`` (as OpenSlide), ``bounds`` (as QuPath), or ``auto``: told by the points.
            offset_px: Added to the points, in pixels of the file, for a slide that was converted and cropped.

        Raises:
            DataError: The slide cannot be read, its µm/px is not known or contradicted, or it cannot be told
                what the points count from.
        """
        from atypia.data.slides.slidecrops import SlideReading, slide_crops

        how = SlideReading(mpp, mpp_from, "given", origin, offset_px)
        return self._table(slide_crops(slide, points, self.slide_geometry, reading=how))

    def _table(self, items: Stream) -> pa.Table:
        import pyarrow as pa

        from atypia.inference.ordered import classify_stream
        from atypia.inference.results import RESULTS_SCHEMA

        batches: list[pa.RecordBatch] = []
        classify_stream(self, items, rows=[batches.append])
        return pa.Table.from_batches(batches, schema=RESULTS_SCHEMA)

    def _outputs(self, member: Member, crops: Crops) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        if not self.tta:
            return member.runtime.run(crops)
        logits, features = zip(*(member.runtime.run(view) for view in dihedral_views(crops)), strict=True)
        return np.mean(logits, axis=0), np.mean(features, axis=0)


def dihedral_views(crops: Crops) -> Iterator[Crops]:
    """The eight flips and quarter turns of crops (n, s, s, 3), each contiguous."""
    for flipped in (crops, crops[:, :, ::-1]):
        for turns in range(4):
            yield np.ascontiguousarray(np.rot90(flipped, turns, axes=(1, 2)))


def combined(verdicts: Sequence[Verdicts], threshold: float, classes: tuple[str, str]) -> Verdicts:
    """What several members say together; see :class:`Classifier`."""
    p = np.mean([v.p for v in verdicts], axis=0)
    decision = (p >= threshold).astype(np.int8)
    calls = []
    for i, decided in enumerate(decision.tolist()):
        votes = Counter(v.call[i] for v in verdicts)
        half = len(verdicts) / 2
        if votes[REFUSED] > half:
            calls.append(REFUSED)
        else:
            calls.append(classes[decided] if votes[classes[decided]] > half else UNCERTAIN)
    return Verdicts(p, decision, calls, np.mean([v.novelty for v in verdicts], axis=0))


def find_model(model: str | Path) -> Path:
    """Folder or file of a model: the shipped one by its name, else a path.

    Raises:
        AbsentError: There is no model of this name, and nothing at this path.
    """
    path = named_model(model)
    if path.exists():
        return path
    names = sorted(folder.name for folder in MODELS.glob("*/") if folder.is_dir()) if MODELS.is_dir() else []
    known = f"shipped: {', '.join(names)}" if names else "this installation ships none"
    raise AbsentError(
        must("model", f"a bundle's folder, an exported file, or a shipped model ({known})", model, "check it")
    )


def named_model(model: str | Path) -> Path:
    """The folder of the shipped model of this name, else the name as a path, which need not exist."""
    shipped = MODELS / str(model)
    if isinstance(model, str) and model.isidentifier() and shipped.is_dir():
        return shipped
    return Path(model)


def with_threshold(classifier: Classifier, threshold: float) -> Classifier:
    """The same classifier deciding at another threshold.

    Raises:
        InputError: Not between 0 and 1.
    """
    members = [replace(m, decision=replace(m.decision, threshold=threshold)) for m in classifier.members]
    return Classifier(members, classifier.tta)
