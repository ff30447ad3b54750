import os
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
