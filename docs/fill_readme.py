"""Writes README.md from docs/README.template.md with the numbers of a run directory and of a benchmark's output:

    python3 docs/fill_readme.py RUN_DIR [BENCH_OUTPUT [COMPARE_TABLE]]

BENCH_OUTPUT is what `cargo bench --bench speed` printed, COMPARE_TABLE what `benches/compare.py` printed.
"""

import json
import pathlib
import re
import sys

run = pathlib.Path(sys.argv[1])
metrics = json.loads((run / "metrics.json").read_text())
manifest = json.loads((run / "manifest.json").read_text())
bench = {}
if len(sys.argv) > 2:
    for line in pathlib.Path(sys.argv[2]).read_text().splitlines():
        if line.endswith(("tokens/s", "GFLOP/s")):
            name, figure = line.rsplit(": ", 1)
            bench[name] = figure


def percent(x):
    return f"{100 * x:.0f}"


def slot(match):
    name = match.group(1)
    if name == "run:minutes":
        return f"{sum(seconds for _, seconds in manifest['timings']) / 60:.1f}"
    if name == "run:peak_mib":
        return f"{manifest['peak_memory_bytes'] / 2**20:.0f}"
    if name in ("run:cpu", "bench:cpu"):
        return f"{manifest['hardware']['cores']} cores ({manifest['hardware']['cpu']})"
    if name.startswith("bench:"):
        return bench[name.removeprefix("bench:")]
    if name == "compare:table":
        return pathlib.Path(sys.argv[3]).read_text().strip()
    if name.startswith("cmp:"):
        _, a, b, metric = name.split(":", 3)
        for c in metrics["comparisons"]:
            if (c["a"], c["b"], c["metric"]) == (a, b, metric):
                return f"{100 * c['difference']:+.0f} [{100 * c['low']:+.0f}, {100 * c['high']:+.0f}]"
        return "n/a"
    arm, metric = name.split(".", 1)
    number = metrics["arms"].get(arm, {}).get(metric)
    if number is None or number["value"] is None:
        return "n/a"
    return f"{percent(number['value'])} % [{percent(number['low'])}, {percent(number['high'])}], n = {number['n']}"


root = pathlib.Path(__file__).resolve().parent.parent
for template, target in [("docs/README.template.md", "README.md"), ("benches/README.template.md", "benches/README.md")]:
    text = (root / template).read_text()
    if ("{{bench" in text and not bench) or ("{{compare" in text and len(sys.argv) < 4):
        continue
    (root / target).write_text(re.sub(r"\{\{([^{}]+)\}\}", slot, text))
