"""Stand-in for defusedxml.minidom: see the package."""

from xml.dom import minidom as _plain

from . import _checked, _read


def parseString(string, forbid_dtd=False, forbid_entities=True, forbid_external=True):
    return _plain.parseString(_checked(string, forbid_dtd, forbid_entities))


def parse(file, parser=None, forbid_dtd=False, forbid_entities=True, forbid_external=True):
    return parseString(_read(file), forbid_dtd, forbid_entities)
