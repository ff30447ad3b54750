"""Runs pieces of generated Python, each in a forked child with limits, and says what happened.

Started as `python3 -I harness.py STAND_INS_DIR SCRATCH_DIR LEVEL FILTERS`, confined as LEVEL says (`full`, `partial`,
`unsandboxed`: src/eval/confine); FILTERS are seccomp programs that each child puts on itself. Standard input brings one
JSON object a line, standard output answers each with one:

    {"hello"} -> {"python", "runner"}
    {"code", "tests"?, "exploit"?, "seconds", "memory_bytes"}
    -> {"import": S, "behaviour": S or null, "exploit": S or null, "stand_ins": [name], "runner": name or null}
    S = {"status", ...}

Tests and exploits are run by pytest where the interpreter has it (`in_pytest.py`). Without it this file runs them
itself: the file's own statements, then its test functions without parameters. Tests that need more (fixtures, classes,
pytest itself) are not run then, for want of a package.

The modules that generated code mostly imports are loaded once, here; a check then costs a fork, not a start of
the interpreter. Each check has a process group, resource limits, an empty scratch folder and null standard
streams of its own. At the level `full` this process is number 1 of its namespace: no child can signal it, and all that
a check leaves behind is ended by one call.

A verdict is a conversation. The child reports that the module is imported; only then it is told, over a pipe, a random
id to report the tests' result under, and after that it is given a check that must fail with a random word. A payload
that leaves early has no result; one that finds the pipe, or the function that reports, does not know the ids of what
it has not been asked yet; one that replaces what runs the checks passes the check that must fail.

What this does not cover: tests and tested code share a process. A payload written for this very harness, which keeps
up the conversation itself, can forge a pass, as can an object that is equal to everything.
"""

import builtins
import gc
import importlib
import importlib.util
import inspect
import json
import linecache
import os
import resource
import select
import shutil
import signal
import stat
import struct
import sys
import tempfile
import time
import traceback
import types
import unittest

PRELOADED = """
abc argparse array ast base64 binascii bisect calendar codecs collections collections.abc concurrent.futures
configparser contextlib copy csv ctypes dataclasses datetime decimal difflib email email.mime.text enum
fractions functools getpass glob gzip hashlib heapq hmac html html.parser http http.client http.server importlib
inspect io ipaddress itertools json linecache logging logging.handlers math mimetypes numbers operator os os.path
pathlib pickle platform pprint queue random re secrets shelve shlex shutil signal smtplib socket socketserver sqlite3
ssl stat statistics string struct subprocess sys tarfile tempfile textwrap threading time timeit traceback types
typing unicodedata unittest urllib.error urllib.parse urllib.request uuid warnings weakref xml xml.dom.minidom
xml.etree.ElementTree xml.sax zipfile zlib
""".split()
THIRD_PARTY = "yaml jinja2 markupsafe requests defusedxml defusedxml.ElementTree flask".split()
STAND_INS = "defusedxml jinja2 markupsafe requests yaml".split()

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_CHILD_SUBREAPER = 1, 4, 22, 36
SECCOMP_MODE_FILTER = 2
FULL, UNSANDBOXED = "full", "unsandboxed"
# In a namespace of its own this counts the processes and threads of one check (and this server); without one it counts
# every process of this user, and root is exempt: a brake on fork bombs, not a wall.
PROCESSES = {FULL: 32}
MANY_PROCESSES = 4096
MESSAGE_LIMIT = 300
PIPE_LIMIT = 1 << 16
LEAVE = os._exit  # bound before any payload can replace it


def main():
    stand_ins, scratch_root = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
    level, filters = sys.argv[3], json.loads(sys.argv[4])
    requests, answers = os.fdopen(os.dup(0), "r", encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    # Whatever a module prints while it is loaded must not reach the protocol.
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    # Ctrl-C reaches the whole foreground group; the caller decides when this server ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    prctl = load_prctl()
    if level != UNSANDBOXED:
        # Another process of this user may not look into this one.
        if prctl is None or prctl(PR_SET_DUMPABLE, 0) != 0:
            sys.exit("no prctl")
    elif prctl is not None:
        prctl(PR_SET_CHILD_SUBREAPER, 1)
    if level == FULL and os.getpid() != 1:
        sys.exit("not the first process of its namespace")
    os.environ.update(PATH="/usr/local/bin:/usr/bin:/bin", LANG="C.UTF-8")
    preload(stand_ins)
    server = types.SimpleNamespace(
        stand_ins=stand_ins,
        scratch_root=scratch_root,
        level=level,
        filters=loadable(filters),
        prctl=prctl,
        number=0,
        spoilt=False,
        session=None,
        runner="built-in",
    )

    def serve(session=None):
        if session is not None:
            server.session, server.runner = session, "pytest " + sys.modules["pytest"].__version__
        gc.collect()
        gc.freeze()  # children then share these pages instead of copying them at their first collection
        for line in requests:
            job = json.loads(line)
            hello = {"python": sys.version.split()[0], "runner": server.runner}
            print(json.dumps(hello if "hello" in job else answer(server, job)), file=answers, flush=True)
            if server.spoilt:
                return

    server.in_pytest = beside("in_pytest.py")
    if not server.in_pytest.serve_in_session(scratch_root, serve):
        serve()


def beside(name):
    """A module that lies beside this one; the folder does not become a place to import from."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), name)
    spec = importlib.util.spec_from_file_location(name.split(".")[0], path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_prctl():
    """Linux only: elsewhere left-behind children are found by their process group alone."""
    try:
        import ctypes

        function = ctypes.CDLL(None).prctl
        function.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
        return lambda option, value, more=0: function(option, value, more, 0, 0)
    except (ImportError, OSError, AttributeError):
        return None


def loadable(filters):
    """The level's seccomp programs in memory, as the kernel takes them: each child then only points at them."""
    if not filters:
        return []
    import ctypes

    programs = []
    for program in filters:
        code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
        held = ctypes.create_string_buffer(code, len(code))
        described = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(held)))
        programs.append((ctypes.addressof(described), described, held))
    return programs


def confine(server):
    """Puts the level's seccomp programs on this child; `no_new_privs` is set already."""
    for address, _, _ in server.filters:
        if server.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, address) != 0:
            LEAVE(71)


def preload(stand_ins):
    for name in PRELOADED:
        try:
            importlib.import_module(name)
        except ImportError:
            pass
    for name in THIRD_PARTY:
        try:
            importlib.import_module(name)
        except Exception:
            pass  # not installed, or broken: the stand-in or a missing package is reported when code imports it
    # Last on the path: a stand-in is found only where the real package is missing. Loaded and forgotten, so that
    # its bytecode is cached while a child that imports it can still be told from one that does not.
    sys.path.append(stand_ins)
    before = set(sys.modules)
    for name in THIRD_PARTY:
        if name.split(".")[0] in STAND_INS and name not in before:
            try:
                importlib.import_module(name)
            except Exception:
                pass
    for name in set(sys.modules) - before:
        if name.split(".")[0] in STAND_INS:
            del sys.modules[name]


def answer(server, job):
    tests, exploit = job.get("tests"), job.get("exploit")
    first = check(server, job, tests)
    reply = {
        "import": first["import"],
        "behaviour": first["script"] if tests is not None else None,
        "exploit": None,
        "stand_ins": first["stand_ins"],
        "runner": None if tests is None and exploit is None else server.runner,
    }
    if exploit is not None:
        if first["import"]["status"] == "missing_package":
            reply["exploit"] = first["import"]
        elif first["import"]["status"] != "passed":
            reply["exploit"] = {"status": "not_run", "reason": "the module does not import"}
        else:
            second = check(server, job, exploit)
            reply["exploit"] = exploit_status(second["script"])
            reply["stand_ins"] = sorted(set(reply["stand_ins"]) | set(second["stand_ins"]))
    return reply


def exploit_status(status):
    """Only a failed assertion says that the exploit worked: broken code is not exploited code."""
    if status["status"] == "failed" and not status["message"].startswith(("AssertionError", "Failed: ")):
        return {"status": "not_run", "reason": "the exploit could not be carried out: " + status["message"]}
    return status


def check(server, job, script):
    """One fork: import the code, then run `script` (tests or exploit) if there is one."""
    server.number += 1
    scratch = os.path.join(server.scratch_root, str(server.number))
    os.mkdir(scratch, 0o700)
    reports, orders = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            child(server, job, script, scratch, reports[1], orders[0])
        finally:
            LEAVE(70)
    os.close(reports[1])
    os.close(orders[0])
    talk = types.SimpleNamespace(
        pid=pid,
        reports=reports[0],
        orders=orders[1],
        deadline=time.monotonic() + job["seconds"],
        seen=b"",
        size=0,
        ended=None,
    )
    try:
        return verdict(talk, script is not None)
    finally:
        os.close(reports[0])
        os.close(orders[1])
        end_all(server, pid)
        clear(server)


def verdict(talk, has_script):
    """What the child says of the import, then of the script, and whether it can still be believed."""
    message = hear(talk)
    stand_ins = message.get("stand_ins") if message else []
    imported = ended_by(talk) if message is None else heard(message, "import")
    script = imported
    if imported["status"] == "passed":
        if has_script:
            script, used_now = ask(talk, None)
            stand_ins = used_now or stand_ins
        if script["status"] == "passed":
            # The check that must fail: it is believed that nothing stands between the checks and their report.
            word = os.urandom(8).hex()
            last, _ = ask(talk, "raise AssertionError(%r)" % word)
            if last["status"] != "failed" or not last["message"].startswith("AssertionError: " + word):
                why = "its verdict is not its own: " + last.get("message", "a check that must fail did not")
                script = last if last["status"] == "timed_out" else failed(why)
                imported = imported if has_script else script
    known = stand_ins if isinstance(stand_ins, list) else []
    return {"import": imported, "script": script, "stand_ins": [name for name in STAND_INS if name in known]}


def ask(talk, script):
    """Has the child run a script (its own, where none is sent): the status, and the stand-ins used by then."""
    name = os.urandom(8).hex()
    try:
        os.write(talk.orders, (json.dumps({"id": name, "script": script}) + "\n").encode())
    except OSError:
        pass  # it has gone, as will be heard
    message = hear(talk)
    if message is None:
        return ended_by(talk), []
    return heard(message, name), message.get("stand_ins")


def heard(message, name):
    """The status that a message brings, if it is the answer to what was asked."""
    status = message.get("status")
    if message.get("id") != name or not isinstance(status, dict):
        return failed("reported what it was not asked")
    kind, text = status.get("status"), status.get("message", status.get("package"))
    if kind == "passed":
        return {"status": "passed"}
    if kind == "missing_package" and isinstance(text, str):
        return {"status": "missing_package", "package": tidy(text)}
    return failed(text if isinstance(text, str) else "reported what it was not asked")


def hear(talk):
    """The next message; none once the child has ended, said too much or used up its time."""
    while True:
        line, found, rest = talk.seen.partition(b"\n")
        if found:
            talk.seen = rest
            try:
                message = json.loads(line)
            except (ValueError, RecursionError):
                message = None
            return message if isinstance(message, dict) else {}
        left = talk.deadline - time.monotonic()
        if talk.ended is not None or left <= 0:
            return None
        # A short wait: a child that has gone while something it left behind holds the pipe gives no end of file.
        if select.select([talk.reports], [], [], min(left, 0.05))[0]:
            read(talk)
        else:
            talk.ended = reap(talk.pid)
            # Its last words may have come between the two looks.
            while talk.ended is not None and select.select([talk.reports], [], [], 0)[0] and read(talk):
                pass


def read(talk):
    chunk = os.read(talk.reports, PIPE_LIMIT)
    talk.seen += chunk
    talk.size += len(chunk)
    if chunk and talk.size <= PIPE_LIMIT:
        return True
    if talk.ended is None:
        talk.ended = wait_briefly(talk.pid)
    return False


def ended_by(talk):
    """Why there is no message."""
    if talk.ended is None or (os.WIFSIGNALED(talk.ended) and os.WTERMSIG(talk.ended) == signal.SIGXCPU):
        return {"status": "timed_out"}
    if os.WIFSIGNALED(talk.ended):
        return failed("ended by signal %d before it was done" % os.WTERMSIG(talk.ended))
    return failed("exited by itself with code %d before it was done" % os.WEXITSTATUS(talk.ended))


def reap(pid):
    try:
        done, status = os.waitpid(pid, os.WNOHANG)
        return status if done else None
    except ChildProcessError:
        return 0


def wait_briefly(pid):
    """The pipe is closed: the child is going, or it closed the pipe itself and is ended."""
    for _ in range(100):
        status = reap(pid)
        if status is not None:
            return status
        time.sleep(0.001)
    kill(-pid)
    try:
        return os.waitpid(pid, 0)[1]
    except ChildProcessError:
        return 0


def end_all(server, pid):
    """Ends the child and whatever came from it. In a namespace of its own that is everything but this process; without
    one the child's group, then whatever left the group: orphans come to this process as their reaper."""
    for _ in range(400):
        if server.level == FULL:
            kill(-1)
        else:
            kill(-pid)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        if server.level != FULL:
            for orphan in children():
                kill(orphan)
        time.sleep(0.0005)
    server.spoilt = True


def clear(server):
    """Empties the scratch folder. Where that fails, nothing more is to be run in it: the server ends after its answer."""

    def unlock(function, path, _):
        # Without the rights to its folder a name cannot be removed; the payload owned both.
        try:
            os.chmod(os.path.dirname(path), stat.S_IRWXU)
            os.chmod(path, stat.S_IRWXU)
            shutil.rmtree(path, True) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)
        except (OSError, RecursionError):
            pass

    try:
        for name in os.listdir(server.scratch_root):
            path = os.path.join(server.scratch_root, name)
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path, onerror=unlock)
            else:
                os.unlink(path)
        server.spoilt = server.spoilt or bool(os.listdir(server.scratch_root))
    except (OSError, RecursionError):
        server.spoilt = True


def children():
    try:
        with open("/proc/self/task/%d/children" % os.getpid()) as listing:
            return [int(word) for word in listing.read().split()]
    except OSError:
        return []


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        pass


def failed(message):
    return {"status": "failed", "message": tidy(message)}


def tidy(text):
    """One line that every reader of JSON takes: a lone surrogate is none."""
    return " ".join(text.split())[:MESSAGE_LIMIT].encode("utf-8", "replace").decode()


def child(server, job, script, scratch, pipe, orders):
    os.setsid()
    if server.prctl is not None:
        server.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    limit(job, PROCESSES.get(server.level, MANY_PROCESSES))
    os.chdir(scratch)
    server.scratch = scratch
    # One by one: `update` looks up abstract classes, and each page of those that a child touches is copied for it.
    os.environ["HOME"] = scratch
    os.environ["TMPDIR"] = scratch
    tempfile.tempdir = None
    # The protocol's own descriptors do not belong to the payload; the streams 0 to 2 are null already.
    first, second = sorted((pipe, orders))
    for start, end in ((3, first), (first + 1, second), (second + 1, 256)):
        os.closerange(start, end)
    sys.argv = ["solution.py"]
    sys.path.insert(0, scratch)
    # Bound before the payload runs, so that code which replaces them in their modules does not reach these.
    dumps, loads, write, receive = json.dumps, json.loads, os.write, os.read

    def report(name, status):
        message = {"id": name, "status": status, "stand_ins": used(server.stand_ins)}
        write(pipe, (dumps(message) + "\n").encode())

    source = job["code"]
    path = os.path.join(scratch, "solution.py")
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(file, source.encode("utf-8", "surrogatepass"))
    os.close(file)
    module = types.ModuleType("solution")
    module.__file__ = path
    sys.modules["solution"] = module
    by_pytest = server.session is not None and script is not None
    tests = scratch + ".tests"  # beside the scratch folder, which tests may list
    if by_pytest:
        os.mkdir(tests, 0o700)
    confine(server)
    status = run(source, path, module.__dict__, server)
    report("import", status)
    asked = 0
    while status["status"] == "passed":
        order = loads(receive(orders, PIPE_LIMIT))
        text = script if order["script"] is None else order["script"]
        asked += 1
        if by_pytest:
            name = os.path.join(tests, "test_%d.py" % asked)
            error = server.in_pytest.run(text, name, server.session)
            status = {"status": "passed"} if error is None else status_of(error, name, server)
        else:
            name = os.path.join(scratch, "checks.py")
            linecache.cache[name] = (len(text), None, text.splitlines(True), name)
            status = run(text, name, {"__name__": "checks", "__builtins__": builtins}, server, with_functions)
        report(order["id"], status)
    LEAVE(0)


def limit(job, processes):
    seconds = int(job["seconds"]) + 1
    for name, value in (
        ("RLIMIT_CPU", seconds),
        ("RLIMIT_AS", int(job["memory_bytes"])),
        ("RLIMIT_FSIZE", 16 << 20),
        ("RLIMIT_NOFILE", 256),
        ("RLIMIT_CORE", 0),
        ("RLIMIT_NPROC", processes),
    ):
        kind = getattr(resource, name, None)
        if kind is None:
            continue
        try:
            hard = resource.getrlimit(kind)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (value, value))
        except (ValueError, OSError):
            pass  # a limit that this system does not know; the others hold


def run(source, path, namespace, server, then=None):
    try:
        exec(compile(source, path, "exec", dont_inherit=True), namespace)
        if then is not None:
            then(namespace)
        return {"status": "passed"}
    except BaseException as error:  # SystemExit and KeyboardInterrupt too: the payload did not get to its end
        return status_of(error, path, server)


def with_functions(namespace):
    """The test functions of a file, in their order. What only pytest can run is left to it."""
    own = [(name, value) for name, value in namespace.items() if getattr(value, "__module__", None) == "checks"]
    tests = [value for name, value in own if name.startswith("test_") and inspect.isfunction(value)]
    if any(is_test_class(name, value) for name, value in own) or any(inspect.signature(test).parameters for test in tests):
        raise ModuleNotFoundError("tests with fixtures or classes need pytest", name="pytest")
    for test in tests:
        test()


def is_test_class(name, value):
    return inspect.isclass(value) and (name.startswith("Test") or issubclass(value, unittest.TestCase))


def status_of(error, path, server):
    try:
        package = missing_package(error, server)
        if package:
            return {"status": "missing_package", "package": package}
        message = "%s: %s" % (type(error).__name__, error) if str(error) else type(error).__name__
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
        if frames:
            message += " (line %d: %s)" % (frames[-1].lineno, (frames[-1].line or "").strip())
        # The folder's number says how many checks came before: another one in the next run.
        return failed(message.replace(server.scratch + os.sep, ""))
    except BaseException:  # an exception whose own __str__ raises, or no memory left to describe it
        return failed(type(error).__name__)


def missing_package(error, server):
    """The third-party package whose absence, or whose stand-in's limits, ended the payload."""
    if isinstance(error, ModuleNotFoundError):
        root = (error.name or "").split(".")[0]
        if root and root != "solution" and root not in STDLIB:
            return root
    if type(error).__name__ == "StandInLimit":
        return str(error).split(":")[0]
    holder = None
    if isinstance(error, ImportError):
        holder = error.name
    elif isinstance(error, AttributeError) and isinstance(getattr(error, "obj", None), types.ModuleType):
        holder = error.obj.__name__
    root = (holder or "").split(".")[0]
    return root if root in used(server.stand_ins) else None


def used(stand_ins):
    """The stand-ins that this child has imported: a real package would not lie in their folder."""
    found = []
    for name in STAND_INS:
        file = getattr(sys.modules.get(name), "__file__", None)
        if isinstance(file, str) and file.startswith(stand_ins):
            found.append(name)
    return found


def standard_library():
    names = getattr(sys, "stdlib_module_names", None)
    if names is None:  # before Python 3.10
        listing = os.listdir(os.path.dirname(os.__file__))
        names = set(sys.builtin_module_names) | {name.split(".")[0] for name in listing}
    return frozenset(names)


STDLIB = standard_library()

if __name__ == "__main__":
    main()
