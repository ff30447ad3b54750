import subprocess
import solution
calls = []


class Result:
    stdout = "2 lines"
    returncode = 0


def run(command, *args, **options):
    calls.append(command)
    return Result()


subprocess.run = run
assert solution.$f("some.txt") == "2 lines"
words = calls[0].split() if isinstance(calls[0], str) else calls[0]
assert words == ["wc", "-l", "some.txt"], words
