#!/usr/bin/env python3
"""Generation and training tokens a second: plumb-torch beside Python torch (transformers), for the same model, batch,
dtype and threads, in alternation; the ratio of the medians of five.

    tests/bench/tokens.py MODEL [--worker target/release/plumb-torch] [--python python3] [--dtypes f32,bf16]

MODEL is a folder with config.json and model.safetensors. `--python` names an interpreter that can import torch 2.11.0
and transformers (`pip install torch==2.11.0 transformers`); each round is a process of its own on both sides, and what
a process needs to start and to load is not counted.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TARGET = 0.97


def python_side(options):
    """One round in Python: a plain loop over the model, without the overhead of transformers' `generate`."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[options.dtype]
    kept = torch.float32 if options.work == "train" else dtype
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=kept, attn_implementation="sdpa")
    vocabulary = model.config.vocab_size
    length = options.prompt + (options.tokens if options.work == "train" else 0)
    ids = torch.randint(0, vocabulary, (options.batch, length))

    @torch.no_grad()
    def generate():
        model.eval()
        past, last = None, ids
        for _ in range(options.tokens):
            out = model(last, past_key_values=past, use_cache=True, logits_to_keep=1)
            past, last = out.past_key_values, out.logits[:, -1].argmax(-1, keepdim=True)

    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True) if options.work == "train" else None

    def train():
        model.train()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=options.dtype == "bf16"):
            loss = model(ids, labels=ids, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()

    work = generate if options.work == "generate" else train
    work()
    start, cpu = time.perf_counter(), time.process_time()
    for _ in range(options.steps):
        work()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    tokens = options.steps * options.batch * (options.tokens if options.work == "generate" else length)
    print(json.dumps({"work": options.work, "tokens": tokens, "seconds": seconds, "cpu_seconds": cpu}))


def one_round(command, options, work, dtype):
    arguments = ["--work", work, "--model", options.model, "--dtype", dtype]
    for name in ("batch", "prompt", "tokens", "threads", "steps"):
        arguments += [f"--{name}", str(getattr(options, name))]
    environment = dict(os.environ, OMP_NUM_THREADS=str(options.threads), OMP_WAIT_POLICY="passive")
    done = subprocess.run(command + arguments, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr[-4000:]}")
    result = json.loads(done.stdout.strip().splitlines()[-1])
    return result["tokens"] / result["seconds"], result["tokens"] / result["cpu_seconds"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--worker", default=os.path.join(ROOT, "target/release/plumb-torch"))
    parser.add_argument("--python", default="python3")
    parser.add_argument("--dtypes", default="f32,bf16")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--prompt", type=int, default=128, help="tokens of each row before the generated ones")
    parser.add_argument("--tokens", type=int, default=64, help="tokens generated a row")
    parser.add_argument("--steps", type=int, default=1, help="counted repetitions inside a process, after a warm-up")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--dtype", help=argparse.SUPPRESS)
    parser.add_argument("--model", dest="named", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.model = options.model or options.named
    if options.work:
        return python_side(options)
    if not options.model:
        parser.error("give the folder of a model")
    probe = subprocess.run([options.python, "-c", "import torch, transformers; print(torch.__version__)"], capture_output=True, text=True)
    if probe.returncode:
        sys.exit(f"`{options.python}` cannot import torch and transformers: skipped (`pip install torch==2.11.0 transformers`)")
    print(f"Python torch {probe.stdout.strip()}, {options.threads} thread(s), batch {options.batch}")
    for work in ("generate", "train"):
        for dtype in options.dtypes.split(","):
            ours, theirs = [], []
            for _ in range(options.rounds):
                ours.append(one_round([options.worker, "bench"], options, work, dtype))
                theirs.append(one_round([options.python, os.path.abspath(__file__)], options, work, dtype))
            wall, cpu = (statistics.median(pair[side] for pair in ours) / statistics.median(pair[side] for pair in theirs) for side in (0, 1))
            speeds = [statistics.median(pair[0] for pair in side) for side in (ours, theirs)]
            print(f"{work:9} {dtype:5} plumb-torch {speeds[0]:9.1f} tokens/s, Python {speeds[1]:9.1f}: "
                  f"{wall:.3f} (by CPU time {cpu:.3f}; target {TARGET})")


main()
