import io
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
