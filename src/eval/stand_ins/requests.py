"""A stand-in for Requests, used only where the real package is not installed. It never touches the network.

Covers: get, post, put, patch, delete, head, request and Session. Every call is noted in `calls` (method, url and
the keyword arguments, `verify` and `timeout` among them) and answered with status 200 and an empty JSON object.
"""

calls = []


class RequestException(IOError):
    pass


class HTTPError(RequestException):
    pass


class ConnectionError(RequestException):
    pass


class Timeout(RequestException):
    pass


class exceptions:
    RequestException, HTTPError, ConnectionError, Timeout = RequestException, HTTPError, ConnectionError, Timeout
    SSLError = ConnectionError


class Response:
    status_code, ok, reason, encoding = 200, True, "OK", "utf-8"

    def __init__(self, url):
        self.url, self.content, self.text, self.headers, self.cookies = url, b"{}", "{}", {}, {}

    def json(self, **_options):
        return {}

    def raise_for_status(self):
        return None

    def iter_content(self, chunk_size=1, **_options):
        return iter([self.content])

    def __enter__(self):
        return self

    def __exit__(self, *_ignored):
        return False


def request(method, url, **options):
    calls.append({"method": method.upper(), "url": url, "verify": True, "timeout": None, **options})
    return Response(url)


def _verb(name):
    def call(url, *args, **options):
        if args:
            options["params" if name == "get" else "data"] = args[0]
        return request(name, url, **options)

    call.__name__ = name
    return call


get, post, put, patch, delete, head = map(_verb, ("get", "post", "put", "patch", "delete", "head"))


class Session:
    def __init__(self):
        self.verify, self.headers, self.auth, self.cookies = True, {}, None, {}

    def request(self, method, url, **options):
        options.setdefault("verify", self.verify)
        return request(method, url, **options)

    def __enter__(self):
        return self

    def __exit__(self, *_ignored):
        return False

    def close(self):
        return None


for _name in ("get", "post", "put", "patch", "delete", "head"):
    setattr(Session, _name, lambda self, url, _method=_name, **options: self.request(_method, url, **options))


def session():
    return Session()
