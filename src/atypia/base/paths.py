"""Paths of data, imports and derived files.

==============  =======================  ==============================================
what            set by                   else
==============  =======================  ==============================================
data root       ``--root``               ``$ATYPIA_DATA``, else ``<home>/data``
home            ``$ATYPIA_HOME``         the user's data folder of the platform
cache           ``$ATYPIA_CACHE``        ``<home>/cache``
logs            ``$ATYPIA_HOME``         the user's log folder of the platform
==============  =======================  ==============================================

The data root may be read-only: derived files (manifests, crop stores, features) are written to
the cache and can be deleted at any time. Paths of imported folders are stored in the home.
"""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_data_path, user_log_path


def home() -> Path:
    """Atypia's own folder: ``$ATYPIA_HOME``, else the user's data folder of the platform."""
    chosen = os.environ.get("ATYPIA_HOME")
    return Path(chosen).expanduser() if chosen else user_data_path("atypia", appauthor=False)


def data_root(root: str | os.PathLike[str] | None = None) -> Path:
    """The folder in which published data is searched, and to which it is downloaded."""
    chosen = root or os.environ.get("ATYPIA_DATA")
    return Path(chosen).expanduser().resolve() if chosen else home() / "data"


def cache_root() -> Path:
    """The folder of derived files: ``$ATYPIA_CACHE``, else ``<home>/cache``."""
    chosen = os.environ.get("ATYPIA_CACHE")
    return Path(chosen).expanduser() if chosen else home() / "cache"


def log_root() -> Path:
    """The folder of logs of unexpected errors: ``$ATYPIA_HOME/log``, else the user's log folder."""
    chosen = os.environ.get("ATYPIA_HOME")
    return Path(chosen).expanduser() / "log" if chosen else user_log_path("atypia", appauthor=False)
