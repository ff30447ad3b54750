"""Tests by pytest, in milliseconds: one session is begun in the server, and each of its children runs one file in it.

pytest's own way from start to end, plugins and configuration included, costs as much as twenty checks. So the server
serves from within the session's loop over tests, in which nothing is collected. A forked child makes a module of its
file of tests, has pytest collect and run that, and leaves.
"""

import os
import pathlib
import sys

# What would change how code under test behaves (handlers of logging, hooks for warnings and threads) or costs time.
PLUGINS_OFF = """
cacheprovider doctest faulthandler junitxml legacypath logging pastebin setuponly setupplan stepwise terminal
threadexception unraisableexception warnings
""".split()


def serve_in_session(scratch_root, serve):
    """Calls `serve` with a session of pytest, if there is a pytest that works. Whether it has."""
    served = []
    # Other people's plugins stay out.
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    try:
        import pytest

        if pytest.version_tuple < (7,):  # before 7.0 there is no such name either
            return False
        sys.dont_write_bytecode = True  # of tests: it would lie beside them

        class Resident:
            @pytest.hookimpl(tryfirst=True)
            def pytest_collection(self, session):
                return True

            @pytest.hookimpl(tryfirst=True)
            def pytest_runtestloop(self, session):
                for name in [name for name in os.environ if name.startswith("PYTEST_")]:
                    del os.environ[name]
                served.append(True)
                serve(session)
                return True

        # Plain assertions: rewritten ones put addresses into their messages, which no second run would repeat.
        arguments = ["-c", os.devnull, "--rootdir", scratch_root, "--confcutdir", scratch_root, "--noconftest"]
        arguments += ["--assert=plain", "--capture=no", "-o", "python_functions=test_*"]
        arguments += [part for name in PLUGINS_OFF for part in ("-p", "no:" + name)]
        pytest.main(arguments, plugins=[Resident()])
    except Exception:
        pass  # not installed, or of a version that is not what it is taken for
    finally:
        os.environ.pop("PYTEST_DISABLE_PLUGIN_AUTOLOAD", None)
    return bool(served)


class NotPassed(Exception):
    """In pytest's words, where no error of the test's own says why."""


class Watch:
    """What went wrong in pytest's eyes."""

    def __init__(self):
        self.error, self.words = None, None

    def pytest_runtest_logreport(self, report):
        # An expected failure is none. A test that skips itself has not passed.
        if report.failed or (report.skipped and not hasattr(report, "wasxfail")):
            text = report.longrepr
            self.words = self.words or NotPassed(text[2] if isinstance(text, tuple) else str(text))

    def pytest_exception_interact(self, node, call, report):
        self.error = self.error or call.excinfo.value


def run(source, path, session):
    """Has pytest run the tests in `source`, as the file `path`. What went wrong, or nothing."""
    import pytest

    watch = Watch()
    try:
        with open(path, "w", encoding="utf-8", errors="surrogatepass") as file:
            file.write(source)
        session.config.pluginmanager.register(watch)
        module = pytest.Module.from_parent(session, path=pathlib.Path(path))
        items = list(items_of(module, module.obj.__name__, pytest))
        for item, following in zip(items, items[1:] + [None]):
            session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if watch.words is not None:
                break
    except BaseException as error:  # of the file's own statements, or a way out that pytest lets through
        # pytest wraps what an import of the file raises.
        wrapped = isinstance(error, pytest.Collector.CollectError) and error.__cause__ is not None
        return error.__cause__ if wrapped else error
    return watch.error or watch.words


def items_of(collector, module, pytest):
    """All tests below a file or a class that are the file's own: code under test may have names like theirs."""
    for node in collector.collect():
        if getattr(getattr(node, "obj", None), "__module__", module) != module:
            continue
        if isinstance(node, pytest.Item):
            yield node
        else:
            yield from items_of(node, module, pytest)
