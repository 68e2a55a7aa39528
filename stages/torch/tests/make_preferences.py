"""Makes the reference of tests/preferences.rs: the losses of TRL's DPOTrainer and RewardTrainer with their gradients on
the small llama of make_llama.py, and what the trainers make of it in a few steps.

usage: python make_preferences.py   (torch 2.11.0, transformers 5.23.0, trl 1.16.0; writes preferences.json beside this
file; make_training.py, which lies there too, tells how gradients are told)

With an argument FOLDER (a reward model that plumb wrote) it prints the rewards of all chosen and all rejected answers, in one
padded batch, instead.
"""
import json
import sys

import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer

from make_training import COMMON, here, model, told, tokenizer

# No t20 to t29: they begin with the end token's name.
PAIRS = [
    {"prompt": "t3 t9 t12", "chosen": " t4 t40 t7 t8", "rejected": " t11"},
    {"prompt": "t5", "chosen": " t11", "rejected": " t17 t18 t19"},
    {"prompt": "t30 t31 t32 t33", "chosen": " t17 t18", "rejected": " t9 t31 t32"},
    {"prompt": "t8 t6", "chosen": " t9 t31 t32 t33 t34 t35 t36", "rejected": " t40 t41"},
]
# Log-probabilities of the reference, that a float32 holds exactly: chosen, rejected.
REFERENCE = [[-19.5, -8.25], [-9.0, -16.75], [-12.5, -17.0], [-33.0, -13.25]]
STEPS = dict(per_device_train_batch_size=4, learning_rate=1e-2, weight_decay=0.1, max_grad_norm=0.5, adam_beta2=0.95,
             warmup_steps=1, max_steps=5)
METRICS = ["rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins", "logps/chosen",
           "logps/rejected", "entropy"]


def dpo_trainer(**options):
    args = DPOConfig(**COMMON, logging_steps=1, precompute_ref_log_probs=True, **{**STEPS, **options})
    return DPOTrainer(model(), args=args, train_dataset=Dataset.from_list(PAIRS), processing_class=tokenizer)


def dpo(name, **options):
    """One case: the loss against the reference above, with gradients and metrics."""
    trainer = dpo_trainer(**options)
    trainer.model.train()
    rows = [trainer.train_dataset[row] for row in range(len(PAIRS))]
    batch = trainer.data_collator([{key: row[key] for key in ("prompt_ids", "chosen_ids", "rejected_ids")} for row in rows])
    batch["ref_chosen_logps"], batch["ref_rejected_logps"] = torch.tensor(REFERENCE).unbind(1)
    loss = trainer._compute_loss(trainer.model, batch, False)
    loss.backward()
    metrics = {key: trainer._metrics["train"][key][-1] for key in METRICS}
    gradients = told((name, weight.grad) for name, weight in trainer.model.named_parameters())
    return {"name": name, "options": options, "loss": loss.item(), "metrics": metrics, "gradients": gradients}


def logged(trainer, keys):
    trainer.train()
    keys = ["loss", "grad_norm", "learning_rate"] + keys
    return [{key: row[key] for key in keys} for row in trainer.state.log_history if "grad_norm" in row]


def dpo_steps():
    trainer = dpo_trainer(beta=0.3)
    steps = logged(trainer, METRICS)
    return {"options": {**STEPS, "beta": 0.3}, "steps": steps, "weights": told(trainer.model.named_parameters())}


def scorer():
    torch.manual_seed(5)
    made = AutoModelForSequenceClassification.from_pretrained(here / "llama", num_labels=1, dtype=torch.float32,
                                                              attn_implementation="eager", pad_token_id=0)
    with torch.no_grad():
        made.score.weight.normal_(0, 0.5)
    return made


MARGINS = [0.5, 0.0, 1.25, 0.25]


def reward(name, margins=False, **options):
    """Steps of TRL's RewardTrainer from a given score head; the first one's gradients."""
    made = scorer()
    start = made.score.weight.detach().reshape(-1).tolist()
    rows = [dict(row, margin=margin) if margins else row for row, margin in zip(PAIRS, MARGINS)]
    args = RewardConfig(**COMMON, logging_steps=1, **{**STEPS, **options})
    # The dropout of a reward model in TRL is off by default: `disable_dropout`.
    trainer = RewardTrainer(made, args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    batch = trainer.data_collator([trainer.train_dataset[row] for row in range(len(rows))])
    loss = trainer.compute_loss(trainer.model, dict(batch))
    loss.backward()
    gradients = told((name, weight.grad) for name, weight in trainer.model.named_parameters())
    trainer.model.zero_grad()
    trainer._metrics["train"].clear()
    steps = logged(trainer, ["accuracy", "margin", "min_reward", "mean_reward", "max_reward"])
    return {"name": name, "options": {**STEPS, **options}, "margins": MARGINS if margins else None, "score": start,
            "loss": loss.item(), "gradients": gradients, "steps": steps,
            "weights": told(trainer.model.named_parameters())}


CASES = [
    dict(name="sigmoid", loss_type="sigmoid"),
    dict(name="sigmoid, hard", loss_type="sigmoid", beta=0.5),
    dict(name="hinge", loss_type="hinge", beta=0.3),
    dict(name="ipo", loss_type="ipo"),
    dict(name="robust", loss_type="robust", label_smoothing=0.1, beta=0.3),
]


def rewards(folder):
    made = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    rows = [tokenizer(row["prompt"] + row[side] + " t2")["input_ids"] for side in ("chosen", "rejected") for row in PAIRS]
    width, pad = max(map(len, rows)), made.config.pad_token_id
    padded = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
    return made(padded, attention_mask=(padded != pad).long()).logits.reshape(-1).tolist()


def main():
    if len(sys.argv) == 2:
        print(json.dumps(rewards(sys.argv[1])))
        return
    reference = {
        "pairs": PAIRS, "reference": REFERENCE,
        "dpo": [dpo(**case) for case in CASES],
        "dpo_steps": dpo_steps(),
        "reward": [reward("plain"), reward("margins", margins=True), reward("centred", center_rewards_coefficient=0.05)],
    }
    (here / "preferences.json").write_text(json.dumps(reference, indent=1) + "\n")


if __name__ == "__main__":
    main()
