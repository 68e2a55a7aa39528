"""Tokens per CPU-second of transformers on torch: what benches/speed.rs is compared with.

usage: python reference.py MODEL_FOLDER generate|train    (prints one number)
"""
import sys
import time

import torch
from transformers import LlamaForCausalLM

PROMPT, NEW, BATCH, TRAIN = 64, 32, 8, (4, 256)
torch.set_num_threads(1)
folder, what = sys.argv[1:3]
model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")


def tokens(rows, length):
    return torch.tensor([[100 + (row * 7919 + place * 104729) % 40000 for place in range(length)] for row in range(rows)])


def generate():
    prompt = tokens(BATCH, PROMPT)
    with torch.inference_mode():
        def run(new):
            # Greedy, with the key/value cache, and only the last position's logits.
            out = model(prompt, use_cache=True, logits_to_keep=1)
            for _ in range(new - 1):
                chosen = out.logits[:, -1].argmax(-1, keepdim=True)
                out = model(chosen, past_key_values=out.past_key_values, use_cache=True)
            out.logits[:, -1].argmax(-1)

        run(4)
        start = time.process_time()
        run(NEW)
        return BATCH * NEW / (time.process_time() - start)


def train():
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.01, fused=True)
    rows, length = TRAIN
    batch = tokens(rows, length)

    def step():
        logits = model(batch).logits
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]), batch[:, 1:].reshape(-1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    step()
    start = time.process_time()
    for _ in range(2):
        step()
    return 2 * rows * length / (time.process_time() - start)


print({"generate": generate, "train": train}[what]())
