"""Makes the reference of tests/adapters.rs: PEFT's adapters on the small llama of make_llama.py, their logits and gradients.

usage: python make_adapters.py   (torch 2.11.0, transformers 5.23.0, peft 0.21.2; writes adapters/ and adapters.json beside
this file; make_training.py, which lies there too, tells how gradients are told)

With arguments FOLDER ADAPTER (a model and an adapter that plumb wrote) it prints the logits of PEFT's model instead.
"""
import json
import sys

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from make_training import here, model, told

TOKENS = [[3, 9, 12, 7, 8, 4, 40, 2], [30, 31, 32, 33, 34, 17, 18, 2]]
PROMPT = 4


def logits(adapted):
    return adapted(torch.tensor(TOKENS)).logits


def case(name, folder, **options):
    torch.manual_seed(3)
    adapted = get_peft_model(model(), LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.0, **options))
    # A new adapter changes nothing: its B is 0.
    for parameter_name, weight in adapted.named_parameters():
        if "lora_B" in parameter_name:
            with torch.no_grad():
                weight.normal_(0, 0.2)
    found = logits(adapted)
    targets = torch.tensor(TOKENS)[:, PROMPT:]
    loss = torch.nn.functional.cross_entropy(found[:, PROMPT - 1:-1].reshape(-1, 48), targets.reshape(-1))
    loss.backward()
    named = [(name.replace(".default", ""), weight) for name, weight in adapted.named_parameters() if "lora" in name]
    gradients = told((name, weight.grad) for name, weight in named)
    if folder:
        adapted.save_pretrained(here / folder)
        (here / folder / "README.md").unlink(missing_ok=True)
    # Merging writes over the base.
    merged = told(adapted.merge_and_unload().named_parameters())
    return {"name": name, "r": options["r"], "alpha": options["lora_alpha"], "targets": options["target_modules"],
            "loss": loss.item(), "logits": found[:, -1].tolist(), "gradients": gradients, "merged": merged,
            "folder": folder}


def main():
    if len(sys.argv) == 3:
        base = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32, attn_implementation="eager")
        print(json.dumps(logits(PeftModel.from_pretrained(base, sys.argv[2]))[:, -1].tolist()))
        return
    every = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    cases = [
        case("all", "adapters/all", r=4, lora_alpha=8, target_modules=every),
        case("some", "adapters/some", r=2, lora_alpha=3, target_modules=["q_proj", "v_proj", "up_proj"], use_rslora=True),
    ]
    reference = {"tokens": TOKENS, "prompt": PROMPT, "cases": cases}
    (here / "adapters.json").write_text(json.dumps(reference, indent=1) + "\n")
    for case_of in cases:
        config = here / case_of["folder"] / "adapter_config.json"
        told_of = json.loads(config.read_text())
        # Where the base lay when this was made says nothing.
        told_of["base_model_name_or_path"] = None
        told_of["target_modules"].sort()
        config.write_text(json.dumps(told_of, indent=2) + "\n")


if __name__ == "__main__":
    main()
