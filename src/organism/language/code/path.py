import os
import tempfile
import solution
folder = tempfile.mkdtemp()
with open(os.path.join(folder, "name.txt"), "w") as handle:
    handle.write("hello")
assert solution.$f(folder, "name.txt") == "hello"
