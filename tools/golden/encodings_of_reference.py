"""The byte-pair encodings of the golden data, from their rank files, and what they make
of bytes that are not UTF-8.

The reference takes strings.  Its one way to take bytes, `_encode_bytes`, cuts text as
far as it is UTF-8 and then encodes everything from the last piece before the first bad
byte to the end as one piece, which its own comments call hacky.  memfuse goes on cutting
behind a bad byte, which counts as a symbol.  What that is in terms of the reference is
computed here: the published pattern cuts the text, with a symbol for each bad byte, and
the reference encodes the bytes of each piece.

The reference does not tell where it cuts, so Python's pattern matcher does it.  The two
may know different versions of Unicode: each character stands for the others that the
reference gives its category.
"""

import base64
import functools

import regex
import tiktoken

import make_split_unicode

CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
# The split patterns published with the encodings, one alternative per line.
PATTERNS = {
    "o200k_base": "|".join([
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*"
        r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]+" + CONTRACTION + "?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
        r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*" + CONTRACTION + "?",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]),
    "cl100k_base": "|".join([
        r"'(?i:[sdmt]|ll|ve|re)",
        r"[^\r\n\p{L}\p{N}]?+\p{L}++",
        r"\p{N}{1,3}+",
        r" ?[^\s\p{L}\p{N}]++[\r\n]*+",
        r"\s++$",
        r"\s*[\r\n]",
        r"\s+(?!\S)",
        r"\s",
    ]),
}
SPECIALS = {
    "o200k_base": {"<|endoftext|>": 199999, "<|endofprompt|>": 200018},
    "cl100k_base": {"<|endoftext|>": 100257, "<|fim_prefix|>": 100258,
                    "<|fim_middle|>": 100259, "<|fim_suffix|>": 100260,
                    "<|endofprompt|>": 100276},
}
# For characters beyond ASCII, one of each kind.
STAND_INS = {"UPPER": "\u0100", "LOWER": "\u0101", "BOTH": "\u4e2d", "MARK": "\u0301",
             "DIGIT": "\u0660", "BLANK": "\u00a0"}
SYMBOL = "\u00a7"
LONG_S = "\u017f"  # is an s in contractions
ASKED_MAX = 10000  # characters of a text


def load(name, path):
    ranks = {}
    for line in path.read_bytes().splitlines():
        token, rank = line.split()
        ranks[base64.b64decode(token)] = int(rank)
    return tiktoken.Encoding(name=name, pat_str=PATTERNS[name], mergeable_ranks=ranks,
                             special_tokens=SPECIALS[name])


def load_all(folder):
    """Every encoding whose rank file is in `folder`, as tools/setup.sh leaves it."""
    return {name: load(name, folder / f"{name}.tiktoken") for name in PATTERNS}


@functools.cache
def stand_ins():
    return {code: STAND_INS[kind] for kind in STAND_INS
            for code in make_split_unicode.members(make_split_unicode.KINDS[kind])}


def pieces(name, data):
    """The pieces of a byte string, as bytes."""
    text = data.decode("utf-8", "surrogateescape")
    seen = "".join(c if c < "\u0080" or c == LONG_S else stand_ins().get(ord(c), SYMBOL)
                   for c in text)
    # In Python's syntax $ would also match before a line end that ends the text.
    for piece in regex.finditer(PATTERNS[name].replace("$", r"\Z"), seen):
        yield text[piece.start():piece.end()].encode("utf-8", "surrogateescape")


def encode_pieces(encoding, data):
    return [i for piece in pieces(encoding.name, data)
            for i in encoding._encode_single_piece(piece)]


def encode_bytes(encoding, data):
    """Ids of any bytes.  Short text needs no detour: the reference itself is asked.  Its
    pattern matcher runs out of stack on a long run that nothing cuts."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return encode_pieces(encoding, data)
    if len(text) > ASKED_MAX:
        return encode_pieces(encoding, data)
    ids = encoding.encode_ordinary(text)
    assert ids == encode_pieces(encoding, data), (encoding.name, data)
    return ids
