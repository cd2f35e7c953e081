"""The version of this installation, written once beside ``pyproject.toml``."""

from typing import Final

VERSION: Final = "0.1.0"
