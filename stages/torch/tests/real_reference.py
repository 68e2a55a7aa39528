"""The reference of the test with real weights (real.rs runs it): what transformers computes, in f64, with a model folder
that plumb imported from a GGUF file, how far its own f32 is from that, and what GGML's own reader says of that file's tensors.

usage: python real_reference.py MODEL_FOLDER GGUF_FILE   (torch 2.11.0, transformers 5.23.0, gguf 0.19.0)
Reads texts.json (texts, their token ids) of MODEL_FOLDER; writes logits.N.safetensors and greedy.json there.
"""
import json
import sys
from pathlib import Path

import numpy
import torch
from gguf import GGUFReader, dequantize
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

folder, file = Path(sys.argv[1]), sys.argv[2]
texts = json.loads((folder / "texts.json").read_text())
tokenizer = AutoTokenizer.from_pretrained(folder)
for text, ids in zip(texts["texts"], texts["ids"]):
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == ids, text

NAMES = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
    "attn_norm": "input_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}
WHOLE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
config = json.loads((folder / "config.json").read_text())
gemma = config["model_type"].startswith("gemma")
names = dict(NAMES, **(
    {"ffn_norm": "pre_feedforward_layernorm", "post_attention_norm": "post_attention_layernorm",
     "post_ffw_norm": "post_feedforward_layernorm"} if gemma else {"ffn_norm": "post_attention_layernorm"}))
imported = load_file(folder / "model.safetensors")
reader = GGUFReader(file)
for tensor in reader.tensors:
    values = dequantize(tensor.data, tensor.tensor_type).astype(numpy.float32)
    stem, kind = tensor.name.rsplit(".", 1)
    if stem.startswith("blk."):
        _, layer, member = stem.split(".")
        name = f"model.layers.{layer}.{names[member]}.{kind}"
        if config["model_type"] == "llama" and member in ("attn_q", "attn_k"):
            rows, columns = values.shape
            head = config["head_dim"]
            values = values.reshape(rows // head, head // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)
    else:
        name = f"{WHOLE[stem]}.{kind}"
    if gemma and stem.endswith("norm"):
        values = values - numpy.float32(1)
    found = imported.pop(name).numpy()
    assert found.shape == values.shape and (found.view(numpy.int32) == values.view(numpy.int32)).all(), name
assert not imported, list(imported)


def opened(attention, dtype):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation=attention).eval()


def logits(model):
    return [model(torch.tensor([ids])).logits[0].double() for ids in texts["ids"]]


def apart(ones, others):
    return max((one - other).abs().max().item() for one, other in zip(ones, others))


with torch.no_grad():
    model = opened("eager", torch.float32)
    eager, greedy = logits(model), []
    for ids in texts["ids"][:texts["continued"]]:
        tokens = torch.tensor([ids])
        drawn = model.generate(tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=64, do_sample=False)
        greedy.append(drawn[0, len(ids):].tolist())
    del model
    # In f64, rounded once: what f32 is apart from it, in transformers' own two ways, is what a difference can mean.
    exact = logits(opened("eager", torch.float64))
    noise = max(apart(eager, exact), apart(logits(opened("sdpa", torch.float32)), exact))
for index, whole in enumerate(exact):
    save_file({"logits": whole.float().contiguous()}, folder / f"logits.{index}.safetensors")
largest = max(one.abs().max().item() for one in exact)
(folder / "greedy.json").write_text(json.dumps({"greedy": greedy, "noise": noise, "largest": largest}))
