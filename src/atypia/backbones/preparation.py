"""How crops enter a backbone and which of its outputs is used, where a recipe says otherwise than the catalogue.

Torch is not imported here: bundles are read with this before any network is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, get_args

from atypia.backbones.catalogue import BACKBONES, HALF, IMAGENET_MEAN, IMAGENET_STD, Backbone, Pooling
from atypia.base.errors import InputError, must

Channels = tuple[float, float, float]

STATISTICS: Final[Mapping[str, tuple[Channels, Channels]]] = {
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    "half": (HALF, HALF),
}
"""Named means and standard deviations of RGB in [0, 1]."""


WITH_MEAN: Final = ("cls+mean", "cls+rest")
"""Poolings of twice the width."""


@dataclass(frozen=True)
class Preparation:
    """What differs from a catalogue entry; each part None (``view``: 1) where nothing does.

    Attributes:
        mean: Per-channel mean of RGB in [0, 1].
        std: Per-channel standard deviation.
        pooling: See :data:`atypia.backbones.catalogue.Pooling`.
        view: Share of the crop's side that the backbone sees, from its middle, in (0, 1].

    >>> Preparation(pooling="cls").entry("virchow2").feature_dim
    1280
    """

    mean: Channels | None = None
    std: Channels | None = None
    pooling: Pooling | None = None
    view: float = 1.0

    def entry(self, name: str) -> Backbone:
        """The catalogue's entry of a backbone, as it is used here.

        Raises:
            InputError: No such backbone, or a pooling that it does not support.
        """
        own = BACKBONES[name]
        changes: dict[str, Any] = {} if self.mean is None or self.std is None else {"mean": self.mean, "std": self.std}
        if self.pooling is not None and self.pooling != own.pooling:
            changes |= {"pooling": self.pooling, "feature_dim": feature_dim(own, self.pooling)}
        return replace(own, **changes) if changes else own

    def apart(self, name: str) -> Preparation:
        """The same, with None for what the catalogue says anyway: so it makes no difference whether that is written out.

        >>> Preparation(*STATISTICS["imagenet"], pooling="cls").apart("virchow")
        Preparation(mean=None, std=None, pooling='cls', view=1.0)
        """
        own, here = BACKBONES[name], self.entry(name)
        same = (here.mean, here.std) == (own.mean, own.std)
        mean, std = (None, None) if same else (here.mean, here.std)
        return Preparation(mean, std, None if here.pooling == own.pooling else here.pooling, self.view)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; what does not differ from the catalogue is left out."""
        return {key: value for key, value in asdict(self).items() if value is not None and (key, value) != ("view", 1)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preparation:
        """What :meth:`as_dict` gave; other keys are ignored."""
        mean, std = (None if values.get(key) is None else _channels(values[key]) for key in ("mean", "std"))
        return cls(mean, std, values.get("pooling"), values.get("view", 1.0))


AS_CATALOGUED: Final = Preparation()
"""Nothing differs from the catalogue."""


def _channels(values: Any) -> Channels:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def feature_dim(entry: Backbone, pooling: Pooling) -> int:
    """Length of a backbone's feature vector with the given pooling.

    Raises:
        InputError: The backbone does not support that pooling.
    """
    if pooling not in get_args(Pooling) or (pooling == "avg") != (entry.pooling == "avg"):
        choices = "avg" if entry.pooling == "avg" else "cls, cls+mean or cls+rest"
        raise InputError(must("pooling", f"{choices} for {entry.name}", pooling, f"omit it to use {entry.pooling}"))
    width = entry.feature_dim // (2 if entry.pooling in WITH_MEAN else 1)
    return width * (2 if pooling in WITH_MEAN else 1)


def seen_px(side_px: int, view: float) -> int:
    """Pixels of a crop's side that a view shows: as even or odd as the side, so that the middle stays the middle.

    >>> seen_px(128, 0.6)
    76
    """
    return side_px if view == 1 else max(side_px - 2 * round(side_px * (1 - view) / 2), 2 - side_px % 2)
