import json
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
