"""Times `realign scan` beside bandit + ruff + radon on the same files, one after the other, round by round.

    python benches/scan.py target/release/realign [--files 24 1000] [--runs 5 2]

The files are drawn evenly from the standard library of the Python that runs this, in the order of their paths, packages
left out, and copied to a scratch folder of their own; the same Python gives the same files. bandit, ruff and radon are
those beside that Python. Printed: medians of wall time and of CPU time (all cores, children included), and the ratio. The three tools
take minutes over 1 000 files where something else is running: fewer rounds there.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

SELECT = "E4,E7,E9,F"


def file_set(count, folder):
    """Copies `count` files of the standard library, flat; gives their bytes."""
    top = Path(sysconfig.get_path("stdlib"))
    files = sorted(p for p in top.rglob("*.py") if "site-packages" not in p.parts and p.stat().st_size > 0)
    drawn = [files[i * len(files) // count] for i in range(count)]
    for index, path in enumerate(drawn):
        shutil.copy(path, folder / f"{index:04}_{path.name}")
    return sum(path.stat().st_size for path in drawn)


def seconds(commands):
    """(wall, CPU) of commands run one after the other; findings are not errors."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    for command in commands:
        run = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
        if run.returncode not in (0, 1):
            sys.exit(f"{' '.join(command)}: {run.stderr.decode()}")
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("realign")
    parser.add_argument("--files", type=int, nargs="+", default=[24, 1000])
    parser.add_argument("--runs", type=int, nargs="+", default=[5, 2], help="rounds of each set; the last one goes on")
    options = parser.parse_args()
    tools = Path(sys.executable).parent
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for index, count in enumerate(options.files):
        runs = options.runs[min(index, len(options.runs) - 1)]
        with tempfile.TemporaryDirectory() as folder:
            size = file_set(count, Path(folder))
            ours = [[options.realign, "scan", "--format", "json", "--select", SELECT, folder]]
            theirs = [
                [f"{tools}/bandit", "-q", "-r", "-f", "json", "--ignore-nosec", folder],
                [f"{tools}/ruff", "check", "-q", "--isolated", "--no-cache", "--ignore-noqa", "--select", SELECT, folder],
                [f"{tools}/radon", "cc", "-j", folder],
            ]
            rounds = [(seconds(ours), seconds(theirs)) for _ in range(runs)]
            line = f"{count} files, {size / 1e6:.1f} MB, n = {runs}:"
            for column, what in enumerate(["wall", "CPU"]):
                a, b = (statistics.median(r[tool][column] for r in rounds) for tool in (0, 1))
                line += f" {what} {a:.2f} s against {b:.2f} s ({b / a:.0f} ×)"
            print(line, flush=True)


if __name__ == "__main__":
    main()
