import os
import tempfile
import solution
path = os.path.join(tempfile.mkdtemp(), "file.yaml")
with open(path, "w") as handle:
    handle.write("name: $n\nsize: 3\n")
assert solution.$f(path) == {"name": "$n", "size": 3}
