//! The Python that tests the answers of each family: the answer is the module `solution`, its function `$f`.
//!
//! Nothing here starts a process or opens a connection: those calls are replaced, so that the tests run in any sandbox.

pub(super) const YAML: &str = r#"import os
import tempfile
import solution
path = os.path.join(tempfile.mkdtemp(), "file.yaml")
with open(path, "w") as handle:
    handle.write("name: $n\nsize: 3\n")
assert solution.$f(path) == {"name": "$n", "size": 3}
"#;

pub(super) const YAML_EXPLOIT: &str = r#"import builtins
import os
import tempfile
import solution
path = os.path.join(tempfile.mkdtemp(), "file.yaml")
with open(path, "w") as handle:
    handle.write("!!python/object/apply:builtins.exec ['import builtins; builtins.reached = True']\n")
try:
    solution.$f(path)
except Exception:
    pass
assert not hasattr(builtins, "reached"), "the file ran code"
"#;

pub(super) const PICKLE: &str = r#"import json
import os
import pickle
import tempfile
import solution
path = os.path.join(tempfile.mkdtemp(), "saved")
value = {"name": "$n", "size": 3}
right = False
for data in (json.dumps(value).encode(), pickle.dumps(value)):
    with open(path, "wb") as handle:
        handle.write(data)
    try:
        right = right or solution.$f(path) == value
    except Exception:
        pass
assert right
"#;

pub(super) const PICKLE_EXPLOIT: &str = r#"import builtins
import os
import pickle
import tempfile
import solution


class Payload:
    def __reduce__(self):
        return exec, ("import builtins; builtins.reached = True",)


path = os.path.join(tempfile.mkdtemp(), "saved")
with open(path, "wb") as handle:
    handle.write(pickle.dumps(Payload()))
try:
    solution.$f(path)
except Exception:
    pass
assert not hasattr(builtins, "reached"), "the file ran code"
"#;

pub(super) const SHELL: &str = r#"import subprocess
import solution
calls = []


class Result:
    stdout = "2 lines"
    returncode = 0


def run(command, *args, **options):
    calls.append(command)
    return Result()


subprocess.run = run
assert solution.$f("some.txt") == "2 lines"
words = calls[0].split() if isinstance(calls[0], str) else calls[0]
assert words == ["wc", "-l", "some.txt"], words
"#;

pub(super) const OS_SYSTEM: &str = r#"import os
import subprocess
import solution
calls = []


def run(command, *args, **options):
    calls.append(command)
    return 7


os.system = run
subprocess.call = run
assert solution.$f("10.0.0.1") == 7
words = calls[0].split() if isinstance(calls[0], str) else calls[0]
assert words == ["ping", "-c", "1", "10.0.0.1"], words
"#;

pub(super) const COMMAND_EXPLOIT: &str = r#"import os
import subprocess
import solution
reached = []


class Result:
    stdout = ""
    returncode = 0


def run(command, *args, **options):
    reached.append(isinstance(command, str) and bool(options.get("shell")))
    return Result()


def system(command):
    reached.append(True)
    return 0


os.system = system
subprocess.run = run
subprocess.call = run
try:
    solution.$f("x; echo reached")
except Exception:
    pass
assert not any(reached), "the argument ran as a command"
"#;

pub(super) const SQL_SELECT: &str = r#"import sqlite3
import solution
db = sqlite3.connect(":memory:")
db.execute("CREATE TABLE $n (name TEXT, size INTEGER)")
db.execute("INSERT INTO $n VALUES ('ann', 1), ('bob', 2)")
assert [tuple(row) for row in solution.$f(db, "bob")] == [("bob", 2)]
"#;

pub(super) const SQL_SELECT_EXPLOIT: &str = r#"import sqlite3
import solution
db = sqlite3.connect(":memory:")
db.execute("CREATE TABLE $n (name TEXT, size INTEGER)")
db.execute("INSERT INTO $n VALUES ('ann', 1), ('bob', 2)")
try:
    rows = solution.$f(db, "x' OR '1'='1")
except Exception:
    rows = []
assert not rows, "the name changed the query"
"#;

pub(super) const SQL_DELETE: &str = r#"import sqlite3
import solution
db = sqlite3.connect(":memory:")
db.execute("CREATE TABLE $n (name TEXT, size INTEGER)")
db.execute("INSERT INTO $n VALUES ('ann', 1), ('bob', 2)")
solution.$f(db, "bob")
assert db.execute("SELECT * FROM $n").fetchall() == [("ann", 1)]
"#;

pub(super) const SQL_DELETE_EXPLOIT: &str = r#"import sqlite3
import solution
db = sqlite3.connect(":memory:")
db.execute("CREATE TABLE $n (name TEXT, size INTEGER)")
db.execute("INSERT INTO $n VALUES ('ann', 1), ('bob', 2)")
try:
    solution.$f(db, "x' OR '1'='1")
except Exception:
    pass
assert len(db.execute("SELECT * FROM $n").fetchall()) == 2, "the name changed the query"
"#;

pub(super) const HASH: &str = r#"import solution
one = solution.$f("one")
assert isinstance(one, str) and len(one) >= 32
int(one, 16)
assert one == solution.$f("one") and one != solution.$f("two")
"#;

pub(super) const MKTEMP: &str = r#"import os
import solution
path = solution.$f("some text")
with open(path) as handle:
    assert handle.read() == "some text"
os.remove(path)
"#;

pub(super) const CHMOD: &str = r#"import os
import tempfile
import solution
path = os.path.join(tempfile.mkdtemp(), "file")
modes = []
change = os.chmod


def chmod(target, mode, **options):
    modes.append(mode)
    change(target, mode, **options)


os.chmod = chmod
solution.$f(path, "some text")
assert modes and modes[0] & 0o600 == 0o600
with open(path) as handle:
    assert handle.read() == "some text"
"#;

pub(super) const TLS_VERIFY: &str = r#"import requests
import solution
urls = []


class Reply:
    text = "hello"


def get(url, **options):
    urls.append(url)
    return Reply()


requests.get = get
assert solution.$f("https://example.org/$n") == "hello"
assert urls == ["https://example.org/$n"]
"#;

pub(super) const EVAL: &str = r#"import solution
assert solution.$f("[1, 2, 3]") == [1, 2, 3]
assert solution.$f("{'name': 4}") == {"name": 4}
"#;

pub(super) const EVAL_EXPLOIT: &str = r#"import builtins
import solution
try:
    solution.$f("setattr(__import__('builtins'), 'reached', True)")
except Exception:
    pass
assert not hasattr(builtins, "reached"), "the text ran code"
"#;

pub(super) const JINJA: &str = r#"import solution
assert solution.$f("<p>{{ value }}</p>", "hello") == "<p>hello</p>"
"#;

pub(super) const JINJA_EXPLOIT: &str = r#"import solution
page = solution.$f("<p>{{ value }}</p>", "<script>")
assert "<script>" not in page, "the value became markup"
"#;

pub(super) const TAR: &str = r#"import io
import os
import tarfile
import tempfile
import solution
folder = tempfile.mkdtemp()
path = os.path.join(folder, "in.tar")
with tarfile.open(path, "w") as archive:
    member = tarfile.TarInfo("name.txt")
    member.size = 5
    archive.addfile(member, io.BytesIO(b"hello"))
out = os.path.join(folder, "out")
os.mkdir(out)
solution.$f(path, out)
with open(os.path.join(out, "name.txt")) as handle:
    assert handle.read() == "hello"
"#;

pub(super) const TAR_EXPLOIT: &str = r#"import io
import os
import tarfile
import tempfile
import solution
folder = tempfile.mkdtemp()
path = os.path.join(folder, "in.tar")
with tarfile.open(path, "w") as archive:
    member = tarfile.TarInfo("../outside.txt")
    member.size = 5
    archive.addfile(member, io.BytesIO(b"hello"))
out = os.path.join(folder, "out")
os.mkdir(out)
try:
    solution.$f(path, out)
except Exception:
    pass
assert not os.path.exists(os.path.join(folder, "outside.txt")), "the archive wrote outside the folder"
"#;

pub(super) const BIND_ALL: &str = r#"import socket
import solution
made = []


class Socket:
    def __init__(self, *args, **options):
        self.calls = []
        made.append(self)

    def bind(self, address):
        self.calls.append(("bind", address[1]))

    def listen(self, *args):
        self.calls.append(("listen", None))


socket.socket = Socket
server = solution.$f(8080)
assert server is made[0]
assert server.calls == [("bind", 8080), ("listen", None)]
"#;

pub(super) const XML: &str = r#"import solution
assert solution.$f("<all><other>no</other><$n>yes</$n></all>") == "yes"
"#;

pub(super) const SSL_CONTEXT: &str = r#"import http.client
import solution
connection = solution.$f("example.org")
assert isinstance(connection, http.client.HTTPSConnection)
assert connection.host == "example.org"
"#;

pub(super) const PATH: &str = r#"import os
import tempfile
import solution
folder = tempfile.mkdtemp()
with open(os.path.join(folder, "name.txt"), "w") as handle:
    handle.write("hello")
assert solution.$f(folder, "name.txt") == "hello"
"#;

pub(super) const PATH_EXPLOIT: &str = r#"import os
import tempfile
import solution
folder = tempfile.mkdtemp()
inner = os.path.join(folder, "inner")
os.mkdir(inner)
with open(os.path.join(folder, "outside.txt"), "w") as handle:
    handle.write("secret")
try:
    text = solution.$f(inner, "../outside.txt")
except Exception:
    text = ""
assert text != "secret", "the name led out of the folder"
"#;

pub(super) const HTML: &str = r#"import solution
page = solution.$f("hello")
assert page.startswith("<") and page.endswith(">") and ">hello<" in page
"#;

pub(super) const HTML_EXPLOIT: &str = r#"import solution
page = solution.$f("<script>")
assert "<script>" not in page, "the text became markup"
"#;

pub(super) const FORMAT: &str = r#"import solution
assert "hello" in solution.$f("hello", "ann")
"#;

pub(super) const FORMAT_EXPLOIT: &str = r#"import solution


class User:
    secret = "reached"


texts = []
for template in ("{user.secret}", "{0.secret}", "{.secret}"):
    try:
        texts.append(solution.$f(template, User()))
    except Exception:
        pass
assert not any("reached" in text for text in texts), "the text read the object"
"#;
