import os
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
