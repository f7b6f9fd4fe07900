"""A small tokenizer of each kind that piper reads, trained on the corpus, with the settings that the families' files are known to have."""
import base64
import collections
import json
import os

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from corpus import corpus

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK = [
    r"\p{N}{1,3}",
    "[一-龥\u3040-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^" + "\r\n" + r"\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[" + "\r\n" + r"]*|\s*["
    + "\r\n" + r"]+|\s+(?!\S)|\s+",
]
CODER = [r"[" + "\r\n" + "]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-\ud7ff]+".encode("utf-16", "surrogatepass").decode("utf-16")]
UNUSUAL = r"(?<=\s)\p{Lu}\p{L}*|\p{L}+?(?=\P{L}|$)|\d+|[^\s\w]+|\s+|[\s\S]"


def split(*patterns, byte_level=True):
    stages = [pre_tokenizers.Split(Regex(p), "isolated") for p in patterns]
    return pre_tokenizers.Sequence(stages + ([pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)] if byte_level else []))


ADDED = [
    AddedToken("<|endoftext|>", special=True), AddedToken("<|im_start|>", special=True), AddedToken("<|im_end|>", special=True),
    AddedToken("<mask>", special=True, lstrip=True), AddedToken("<strip>", special=False, rstrip=True, lstrip=True, normalized=True),
    AddedToken("<word>", single_word=True, normalized=False), AddedToken("<plain>", normalized=True), AddedToken("naïve", normalized=True, single_word=True),
]


def save(tokenizer, folder, **changes):
    os.makedirs(folder, exist_ok=True)
    about = json.loads(tokenizer.to_str())
    about["model"].update(changes)
    with open(f"{folder}/tokenizer.json", "w", encoding="utf-8") as f:
        json.dump(about, f, ensure_ascii=False, separators=(",", ":"))
    return f"{folder}/tokenizer.json", Tokenizer.from_file(f"{folder}/tokenizer.json"), None


# How large they are; small.py sets less.
SIZE = {"corpus": 1_500_000, "bytes": 3000, "fallback": 4000, "alphabet": 500, "pieces": 4000}
TEXTS = []


def texts():
    if not TEXTS:
        TEXTS.extend(t.decode(errors="ignore") for t in corpus(SIZE["corpus"], 3))
    return TEXTS


def byte_level(pre, normalizer=None, **changes):
    def make(folder):
        t = Tokenizer(models.BPE())
        t.pre_tokenizer = pre
        if normalizer:
            t.normalizer = normalizer
        t.decoder = decoders.ByteLevel()
        t.train_from_iterator(texts(), trainers.BpeTrainer(vocab_size=SIZE["bytes"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
        t.add_tokens(ADDED)
        return save(t, folder, **changes)

    return make


def fallback(normalizer=None, pre=None, strip=True, bytes_too=True, **changes):
    def make(folder):
        specials = ["<unk>", "<s>", "</s>"] + ([f"<0x{b:02X}>" for b in range(256)] if bytes_too else [])
        t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=bytes_too))
        # words are learnt from text cut at spaces, as sentencepiece does
        t.pre_tokenizer = pre_tokenizers.Metaspace()
        t.train_from_iterator(texts(), trainers.BpeTrainer(vocab_size=SIZE["fallback"], special_tokens=specials, limit_alphabet=SIZE["alphabet"], show_progress=False))
        about = json.loads(t.to_str())
        about["added_tokens"] = [a for a in about["added_tokens"] if not a["content"].startswith("<0x")]
        t = Tokenizer.from_str(json.dumps(about))
        t.pre_tokenizer = pre
        t.normalizer = normalizer
        t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()] + ([decoders.Strip(" ", 1, 0)] if strip else []))
        t.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
        t.add_tokens(ADDED)
        return save(t, folder, **changes)

    return make


def tiktoken(name, expression):
    """A rank file, and a tokenizer.json that says the same."""

    def make(folder):
        path, t, _ = byte_level(split(expression), ignore_merges=True)(folder)
        about = json.loads(t.to_str())
        of = {}
        n = 0
        for b in range(256):
            seen = 33 <= b <= 126 or 161 <= b <= 172 or 174 <= b <= 255
            of[chr(b) if seen else chr(256 + n)] = b
            n += not seen
        tokens = sorted(about["model"]["vocab"], key=about["model"]["vocab"].get)
        with open(f"{folder}/ranks.tiktoken", "wb") as f:
            for i, token in enumerate(tokens):
                f.write(base64.b64encode(bytes(of[c] for c in token)) + b" %d\n" % i)
        # ranks give more merges than a list of merges has: the same ones for the library
        order = about["model"]["vocab"]
        merges = []
        for token in tokens:
            merges += [[token[:i], token[i:]] for i in range(1, len(token)) if token[:i] in order and token[i:] in order]
        about["model"]["merges"] = merges
        about["added_tokens"] = [{"id": len(tokens), "content": "<|endoftext|>", "special": True, "normalized": False, "single_word": False,
                                  "lstrip": False, "rstrip": False}]
        return f"{folder}/ranks.tiktoken", Tokenizer.from_str(json.dumps(about)), name

    return make


class Pieces:
    """A sentencepiece model with the methods of a Tokenizer that are used here."""

    def __init__(self, path):
        self.model = sentencepiece.SentencePieceProcessor(model_file=path)
        self.encode_special_tokens = False  # text never holds any

    def encode(self, text, add_special_tokens=False):
        return self.encode_batch([text])[0]

    def encode_batch(self, texts, add_special_tokens=False):
        return [type("Encoding", (), {"ids": ids}) for ids in self.model.encode(texts, num_threads=2)]

    encode_batch_fast = encode_batch

    def decode(self, ids, skip_special_tokens=False):
        return self.model.decode(ids)


RULES = [("ﬁ", "fi"), ("²", "2"), ("½", " 1/2"), ("\u3000", " "), ("\t", " "), ("\u200b", ""), ("É", "é"), ("e\u0301", "é"), ("…", "..."), ("ſ", "s")]


def pieces(**settings):
    """A model of the library sentencepiece. rules: a normal form of its own."""

    def make(folder):
        os.makedirs(folder, exist_ok=True)
        how = {"vocab_size": SIZE["pieces"], "character_coverage": 1.0, "hard_vocab_limit": False, "minloglevel": 2, "num_threads": 1} | settings
        rules = how.pop("rules", None)
        if rules:
            with open(f"{folder}/rules.tsv", "w") as f:
                f.writelines(" ".join(f"{ord(c):X}" for c in a) + "\t" + " ".join(f"{ord(c):X}" for c in b) + "\n" for a, b in rules)
            how["normalization_rule_tsv"] = f"{folder}/rules.tsv"
        known = {c for c, _ in collections.Counter(c for t in texts() for c in t).most_common(SIZE["alphabet"])}
        lines = ["".join(c for c in line if c in known) for t in texts() for line in t.split("\n")]
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=(line for line in lines if line.strip()), model_prefix=f"{folder}/tokenizer", **how)
        return f"{folder}/tokenizer.model", Pieces(f"{folder}/tokenizer.model"), None

    return make


AS_IS = {"normalization_rule_name": "identity", "byte_fallback": True, "remove_extra_whitespaces": False, "split_digits": True, "allow_whitespace_only_pieces": True}
PREPEND = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
KINDS = {
    "gpt2": byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False)),
    "gpt2-prefix": byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True)),
    "llama3": byte_level(split(LLAMA3), ignore_merges=True),
    "qwen2": byte_level(split(QWEN), normalizers.NFC()),
    "gpt-oss": byte_level(split(O200K)),
    "deepseek-v3": byte_level(split(*DEEPSEEK)),
    "deepseek-coder": byte_level(pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(p), "isolated") for p in CODER]
                                 + [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])),
    "olmo": byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False), normalizers.NFC()),
    "olmo2": byte_level(pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3), "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])),
    "smollm": byte_level(pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])),
    "llama2": fallback(PREPEND),
    "mistral": fallback(None, pre_tokenizers.Metaspace("▁", "first", split=False)),
    "gemma": fallback(normalizers.Replace(" ", "▁"), pre_tokenizers.Split(" ", "merged_with_previous"), strip=False),
    "phi3": fallback(PREPEND),
    "metaspace": fallback(None, pre_tokenizers.Metaspace("▁", "always", split=True)),
    "unknown": fallback(PREPEND, bytes_too=False),
    "behaviours": byte_level(pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(r"\s+"), "merged_with_next"), pre_tokenizers.Split(Regex(r"[,.;]"), "merged_with_previous"),
                             pre_tokenizers.Split(Regex(r"\p{Lu}"), "contiguous"), pre_tokenizers.Digits(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])),
    "pcre2": byte_level(split(UNUSUAL)),
    "tiktoken": tiktoken("o200k", O200K),
    "pieces-llama2": pieces(model_type="bpe", **AS_IS),
    "pieces-gemma": pieces(model_type="bpe", add_dummy_prefix=False, user_defined_symbols=["<start_of_turn>", "<end_of_turn>", "\t", "a b", "naïve", "§"], **AS_IS),
    "pieces-bpe": pieces(model_type="bpe", user_defined_symbols=["<mask>", "<plain>"]),
    "pieces-rules": pieces(model_type="bpe", rules=RULES, user_defined_symbols=["<mask>", "<plain>"], treat_whitespace_as_suffix=True),
    "pieces-t5": pieces(model_type="unigram", pad_id=0, eos_id=1, unk_id=2, bos_id=-1, user_defined_symbols=["<mask>", "<plain>", "</s><s>"]),
    "pieces-unigram": pieces(model_type="unigram", **AS_IS),
    "pieces-small": pieces(model_type="unigram", rules=RULES, user_defined_symbols=["<mask>", "<plain>", "</s><s>"], unk_surface="?"),
    "pieces-folded": pieces(model_type="unigram", normalization_rule_name="nfkc_cf", treat_whitespace_as_suffix=True, byte_fallback=True),
}
