"""Reads XML that a user names, without document types: nothing is expanded and nothing else is opened."""

from __future__ import annotations

import math
from typing import Final
from xml.etree.ElementTree import Element, ParseError, XMLParser

from atypia.base.errors import DataError, must

_DECLARATIONS: Final = ("<!DOCTYPE", "<!ENTITY")


def parse_xml(text: str, name: str) -> Element:
    """The root element.

    Args:
        text: The file's text.
        name: Its name in messages.

    Raises:
        DataError: It is not well-formed, or declares a document type or entities.
    """
    if any(mark in text for mark in _DECLARATIONS):
        fix = "remove the declaration"
        raise DataError(must(name, "XML without a document type", "a declaration of one", fix))
    try:
        # Entities cannot be declared, so none can be expanded; ElementTree opens nothing by itself.
        parser = XMLParser()  # noqa: S314
        parser.feed(text)
        return parser.close()
    except ParseError as error:
        raise DataError(f"{name} is damaged XML ({error}); fix: export it again") from None


def number_of(element: Element, name: str, where: str) -> float:
    """A number in an attribute; a decimal comma, as some versions write it, is one.

    Raises:
        DataError: It is absent or no finite number.
    """
    return _number(element.get(name), name, where)


def text_number(element: Element, tag: str, where: str) -> float:
    """A number in the text of a child element.

    Raises:
        DataError: It is absent or no finite number.
    """
    return _number(element.findtext(tag), tag, where)


def _number(text: str | None, name: str, where: str) -> float:
    try:
        value = float((text or "").strip().replace(",", "."))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where}: {must(name, 'a finite number', repr(text), 'export it again')}")
    return value
