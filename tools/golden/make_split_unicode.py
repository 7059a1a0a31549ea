#!/usr/bin/env python3
"""Writes src/model/split_unicode.def: which characters the reference implementation of
byte-pair encoding takes for letters, marks, digits and white space.

    /tmp/golden/bin/python tools/golden/make_split_unicode.py

The split rules of o200k_base and cl100k_base are regular expressions over Unicode
categories, and which category a character has depends on the Unicode version of the
library that runs them.  So the library is asked: an encoding whose pattern is one
category finds, in a text of all characters, those that have it.
"""

import pathlib

import tiktoken

OUT = pathlib.Path(__file__).resolve().parents[2] / "src" / "model" / "split_unicode.def"
TABLE_SIZE = 0x20000  # characters below have a place in the table, the others are searched
PER_LINE = 3
KINDS = {
    "UPPER": r"[\p{Lu}\p{Lt}]", "LOWER": r"\p{Ll}", "BOTH": r"[\p{Lm}\p{Lo}]",
    "MARK": r"\p{M}", "DIGIT": r"\p{N}", "LINE_END": r"[\r\n]", "BLANK": r"[^\S\r\n]",
}

HEAD = """/* split_unicode.def - the characters that are not symbols, as the split rules of
 * byte-pair encodings see them.  Written by tools/golden/make_split_unicode.py from the
 * reference implementation (tiktoken {version}); do not edit by hand.
 *
 * UPPER     letters of category Lu and Lt     LOWER     of category Ll
 * BOTH      of category Lm and Lo             MARK      category M
 * DIGIT     category N                        LINE_END  carriage return, line feed
 * BLANK     all other white space
 *
 * MF_KIND(first, last, kind), ascending, below {size:#x}; MF_KIND_HIGH from there on. */
"""


def members(pattern):
    encoding = tiktoken.Encoding(
        name="category", pat_str=pattern, special_tokens={},
        mergeable_ranks={bytes([b]): b for b in range(256)})
    everything = "".join(chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000)
    return {ord(c) for c in bytes(encoding.encode_ordinary(everything)).decode()}


def main():
    kind_of = {}
    for kind, pattern in KINDS.items():
        for code in members(pattern):
            assert code not in kind_of, (code, kind)
            kind_of[code] = kind
    ranges = []
    for code in sorted(kind_of):
        if ranges and ranges[-1][1] == code - 1 and ranges[-1][2] == kind_of[code]:
            ranges[-1][1] = code
        else:
            ranges.append([code, code, kind_of[code]])
    assert all(last < TABLE_SIZE or first >= TABLE_SIZE for first, last, _ in ranges)
    rows = [f"MF_KIND{'' if first < TABLE_SIZE else '_HIGH'}(0x{first:04X}, 0x{last:04X}, {kind})"
            for first, last, kind in ranges]
    lines = [" ".join(rows[i:i + PER_LINE]) for i in range(0, len(rows), PER_LINE)]
    OUT.write_text(HEAD.format(version=tiktoken.__version__, size=TABLE_SIZE) +
                   "\n".join(lines) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
