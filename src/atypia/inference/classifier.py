"""The classifier that people use: one saved network or several, from crops or slides to predictions.

    from atypia import Classifier
    classifier = Classifier.load()
    said = classifier.predict(crops)                          # arrays, Pillow images, paths, of any size
    said = classifier.predict_slide("case.svs", centres)      # (n, 2) pixels, or a file of points

Neither torch nor timm is loaded if there is an exported network, as in the shipped model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from atypia.base.errors import AbsentError, DataError, InputError, must
from atypia.base.records import ATYPICAL_TASK, CLASS_NAMES
from atypia.data.images.geometry import CropGeometry
from atypia.inference.bundles.bundle import FINGERPRINT
from atypia.inference.bundles.decision import Decision, Verdicts
from atypia.inference.runtimes.catalogue import Runtime, open_runtime, run_by
from atypia.inference.voting import VIEWS, combined, dihedral_views

if TYPE_CHECKING:
    import pyarrow as pa

    from atypia.data.points.base import Points
    from atypia.data.slides.streams import CropBatch, Refusal
    from atypia.inference.crop_inputs import Crops as CropInputs
    from atypia.inference.predicted import Predictions

SHIPPED: Final = "atypia"
"""Name of the model inside the package."""
MODELS: Final = Path(__file__).parents[1] / "models"

Crops = npt.NDArray[np.uint8]
Stream = Iterable["CropBatch | Refusal"]


@dataclass(frozen=True, eq=False)
class Member:
    """One network of a classifier, with its decision.

    Attributes:
        name: Its name.
        runtime: The network.
        decision: From its logits and features to verdicts.
        path: The bundle or file that it was opened from; None if it was made in memory.
    """

    name: str
    runtime: Runtime
    decision: Decision
    path: Path | None = None


class Classifier:
    """Classifies mitotic figures; use :meth:`load`.

    With several members, probability, threshold and novelty are the means over the members. A figure is
    refused if more than half of the members refuse it, and uncertain if at most half of them call it the
    class that the mean decides.

    Attributes:
        members: The networks.
        tta: Whether each crop is scored in eight flips and quarter turns and the logits averaged.
        geometry: What crops show and their side: the same for all members.
        field_um: Side of the field on the tissue, in µm; None if it is not known.
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
        device: str = "auto",
    ) -> Classifier:
        """Opens a classifier.

        Args:
            model: ``atypia`` for the shipped model, a bundle's folder, or an exported file; several are averaged.
            point: Operating point by name, for instance ``sensitivity-0.90``; None for the model's threshold.
            coverage: Coverage of the prediction sets behind «uncertain»; None for the model's own.
            threshold: Decide at this probability of the positive class instead, in (0, 1); None for the model's.
            runtime: ``onnx``, ``openvino`` or ``torch``; None for the fastest that is installed.
            tta: Whether to average over flips and quarter turns, at eight times the cost.
            device: Where it is computed: ``auto``, ``cpu`` or ``cuda``; through onnxruntime also ``coreml`` or ``directml``.

        Raises:
            AbsentError: The model, or what runs it, is not on this machine.
            DataError: It is damaged.
            InputError: No such operating point, coverage or device, a threshold outside (0, 1), or the models do not go
                together.
        """
        given = [model] if isinstance(model, str | Path) else list(model)
        members = []
        for one in given:
            path = find_model(one)
            opened = open_runtime(path, runtime, device=device)
            decision = opened.decision if point is None else opened.decision.at(point)
            decision = decision if coverage is None else decision.with_coverage(coverage)
            members.append(Member(str(opened.config.get("name", one)), opened, decision, path.absolute()))
        opened = cls(members, tta)
        return opened if threshold is None else with_threshold(opened, threshold)

    def __repr__(self) -> str:
        runtimes = ", ".join(dict.fromkeys(member.runtime.name for member in self.members))
        field = "a field of unknown size" if self.field_um is None else f"a field of {self.field_um:g} µm"
        views = f", {VIEWS} views" if self.tta else ""
        return (f"<Classifier {self.name}: {field} at {self.geometry.out_px} px, threshold {self.threshold:.3f}, "
                f"{runtimes}{views}>")  # fmt: skip

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as paths, content hashes and decisions; unpickling opens the files again."""
        return _opened_again, (tuple(_closed(member) for member in self.members), self.tta)

    @property
    def name(self) -> str:
        """The members' names, joined by ``+``."""
        return "+".join(member.name for member in self.members)

    @property
    def run_by(self) -> str:
        """What computes the networks, for instance ``onnx 1.31.1 on cpu``."""
        return ", ".join(dict.fromkeys(run_by(member.runtime) for member in self.members))

    @property
    def passes(self) -> int:
        """Forward passes that one crop costs."""
        return len(self.members) * (VIEWS if self.tta else 1)

    @property
    def slide_geometry(self) -> CropGeometry:
        """How crops are cut from slides and from images of known µm/px: at the size that the model was trained on.

        Raises:
            InputError: The model does not record this size.
        """
        if not self.geometry.is_whole:
            return self.geometry
        if self.field_um is None:
            raise InputError(
                must(
                    "field_um", "known to cut crops from slides", f"nothing in {self.name}", "train on data with µm/px"
                )
            )
        return self.geometry.with_field(self.field_um)

    def predict(
        self, crops: CropInputs, *, mpp: float | None = None, mpp_from: str = "auto", batch_size: int = 64
    ) -> Predictions:
        """Predicts one crop or many; gives the same as ``atypia predict`` for the same files.

        Args:
            crops: An array (h, w, 3) or (n, h, w, 3), uint8 RGB; a Pillow image; a path of an image, a folder, a pattern
                or a TIFF stack; or a list of these, of any sizes. Each shows one mitotic figure in its middle.
            mpp: µm/px of all of them: the model's field is then cut from their middle. None: the value in each file;
                if there is none, the whole crop is used as the field.
            mpp_from: Which value is used if ``mpp`` and a file differ: ``given``, or a place of the file
                (:data:`atypia.data.slides.scale.CHOICES`).
            batch_size: Crops at once.

        Returns:
            One row per crop, in their order; one that cannot be read or is not the crop of one figure is refused in its
            place, with the reason.

        Raises:
            InputError: Something is no crop, or a path does not exist.
            DataError: A folder holds no image.

        >>> import numpy as np
        >>> said = Classifier.load().predict(np.full((2, 128, 128, 3), 200, np.uint8))
        >>> said.calls, bool((said.p_atypical < 0.5).all())
        (['refused', 'refused'], True)
        """
        from atypia.inference.crop_inputs import stream_of
        from atypia.inference.requests import StreamNotes

        told = StreamNotes()
        table = self._table(stream_of(crops, self, told, mpp=mpp, mpp_from=mpp_from, batch_size=batch_size))
        return self._said(table, told.warnings())

    def probabilities(self, crops: Crops) -> npt.NDArray[np.float64]:
        """Calibrated probability of the positive class, shape (n,), in [0, 1], of crops that are ready for the network.

        Args:
            crops: RGB, shape (n, side, side, 3), uint8, of the model's side (``geometry.out_px``).

        Raises:
            InputError: The crops have another shape or type.
        """
        return self.judge(crops).p

    def judge(self, crops: Crops) -> Verdicts:
        """Probability, decision, call and novelty of crops; see :meth:`probabilities`."""
        verdicts = [member.decision.apply(*self._outputs(member, crops)) for member in self.members]
        return verdicts[0] if len(verdicts) == 1 else combined(verdicts, self.threshold, self.classes)

    def judged_crops(self, items: Stream) -> Iterator[tuple[CropBatch, Verdicts] | Refusal]:
        """Classifies a stream of crops, in constant memory; needs no pyarrow.

        Args:
            items: Batches of crops, and refusals of figures without a crop.

        Yields:
            Each batch with its verdicts, and each refusal.
        """
        from atypia.data.slides.streams import CropBatch

        for item in items:
            yield (item, self.judge(item.crops)) if isinstance(item, CropBatch) else item

    def judged(self, items: Stream) -> Iterator[tuple[CropBatch | Refusal, pa.RecordBatch]]:
        """As :meth:`judged_crops`, with rows of results (:data:`atypia.inference.results.RESULTS_SCHEMA`);
        :mod:`atypia.inference.input_order` puts them in the order of the input.
        """
        from atypia.inference.results import refusal_batch, result_batch

        for found in self.judged_crops(items):
            if isinstance(found, tuple):
                crops, verdicts = found
                yield crops, result_batch(crops, verdicts, self.name, self.threshold)
            else:
                yield found, refusal_batch([found], self.name, self.threshold)

    def predict_slide(
        self,
        slide: str | Path,
        points: Points | npt.ArrayLike | str | Path,
        *,
        mpp: float | None = None,
        mpp_from: str = "auto",
        origin: str = "auto",
        offset_px: tuple[float, float] = (0.0, 0.0),
        classes: Sequence[str] = (),
    ) -> Predictions:
        """Predicts figures on a slide or a region image; one row per point, in their order.

        Args:
            slide: The file.
            points: Positions of the figures, in pixels of level 0: an array of centres (n, 2), x to the right and y down;
                :class:`atypia.data.points.base.Points`; or a file, as ``--points`` takes it.
            mpp: µm/px, if the file does not state it.
            mpp_from: Which value is used if statements of µm/px differ: ``given``, or a place of the file
                (:data:`atypia.data.slides.scale.CHOICES`).
            origin: What the points count from on a slide whose scanned area is smaller than its canvas:
                ``canvas`` (as OpenSlide), ``bounds`` (as QuPath), or ``auto``: told by the points.
            offset_px: Added to the points, in pixels of the file, for a slide that was converted and cropped.
            classes: For a file: only points of one of these classes; needed if it has several.

        Raises:
            InputError: The points have another shape, or the file has several classes and none is named.
            DataError: The slide cannot be read, its µm/px is unknown or contradictory, or the origin of the points
                cannot be decided.
        """
        from atypia.data.points.base import Points
        from atypia.data.slides.slidecrops import SlideLog, SlideReading, slide_crops, slide_points

        how = SlideReading(mpp, mpp_from, "given", origin, offset_px)
        if isinstance(points, str | Path):
            points = slide_points(slide, points, classes=classes, reading=how)
        elif not isinstance(points, Points):
            centres = np.asarray(points, dtype=np.float64)
            if centres.ndim != 2 or centres.shape[1] != 2:
                fix = "give one x and y a figure, in pixels of level 0"
                raise InputError(must("points", "of shape (n, 2)", f"shape {centres.shape}", fix))
            points = Points.at(centres[:, 0], centres[:, 1])
        notes = list(points.notes)
        stream = slide_crops(slide, points, self.slide_geometry, reading=how, log=SlideLog(notes, {}))
        return self._said(self._table(stream), notes)

    def _said(self, table: pa.Table, notes: Sequence[str]) -> Predictions:
        from atypia.inference.predicted import Predictions

        return Predictions(table, self.name, class_names=self.classes, notes=tuple(notes))

    def _table(self, items: Stream) -> pa.Table:
        import pyarrow as pa

        from atypia.inference.input_order import classify_stream
        from atypia.inference.results import RESULTS_SCHEMA

        batches: list[pa.RecordBatch] = []
        classify_stream(self, items, rows=[batches.append])
        return pa.Table.from_batches(batches, schema=RESULTS_SCHEMA)

    def _outputs(self, member: Member, crops: Crops) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        if not self.tta:
            return member.runtime.run(crops)
        logits, features = zip(*(member.runtime.run(view) for view in dihedral_views(crops)), strict=True)
        return np.mean(logits, axis=0), np.mean(features, axis=0)


@dataclass(frozen=True, eq=False)
class _Closed:
    """A member without its network, as it is sent to another process."""

    name: str
    path: Path
    runtime: str
    fingerprint: str
    decision: Decision
    device: str = "auto"


def _closed(member: Member) -> _Closed:
    if member.path is None:
        fix = "open it from a bundle with Classifier.load"
        raise InputError(must("classifier", "opened from files to be pickled", f"{member.name}, made in memory", fix))
    runtime = member.runtime
    device = str(getattr(runtime, "device", "auto")).partition(":")[0]
    return _Closed(member.name, member.path, runtime.name, _fingerprint(runtime), member.decision, device)


def _opened_again(closed: Sequence[_Closed], tta: bool) -> Classifier:
    members = []
    for one in closed:
        runtime = open_runtime(find_model(one.path), one.runtime, device=one.device)
        if _fingerprint(runtime) != one.fingerprint:
            fix = "load the classifier anew"
            raise DataError(
                must(str(one.path), f"the classifier {one.fingerprint[:8]} that was pickled", "another", fix)
            )
        members.append(Member(one.name, runtime, one.decision, one.path))
    return Classifier(members, tta)


def _fingerprint(runtime: Runtime) -> str:
    return str(runtime.config.get(FINGERPRINT, ""))


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
    expected = f"a bundle's folder, an exported file, or a shipped model ({known})"
    raise AbsentError(must("model", expected, model, "check the name or path"))


def named_model(model: str | Path) -> Path:
    """The folder of the shipped model of this name; otherwise the name as a path, which may not exist."""
    shipped = MODELS / str(model)
    if isinstance(model, str) and model.replace("-", "_").isidentifier() and shipped.is_dir():
        return shipped
    return Path(model)


def with_threshold(classifier: Classifier, threshold: float) -> Classifier:
    """The same classifier deciding at another threshold.

    Raises:
        InputError: Not between 0 and 1.
    """
    members = [replace(m, decision=replace(m.decision, threshold=threshold)) for m in classifier.members]
    return Classifier(members, classifier.tta)
