"""A stand-in for Jinja2, used only where the real package is not installed.

Covers: Environment(autoescape=..., loader=...), from_string, get_template with DictLoader and FileSystemLoader,
Template, select_autoescape, and in templates `{{ name }}` with attributes, items, string literals and the filters
e, escape, safe, upper, lower, trim, default. Statements (`{% ... %}`) raise StandInLimit, which the harness counts
as a missing package.
"""

import os
import re

from markupsafe import Markup, escape


class StandInLimit(NotImplementedError):
    def __init__(self, what):
        super().__init__("jinja2: the stand-in does not cover " + what)


class TemplateError(Exception):
    pass


class TemplateNotFound(TemplateError):
    pass


class TemplateSyntaxError(TemplateError):
    pass


class UndefinedError(TemplateError):
    pass


class DictLoader:
    def __init__(self, mapping):
        self.mapping = mapping

    def source(self, name):
        if name not in self.mapping:
            raise TemplateNotFound(name)
        return self.mapping[name]


class FileSystemLoader:
    def __init__(self, searchpath, encoding="utf-8"):
        self.folders = [searchpath] if isinstance(searchpath, (str, os.PathLike)) else list(searchpath)

    def source(self, name):
        if ".." in name.split("/"):
            raise TemplateNotFound(name)
        for folder in self.folders:
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                with open(path, encoding="utf-8") as file:
                    return file.read()
        raise TemplateNotFound(name)


def select_autoescape(
    enabled_extensions=("html", "htm", "xml"), disabled_extensions=(), default_for_string=True, default=False
):
    def choose(name):
        if name is None:
            return default_for_string
        ending = name.lower().rsplit(".", 1)[-1]
        return True if ending in enabled_extensions else False if ending in disabled_extensions else default

    return choose


class Environment:
    def __init__(self, loader=None, autoescape=False, **_options):
        self.loader, self.autoescape, self.globals, self.filters = loader, autoescape, {}, {}

    def from_string(self, source):
        return _Compiled(source, self._escapes(None), self)

    def get_template(self, name):
        if self.loader is None:
            raise TypeError("no loader for this environment specified")
        return _Compiled(self.loader.source(name), self._escapes(name), self)

    def _escapes(self, name):
        return self.autoescape(name) if callable(self.autoescape) else bool(self.autoescape)


class _Compiled:
    def __init__(self, source, escapes, environment):
        if "{%" in source:
            raise StandInLimit("statements in templates")
        if source.count("{{") != source.count("}}"):
            raise TemplateSyntaxError("unbalanced braces")
        self.source, self.escapes, self.environment = source, escapes, environment

    def render(self, *args, **kwargs):
        context = dict(self.environment.globals)
        context.update(*args, **kwargs)
        text = re.sub(r"\{#.*?#\}", "", self.source, flags=re.S)
        out = re.sub(r"\{\{-?\s*(.*?)\s*-?\}\}", lambda match: self._value(match.group(1), context), text, flags=re.S)
        return out[:-1] if out.endswith("\n") else out

    def _value(self, expression, context):
        head, *filters = [part.strip() for part in expression.split("|")]
        value = _look_up(head, context)
        for name in filters:
            name, _, argument = name.partition("(")
            if name in ("e", "escape"):
                value = escape(value)
            elif name == "safe":
                value = Markup(value)
            elif name in ("upper", "lower"):
                value = getattr(str(value), name)()
            elif name == "trim":
                value = str(value).strip()
            elif name == "default":
                value = argument.rstrip(")").strip("'\" ") if value == "" else value
            elif name in self.environment.filters:
                value = self.environment.filters[name](value)
            else:
                raise StandInLimit("the filter " + name)
        return str(escape(value)) if self.escapes else str(value)


def Template(source, autoescape=False, **_options):
    return Environment(autoescape=autoescape).from_string(source)


def _look_up(expression, context):
    literal = re.fullmatch(r"'([^']*)'|\"([^\"]*)\"|(\d+)", expression)
    if literal:
        return next(group for group in literal.groups() if group is not None)
    if not re.fullmatch(r"\w+(\.\w+|\[('[^']*'|\"[^\"]*\"|\d+)\])*", expression):
        raise StandInLimit("the expression " + expression)
    first, *rest = re.findall(r"[^\.\[\]'\"]+", expression)
    value = context.get(first, "")
    for name in rest:
        try:
            value = value[int(name) if name.isdigit() else name]
        except (KeyError, IndexError, TypeError):
            value = getattr(value, name, "")
    return value
