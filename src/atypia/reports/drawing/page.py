"""Common code of report pages: self-contained, loading nothing from elsewhere, running only their own script."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

from atypia.reports.drawing.values import format_value


def render(name: str, values: Mapping[str, Any], dress: str | None = None) -> str:
    """Renders a page from its template, style and script.

    Args:
        name: Name of the files below ``templates``: ``NAME.html.j2``, ``NAME.css``, ``NAME.js``.
        values: Values for the template; text is escaped unless it is :class:`markupsafe.Markup`.

    Returns:
        HTML whose content security policy allows only its own style, its own script and embedded images.
    """
    import jinja2
    from markupsafe import Markup

    style, script, template = (
        part(f"{stem}.{suffix}") for stem, suffix in ((dress or name, "css"), (dress or name, "js"), (name, "html.j2"))
    )
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["plain"] = format_value
    return environment.from_string(template).render(
        **values,
        policy=policy(style, script),
        style=Markup(style),  # noqa: S704 - the package's own file
        script=Markup(script),  # noqa: S704 - the package's own file
    )


def policy(style: str, script: str) -> str:
    """The content security policy of a page with one style and one script."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; "
        "base-uri 'none'; form-action 'none'"
    )


def part(name: str) -> str:
    """A file below ``templates``."""
    from importlib.resources import files

    return (files("atypia.reports") / "templates" / name).read_text(encoding="utf-8")
