"""A stand-in for PyYAML, used only where the real package is not installed.

Covers: block mappings and lists, one-line flow lists and mappings, plain and quoted scalars, comments, literal
blocks (`|`), the tags `!!python/object/apply:` and `!!python/name:` under the unsafe loaders (so that an exploit
test means the same as with PyYAML), and dumping of nested dicts, lists and scalars. Anything else raises
StandInLimit, which the harness counts as a missing package.
"""

import importlib
import re


class StandInLimit(NotImplementedError):
    def __init__(self, what):
        super().__init__("yaml: the stand-in does not cover " + what)


class YAMLError(Exception):
    pass


class MarkedYAMLError(YAMLError):
    pass


class constructor:
    class ConstructorError(MarkedYAMLError):
        pass


class scanner:
    class ScannerError(MarkedYAMLError):
        pass


class parser:
    class ParserError(MarkedYAMLError):
        pass


class BaseLoader:
    unsafe = False


class SafeLoader(BaseLoader):
    pass


class FullLoader(BaseLoader):
    pass


class UnsafeLoader(BaseLoader):
    unsafe = True


class Loader(UnsafeLoader):
    pass


CSafeLoader, CFullLoader, CLoader = SafeLoader, FullLoader, Loader


class SafeDumper:
    pass


class Dumper(SafeDumper):
    pass


def load(stream, Loader):
    if hasattr(stream, "read"):
        stream = stream.read()
    if isinstance(stream, bytes):
        stream = stream.decode("utf-8")
    return _Reader(stream, Loader).document()


def safe_load(stream):
    return load(stream, SafeLoader)


def full_load(stream):
    return load(stream, FullLoader)


def unsafe_load(stream):
    return load(stream, UnsafeLoader)


def dump(data, stream=None, Dumper=None, default_flow_style=False, sort_keys=True, **_options):
    text = "\n".join(_lines(data, sort_keys)) + "\n"
    if stream is None:
        return text
    stream.write(text)
    return None


def safe_dump(data, stream=None, **options):
    return dump(data, stream, **options)


def load_all(stream, Loader):
    raise StandInLimit("several documents")


def safe_load_all(stream):
    raise StandInLimit("several documents")


class _Reader:
    def __init__(self, text, loader):
        self.unsafe = loader.unsafe
        self.rows = []
        self.raw = text.splitlines()
        for number, line in enumerate(self.raw):
            bare = _without_comment(line).rstrip()
            if bare.strip() and bare.strip() not in ("---", "..."):
                if "\t" in bare[: len(bare) - len(bare.lstrip())]:
                    raise scanner.ScannerError("a tab in the indentation")
                self.rows.append((len(bare) - len(bare.lstrip(" ")), bare.strip(), number))
        self.at = 0

    def document(self):
        if not self.rows:
            return None
        value = self.block(self.rows[0][0])
        if self.at < len(self.rows):
            raise parser.ParserError("line %d does not belong to what stands before it" % (self.rows[self.at][2] + 1))
        return value

    def block(self, indent):
        _, text, _ = self.rows[self.at]
        if text.startswith("- ") or text == "-":
            return self.sequence(indent)
        if _split_key(text):
            return self.mapping(indent)
        # A lone scalar or tag: what follows it may stand as far left as it does.
        return self.value_after(text, indent - 1, False)

    def sequence(self, indent):
        items = []
        while self.at < len(self.rows) and self.rows[self.at][0] == indent:
            _, text, number = self.rows[self.at]
            if not (text.startswith("- ") or text == "-"):
                break
            rest = text[1:].lstrip()
            if rest and not rest.startswith("!") and (_split_key(rest) or rest.startswith("- ")):
                # A mapping or list that begins on the line of its dash: it stands where its first key stands.
                inner = indent + len(text) - len(rest)
                self.rows[self.at] = (inner, rest, number)
                items.append(self.block(inner))
            else:
                items.append(self.value_after(rest, indent, False))
        return items

    def mapping(self, indent):
        found = {}
        while self.at < len(self.rows) and self.rows[self.at][0] == indent:
            parts = _split_key(self.rows[self.at][1])
            if not parts:
                raise parser.ParserError("line %d is not a key" % (self.rows[self.at][2] + 1))
            found[self.scalar(parts[0])] = self.value_after(parts[1], indent, True)
        return found

    def value_after(self, rest, indent, in_mapping):
        """The value whose first line's remainder is `rest`; consumes that line and its block."""
        number = self.rows[self.at][2]
        self.at += 1
        if rest in ("|", "|-", ">", ">-"):
            return self.literal(rest, indent, number)
        tag = None
        if rest.startswith("!"):
            tag, _, rest = rest.partition(" ")
            rest = rest.strip()
        if rest:
            value = self.scalar(rest)
        elif self.at < len(self.rows) and (
            self.rows[self.at][0] > indent
            or (in_mapping and self.rows[self.at][0] == indent and self.rows[self.at][1].startswith("-"))
        ):
            value = self.block(self.rows[self.at][0])
        else:
            value = None
        return self.tagged(tag, value) if tag else value

    def literal(self, mark, indent, number):
        while self.at < len(self.rows) and self.rows[self.at][0] > indent:
            self.at += 1
        end = self.rows[self.at][2] if self.at < len(self.rows) else len(self.raw)
        lines = self.raw[number + 1 : end]
        width = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
        text = ("\n" if mark[0] == "|" else " ").join(line[width:] for line in lines).rstrip()
        return text if mark.endswith("-") else text + "\n"

    def tagged(self, tag, value):
        simple = {"!!str": str, "!!int": int, "!!float": float}
        if tag in simple:
            return simple[tag](value)
        if not tag.startswith("!!python/"):
            raise constructor.ConstructorError("could not determine a constructor for the tag %r" % tag)
        if not self.unsafe:
            raise constructor.ConstructorError("the tag %r is not for this loader" % tag)
        kind, _, name = tag[len("!!python/") :].partition(":")
        module, _, attribute = name.rpartition(".")
        target = getattr(importlib.import_module(module or "builtins"), attribute)
        if kind == "name":
            return target
        if kind in ("object/apply", "object/new"):
            if isinstance(value, dict):
                return target(*value.get("args", []), **value.get("kwds", {}))
            return target(*(value if isinstance(value, list) else [] if value in (None, "") else [value]))
        raise StandInLimit("the tag " + tag)

    def scalar(self, text):
        if text[0] in "&*":
            raise StandInLimit("anchors and aliases")
        if text[0] == "!":
            tag, _, rest = text.partition(" ")
            return self.tagged(tag, self.scalar(rest.strip()) if rest.strip() else None)
        if text[0] in "[{":
            return self.flow(text)
        return _plain(text)

    def flow(self, text):
        close = {"[": "]", "{": "}"}[text[0]]
        if not text.endswith(close):
            raise StandInLimit("flow collections over several lines") if close not in text else parser.ParserError(text)
        parts = [part for part in _split_flow(text[1:-1]) if part]
        if text[0] == "[":
            return [self.scalar(part) for part in parts]
        pairs = [_split_key(part) or (part, "") for part in parts]
        return {self.scalar(key): self.scalar(value) if value else None for key, value in pairs}


def _plain(text):
    if text[0] == "'" and text[-1] == "'" and len(text) > 1:
        return text[1:-1].replace("''", "'")
    if text[0] == '"' and text[-1] == '"' and len(text) > 1:
        return re.sub(r"\\(.)", lambda m: {"n": "\n", "t": "\t"}.get(m.group(1), m.group(1)), text[1:-1])
    if text in ("~", "null", "Null", "NULL"):
        return None
    if text.lower() in ("true", "yes", "on"):
        return True
    if text.lower() in ("false", "no", "off"):
        return False
    if re.fullmatch(r"[-+]?0[0-7]+", text):
        return int(text, 8)  # YAML 1.1, as PyYAML has it
    if re.fullmatch(r"[-+]?(0|[1-9][0-9_]*)", text):
        return int(text.replace("_", ""))
    if re.fullmatch(r"[-+]?(\d+\.\d*|\.\d+)([eE][-+]\d+)?", text):
        return float(text)
    if text[0] in "%@`":
        raise scanner.ScannerError("found character %r that cannot start any token" % text[0])
    return text


def _quoted_parts(text):
    """The text's characters, each with whether it stands outside quotes and brackets."""
    quote, depth = None, 0
    for index, char in enumerate(text):
        if quote:
            yield index, char, False
            if char == quote:
                quote = None
            continue
        if char in "'\"" and (index == 0 or text[index - 1] in " [{,:"):
            quote = char
            yield index, char, False
            continue
        if char in "]}":
            depth -= 1
        yield index, char, depth <= 0
        if char in "[{":
            depth += 1


def _without_comment(line):
    quote = None
    for index, char in enumerate(line):
        if quote:
            quote = None if char == quote else quote
        elif char in "'\"" and (index == 0 or line[index - 1] in " [{,:"):
            quote = char
        elif char == "#" and (index == 0 or line[index - 1] in " \t"):
            return line[:index]
    return line


def _split_key(text):
    if text[0] in "[{!":
        return None
    for index, char, outside in _quoted_parts(text):
        if outside and char == ":" and (index + 1 == len(text) or text[index + 1] == " "):
            return text[:index].strip(), text[index + 1 :].strip()
    return None


def _split_flow(text):
    parts, start = [], 0
    for index, char, outside in _quoted_parts(text):
        if outside and char == ",":
            parts.append(text[start:index].strip())
            start = index + 1
    return parts + [text[start:].strip()]


def _lines(data, sort_keys, indent=""):
    if isinstance(data, dict) and data:
        for key in sorted(data, key=str) if sort_keys else data:
            value = data[key]
            if isinstance(value, (dict, list, tuple)) and value:
                yield "%s%s:" % (indent, _word(key))
                yield from _lines(value, sort_keys, indent + ("  " if isinstance(value, dict) else ""))
            else:
                yield "%s%s: %s" % (indent, _word(key), _word(value))
    elif isinstance(data, (list, tuple)) and data:
        for value in data:
            inner = list(_lines(value, sort_keys, "")) if isinstance(value, (dict, list, tuple)) and value else [_word(value)]
            yield "%s- %s" % (indent, inner[0])
            for line in inner[1:]:
                yield "%s  %s" % (indent, line)
    else:
        yield indent + _word(data)


def _word(value):
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (dict, list, tuple)):
        return "{}" if isinstance(value, dict) else "[]"
    if isinstance(value, str):
        try:
            same = bool(value) and _plain(value) == value and value == value.strip() and not re.search(r"[:#\[\]{}&*!|>'\",\n]", value)
        except YAMLError:
            same = False
        return value if same else "'" + value.replace("'", "''") + "'"
    raise StandInLimit("dumping a " + type(value).__name__)
