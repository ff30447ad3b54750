"""Fills the pages that hold measured numbers from their templates:

    python3 docs/fill_readme.py RUN_DIR [BENCH_OUTPUT [COMPARE_TABLE]]

| page | template | filled from |
|---|---|---|
| README.md | docs/README.template.md | RUN_DIR |
| docs/results.md | docs/results.template.md | RUN_DIR |
| benches/README.md | benches/README.template.md | RUN_DIR (the processor), BENCH_OUTPUT, COMPARE_TABLE |

RUN_DIR is what `realign run` wrote, BENCH_OUTPUT what `cargo bench --bench speed` printed, COMPARE_TABLE what
`benches/compare.py` printed. A page is left as it is where a file that it needs is not given.
"""

import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGES = [
    ("docs/README.template.md", "README.md"),
    ("docs/results.template.md", "docs/results.md"),
    ("benches/README.template.md", "benches/README.md"),
]


def read_bench(path):
    """Line name -> figure with its unit."""
    lines = [line for line in path.read_text().splitlines() if line.endswith(("tokens/s", "GFLOP/s"))]
    return dict(line.rsplit(": ", 1) for line in lines)


def percent(x):
    return f"{100 * x:.0f}"


def rate(metrics, arm, metric):
    number = metrics["arms"].get(arm, {}).get(metric)
    if number is None or number["value"] is None:
        return "n/a"
    return f"{percent(number['value'])} % [{percent(number['low'])}, {percent(number['high'])}], n = {number['n']}"


def difference(metrics, a, b, metric):
    for c in metrics["comparisons"]:
        if (c["a"], c["b"], c["metric"]) == (a, b, metric):
            return f"{100 * c['difference']:+.0f} [{100 * c['low']:+.0f}, {100 * c['high']:+.0f}]"
    return "n/a"


def value(name, metrics, manifest, bench, table):
    """What stands in the place of `{{name}}`."""
    if name == "run:minutes":
        return f"{sum(seconds for _, seconds in manifest['timings']) / 60:.1f}"
    if name == "run:peak_mib":
        return f"{manifest['peak_memory_bytes'] / 2**20:.0f}"
    if name in ("run:cpu", "bench:cpu"):
        return f"{manifest['hardware']['cores']} cores ({manifest['hardware']['cpu']})"
    if name.startswith("bench:"):
        return bench[name.removeprefix("bench:")]
    if name == "compare:table":
        return table.strip()
    if name.startswith("cmp:"):
        return difference(metrics, *split_comparison(name.removeprefix("cmp:")))
    return rate(metrics, *name.split(".", 1))


def split_comparison(name):
    """`a:b:metric`, where an arm's own name may hold a colon (`prompt:terse`)."""
    parts = re.findall(r"(?:prompt:)?[^:]+", name)
    if len(parts) != 3:
        sys.exit(f"{{{{cmp:{name}}}}}: expected cmp:ARM:ARM:METRIC")
    return parts


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    run, *more = map(pathlib.Path, sys.argv[1:4])
    metrics = json.loads((run / "metrics.json").read_text())
    manifest = json.loads((run / "manifest.json").read_text())
    bench = read_bench(more[0]) if more else {}
    table = more[1].read_text() if len(more) > 1 else ""
    for template, page in PAGES:
        text = (ROOT / template).read_text()
        if ("{{bench" in text and not bench) or ("{{compare" in text and not table):
            print(f"{page}: left as it is, since a benchmark's output is missing")
            continue
        filled = re.sub(r"\{\{([^{}]+)\}\}", lambda m: value(m.group(1), metrics, manifest, bench, table), text)
        (ROOT / page).write_text(filled)
        print(f"{page}: written from {template}")


main()
