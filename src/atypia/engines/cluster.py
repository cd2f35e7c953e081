"""A connection to a Ray cluster: the caller's, or a temporary one on this machine's cores."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from atypia.base.errors import AbsentError
from atypia.base.plugins import SWITCH
from atypia.base.process.cores import core_count
from atypia.base.process.telemetry import SWITCHES

PASSED_ON: Final = ("ATYPIA_HOME", "ATYPIA_CACHE", "ATYPIA_DATA", SWITCH, "HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_HOME")
"""Settings of the caller that workers of a cluster need too."""


@contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """A connection to a cluster, closed here only if it was opened here.

    Args:
        address: Address of the head, for instance ``host:6379``, or ``auto``; None for ``$RAY_ADDRESS``, else a cluster on
            this machine's cores.

    Raises:
        AbsentError: There is none, or it cannot be started.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    where = address or os.environ.get("RAY_ADDRESS")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
    try:
        if where:
            settings = {name: os.environ[name] for name in (*PASSED_ON, *SWITCHES) if name in os.environ}
            ray.init(address=where, runtime_env={"env_vars": settings}, **quiet)
        else:
            ray.init(address="local", num_cpus=core_count(), include_dashboard=False, **quiet)
    except Exception as error:  # Ray has no specific exception for a start that takes too long
        ray.shutdown()  # stop the started part
        remedy = "start it (`ray start --head`) or correct the address" if where else "see the message"
        raise AbsentError(f"no Ray cluster at {where or 'this machine'} ({error}); fix: {remedy}") from error
    try:
        yield
    finally:
        ray.shutdown()
