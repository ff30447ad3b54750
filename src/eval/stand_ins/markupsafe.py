"""A stand-in for MarkupSafe, used only where the real package is not installed.

Covers: escape, Markup with concatenation, % and format (arguments escaped), and Markup.escape.
"""


def escape(value):
    if hasattr(value, "__html__"):
        return Markup(value.__html__())
    text = str(value)
    for plain, safe in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("'", "&#39;"), ('"', "&#34;")):
        text = text.replace(plain, safe)
    return Markup(text)


class Markup(str):
    def __html__(self):
        return self

    @classmethod
    def escape(cls, value):
        return escape(value)

    def __add__(self, other):
        return Markup(str.__add__(self, escape(other)))

    def __radd__(self, other):
        return Markup(str.__add__(escape(other), self))

    def __mod__(self, values):
        if isinstance(values, tuple):
            values = tuple(escape(v) if isinstance(v, str) else v for v in values)
        elif isinstance(values, dict):
            values = {k: escape(v) if isinstance(v, str) else v for k, v in values.items()}
        else:
            values = escape(values) if isinstance(values, str) else values
        return Markup(str.__mod__(self, values))

    def format(self, *args, **kwargs):
        return Markup(str.format(self, *map(escape, args), **{k: escape(v) for k, v in kwargs.items()}))

    def join(self, parts):
        return Markup(str.join(self, [escape(part) for part in parts]))
