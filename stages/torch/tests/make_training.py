"""Makes the reference of tests/reference.rs: TRL's own losses and their gradients on the small llama of make_llama.py, and
what TRL's SFTTrainer makes of it in a few steps.

usage: python make_training.py   (torch 2.11.0, transformers 5.23.0, trl 1.16.0; writes training.json beside this file)

Of each parameter's gradient two numbers are kept: its norm, and its projection on a wave.
"""
import json
import tempfile
from pathlib import Path

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

here = Path(__file__).parent
torch.set_num_threads(1)
tokenizer = PreTrainedTokenizerFast(
    tokenizer_file=str(here / "llama/tokenizer.json"), eos_token="t2", pad_token="t0", unk_token="t0", padding_side="left"
)
scratch = tempfile.mkdtemp()
COMMON = dict(output_dir=scratch, use_cpu=True, bf16=False, fp16=False, report_to=[], gradient_checkpointing=False,
              save_strategy="no", disable_tqdm=True)


def model():
    return AutoModelForCausalLM.from_pretrained(here / "llama", dtype=torch.float32, attn_implementation="eager")


def told(tensors):
    """Norm and wave of each, under transformers' names."""
    of = {}
    for name, tensor in tensors:
        flat = tensor.detach().double().reshape(-1)
        wave = torch.cos(torch.arange(flat.numel(), dtype=torch.float64))
        of[name] = [flat.norm().item(), (flat @ wave).item()]
    return of


# Three prompts of unlike lengths, four completions each; one of them was cut and is masked.
PROMPTS = [[3, 9, 12, 7], [5, 6], [30, 31, 32, 33, 34, 35]]
COMPLETIONS = [[8, 4, 40, 2], [11], [9, 2], [17, 18, 19, 20, 21, 2]]
ADVANTAGES = [1.2, -0.7, 0.3, -0.8]
MASKED = 5


def grpo_batch():
    rows = [(prompt, completion) for prompt in PROMPTS for completion in COMPLETIONS]
    wide, long = max(map(len, PROMPTS)), max(map(len, COMPLETIONS))
    left = lambda row: [0] * (wide - len(row)) + row
    right = lambda row: row + [0] * (long - len(row))
    ones = lambda row: [1] * len(row)
    mask = torch.tensor([right(ones(completion)) for _, completion in rows])
    mask[MASKED] = 0
    # Old and reference log-probabilities that a float32 holds exactly, around what a random model says.
    old = torch.tensor([right([-4.0 - (token % 8 - 4) / 8 for token in completion]) for _, completion in rows])
    ref = torch.tensor([right([-4.0 + (token % 5 - 2) / 4 for token in completion]) for _, completion in rows])
    return {
        "prompt_ids": torch.tensor([left(prompt) for prompt, _ in rows]),
        "prompt_mask": torch.tensor([left(ones(prompt)) for prompt, _ in rows]),
        "completion_ids": torch.tensor([right(completion) for _, completion in rows]),
        "completion_mask": mask,
        "advantages": torch.tensor([ADVANTAGES[row % 4] for row in range(len(rows))]),
        "old_per_token_logps": old,
        "ref_per_token_logps": ref,
        "num_items_in_batch": mask.sum(),
    }


def grpo(name, on_policy=False, **options):
    """One case: TRL's trainer with these options, its loss on the batch and the gradients."""
    options = {"temperature": 0.9, "max_completion_length": 6, **options}
    args = GRPOConfig(**COMMON, per_device_train_batch_size=12, num_generations=4, **options)
    trainer = GRPOTrainer(
        model(), reward_funcs=lambda completions, **_: [0.0] * len(completions), args=args,
        train_dataset=Dataset.from_dict({"prompt": ["t3"] * 12}), processing_class=tokenizer,
    )
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    batch = grpo_batch()
    if on_policy:
        del batch["old_per_token_logps"]
    loss = trainer._compute_loss(trainer.model, batch)
    loss.backward()
    metrics = {key: values[-1] for key, values in trainer._metrics["train"].items()}
    gradients = told((name, weight.grad) for name, weight in trainer.model.named_parameters())
    return {"name": name, "on_policy": on_policy, "options": options, "loss": loss.item(), "metrics": metrics,
            "gradients": gradients}


CASES = [
    dict(name="dapo", loss_type="dapo"),
    dict(name="dapo, on policy", loss_type="dapo", on_policy=True),
    dict(name="grpo", loss_type="grpo", epsilon_high=0.28),
    dict(name="bnpo", loss_type="bnpo"),
    dict(name="dr_grpo", loss_type="dr_grpo"),
    dict(name="delta", loss_type="grpo", delta=1.5, epsilon_high=0.28),
    dict(name="beta", loss_type="dapo", beta=0.3, use_bias_correction_kl=False),
    dict(name="beta, weighted", loss_type="dapo", beta=0.3, use_bias_correction_kl=True),
    dict(name="beta, on policy", loss_type="grpo", beta=0.04, use_bias_correction_kl=False, on_policy=True),
    dict(name="beta, weighted, on policy", loss_type="grpo", beta=0.04, use_bias_correction_kl=True, on_policy=True),
    dict(name="sequence", loss_type="grpo", importance_sampling_level="sequence", epsilon=0.05, epsilon_high=0.1),
    dict(name="sequence, dapo, beta", loss_type="dapo", importance_sampling_level="sequence", beta=0.1,
         use_bias_correction_kl=True),
    dict(name="cispo", loss_type="cispo", epsilon_high=1.1),
    dict(name="sapo", loss_type="sapo"),
    dict(name="sapo, hot", loss_type="sapo", sapo_temperature_pos=2.0, sapo_temperature_neg=3.0),
    dict(name="luspo", loss_type="luspo", importance_sampling_level="sequence"),
    dict(name="luspo, tokens", loss_type="luspo", beta=0.1, use_bias_correction_kl=False),
]

# No t20 to t29: they begin with the end token's name.
ROWS = [
    {"prompt": "t3 t9 t12", "completion": " t4 t40 t7 t8"},
    {"prompt": "t5", "completion": " t11"},
    {"prompt": "t30 t31 t32 t33", "completion": " t17 t18"},
    {"prompt": "t8 t6", "completion": " t9 t31 t32 t33 t34 t35 t36"},
]
SFT = dict(per_device_train_batch_size=4, learning_rate=1e-2, weight_decay=0.1, max_grad_norm=0.5, adam_beta2=0.95, warmup_steps=2, max_steps=6)


def sft(name, **options):
    """Six steps of TRL's SFTTrainer on one batch: what it logs at each, and the weights at the end."""
    args = SFTConfig(**COMMON, logging_steps=1, **{**SFT, **options})
    trainer = SFTTrainer(model(), args=args, train_dataset=Dataset.from_list(ROWS), processing_class=tokenizer)
    trainer.train()
    keys = ["loss", "grad_norm", "learning_rate", "entropy", "mean_token_accuracy", "num_tokens", "epoch"]
    steps = [{key: row[key] for key in keys} for row in trainer.state.log_history if "grad_norm" in row]
    return {"name": name, "options": {**SFT, **options}, "steps": steps,
            "weights": told((name, weight) for name, weight in trainer.model.named_parameters())}


SCHEDULES = [
    dict(name="linear", lr_scheduler_type="linear"),
    dict(name="cosine", lr_scheduler_type="cosine"),
    dict(name="cosine_with_min_lr", lr_scheduler_type="cosine_with_min_lr", lr_scheduler_kwargs={"min_lr_rate": 0.1}),
    dict(name="constant_with_warmup", lr_scheduler_type="constant_with_warmup"),
    dict(name="accumulated", lr_scheduler_type="linear", per_device_train_batch_size=2, gradient_accumulation_steps=2),
]


def main():
    reference = {
        "prompts": PROMPTS, "completions": COMPLETIONS, "advantages": ADVANTAGES, "masked": MASKED,
        "old": grpo_batch()["old_per_token_logps"].tolist(), "ref": grpo_batch()["ref_per_token_logps"].tolist(),
        "grpo": [grpo(**case) for case in CASES],
        "rows": ROWS,
        "sft": [sft(**case) for case in SCHEDULES],
    }
    (here / "training.json").write_text(json.dumps(reference, indent=1) + "\n")


if __name__ == "__main__":
    main()
