"""Ours and torch + transformers + PEFT, side by side, on one machine.

    python benches/compare.py [--rounds 5] [--threads 2] [--lines train-a,decode-b-1] > table.md

Each figure comes from a process of its own, so that its peak memory is its own. Rounds are interleaved: every round
runs every line of both sides once, and what is printed is the median over rounds; of the ratios too, each taken within
its round. About ten minutes with 5 rounds on two idle cores. Progress goes to standard error, the Markdown table to
standard output. Needs torch, transformers and peft in the Python that runs it.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent

# key: (our line, our dtypes, their dtypes, {pairing: (ours, theirs, goal)})
LINES = {
    "train-a": (
        "shape (a), LoRA r 16 on all linears, 4 × 256",
        ["f32", "bf16"],
        ["f32", "bf16"],
        {"f32": 1.5, "fastest": 1.8},
    ),
    "train-b": (
        "shape (b), LoRA r 16 on all linears, 1 × 256",
        ["f32", "bf16"],
        ["f32", "bf16"],
        {"f32": 1.2, "fastest": 1.5},
    ),
    "decode-a-1": ("shape (a), greedy, one row", ["f32", "bf16"], ["f32"], {"f32": 4.0}),
    "decode-a-16": ("shape (a), greedy, 16 rows", ["f32", "bf16"], ["f32"], {"f32": 2.0}),
    "decode-b-1": ("shape (b), greedy, one row", ["f32", "bf16"], ["f32", "bf16"], {"bf16 against f32": 2.5, "bf16": 1.3}),
    "pretrain": ("organism, pretraining, 16 × 110", ["f32"], ["f32"], {"f32": 2.0}),
}
MEMORY_GOALS = {"train-a": 0.3, "train-b": 0.5}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--lines", default=",".join(LINES))
parser.add_argument("--json", help="also write every single figure to this file")
args = parser.parse_args()
wanted = args.lines.split(",")
if unknown := set(wanted) - set(LINES):
    sys.exit(f"unknown lines: {', '.join(sorted(unknown))}; there are {', '.join(LINES)}")


def our_program():
    """Builds the benchmark and returns its path."""
    command = ["cargo", "bench", "--bench", "speed", "--no-run", "--message-format=json"]
    built = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    for line in built.splitlines():
        message = json.loads(line)
        if message.get("reason") == "compiler-artifact" and message["target"]["name"] == "speed":
            if message.get("executable"):
                return message["executable"]
    sys.exit("cargo named no benchmark program")


def measured(command):
    environment = dict(os.environ, CUDA_VISIBLE_DEVICES="", PYTHONWARNINGS="ignore")
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


program = our_program()
found = {}  # (key, side, dtype) -> one figure a round
started = time.time()
for round_number in range(args.rounds):
    for key in wanted:
        name, ours, theirs, _ = LINES[key]
        for dtype in ours:
            command = [program, name, "--dtype", dtype, "--workers", str(args.threads), "--json"]
            found.setdefault((key, "ours", dtype), []).append(measured(command))
        for dtype in theirs:
            command = [sys.executable, str(ROOT / "benches/peer.py"), key, "--dtype", dtype]
            found.setdefault((key, "torch", dtype), []).append(measured(command + ["--threads", str(args.threads)]))
        print(f"round {round_number + 1}/{args.rounds}, {key}: {time.time() - started:.0f} s", file=sys.stderr)


def median(key, side, dtype, field):
    return statistics.median(figure[field] for figure in found[key, side, dtype])


def ratio(key, ours, theirs, field="tokens_per_second"):
    pairs = zip(found[key, "ours", ours], found[key, "torch", theirs])
    return statistics.median(a[field] / b[field] for a, b in pairs)


def fastest(key, side, dtypes):
    return max(dtypes, key=lambda dtype: median(key, side, dtype, "tokens_per_second"))


print("| line | ours, tokens/s | torch, tokens/s | ratio | goal | ours, peak MiB | torch, peak MiB (of it imports) | ratio |")
print("|---|---|---|---|---|---|---|---|")
for key in wanted:
    name, ours, theirs, goals = LINES[key]
    best = fastest(key, "ours", ours), fastest(key, "torch", theirs)
    pairings = [("f32", "f32", "f32")]
    if "bf16" in theirs:
        pairings.append(("bf16", "bf16", "bf16"))
    if "bf16" in ours:
        pairings.append(("bf16 against f32", "bf16", "f32"))
    pairings.append(("fastest", *best))
    for words, a, b in pairings:
        if words == "fastest" and len(ours) == 1:
            continue
        what = f"{words} ({a} against {b})" if words == "fastest" else words
        goal = f"≥ {goals[words]}" if words in goals else ""
        memory = ratio(key, a, b, "peak_mib")
        bound = f" (≤ {MEMORY_GOALS[key]})" if words == "fastest" and key in MEMORY_GOALS else ""
        print(
            f"| {name}: {what} | {median(key, 'ours', a, 'tokens_per_second'):.0f} "
            f"| {median(key, 'torch', b, 'tokens_per_second'):.0f} | {ratio(key, a, b):.2f} | {goal} "
            f"| {median(key, 'ours', a, 'peak_mib'):.0f} "
            f"| {median(key, 'torch', b, 'peak_mib'):.0f} ({median(key, 'torch', b, 'imports_mib'):.0f}) "
            f"| {memory:.2f}{bound} |"
        )
if args.json:
    named = {" ".join(which): figures for which, figures in found.items()}
    pathlib.Path(args.json).write_text(json.dumps(named, indent=1))
