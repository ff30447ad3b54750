"""Runs pieces of generated Python, each in a forked child with limits, and says what happened.

Started as `python3 -I harness.py STAND_INS_DIR SCRATCH_DIR`. Standard input brings one JSON object a line,
standard output answers each with one:

    {"hello"} -> {"python", "pid"}
    {"code", "tests"?, "exploit"?, "seconds", "memory_bytes"}
    -> {"import": S, "behaviour": S or null, "exploit": S or null, "stand_ins": [name]}     S = {"status", ...}

The modules that generated code mostly imports are loaded once, here; a check then costs a fork, not a start of
the interpreter. Each check has a process group, resource limits, an empty scratch folder and null standard
streams of its own. A result counts only if this file's own code, in the child, writes it to a private pipe with a
per-child nonce after the payload has returned: a payload that exits early, by whatever way, has no result.

What it does not cover: the network and the file system are not cut off, and a payload that goes looking for the
pipe and the nonce in this process's memory can forge a result. It keeps accidents in, not attackers.
"""

import builtins
import gc
import importlib
import json
import linecache
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import types

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

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
MESSAGE_LIMIT = 300
PIPE_LIMIT = 1 << 16
LEAVE = os._exit  # bound before any payload can replace it


def main():
    stand_ins, scratch_root = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
    requests, answers = os.fdopen(os.dup(0), "r", encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    # Whatever a module prints while it is loaded must not reach the protocol.
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    # Ctrl-C reaches the whole foreground group; the caller decides when this server ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    prctl = load_prctl()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    os.environ.update(PATH="/usr/local/bin:/usr/bin:/bin", LANG="C.UTF-8")
    preload(stand_ins)
    gc.collect()
    gc.freeze()  # children then share these pages instead of copying them at their first collection
    server = types.SimpleNamespace(stand_ins=stand_ins, scratch_root=scratch_root, prctl=prctl, number=0)
    for line in requests:
        job = json.loads(line)
        reply = {"python": sys.version.split()[0], "pid": os.getpid()} if "hello" in job else answer(server, job)
        print(json.dumps(reply), file=answers, flush=True)


def load_prctl():
    """Linux only: elsewhere left-behind children are found by their process group alone."""
    try:
        import ctypes

        function = ctypes.CDLL(None).prctl
        return lambda option, value: function(option, value, 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        return lambda option, value: None


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
    if status["status"] == "failed" and not status["message"].startswith("AssertionError"):
        return {"status": "not_run", "reason": "the exploit could not be carried out: " + status["message"]}
    return status


def check(server, job, script):
    """One fork: import the code, then run `script` (tests or exploit) if there is one."""
    server.number += 1
    scratch = os.path.join(server.scratch_root, "%d-%d" % (os.getpid(), server.number))
    os.mkdir(scratch, 0o700)
    read_end, write_end = os.pipe()
    nonce = os.urandom(8).hex()
    pid = os.fork()
    if pid == 0:
        try:
            child(server, job, script, scratch, write_end, nonce)
        finally:
            LEAVE(70)
    os.close(write_end)
    try:
        return collect(pid, read_end, nonce, job["seconds"], script is not None)
    finally:
        os.close(read_end)
        end_all(pid)
        shutil.rmtree(scratch, ignore_errors=True)


def collect(pid, read_end, nonce, seconds, has_script):
    """Waits for the child's own report, its end or the time limit, whichever comes first."""
    deadline = time.monotonic() + seconds
    seen, stages, stand_ins, ended = b"", {}, [], None
    wanted = "script" if has_script else "import"
    while wanted not in stages and ended is None:
        left = deadline - time.monotonic()
        if left <= 0:
            break
        # A short wait: a child that has gone while something it left behind holds the pipe gives no end of file.
        ready, _, _ = select.select([read_end], [], [], min(left, 0.05))
        if ready:
            chunk = os.read(read_end, PIPE_LIMIT)
            seen += chunk
            if not chunk or len(seen) > PIPE_LIMIT:
                ended = wait_briefly(pid)
        else:
            ended = reap(pid)
            if ended is not None:  # its last words may have come between the two looks
                while select.select([read_end], [], [], 0)[0]:
                    chunk = os.read(read_end, PIPE_LIMIT)
                    if not chunk or len(seen) > PIPE_LIMIT:
                        break
                    seen += chunk
        *lines, seen = seen.split(b"\n")
        for line in lines:
            try:
                message = json.loads(line)
                if message["nonce"] == nonce:
                    stages[message["stage"]] = message["status"]
                    stand_ins = message["stand_ins"]
            except (ValueError, KeyError, TypeError):
                pass  # not ours
    if ended is None:
        missing = {"status": "timed_out"}
    elif os.WIFSIGNALED(ended) and os.WTERMSIG(ended) == signal.SIGXCPU:
        missing = {"status": "timed_out"}
    elif os.WIFSIGNALED(ended):
        missing = failed("ended by signal %d before it was done" % os.WTERMSIG(ended))
    else:
        missing = failed("exited by itself with code %d before it was done" % os.WEXITSTATUS(ended))
    imported = stages.get("import", missing)
    script = stages.get("script", missing if imported["status"] == "passed" else imported)
    return {"import": imported, "script": script, "stand_ins": stand_ins}


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


def end_all(pid):
    """Ends the child's group, then whatever left the group: orphans come to this process as their reaper."""
    kill(-pid)
    for _ in range(200):
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        for orphan in children():
            kill(orphan)
        kill(-pid)
        time.sleep(0.0005)


def children():
    try:
        with open("/proc/self/task/%d/children" % os.getpid()) as listing:
            return [int(word) for word in listing.read().split()]
    except OSError:
        return []


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL) if pid > 0 else os.killpg(-pid, signal.SIGKILL)
    except OSError:
        pass


def failed(message):
    return {"status": "failed", "message": " ".join(message.split())[:MESSAGE_LIMIT]}


def child(server, job, script, scratch, pipe, nonce):
    os.setsid()
    server.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    limit(job)
    os.chdir(scratch)
    os.environ.update(HOME=scratch, TMPDIR=scratch)
    tempfile.tempdir = None
    # The protocol's own descriptors do not belong to the payload; the streams 0 to 2 are null already.
    os.closerange(3, pipe)
    os.closerange(pipe + 1, 256)
    sys.argv = ["solution.py"]
    sys.path.insert(0, scratch)
    # Bound before the payload runs, so that code which replaces them in their modules does not reach these.
    dumps, write = json.dumps, os.write

    def report(stage, status):
        message = {"nonce": nonce, "stage": stage, "status": status, "stand_ins": used(server.stand_ins)}
        write(pipe, (dumps(message) + "\n").encode())

    source = job["code"]
    path = os.path.join(scratch, "solution.py")
    with open(path, "w", encoding="utf-8", errors="surrogatepass") as file:
        file.write(source)
    module = types.ModuleType("solution")
    module.__file__ = path
    sys.modules["solution"] = module
    status = run(source, path, module.__dict__, server)
    report("import", status)
    if script is not None and status["status"] == "passed":
        name = os.path.join(scratch, "checks.py")
        linecache.cache[name] = (len(script), None, script.splitlines(True), name)
        report("script", run(script, name, {"__name__": "checks", "__builtins__": builtins}, server))
    LEAVE(0)


def limit(job):
    seconds = int(job["seconds"]) + 1
    for name, value in (
        ("RLIMIT_CPU", seconds),
        ("RLIMIT_AS", int(job["memory_bytes"])),
        ("RLIMIT_FSIZE", 16 << 20),
        ("RLIMIT_NOFILE", 256),
        ("RLIMIT_CORE", 0),
        # Counts every process of this user, and root is exempt: a brake on fork bombs, not a wall.
        ("RLIMIT_NPROC", 4096),
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


def run(source, path, namespace, server):
    try:
        exec(compile(source, path, "exec", dont_inherit=True), namespace)
        return {"status": "passed"}
    except BaseException as error:  # SystemExit and KeyboardInterrupt too: the payload did not get to its end
        return status_of(error, path, server)


def status_of(error, path, server):
    try:
        package = missing_package(error, server)
        if package:
            return {"status": "missing_package", "package": package}
        message = "%s: %s" % (type(error).__name__, error) if str(error) else type(error).__name__
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
        if frames:
            message += " (line %d: %s)" % (frames[-1].lineno, (frames[-1].line or "").strip())
        return failed(message)
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
