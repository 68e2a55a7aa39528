"""Makes the references of the families' test: small random models by transformers, one a family, each with its logits,
its greedy continuations and the gradients of one loss.

usage: python make_models.py   (torch 2.11.0, transformers 5.23.0; writes into models/ beside this file)
"""
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

COMMON = dict(
    vocab_size=48, hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, head_dim=4, max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    rms_norm_eps=1e-5, initializer_range=0.3, tie_word_embeddings=False,
)
ROPE = {"rope_type": "default", "rope_theta": 100.0}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 100.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 32}
# Windows of 5 and 4 are shorter than the texts.
FAMILIES = {
    "llama3": dict(model_type="llama", rope_parameters=LLAMA3, attention_bias=True, mlp_bias=True),
    "mistral": dict(model_type="mistral", rope_parameters=ROPE, sliding_window=5),
    "qwen2": dict(model_type="qwen2", rope_parameters=ROPE, use_sliding_window=True, sliding_window=5,
                  max_window_layers=1),
    "qwen3": dict(model_type="qwen3", rope_parameters=ROPE, attention_bias=True, tie_word_embeddings=True),
    "gemma2": dict(model_type="gemma2", rope_parameters=ROPE, sliding_window=4, query_pre_attn_scalar=3,
                   attn_logit_softcapping=2.0, final_logit_softcapping=3.0, tie_word_embeddings=True),
    "gemma3": dict(model_type="gemma3_text", sliding_window=4, query_pre_attn_scalar=5, tie_word_embeddings=True,
                   final_logit_softcapping=6.0,
                   layer_types=["sliding_attention", "full_attention", "sliding_attention"],
                   rope_parameters={"full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1000.0},
                                    "sliding_attention": {"rope_type": "default", "rope_theta": 100.0}}),
}
PROMPTS = [[3, 9, 12, 7, 33, 21, 5, 18, 40, 11, 6, 29, 14], [5, 6, 44, 17, 23, 8]]
# All of the first prompt: the path that computes a shared prompt once.
COMPLETIONS = [[8, 4, 40, 2], [11], [9, 2], [17, 18, 19, 20, 21, 35, 26, 2]]


def make(name, settings):
    torch.manual_seed(0)
    settings = dict(COMMON, **settings)
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    # Eager: the only attention that has soft caps.
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:  # biases and gains start as constants, which would hide their order
                parameter.add_(torch.randn_like(parameter) * 0.3)
    folder = Path(__file__).parent / "models" / name
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    reference = {}
    for index, prompt in enumerate(PROMPTS):
        tokens = torch.tensor([prompt])
        with torch.no_grad():
            reference[f"logits.{index}"] = model(tokens).logits[0]
            drawn = model.generate(tokens, max_new_tokens=12, do_sample=False, repetition_penalty=1.0)
        reference[f"greedy.{index}"] = drawn[0, len(prompt):]
    losses = []
    for completion in COMPLETIONS:
        row = torch.tensor([PROMPTS[0] + completion])
        logprobs = model(row).logits[0, len(PROMPTS[0]) - 1:-1].log_softmax(-1)
        losses.append(-logprobs.gather(1, torch.tensor(completion)[:, None]))
    loss = torch.cat(losses).mean()
    loss.backward()
    reference["loss"] = loss.detach().reshape(1)
    # Of rank one: the norms and biases too.
    reference.update({f"gradient.{key}": value.grad for key, value in model.named_parameters()})
    save_file({key: value.contiguous() for key, value in reference.items()}, folder / "reference.safetensors")
    print(name, json.dumps(config.to_dict())[:80], {key: value.tolist() for key, value in reference.items() if "greedy" in key})


for name, settings in FAMILIES.items():
    make(name, settings)
