"""Makes the reference of tests/ppo.rs: PPO's two losses with their gradients on the small llama of make_llama.py, in plain
PyTorch (TRL's releases carry no PPOTrainer any more; the formulas are those of its experimental one).

usage: python make_ppo.py   (torch 2.11.0, transformers 5.23.0; writes ppo.json beside this file; make_training.py, which lies
there too, tells how gradients are told)
"""
import json

import torch
from transformers import AutoModelForSequenceClassification

from make_training import here, model, told

ROWS = [([3, 9, 12, 7], [8, 4, 40, 2]), ([5, 6], [11, 13]), ([30, 31, 32], [17, 18, 19, 21, 2]), ([8], [9, 2])]
LOSS = {"cliprange": 0.2, "cliprange_value": 0.3, "vf_coef": 0.4, "temperature": 0.7}
SCORES, KL_COEF, GAMMA, LAM = [1.0, -0.5, 2.0, 0.25], 0.05, 0.9, 0.95


def states(made, prompt, completion):
    """What predicts each token of the completion."""
    hidden = made.model(torch.tensor([prompt + completion])).last_hidden_state[0]
    return hidden[len(prompt) - 1:-1]


def logprobs(made, prompt, completion):
    logits = made.lm_head(states(made, prompt, completion)) / LOSS["temperature"]
    return logits.log_softmax(-1).gather(1, torch.tensor(completion)[:, None])[:, 0]


def main():
    policy = model()
    torch.manual_seed(7)
    critic = AutoModelForSequenceClassification.from_pretrained(here / "llama", num_labels=1, dtype=torch.float32,
                                                                attn_implementation="eager", pad_token_id=0)
    with torch.no_grad():
        critic.score.weight.normal_(0, 0.3)
    new = torch.cat([logprobs(policy, *row) for row in ROWS])
    values = torch.cat([critic.score(states(critic, *row))[:, 0] for row in ROWS])
    # What was drawn lies around what is: some ratios and values are clipped, on either side. Eighths are exact.
    waves = torch.sin(torch.arange(len(new)) * 1.7)
    old = ((new.detach() + 0.5 * waves) * 8).round() / 8
    ref = ((new.detach() - 0.5) * 8).round() / 8
    old_values = ((values.detach() + 0.6 * waves) * 8).round() / 8
    lengths = [len(completion) for _, completion in ROWS]
    advantages, returns = [], []
    for score, own, reference, before in zip(SCORES, *(whole.split(lengths) for whole in (old, ref, old_values))):
        reward = -KL_COEF * (own - reference)
        reward[-1] += score
        last, back = 0.0, []
        for t in reversed(range(len(reward))):
            following = before[t + 1] if t + 1 < len(reward) else 0.0
            last = reward[t] + GAMMA * following - before[t] + GAMMA * LAM * last
            back.append(last)
        advantages.append(torch.stack(back[::-1]))
        returns.append(advantages[-1] + before)
    advantages, returns = torch.cat(advantages), torch.cat(returns)
    white = (advantages - advantages.mean()) * torch.rsqrt(advantages.var() + 1e-8)
    ratio = (new - old).exp()
    free, held = -white * ratio, -white * ratio.clamp(1 - LOSS["cliprange"], 1 + LOSS["cliprange"])
    policy_loss = torch.max(free, held).mean()
    policy_loss.backward()
    clipped = torch.clamp(values, old_values - LOSS["cliprange_value"], old_values + LOSS["cliprange_value"])
    worse = torch.square(clipped - returns) > torch.square(values - returns)
    value_loss = 0.5 * torch.max(torch.square(values - returns), torch.square(clipped - returns)).mean()
    (LOSS["vf_coef"] * value_loss).backward()
    reference = {
        "rows": ROWS, "loss": LOSS, "scores": SCORES, "kl_coef": KL_COEF, "gamma": GAMMA, "lam": LAM,
        "score": critic.score.weight.detach().reshape(-1).tolist(),
        "old": [row.tolist() for row in old.split(lengths)],
        "ref": [row.tolist() for row in ref.split(lengths)],
        "old_values": [row.tolist() for row in old_values.split(lengths)],
        "values": [row.tolist() for row in values.split(lengths)],
        "returns": [row.tolist() for row in returns.split(lengths)],
        "advantages": [row.tolist() for row in white.split(lengths)],
        "policy": {
            "loss": policy_loss.item(),
            "approxkl": 0.5 * ((new - old) ** 2).mean().item(),
            "clipfrac": (held > free).float().mean().item(),
            "gradients": told((name, weight.grad) for name, weight in policy.named_parameters()),
        },
        "value": {
            "loss": value_loss.item(),
            "clipfrac": worse.float().mean().item(),
            "gradients": told((name, weight.grad) for name, weight in critic.named_parameters()),
        },
    }
    (here / "ppo.json").write_text(json.dumps(reference, indent=1) + "\n")


if __name__ == "__main__":
    main()
