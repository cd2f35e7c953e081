"""Atypia: classifies mitotic figures as atypical or normal, with calibrated probabilities.

The names in ``__all__`` are the public interface for Python (docs/python.md; what stays stable: docs/stability.md). Each
is loaded when it is first used, so that ``import atypia`` costs nothing.

>>> import atypia
>>> atypia.Classifier.load()
<Classifier atypia: a field of 32 µm at 128 px, threshold 0.282, onnx>
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING

from atypia.base.extras import absent as _absent
from atypia.base.process import telemetry as _telemetry
from atypia.base.version import VERSION as __version__

if _TYPE_CHECKING:
    from atypia import statistics as statistics
    from atypia.backbones.features import open_features as open_features
    from atypia.base.deprecation import AtypiaDeprecationWarning as AtypiaDeprecationWarning
    from atypia.base.errors import AtypiaError as AtypiaError
    from atypia.base.registries import registry as registry
    from atypia.data.audit.report import audit as audit
    from atypia.data.manifest import Manifest as Manifest
    from atypia.data.phantom.dataset import write_phantom as write_phantom
    from atypia.inference.classifier import Classifier as Classifier
    from atypia.inference.predicted import Predictions as Predictions
    from atypia.splits.protocol import make_split as make_split
    from atypia.splits.split import Split as Split
    from atypia.statistics import metrics as metrics
    from atypia.statistics.differences.comparison import Comparison as Comparison
    from atypia.workflows.evaluate import evaluate as evaluate
    from atypia.workflows.laboratory.calibrate import calibrate as calibrate
    from atypia.workflows.opening import load_recipe as load_recipe
    from atypia.workflows.opening import open_crops as open_crops
    from atypia.workflows.opening import open_data as open_data
    from atypia.workflows.predict import predict_crops as predict_crops
    from atypia.workflows.predict import predict_slide as predict_slide
    from atypia.workflows.results import open_results as open_results
    from atypia.workflows.slides.predict import predict_slides as predict_slides
    from atypia.workflows.studies.study import report_study as report_study
    from atypia.workflows.studies.study import run_study as run_study
    from atypia.workflows.train import train as train

_PLACES = {
    "open_data": "workflows.opening",
    "write_phantom": "data.phantom.dataset",
    "Manifest": "data.manifest",
    "audit": "data.audit.report",
    "make_split": "splits.protocol",
    "Split": "splits.split",
    "open_crops": "workflows.opening",
    "open_features": "backbones.features",
    "load_recipe": "workflows.opening",
    "train": "workflows.train",
    "evaluate": "workflows.evaluate",
    "open_results": "workflows.results",
    "Classifier": "inference.classifier",
    "predict_crops": "workflows.predict",
    "predict_slide": "workflows.predict",
    "predict_slides": "workflows.slides.predict",
    "calibrate": "workflows.laboratory.calibrate",
    "Predictions": "inference.predicted",
    "Comparison": "statistics.differences.comparison",
    "metrics": "statistics.metrics",
    "statistics": "statistics",
    "run_study": "workflows.studies.study",
    "report_study": "workflows.studies.study",
    "registry": "base.registries",
    "AtypiaError": "base.errors",
    "AtypiaDeprecationWarning": "base.deprecation",
}
"""The module of each name, below ``atypia``."""
_MODULES = ("metrics", "statistics")
"""Names that are modules themselves."""

__all__ = [  # noqa: RUF022  in the order of work
    "open_data",
    "write_phantom",
    "Manifest",
    "audit",
    "make_split",
    "Split",
    "open_crops",
    "open_features",
    "load_recipe",
    "train",
    "evaluate",
    "open_results",
    "Classifier",
    "predict_crops",
    "predict_slide",
    "predict_slides",
    "calibrate",
    "Predictions",
    "Comparison",
    "metrics",
    "statistics",
    "run_study",
    "report_study",
    "registry",
    "AtypiaError",
    "AtypiaDeprecationWarning",
    "__version__",
]

_telemetry.switch_off()  # before any package that reports is imported


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module 'atypia' has no attribute {name!r}; public names: {', '.join(__all__)}")
    try:
        module = _import_module(f"atypia.{_PLACES[name]}")
    except ModuleNotFoundError as error:
        missing = _absent(f"`atypia.{name}`", error)
        if missing is None:
            raise
        raise missing from error
    found = module if name in _MODULES else getattr(module, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
