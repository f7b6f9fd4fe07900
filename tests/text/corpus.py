"""Texts for the tokenizers: made of words listed here and of code points by number, the same on every machine.

corpus(n) yields texts (bytes; some are no valid UTF-8) of n bytes in all. Everything in it is this project's own.
"""
import hashlib
import struct


WORDS = """the of a rank waits for message and sends gradient bucket to its replica pipeline stage microbatch forward backward
schedule memory plan is written then read again by every process so that nothing is lost when power fails Strategy Model Don't
it's we'll they've I'm you'd re-used co-operate naïve café über straße señor façade coöperate ÉCOLE ÀÉÎ œuvre ﬁnance ſtrange""".split()
SCRIPTS = [  # common letters of a script, a few words' worth
    "абвгдежзийклмнопрстуфхцчшщъыьэюяЁЖ", "αβγδεζηθικλμνξοπρστυφχψωΩά", "אבגדהוזחטיכלמנסעפצקרשת", "ابتثجحخدذرزسشصضطظعغفقكلمنهويةى",
    "अआइईकखगघचछजझटठडढतथदधनपफबभमयरलवशषसह्ािीुूेैोौं", "กขคงจฉชซญฎฏดตถทนบปผฝพฟมยรลวศษสหอฮะัาำิีึืุูเแโใไ่้", "가나다라마바사아자차카타파하한국어각난",
    "日本語中文漢字学校東京大阪時間人口山川田力", "あいうえおかきくけこさしすせそたちつてとー", "アイウエオカキクケコサシスセソタチツテトー", "აბგდევზთიკლმნოპჟრსტუფქღყშჩცძწჭხჯჰ",
    "աբգդեզէըթժիլխծկհձղճմյնշոչպջռսվտրցւփքօֆ", "ሀለሐመሠረሰሸቀበተቸኀነኘአከ", "ကခဂဃငစဆဇဈညဋဌဍဎဏတထဒဓန", "ខគឃងចឆជឈញដឋឌឍណតថទធន", "ᚠᚢᚦᚨᚱᚲ𐌰𐌱𐌲𝔄𝔅𝐱𝟙𝟚",
]
MARKS = "़゙゚्ًُِّْ̧̨̀́̂̃̈̊̌҈⃝"
NUMBERS = ["0", "7", "42", "1234", "3.14159", "1,000,000", "0x1F", "1e-5", "٣٤٥", "½", "Ⅻ", "²³", "１２３", "99999999999", "12:30", "2026-11-29"]
SPACES = [" ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", " \n ", "\u00a0", "\u2003", "\u3000", "\u2028", "\x0b\x0c", "        ", " \t \n\n\n  ", "\u200b", "\x85"]
PUNCTUATION = list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") + ["...", "--", "—", "“", "”", "¿", "…", "!!!", "==", "//", "/*", "*/", "->", "'s", "’s", "'S", "'ſ"]
EMOJI = ["😀", "👍🏽", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪", "❤️", "☃", "♠", "🧑🏿‍🚀", "1️⃣"]
CODE = ["for (int i = 0; i < n; i++) {\n    x[i] += y[i] * 2.0f;\n}\n", "def f(x):\n\treturn x ** 2  # square\n\n", "<div class=\"a b\">&nbsp;</div>\n",
        "{\"key\": [1, 2.5, null, true], \"s\": \"\\u00e9\\n\"}\n", "#include <stdio.h>\r\n\r\nint main(void)\r\n{\r\n}\r\n", "SELECT * FROM t WHERE a='x''y';",
        "https://example.org/a/b?c=d&e=%20#f", "\\frac{1}{2}\\sum_{i=0}^{n} x_i", "    if (!ok)\n        goto out;\n", "rm -rf \"$dir\"/* 2>/dev/null || true\n"]
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "</s>", "<s>", "<|begin_of_text|>", "<|eot_id|>", "<mask>", "<strip>", "<word>", "<plain>",
            " <strip> ", "a<word>b", " <word> ", "<plain><plain>", "<0x41>", "▁", "<unk>", "<bos>", "<eos>", "  <mask>", "<|endoftext", "|>"]
BROKEN = [b"\xff", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\x80\x80", b"\xe0\x80\x80", b"\xf8\x88\x80\x80\x80"]


# Code points that Unicode 15.1, 16.0 and 17.0 assign: letters or numbers for the library, nothing yet for our tables, which are of 15.0.
LATER = [
    (0x897, 0x897), (0x1B4E, 0x1B4F), (0x1B7F, 0x1B7F), (0x1C89, 0x1C8A), (0x2427, 0x2429), (0x2FFC, 0x2FFF), (0x31E4, 0x31E5),
    (0x31EF, 0x31EF), (0xA7CB, 0xA7CD), (0xA7DA, 0xA7DC), (0x105C0, 0x105F3), (0x10D40, 0x10D65), (0x10D69, 0x10D85),
    (0x10D8E, 0x10D8F), (0x10EC2, 0x10EC4), (0x10EFC, 0x10EFC), (0x11380, 0x11389), (0x1138B, 0x1138B), (0x1138E, 0x1138E),
    (0x11390, 0x113B5), (0x113B7, 0x113C0), (0x113C2, 0x113C2), (0x113C5, 0x113C5), (0x113C7, 0x113CA), (0x113CC, 0x113D5),
    (0x113D7, 0x113D8), (0x113E1, 0x113E2), (0x116D0, 0x116E3), (0x11BC0, 0x11BE1), (0x11BF0, 0x11BF9), (0x11F5A, 0x11F5A),
    (0x13460, 0x143FA), (0x16100, 0x16139), (0x16D40, 0x16D79), (0x18CFF, 0x18CFF), (0x1CC00, 0x1CCF9), (0x1CD00, 0x1CEB3),
    (0x1E5D0, 0x1E5FA), (0x1E5FF, 0x1E5FF), (0x1F8B2, 0x1F8BB), (0x1F8C0, 0x1F8C1), (0x1FA89, 0x1FA89), (0x1FA8F, 0x1FA8F),
    (0x1FABE, 0x1FABE), (0x1FAC6, 0x1FAC6), (0x1FADC, 0x1FADC), (0x1FADF, 0x1FADF), (0x1FAE9, 0x1FAE9), (0x1FBCB, 0x1FBEF),
    (0x2EBF0, 0x2EE5D),
    (0x88F, 0x88F), (0xC5C, 0xC5C), (0xCDC, 0xCDC), (0x1ACF, 0x1ADD), (0x1AE0, 0x1AEB), (0x20C1, 0x20C1), (0x2B96, 0x2B96),
    (0xA7CE, 0xA7CF), (0xA7D2, 0xA7D2), (0xA7D4, 0xA7D4), (0xA7F1, 0xA7F1), (0xFBC3, 0xFBD2), (0xFD90, 0xFD91),
    (0xFDC8, 0xFDCE), (0x10940, 0x10959), (0x10EC5, 0x10EC7), (0x10ED0, 0x10ED8), (0x10EFA, 0x10EFB), (0x11B60, 0x11B67),
    (0x11DB0, 0x11DDB), (0x11DE0, 0x11DE9), (0x16EA0, 0x16EB8), (0x16EBB, 0x16ED3), (0x16FF2, 0x16FF6), (0x187F8, 0x187FF),
    (0x18D09, 0x18D1E), (0x18D80, 0x18DF2), (0x1CCFA, 0x1CCFC), (0x1CEBA, 0x1CED0), (0x1CEE0, 0x1CEF0), (0x1E6C0, 0x1E6DE),
    (0x1E6E0, 0x1E6F5), (0x1E6FE, 0x1E6FF), (0x1F6D8, 0x1F6D8), (0x1F777, 0x1F77A), (0x1F8D0, 0x1F8D8), (0x1FA54, 0x1FA57),
    (0x1FA8A, 0x1FA8A), (0x1FA8E, 0x1FA8E), (0x1FAC8, 0x1FAC8), (0x1FACD, 0x1FACD), (0x1FAEA, 0x1FAEA), (0x1FAEF, 0x1FAEF),
    (0x1FBFA, 0x1FBFA), (0x2B73A, 0x2B73F), (0x2B81E, 0x2B81E), (0x2CEA2, 0x2CEAD), (0x323B0, 0x33479),
]


def ranges():
    """Code points without surrogates and LATER: (first, last)."""
    first = 0
    for gap in sorted(LATER + [(0xD800, 0xDFFF)]):
        if gap[0] > first:
            yield first, gap[0] - 1
        first = gap[1] + 1
    yield first, 0x10FFFF


def digest(lists):
    """SHA-256 of lists of token ids, or of bytes, each with its length before it: what encode writes."""
    h = hashlib.sha256()
    for x in lists:
        h.update(struct.pack("<I", len(x)) + (x if isinstance(x, bytes) else struct.pack(f"<{len(x)}I", *x)))
    return h.hexdigest()


def is_later(c):
    return any(first <= c <= last for first, last in LATER)


class Numbers:
    """A generator of numbers that is the same everywhere (splitmix64)."""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = (self.state + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        z = self.state
        z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        return (z ^ z >> 31) % n

    def of(self, things):
        return things[self.below(len(things))]


def word(r):
    kind = r.below(20)
    if kind < 11:
        return r.of(WORDS)
    if kind < 14:
        letters = r.of(SCRIPTS)
        return "".join(r.of(letters) + (r.of(MARKS) if r.below(12) == 0 else "") for _ in range(1 + r.below(9)))
    if kind == 14:
        return r.of(NUMBERS)
    if kind == 15:
        return r.of(WORDS) + r.of(PUNCTUATION)
    if kind == 16:
        return "".join(r.of(PUNCTUATION) for _ in range(1 + r.below(4)))
    if kind == 17:
        return r.of(EMOJI) if r.below(3) else "".join(r.of(EMOJI) for _ in range(3))
    if kind == 18:
        return "".join(chr(97 + r.below(26)) + (r.of(MARKS) if r.below(3) == 0 else "") for _ in range(1 + r.below(14)))
    c = r.below(0x110000)
    return chr(c) if not 0xD800 <= c < 0xE000 and not is_later(c) else "?"


def text(r, size):
    out = []
    n = 0
    while n < size:
        kind = r.below(100)
        if kind < 3:
            part = r.of(CODE).encode()
        elif kind < 5:
            part = r.of(SPECIALS).encode()
        elif kind < 6:
            part = r.of(BROKEN)
        elif kind < 14:
            part = r.of(SPACES).encode()
        elif kind < 16:
            part = (r.of(WORDS).capitalize() + ".\n" + r.of(WORDS)).encode()
        else:
            part = ((" " if r.below(8) else "") + word(r)).encode()
        out.append(part)
        n += len(part)
    return b"".join(out)


def corpus(size, seed=1):
    r = Numbers(seed)
    n = 0
    while n < size:
        t = text(r, 1 + r.below(40) if r.below(4) == 0 else 100 + r.below(6000))
        yield t
        n += len(t)
