"""A stand-in for defusedxml, used only where the real package is not installed.

Covers: ElementTree.parse, fromstring, XML and iterparse, and minidom.parse and parseString, all of which refuse a
document that declares entities. Other modules of the package are missing.
"""

import re


class DefusedXmlException(ValueError):
    pass


class DTDForbidden(DefusedXmlException):
    pass


class EntitiesForbidden(DefusedXmlException):
    pass


class ExternalReferenceForbidden(DefusedXmlException):
    pass


class NotSupportedError(DefusedXmlException):
    pass


def _checked(text, forbid_dtd=False, forbid_entities=True):
    plain = text.decode("utf-8", "replace") if isinstance(text, (bytes, bytearray)) else text
    if forbid_entities and re.search(r"<!ENTITY", plain):
        raise EntitiesForbidden("the document declares an entity")
    if forbid_dtd and re.search(r"<!DOCTYPE", plain):
        raise DTDForbidden("the document has a DTD")
    return text


def _read(source):
    if hasattr(source, "read"):
        return source.read()
    with open(source, "rb") as file:
        return file.read()
