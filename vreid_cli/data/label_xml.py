"""Label files in XML, as VeRi-776 and the AI City Challenge have them."""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from xml.etree import ElementTree

from vreid_cli.data.listing import ListingBuilder, unreadable
from vreid_cli.errors import DataError
from vreid_cli.runtime.files import read_bytes

_DECLARATION = re.compile(rb"^\s*<\?xml[^>]*?encoding\s*=\s*[\"']([A-Za-z0-9._-]+)[\"'][^>]*\?>")


def read_label_xml(path: Path, listing: ListingBuilder) -> dict[str, tuple[str | None, str | None]]:
    """Vehicle and camera of each ``<Item imageName="…" vehicleID="…" cameraID="…" />``, None where it says none.

    The number of items in a header is not read: in VeRi-776's files it is wrong.

    Args:
        path: The file.
        listing: Takes the warning of images that are labelled in two ways.

    Raises:
        DataError: The file is no XML, or holds no such items.

    Examples:
        >>> path = Path("train_label.xml")
        >>> _ = path.write_text('<Items><Item imageName="000001.jpg" vehicleID="0001" cameraID="c001" /></Items>')
        >>> read_label_xml(path, ListingBuilder())
        {'000001.jpg': ('0001', 'c001')}
    """
    labels: dict[str, tuple[str | None, str | None]] = {}
    contradictory: list[str] = []
    for number, item in enumerate(_parse_xml(path).iter("Item"), start=1):
        name = item.get("imageName")
        if not name:
            raise DataError(f"{path}: item {number} has no imageName", file=path)
        own = (item.get("vehicleID") or None, item.get("cameraID") or None)
        if labels.setdefault(name, own) != own:
            contradictory.append(f"{name} (item {number})")
    if not labels:
        hint = 'expected <Item imageName="000001.jpg" vehicleID="0001" cameraID="c001" />'
        raise DataError(f"{path} holds no items", hint=hint, file=path)
    listing.warn_of(contradictory, "image", f"labelled in two ways in {path.name}, the first counts")
    return labels


def _parse_xml(path: Path) -> ElementTree.Element:
    """The root of an XML file in any encoding that Python knows: the parser itself knows no gb2312."""
    try:
        raw = read_bytes(path)
    except OSError as error:
        raise unreadable(path, error) from None
    if b"<!ENTITY" in raw or b"<!DOCTYPE" in raw:
        hint = "such a file can unpack to any size, or name other files; the releases have none"
        raise DataError(f"{path} declares a document type or entities", hint=hint, file=path)
    try:
        declared = _DECLARATION.match(raw)
        if declared is None:
            return ElementTree.fromstring(raw)
        encoding = codecs.lookup(declared[1].decode()).name
        return ElementTree.fromstring(raw[declared.end() :].decode(encoding))
    except LookupError as error:
        raise DataError(f"{path} declares an encoding that Python does not know: {error}", file=path) from None
    except (ElementTree.ParseError, ValueError) as error:
        hint = "unpack it again from the release"
        raise DataError(f"{path} is not valid XML: {error}", hint=hint, file=path) from None
