"""Tokens a second of transformers' `generate`: what benches/generation.rs is compared with.

usage: python generation.py MODEL_FOLDER float32|bfloat16 THREADS BATCH PROMPT NEW    (prints seconds, CPU-seconds)
"""
import sys
import time

import torch
from transformers import AutoModelForCausalLM

folder, dtype, threads, batch, prompt, new = sys.argv[1:7]
threads, batch, prompt, new = int(threads), int(batch), int(prompt), int(new)
torch.set_num_threads(threads)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype), attn_implementation="sdpa").eval()


def tokens(row):
    return [100 + (row * 7919 + place * 104729) % 40000 for place in range(prompt)]


def run(new):
    ids = torch.tensor([tokens(row) for row in range(batch)])
    with torch.inference_mode():
        model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, min_new_tokens=new, do_sample=False,
            eos_token_id=[], pad_token_id=0,
        )


model.generation_config.eos_token_id = None
run(2)
wall, cpu = time.perf_counter(), time.process_time()
run(new)
print(time.perf_counter() - wall, time.process_time() - cpu)
