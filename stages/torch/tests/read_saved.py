"""Asked by saved.rs: transformers' logits of model folders that plumb saved.

usage: python read_saved.py FOLDER…   (torch 2.11.0, transformers 5.23.0)
Of each folder: loads it with no warning of missing, unexpected or mismatched weights, reads tokens.json (a list of ids)
there and writes logits.safetensors.
"""
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

for name in sys.argv[1:]:
    folder = Path(name)
    model, report = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    assert not any(report.values()), (name, report)
    AutoTokenizer.from_pretrained(folder)
    tokens = torch.tensor([json.loads((folder / "tokens.json").read_text())])
    with torch.no_grad():
        save_file({"logits": model.eval()(tokens).logits[0].contiguous()}, folder / "logits.safetensors")
