"""Stand-in for defusedxml.ElementTree: see the package."""

import io
from xml.etree.ElementTree import ParseError, tostring
from xml.etree import ElementTree as _plain

from . import _checked, _read


def fromstring(text, forbid_dtd=False, forbid_entities=True, forbid_external=True):
    return _plain.fromstring(_checked(text, forbid_dtd, forbid_entities))


XML = fromstring


def parse(source, parser=None, forbid_dtd=False, forbid_entities=True, forbid_external=True):
    text = _checked(_read(source), forbid_dtd, forbid_entities)
    return _plain.ElementTree(_plain.fromstring(text))


def iterparse(source, events=None, parser=None, forbid_dtd=False, forbid_entities=True, forbid_external=True):
    text = _checked(_read(source), forbid_dtd, forbid_entities)
    return _plain.iterparse(io.BytesIO(text if isinstance(text, bytes) else text.encode()), events)
