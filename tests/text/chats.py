#!/usr/bin/env python3
"""chats.py: makes tests/text/small/chat.json and chats.txt: conversations as `transformers` renders them with templates that do what those of
the families do (written here), cut by `tokenizers`, with the assistant's words and the end of its turn as targets. chats.sh compares.

What is compared begins its answers with a letter: piper cuts an answer by itself, as the model makes it, and the library cuts it
together with the line's end before it."""
import json
import os

from transformers import PreTrainedTokenizerFast

here = os.path.dirname(os.path.abspath(__file__))
BOS = "<|begin_of_text|>"
CHATML = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
TEMPLATES = {  # name: text, end of an assistant's turn, what its target begins behind
    "chatml": (CHATML, "<|im_end|>", "<|im_start|>assistant\n"),
    "qwen2": ("{% for m in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}"
              "{% endif %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}", "<|im_end|>", "<|im_start|>assistant\n"),
    "llama3": ("{% for m in messages %}{% set role = 'ipython' if m['role'] == 'tool' else m['role'] %}"
               "{% set turn = '<|start_header_id|>' + role + '<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' %}"
               "{% if loop.index0 == 0 %}{% set turn = bos_token + turn %}{% endif %}{{ turn }}{% endfor %}", "<|eot_id|>", "<|start_header_id|>assistant<|end_header_id|>\n\n"),
    "gemma": ("{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + '\n\n' %}{% set rest = messages[1:] %}{% else %}"
              "{% set first = '' %}{% set rest = messages %}{% endif %}{% for m in rest %}{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
              "{{ '<start_of_turn>' + role + '\n' + (first if loop.first else '') + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}", "<end_of_turn>", "<start_of_turn>model\n"),
    "mistral": ("{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + '\n\n' %}{% set rest = messages[1:] %}{% else %}"
                "{% set first = '' %}{% set rest = messages %}{% endif %}{% for m in rest %}{% if m['role'] == 'user' %}"
                "{{ '[INST] ' + (first if loop.first else '') + m['content'] + ' [/INST]' }}{% else %}{{ ' ' + m['content'] + '</s>' }}{% endif %}{% endfor %}", "</s>", " [/INST]"),
    "plain": ("{% for m in messages %}{% if m['role'] == 'assistant' %}{{ 'Assistant: ' + m['content'] + '<|endoftext|>' }}{% else %}"
              "{{ m['role'].capitalize() + ': ' + m['content'] + '\n' }}{% endif %}{% endfor %}", "<|endoftext|>", "Assistant:"),
}
USES_BOS = {"llama3", "gemma", "mistral"}


def conversation(*turns):
    roles = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}
    return [{"role": roles[t[0]], "content": t[2:]} for t in turns]


CHATS = [
    conversation("u:Hello there", "a:It is the message."),
    conversation("s:Be brief; it's 12:30.", "u:x = 42", "a:The rank waits.\n\nThen it sends 1234 messages", "u: again, café? ", "a:ÉCOLE über naïf 日本語 👍🏽"),
    conversation("u:\u2003\x1c the \n ", "a:a\u00a0b \u2003\n", "u:\n\nfor (i = 0; i < n; i++) {\n    x[i] += 1;\n}", "a:def f(x):\n\treturn x ** 2\n"),
    conversation("s: \n two ", "u:3.14", "a:b"),
    conversation("u:Use it", "t:{\"key\": [1, 2.5]}", "a:Done."),
]


def targets(text, end, lead):
    """Spans of what an assistant says."""
    at = 0
    while (at := text.find(lead, at)) >= 0:
        behind = text.index(end, at) + len(end)
        yield at + len(lead), behind
        at = behind


def make_tokenizer():
    with open(f"{here}/small/llama3.json", encoding="utf-8") as f:
        about = json.load(f)
    n = max([*about["model"]["vocab"].values(), *(a["id"] for a in about["added_tokens"])]) + 1
    for i, name in enumerate([BOS, "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<start_of_turn>", "<end_of_turn>", "</s>"]):
        about["added_tokens"].append({"id": n + i, "content": name, "special": True, "normalized": False, "single_word": False, "lstrip": False, "rstrip": False})
    path = f"{here}/small/chat.json"
    with open(path, "w", encoding="utf-8") as f:
        json.dump(about, f, ensure_ascii=False, separators=(",", ":"))
    return path


def main():
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=make_tokenizer(), bos_token=BOS)
    with open(f"{here}/small/chats.txt", "w") as out:
        for name, (template, end, lead) in TEMPLATES.items():
            out.write(f"template {name} {'bos' if name in USES_BOS else '-'}\n")
            if name == "qwen2":
                out.write("jinja " + json.dumps(template) + "\n")
            for chat in CHATS:
                if name in ("gemma", "mistral") and any(m["role"] == "tool" for m in chat):
                    continue
                text = tokenizer.apply_chat_template(chat, chat_template=template, tokenize=False)
                coded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
                spans = list(targets(text, end, lead))
                ids = []
                for i, (first, last) in zip(coded["input_ids"], coded["offset_mapping"]):
                    target = any(begin <= first and last <= behind for begin, behind in spans)
                    ids.append(f"{i}{'*' if target else ''}")
                out.write("chat " + json.dumps({"messages": chat}) + "\nids " + " ".join(ids) + "\n")


main()
