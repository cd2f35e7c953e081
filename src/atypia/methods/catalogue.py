"""Registries of methods. An entry is a module in the registry's package, found when the registry is first used."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from atypia.base.config import StrictModel
from atypia.base.registry import Registry
from atypia.methods.head import Probe
from atypia.methods.sampler import Sampler

if TYPE_CHECKING:  # torch: not on the way of a probe
    from atypia.methods.loss import Loss
    from atypia.methods.term import Term

PROBES: Registry[Probe[Any]] = Registry("probe", "atypia.methods.probes", "probes")
LOSSES: Registry[type[Loss[Any]]] = Registry("loss", "atypia.methods.losses", "losses")
SAMPLERS: Registry[type[Sampler[Any]]] = Registry("sampler", "atypia.methods.samplers", "samplers")
TERMS: Registry[type[Term[Any]]] = Registry("term", "atypia.methods.terms", "terms")


def terms_table() -> str:
    """The shipped terms as a Markdown table."""
    rows = [
        f"| `{name}` | {term.summary} | {term.formula.replace('|', '∣')} | {term.source} | "
        f"{', '.join(sorted(term.needs)) or '–'} | {_options(term.Options)} |"
        for name, term in sorted(TERMS.shipped().items())
    ]
    return "\n".join(["| term | what | formula | source | needs | options |", "|---|---|---|---|---|---|", *rows])


def samplers_table() -> str:
    """The shipped samplers as a Markdown table."""
    rows = [
        f"| `{name}` | {sampler.summary} | {_options(sampler.Options)} |"
        for name, sampler in sorted(SAMPLERS.shipped().items())
    ]
    return "\n".join(["| sampler | what | options |", "|---|---|---|", *rows])


def losses_table() -> str:
    """The shipped losses as a Markdown table."""
    rows = [
        f"| `{name}` | {loss.summary} | {loss.source} | {_options(loss.Options)} |"
        for name, loss in sorted(LOSSES.shipped().items())
    ]
    return "\n".join(["| loss | what | source | options |", "|---|---|---|---|", *rows])


def _options(schema: type[StrictModel]) -> str:
    """Options with their defaults, as YAML has them."""
    shown = [f"`{name}: {json.dumps(field.default)}`" for name, field in schema.model_fields.items() if name != "name"]
    return ", ".join(shown)
