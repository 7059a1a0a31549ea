#!/usr/bin/env python3
"""Writes src/model/bert_unicode.def: how BERT's tokenizer sees each code point.

    /tmp/golden/bin/python tools/golden/make_bert_unicode.py

Needs the `tokenizers` package (0.23.3; see make_goldens.py for the environment).  Every
Unicode scalar value is put through the reference's normalizer and pre-tokenizer between
two letters, and what became of it is its class.  The reference carries its own, older
Unicode tables, so categories of the Unicode library at hand would not do: a character
that became punctuation since would split words here and not there.
"""

import pathlib

import tokenizers
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

OUT = pathlib.Path(__file__).resolve().parents[2] / "src" / "model" / "bert_unicode.def"


def normalizer(**on):
    flags = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False,
                 lowercase=False)
    return BertNormalizer(**{**flags, **on})


CLEAN = normalizer(clean_text=True)
STRIP = normalizer(strip_accents=True)
SPLIT = BertPreTokenizer()


def classify(char):
    framed = "a" + char + "b"
    cleaned = CLEAN.normalize_str(framed)
    if cleaned == "ab":
        return "DROP"
    parts = len(SPLIT.pre_tokenize_str(cleaned))
    if parts == 2:
        return "BLANK"
    if parts == 3:
        return "PUNCT"
    return "MARK" if STRIP.normalize_str(char) == "" else None


def main():
    rows = []
    for code in range(0x110000):
        kind = None if 0xd800 <= code <= 0xdfff else classify(chr(code))
        if kind and rows and rows[-1][1:] == [code - 1, kind]:
            rows[-1][1] = code
        elif kind:
            rows.append([code, code, kind])
    with OUT.open("w", encoding="ascii", newline="\n") as out:
        out.write(
            "/* bert_unicode.def - how BERT's tokenizer sees the code points that are not plain\n"
            " * letters.  Written by tools/golden/make_bert_unicode.py from the reference\n"
            f" * implementation (tokenizers {tokenizers.__version__}); do not edit by hand.\n"
            " *\n"
            " * DROP   control and format characters, U+0000 and U+FFFD: removed by clean-up\n"
            " * BLANK  white space\n"
            " * PUNCT  a word of its own\n"
            " * MARK   removed with the accents\n"
            " *\n"
            " * MF_BERT(first, last, class), ascending. */\n")
        for first, last, kind in rows:
            out.write(f"MF_BERT(0x{first:04X}, 0x{last:04X}, {kind})\n")


if __name__ == "__main__":
    main()
