"""Messages for the comparison: 9 to 126 tokens, 37 on average, most of them short.

They are put together, by a seeded generator, from the plain sentences, most of
them in English, among the repository's golden texts, whose tokens are on record there.
"""

import json
import random
import re
from pathlib import Path

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "data" / "golden" / "texts.jsonl"
SPECIAL = 2  # [CLS] and [SEP]
TOKENS_MIN, TOKENS_MAX = 9, 126
SENTENCE = re.compile(r"[A-Z][A-Za-z0-9 ,;'&-]+[.?!]")


def sentences(path: Path = GOLDEN) -> list[tuple[str, int]]:
    """Plain sentences and the number of their tokens, the special ones left out."""
    with open(path, encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    counted = [(row["text"], len(row["wordpiece"]) - SPECIAL) for row in rows]
    return [(text, n) for text, n in counted if n <= 30 and SENTENCE.fullmatch(text)]


def messages(count: int, seed: int = 2024) -> list[str]:
    """`count` messages, always the same."""
    pool = sentences()
    rng = random.Random(seed)
    made = []
    while len(made) < count:
        target = TOKENS_MIN + (TOKENS_MAX - TOKENS_MIN) * rng.random() ** 4.5
        parts: list[str] = []
        tokens = SPECIAL
        while tokens < target:
            text, n = rng.choice(pool)
            if tokens + n > TOKENS_MAX:
                break
            parts.append(text)
            tokens += n
        if tokens >= TOKENS_MIN:
            made.append(" ".join(parts))
    return made
