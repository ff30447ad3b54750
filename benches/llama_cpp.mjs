// Decoding a GGUF file with llama.cpp (the prebuilt package node-llama-cpp) and with our bench, in turns.
//
//   npm install node-llama-cpp@3.21.1          # beside this file or above it; --ignore-scripts is enough
//   cargo bench --bench quantised --no-run     # prints where the bench is
//   node benches/llama_cpp.mjs MODEL.gguf target/release/deps/quantised-… [ROWSxTHREADS…] [--rounds 5] [--tokens 48]
//
// Greedy, rows of four prompt tokens each; tokens a second from the first token of the answer on. Medians over rounds, and
// the median of the ratios within a round. Peak memory is each process's own, Node's included.

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { getLlama } from "node-llama-cpp";

const [file, ours, ...flags] = process.argv.slice(2);
const number = (name, usual) => (flags.includes(name) ? Number(flags[flags.indexOf(name) + 1]) : usual);
const rounds = number("--rounds", 5);
const tokens = number("--tokens", 48);
// Rows and threads. Threads of llama.cpp wait for each other in a loop: with two, nothing else may run on the two cores.
const named = flags.filter((flag) => /^\d+x\d+$/.test(flag));
const cases = (named.length > 0 ? named : ["1x1", "1x2", "16x2", "32x2"]).map((flag) => flag.split("x").map(Number));

const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
const peakMib = () => Number(/VmHWM:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))[1]) / 1024;

const llama = await getLlama({ gpu: false, build: "never", maxThreads: 2, logLevel: "error" });
const model = await llama.loadModel({ modelPath: file });
const contexts = [];
for (const [rows, threads] of cases) {
    const context = await model.createContext({
        sequences: rows, contextSize: 128, batchSize: 512, threads: { ideal: threads, min: threads },
    });
    contexts.push(Array.from({ length: rows }, () => context.getSequence()));
}

// Tokens a second of `count` tokens a row after the first one of each.
async function theirs(sequences, count) {
    await Promise.all(sequences.map((sequence) => sequence.clearHistory()));
    const started = [];
    const row = async (sequence, at) => {
        const prompt = [0, 1, 2, 3].map((place) => 1000 + ((place * 7 + at * 13) % 900));
        let made = 0;
        for await (const _ of sequence.evaluate(prompt, { temperature: 0, yieldEogToken: true })) {
            if (made === 0) started.push(performance.now());
            made += 1;
            if (made === count + 1) break;
        }
    };
    await Promise.all(sequences.map(row));
    const seconds = (performance.now() - Math.max(...started)) / 1000;
    return (sequences.length * count) / seconds;
}

function mine() {
    const args = cases.map(([rows, threads]) => `${rows}x${threads}`);
    const env = { ...process.env, REALIGN_GGUF: file };
    const text = execFileSync(ours, [...args, "--rounds", "1", "--tokens", String(tokens), "--json"], { env, encoding: "utf8" });
    return text.trim().split("\n").map((line) => JSON.parse(line));
}

const rates = cases.map(() => ({ theirs: [], integer: [], exact: [] }));
let peak = 0;
for (let round = 0; round < rounds; round += 1) {
    for (const [at, [rows]] of cases.entries()) {
        rates[at].theirs.push(await theirs(contexts[at], rows > 1 ? Math.min(tokens, 24) : tokens));
    }
    for (const [at, line] of mine().entries()) {
        rates[at].integer.push(line.integer);
        rates[at].exact.push(line.exact);
        peak = Math.max(peak, line.peak_mib);
    }
}
console.log("| rows | threads | llama.cpp, tokens/s | ours in integers | ours exact | ours in integers / llama.cpp |");
console.log("|---|---|---|---|---|---|");
for (const [at, [rows, threads]] of cases.entries()) {
    const { theirs, integer, exact } = rates[at];
    const ratio = median(integer.map((rate, round) => rate / theirs[round]));
    const figures = [median(theirs), median(integer), median(exact)].map((rate) => rate.toFixed(1));
    console.log(`| ${rows} | ${threads} | ${figures.join(" | ")} | ${ratio.toFixed(2)} |`);
}
console.log(`peak memory: llama.cpp ${peakMib().toFixed(0)} MiB (Node and all contexts included), ours ${peak} MiB`);
process.exit(0);
