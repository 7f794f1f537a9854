# SPDX-License-Identifier: Apache-2.0
"""Writes the tokenizer's golden files: texts, and what the `tokenizers` package makes of them.

README.md has the commands. Everything is drawn from fixed seeds.
"""

import argparse
import json
import os
import random
import unicodedata

import tokenizers

HERE = os.path.dirname(os.path.abspath(__file__))
SPACES = [0x9, 0xA, 0xB, 0xC, 0xD, 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029,
          0x202F, 0x205F, 0x3000]
LIKE_SPACES = [0x1C, 0x1D, 0x1E, 0x1F, 0x180E, 0x200B, 0x2060, 0xFEFF]
SPECIALS = ["<|endoftext|>", "<|padding|>"]
CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'LL", "'l", "'r", "'v", "\u2019s"]
MARKS = [0x300, 0x301, 0x308, 0x323, 0x327, 0x334, 0x345, 0x5B0, 0x64E, 0x94D, 0x3099, 0x1D165]


class Stable:
    """Characters on which unicodedata and the package agree: those that both knew when their
    tables were made. Others depend on the Unicode version of a build, so no case has them."""

    def __init__(self):
        self.split = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str
        self.nfc = tokenizers.normalizers.NFC().normalize_str
        self.known = {}

    def kind(self, c):
        for before, kind in (("a", "L"), ("1", "N"), ("!", "O")):
            if len(self.split(before + c)) == 1:
                return kind
        return "S"

    def check(self, c):
        category = unicodedata.category(c)
        if category in ("Cn", "Cs"):
            return False
        kind = category[0] if category[0] in "LN" else "S" if ord(c) in SPACES else "O"
        texts = [c, unicodedata.normalize("NFD", c), "a" + c + "\u0334", "a\u0345" + c,
                 "a" + c + "\u0316", "a\u0301" + c]
        return kind == self.kind(c) and all(
            self.nfc(t) == unicodedata.normalize("NFC", t) for t in texts)

    def __call__(self, c):
        if c not in self.known:
            self.known[c] = self.check(c)
        return self.known[c]


def fixed_texts():
    texts = ["", "a", " ", "Hello, world!", " Hello  world ", "The quick brown fox's den isn't 'ere.",
             "'sample 'tis 'really 'very 'more 'llama 'dog", "''s '' ' 's' 't't '", "don'tcan't've'll",
             "I'LL I'Ve YOU'RE", "x'", "x 's", "x  's", "\u2019s \u2018t", "a\r\nb\r\n\r\nc\r", "\r\n",
             "tab\tseparated\t\tvalues \t x", "a \n b\n \nc \n\n  d", "1234567890 12.5e-3 0x1F 1,000",
             "\u00b2\u00b3\u00bd \u2167 \u3007 \u2460 \u0664\u0662 \u096a\u0968 \uff11\uff12 \U0001d7d9",
             "x\u00b2+y\u00b2", "snake_case camelCase __init__ a.b.c(d)[e]{f};", "http://a.b/c?d=e&f=%20",
             "\u4f60\u597d\uff0c\u4e16\u754c\u3002\u65e5\u672c\u8a9e\u306e\u6587\u7ae0", "\ud55c\uad6d\uc5b4 \uc138\uacc4",
             "\u0440\u0443\u0441\u0441\u043a\u0438\u0439 \u0442\u0435\u043a\u0441\u0442", "\u0639\u0631\u0628\u064a \u0645\u064e\u0631\u0652\u062d\u064e\u0628\u064b\u0627",
             "\u05e9\u05b8\u05c1\u05dc\u05d5\u05b9\u05dd", "\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35 \u0e0a\u0e32\u0e27\u0e42\u0e25\u0e01",
             "\U0001f600\U0001f44d\U0001f3fd \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea \u2764\ufe0f",
             "caf\u00e9 cafe\u0301 \u00e9 e\u0301 E\u0301cole", "A\u030a \u00c5 \u212b \u2126 \u1e9b\u0323", "\u01d5 U\u0308\u0304 u\u0304\u0308",
             "a\u0323\u0301 a\u0301\u0323 a\u0345\u0301\u0323\u0334", "\u0958 \u0915\u093c \u2adc \u0344 \u0374 \u037e \u0387",
             "\u1112\u1161\u11ab\u1100\u116e\u11a8 \ud558\u11ab \uac00\u11a7", "\ufb01 \u2460 \uff21 (not compatibility)",
             "\u0301", "\u0301\u0323\u0301", " \u0301", "  \u0301", "   \u0301x", "a \u0301 b", "1\u0301", "!\u0301?",
             "\n\u0338=\u0338 <\u0338", "\U0001d15e \U0001d157\U0001d165", "\ufdd0\ufffe\uffff\U0010ffff\ue000",
             "\ufffd", "\x00", "a\x00b", "\x00\x01\x02\x1b[0m\x7f", "\u0080\u0085\u009f", "a\u0085b \u0085 c\u0085",
             "\u4e9c\u3099\u304b\u3099\u304b\u309a", "0\u20e3 #\ufe0f\u20e3"]
    for special in SPECIALS:
        texts += [special, special * 3, "a" + special + "b", " " + special + " ", special[:-1], special[1:],
                  special[:5] + special, special.upper(), "x  " + special + "  y", special + "\u0301e\u0301",
                  "e" + special + "\u0301", "\n" + special + "\n\n", special + "'s", " " * 30 + special + " " * 30]
    for n in range(1, 61):
        run = " " * n
        texts += [run + "x", "x" + run + "y", "x" + run]
    for n in (24, 25, 26, 48, 49):
        texts += [" " * n, "\n" + " " * n + "\n", " " * n + "\t", "\u3000" + " " * n + "\u0301", " " * n + "'s",
                  " " * n + "1", " " * n + "\u4e2d"]
    for c in map(chr, SPACES + LIKE_SPACES):
        texts += [c, c + c, c * 3 + "x", "a" + c + "b", "a " + c + " b", "a" + c + c, "1" + c + "!" + c + "a ",
                  " " + c + "\n", c + " " + c + "  " + c]
    for c in CONTRACTIONS:
        texts += ["we" + c, "we" + c + "x", " " + c, "!" + c, "1" + c + c, c + " " + c]
    texts += ["a" * 3000, "ab" * 1500, "A" * 777, "7" * 2000, "!?" * 600, "\n" * 300, "\t" * 299 + "x",
              "\u4e2d" * 500, "\U0001f600" * 100, "e\u0301" * 400, "the" * 500, "=" * 1000, "-" * 999 + " ",
              "e" + "\u0301\u0323" * 300, " x" * 300]
    return texts


def random_character(rng, stable):
    while True:
        pick = rng.randrange(14)
        if pick < 4:
            c = chr(rng.randrange(0x20, 0x7F))
        elif pick == 4:
            c = chr(rng.randrange(0x00, 0x20))
        elif pick == 5:
            c = chr(rng.randrange(0x80, 0x250))
        elif pick == 6:
            c = chr(rng.choice(MARKS + list(range(0x300, 0x370))))
        elif pick == 7:
            c = chr(rng.choice(SPACES + LIKE_SPACES))
        elif pick == 8:
            c = chr(rng.randrange(0x1100, 0x1200) if rng.randrange(2) else rng.randrange(0xAC00, 0xD7A4))
        elif pick < 12:
            c = chr(rng.randrange(0x250, 0x10000))
        else:
            c = chr(rng.randrange(0x10000, 0x110000) if rng.randrange(2) else rng.randrange(0x1D000, 0x20000))
        if stable(c):
            return c


def random_text(rng, stable):
    parts = []
    for _ in range(rng.randrange(1, 25)):
        pick = rng.randrange(20)
        if pick == 0:
            parts.append(" " * rng.randrange(1, 60))
        elif pick == 1:
            parts.append(rng.choice(CONTRACTIONS))
        elif pick == 2:
            parts.append(rng.choice(SPECIALS)[rng.choice((0, 0, 0, 1)):])
        elif pick == 3:
            parts.append(random_character(rng, stable) * rng.randrange(1, 12))
        elif pick < 7:
            parts.append(rng.choice(["", " "]) + "".join(rng.choices("etaoinshrdlu", k=rng.randrange(1, 9))))
        else:
            parts.append("".join(random_character(rng, stable) for _ in range(rng.randrange(1, 6))))
    return "".join(parts)


def encode_all(tokenizer, texts):
    return [e.ids for e in tokenizer.encode_batch(texts, add_special_tokens=False)]


def write(path, items):
    """As UTF-8: json-c 0.16 reads the escaped surrogates of U+1D800 and others as U+FFFD."""
    lines = (json.dumps(i, separators=(",", ":"), ensure_ascii=False) for i in items)
    with open(path, "w", encoding="utf-8", newline="") as f:
        f.write("[\n" + ",\n".join(lines) + "\n]\n")


def has_special(text):
    return any(s in text for s in SPECIALS)


def make_cases(texts, tokenizer, ids):
    """[text, what it decodes to]; the second only where it is not the text itself."""
    cases = []
    for text, text_ids in zip(texts, ids):
        decoded = tokenizer.decode(text_ids, skip_special_tokens=False)
        assert has_special(text) or decoded == unicodedata.normalize("NFC", text), repr(text)
        cases.append([text] if decoded == text else [text, decoded])
    return cases


def make_decodings(tokenizer, n):
    """[text, ids]: arbitrary ids, whose bytes are often no UTF-8."""
    rng = random.Random("decodings")
    n_ids = tokenizer.get_vocab_size()
    items = []
    for _ in range(n):
        limit = n_ids if rng.randrange(3) == 0 else 300
        ids = [rng.randrange(limit) for _ in range(rng.randrange(1, 20))]
        items.append([tokenizer.decode(ids, skip_special_tokens=False), ids])
    return items


def long_texts(paths):
    texts = []
    for path in paths:
        with open(path, encoding="utf-8", newline="") as f:
            text = f.read()
        texts += [text, *text.splitlines(keepends=True)]
    return texts


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpt-neox", required=True, help="the GPT-NeoX tokenizer.json")
    parser.add_argument("--extra", help="folder for a larger comparison with GPT-NeoX")
    parser.add_argument("--extra-random", type=int, default=30000, help="random texts in --extra")
    parser.add_argument("--extra-text", nargs="*", default=[], help="text files in --extra")
    args = parser.parse_args()
    demo = tokenizers.Tokenizer.from_file(os.path.join(HERE, "../../../configs/demo/tokenizer.json"))
    neox = tokenizers.Tokenizer.from_file(args.gpt_neox)
    stable = Stable()
    rng = random.Random("cases")
    texts = fixed_texts() + [random_text(rng, stable) for _ in range(400)]
    demo_ids = encode_all(demo, texts)
    cases = make_cases(texts, demo, demo_ids)
    neox_ids = encode_all(neox, texts)
    for text, ids in zip(texts, neox_ids):
        assert has_special(text) or neox.decode(ids, False) == unicodedata.normalize("NFC", text)
    write(os.path.join(HERE, "cases.json"), cases)
    write(os.path.join(HERE, "ids-demo.json"), demo_ids)
    write(os.path.join(HERE, "ids-gpt-neox.json"), neox_ids)
    write(os.path.join(HERE, "decodings-demo.json"), make_decodings(demo, 200))
    print(f"{len(cases)} cases")
    if args.extra:
        rng = random.Random("extra")
        texts = long_texts(args.extra_text)
        texts += [random_text(rng, stable) for _ in range(args.extra_random)]
        ids = encode_all(neox, texts)
        write(os.path.join(args.extra, "cases.json"), make_cases(texts, neox, ids))
        write(os.path.join(args.extra, "ids.json"), ids)
        print(f"{len(texts)} extra cases, {sum(map(len, ids))} ids")


if __name__ == "__main__":
    main()
