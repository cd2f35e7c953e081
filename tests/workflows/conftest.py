"""The probe's bundle of the tests of inference."""

from __future__ import annotations

from tests.inference.conftest import bundle

__all__ = ["bundle"]
