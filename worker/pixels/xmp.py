"""XMP packets (ISO 16684-1): what results carry of an upload's, and the mark of a picture that a model has changed.

An upload's packet is XML of a stranger. It is read without document type, so that it has no entities, and of it a list
of properties is kept: who made the photo, what it shows, what may be done with it.
"""

from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

DIGITAL_SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
"""IPTC's term for a picture of which a part was made by a trained model: the EU's AI Act asks for such a mark."""

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
META = "adobe:ns:meta/"
NAMESPACES = {
    "dc": "http://purl.org/dc/elements/1.1/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "xmpRights": "http://ns.adobe.com/xap/1.0/rights/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "exif": "http://ns.adobe.com/exif/1.0/",
    "Iptc4xmpCore": "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "plus": "http://ns.useplus.org/ldf/xmp/1.0/",
}
for _prefix, _address in {**NAMESPACES, "rdf": RDF, "x": META}.items():
    ElementTree.register_namespace(_prefix, _address)

CARRIED = {
    "dc": "title description subject creator contributor publisher rights source language",
    "xmp": "CreateDate Rating Label",
    "xmpRights": "Certificate Marked Owner UsageTerms WebStatement",
    "photoshop": "AuthorsPosition CaptionWriter Category Credit DateCreated Headline Instructions Source "
    "SupplementalCategories TransmissionReference Urgency",
    "Iptc4xmpCore": "AltTextAccessibility CreatorContactInfo ExtDescrAccessibility IntellectualGenre Scene SubjectCode",
    "Iptc4xmpExt": "AddlModelInfo ArtworkOrObject Contributor Event ModelAge OrganisationInImageCode "
    "OrganisationInImageName PersonInImage PersonInImageWDetails",
    "plus": "CopyrightOwner DataMining ImageCreator ImageSupplier Licensor LicensorURL MinorModelAgeDisclosure "
    "ModelReleaseID ModelReleaseStatus OtherConstraints PropertyReleaseID PropertyReleaseStatus",
}
PLACES = {
    "exif": "GPSAltitude GPSAltitudeRef GPSLatitude GPSLongitude GPSMapDatum GPSTimeStamp",
    "photoshop": "City Country State",
    "Iptc4xmpCore": "CountryCode Location",
    "Iptc4xmpExt": "LocationCreated LocationShown",
}
"""Where the photo was taken."""

BEFORE = (
    f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="{META}"><rdf:RDF xmlns:rdf="{RDF}">'
    '<rdf:Description rdf:about="">'
).encode()
BEHIND = b'</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'

MAX_READ_BYTES = 2**20
"""A packet of more is not read."""


class TooLong(ValueError):
    """The packet is longer than what is read."""


def carried(packet: bytes, with_places: bool) -> tuple[bytes, bool]:
    """The properties that are kept, as XML elements (empty: none), and whether the packet says where it was taken.

    Raises TooLong, ValueError, ParseError (a SyntaxError) or RecursionError for what is no XMP, or has a document type.
    """
    if len(packet) > MAX_READ_BYTES:
        raise TooLong
    text = packet.decode("utf-8-sig").strip("\0 \r\n\t")
    properties = _properties(text) if text else {}
    places = _of(properties, PLACES)
    kept = _of(properties, CARRIED) + (places if with_places else [])
    return _written(kept), bool(places)


def packet(carried: bytes, model: str | None) -> bytes:
    """A packet of the properties that an upload's had, with the mark.

    Args:
        carried: what ``carried`` returns.
        model: the one that has changed the picture. None: no mark.
    """
    described = carried + _written([] if model is None else _mark(model))
    return BEFORE + described + BEHIND


def _mark(model: str) -> list[Element]:
    """IPTC Photo Metadata 2025.1."""
    return [
        _property("Iptc4xmpExt", "DigitalSourceType", DIGITAL_SOURCE),
        _property("Iptc4xmpExt", "AISystemUsed", model),
        _property("xmp", "CreatorTool", tool()),
    ]


@cache
def tool() -> str:
    """This program's name, and its version where it is installed."""
    try:
        return f"Infill {version('infill')}"
    except PackageNotFoundError:
        return "Infill"


def _property(prefix: str, name: str, text: str) -> Element:
    made = Element(f"{{{NAMESPACES[prefix]}}}{name}")
    made.text = text
    return made


class _NoDoctype(ElementTree.TreeBuilder):
    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("a packet has no document type")


def _properties(text: str) -> dict[str, Element]:
    """By their names; those that are written as attributes, too (ISO 16684-1, 7.9.2.2)."""
    parser = ElementTree.XMLParser(target=_NoDoctype())
    parser.feed(text)
    root = parser.close()
    rdf = root if root.tag == f"{{{RDF}}}RDF" else root.find(f"{{{RDF}}}RDF")
    if rdf is None:
        raise ValueError("no RDF")
    found: dict[str, Element] = {}
    for described in rdf:
        for name, value in described.attrib.items():
            found.setdefault(name, Element(name)).text = value
        for each in described:
            each.tail = None
            found.setdefault(each.tag, each)
    return found


def _written(elements: Iterable[Element]) -> bytes:
    return b"".join(ElementTree.tostring(each, encoding="utf-8", xml_declaration=False) for each in elements)


def _of(properties: dict[str, Element], names: dict[str, str]) -> list[Element]:
    tags = [f"{{{NAMESPACES[prefix]}}}{name}" for prefix, listed in names.items() for name in listed.split()]
    return [properties[tag] for tag in tags if tag in properties]
