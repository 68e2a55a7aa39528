"""One measurement of training in Python, for benches/training.rs: PyTorch eager for sft, TRL's GRPOTrainer for grpo.

usage: python training.py sft|grpo float32|bfloat16 MODEL_FOLDER THREADS    (prints {"wall": s, "cpu": s, "peak": MiB} of a
step; torch 2.11, transformers 5, trl 1.16)
"""
import json
import os
import resource
import sys
import time

import torch

what, dtype, folder, threads = sys.argv[1:5]
torch.set_num_threads(int(threads))
STEPS = 3
ROWS = tuple(int(number) for number in os.environ.get("SFT", "4x256").split("x"))
GROUPS = tuple(int(number) for number in os.environ.get("GRPO", "8x8x128").split("x"))
WORDS = ["the", "cat", "dog", "sun", "sea", "day", "man", "car"]
PROMPT = 64


def token(row, place):
    return 100 + (row * 7919 + place * 104729) % 40000


def tell(start):
    wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"wall": wall / STEPS, "cpu": cpu / STEPS, "peak": peak}))


def now():
    return time.perf_counter(), time.process_time()


def sft():
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.01, fused=True)
    rows, length = ROWS
    batch = torch.tensor([[token(row, place) for place in range(length)] for row in range(rows)])

    def step():
        # As HF's Trainer does with bf16=True: float32 weights, passes under autocast, the loss in float32.
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            logits = model(batch).logits
        logits = logits.float()
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]), batch[:, 1:].reshape(-1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    step()
    start = now()
    for _ in range(STEPS):
        step()
    tell(start)


def grpo():
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    prompts, group, length = GROUPS
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    args = GRPOConfig(
        output_dir="/nonexistent", save_strategy="no", report_to=[], use_cpu=True, bf16=dtype == "bfloat16",
        gradient_checkpointing=False, per_device_train_batch_size=group, gradient_accumulation_steps=prompts,
        num_generations=group, max_completion_length=length, max_steps=STEPS + 1, learning_rate=1e-6, beta=0.0,
        generation_kwargs={"min_new_tokens": length}, disable_tqdm=True, logging_steps=1000, shuffle_dataset=False,
    )
    texts = [f" {WORDS[number % len(WORDS)]}" * PROMPT for number in range(prompts)]
    started = []

    class Watch(TrainerCallback):
        def on_step_end(self, *_, **__):
            if not started:
                started.append(now())

    trainer = GRPOTrainer(
        model, reward_funcs=lambda completions, **_: [float(number % 2) for number in range(len(completions))], args=args,
        train_dataset=Dataset.from_dict({"prompt": texts * (STEPS + 1)}), processing_class=tokenizer, callbacks=[Watch()],
    )
    out, sys.stdout = sys.stdout, sys.stderr
    trainer.train()
    sys.stdout = out
    tell(started[0])


{"sft": sft, "grpo": grpo}[what]()
