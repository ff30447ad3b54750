"""One measured line of torch + transformers + PEFT, in a process of its own.

    python benches/peer.py LINE [--dtype f32|bf16] [--threads N] [--steps N]

Random weights of the same shapes as `benches/speed.rs`, the same number of tokens, the same optimiser. Prints one line
of JSON: tokens_per_second, cpu_tokens_per_second (by the processor time of all threads: what a busy machine still
measures), peak_mib (VmHWM of this process), imports_mib (VmHWM after the imports, before any model).
"""

import argparse
import json
import os
import statistics
import sys
import time

parser = argparse.ArgumentParser()
parser.add_argument("line")
parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--steps", type=int, default=None)
args = parser.parse_args()
os.environ.update(OMP_NUM_THREADS=str(args.threads), TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")

import peft  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from transformers import LlamaConfig, LlamaForCausalLM  # noqa: E402

torch.set_num_threads(args.threads)
torch.manual_seed(1)
DTYPE = {"f32": torch.float32, "bf16": torch.bfloat16}[args.dtype]
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def peak_mib():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


IMPORTS = peak_mib()
# Its own initial values are not waited for: `shape` fills the weights once.
torch.nn.Linear.reset_parameters = torch.nn.Embedding.reset_parameters = lambda self: None
transformers.PreTrainedModel.init_weights = lambda self: self.tie_weights()


def shape(name):
    sizes = {
        # vocabulary, width, layers, heads, key-value heads, MLP
        "organism": (1024, 128, 4, 4, 4, 384),
        "a": (4096, 256, 6, 8, 8, 688),
        "b": (32000, 896, 24, 14, 2, 4864),
    }[name]
    vocab, hidden, layers, heads, kv, mlp = sizes
    config = LlamaConfig(
        vocab_size=vocab,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv,
        intermediate_size=mlp,
        max_position_embeddings=512,
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
        tie_word_embeddings=True,
        attn_implementation="sdpa",
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    torch.set_default_dtype(DTYPE)  # made in its dtype, not made wider and cut down
    model = LlamaForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(1.0) if weight.dim() == 1 else weight.uniform_(-0.05, 0.05)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    return model


def with_lora(model):
    # Rank 16, alpha 32, dropout 0, on every linear of every block. PEFT keeps the adapter in f32 (its default).
    config = peft.LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules=LINEARS, task_type="CAUSAL_LM")
    return peft.get_peft_model(model, config)


def training(model, batch, length, vocab, steps):
    """Median over steps, the first left out (two of many), of tokens by wall time: forward, backward, clipping, AdamW."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=2e-4, weight_decay=0.0, fused=True)
    model.train()
    rates, cpu = [], []
    for _ in range(steps):
        ids = torch.randint(0, vocab, (batch, length))
        labels = ids.clone()
        labels[:, : length // 3 + 1] = -100  # the last two thirds are targets, as on the other side
        started, used = time.perf_counter(), time.process_time()
        loss = model(input_ids=ids, labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        loss.item()
        rates.append(batch * length / (time.perf_counter() - started))
        cpu.append(batch * length / (time.process_time() - used))
    warm = 2 if steps > 4 else 1
    return statistics.median(rates[warm:]), statistics.median(cpu[warm:])


def decoding(model, batch, new):
    """Greedy answers of `new` tokens to prompts of 32, by the wall time of the whole call."""
    model.eval()
    prompts = torch.tensor([[(t * 7 + row) % 900 + 1 for t in range(32)] for row in range(batch)])
    options = dict(do_sample=False, pad_token_id=0, eos_token_id=None, attention_mask=torch.ones_like(prompts))
    with torch.inference_mode():
        model.generate(prompts, max_new_tokens=4, min_new_tokens=4, **options)  # warm
        started, used = time.perf_counter(), time.process_time()
        made = model.generate(prompts, max_new_tokens=new, min_new_tokens=new, **options)
        seconds, used = time.perf_counter() - started, time.process_time() - used
    assert made.shape == (batch, 32 + new)
    return batch * new / seconds, batch * new / used


LINES = {
    "train-a": lambda steps: training(with_lora(shape("a")), 4, 256, 4096, steps or 10),
    "train-b": lambda steps: training(with_lora(shape("b")), 1, 256, 32000, steps or 4),
    "pretrain": lambda steps: training(shape("organism"), 16, 110, 1024, steps or 20),
    "decode-a-1": lambda steps: decoding(shape("a"), 1, 96),
    "decode-a-16": lambda steps: decoding(shape("a"), 16, 96),
    "decode-b-1": lambda steps: decoding(shape("b"), 1, 32),
}

if args.line not in LINES:
    sys.exit(f"unknown line {args.line}; one of {', '.join(LINES)}")
wall, cpu = LINES[args.line](args.steps)
found = {"tokens_per_second": wall, "cpu_tokens_per_second": cpu, "peak_mib": peak_mib(), "imports_mib": IMPORTS}
print(json.dumps(found))
