import os
import solution
path = solution.$f("some text")
with open(path) as handle:
    assert handle.read() == "some text"
os.remove(path)
