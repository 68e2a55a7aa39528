"""Makes the reference of the parity test: a small random llama by transformers, its logits and its gradients.

usage: python make_llama.py   (torch 2.11, transformers 5; writes into llama/ beside this file)
"""
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
folder = Path(__file__).parent / "llama"
config = LlamaConfig(
    vocab_size=48, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=6, rope_parameters={"rope_type": "default", "rope_theta": 100.0},
    rms_norm_eps=1e-5, tie_word_embeddings=False, max_position_embeddings=64, bos_token_id=1, eos_token_id=2,
    initializer_range=0.3, attn_implementation="eager",
)
model = LlamaForCausalLM(config).float()
model.save_pretrained(folder)
tokens = torch.randint(3, 48, (2, 9))
logits = model(tokens).logits
targets = tokens[:, 5:]
losses = torch.nn.functional.cross_entropy(logits[:, 4:8].reshape(-1, 48), targets.reshape(-1), reduction="mean")
losses.backward()
norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1e9)
grads = dict(model.named_parameters())
save_file(
    {
        "tokens": tokens,
        "logits": logits.detach().contiguous(),
        "loss": losses.detach().reshape(1),
        "grad_norm": norm.reshape(1),
        "grad_q": grads["model.layers.0.self_attn.q_proj.weight"].grad.contiguous(),
        "grad_up": grads["model.layers.1.mlp.up_proj.weight"].grad.contiguous(),
        "grad_embed": grads["model.embed_tokens.weight"].grad.contiguous(),
    },
    folder / "reference.safetensors",
)

words = Tokenizer(models.WordLevel({f"t{token}": token for token in range(48)}, unk_token="t0"))
words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
words.save(str(folder / "tokenizer.json"), pretty=False)
