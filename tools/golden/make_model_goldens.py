#!/usr/bin/env python3
"""Writes tests/data/golden/models: tiny models of every supported kind, saved by the
reference libraries, and what those make of some thirty texts.

Regenerate (only when kinds or texts are added; the fixture is checked in):

    python3 -m venv /tmp/golden
    /tmp/golden/bin/pip install sentence-transformers==6.2.0 transformers==5.23.0 \
        tokenizers==0.23.3 torch==2.15.0 sentencepiece==0.2.3 protobuf numpy
    /tmp/golden/bin/python tools/golden/make_model_goldens.py

Weights are random, but not small: with the usual spread of 0.02 all texts would have
nearly the same vector, and a mistake in a layer would hardly show.  The vocabularies are
trained on the golden texts.  Each folder holds what the library wrote and `reference.json`:

    sentence encoders   {"texts": [{"text", "ids", "vector"}]}, vectors of norm 1
    rerankers           {"pairs": [{"query", "text", "ids", "types", "logits"}]}

The reference runs in fp32 on the CPU, one text at a time, so that no padding takes part.
"""

import json
import pathlib
import shutil
import tempfile

import numpy
import sentence_transformers
import sentencepiece
import tokenizers
import torch
import transformers as hf
from sentencepiece import sentencepiece_model_pb2
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from tokenizers.trainers import WordPieceTrainer

import golden_texts

SEED = 7
HIDDEN, LAYERS, HEADS, INNER, POSITIONS, WINDOW = 32, 2, 2, 56, 64, 48
OUT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "data" / "golden" / "models"

LONG = "The quick brown fox jumps over the lazy dog, and nobody minds. " * 12
EXTRA = [
    "", " ", "a", LONG, "Zürich, CAFÉ and naïve Ångström", "北京 is not 東京",
    "Ǆ ﬁne Ⅷ ½ ①  full　width ＡＢＣ", "e\u0301 o\u0308\u0323 \u0928\u093f \u200d\ufeff\u00ad",
    "tab\tnew\nline\r\n \u00a0\u2003 end", "x" * 130, "unaffable " * 60,
    "[CLS] [MASK] <s> </s> <mask> <unk> [unk] <S> a<mask> b", "👩‍👩‍👧 😀 naïve",
    "\u0000\u0001control\u007f \ufffd", "İstanbul ΑΣ ß ẞ", "1,299.00€ (approx.) #tag @you",
    "한국어 텍스트 \u1112\u1161\u11ab", "ฉันรักเธอ กำ \u0e33", "שָׁלוֹם العَرَبِيَّة",
]
TEXTS = EXTRA + golden_texts.TEXTS[5::23]
QUERIES = ["What does the fox do?", "", "Où est le café à Zürich ?", LONG,
           "How many tokens fit in one text of the model when there are two of them?"]

# Rules in the style of nmt_nfkc, few enough for a small file: a character or a sequence on
# the left, what it becomes on the right.
FOLDS = {
    "\t": " ", "\n": " ", "\r": " ", "\u00a0": " ", "\u2003": " ", "\u3000": " ",
    "\u200d": " ", "\ufeff": " ", "\u0001": "", "\u007f": "", "\u00ad": "",
    "ﬁ": "fi", "Ⅷ": "VIII", "½": "1\u20442", "①": "1", "Ａ": "A", "Ｂ": "B", "Ｃ": "C",
    "e\u0301": "é", "o\u0323\u0308": "ọ\u0308", "o\u0308": "ö", "Ǆ": "DŽ", "\u0e33": "\u0e4d\u0e32",
    "\u1112\u1161\u11ab": "한", "ẞ": "SS",
}


def scramble(model):
    """Weights of a useful size; norms a little off their neutral values."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "LayerNorm.weight" in name or "layer_norm.weight" in name:
                p.copy_(1.0 + 0.3 * torch.randn_like(p))
            elif "embeddings" in name or "relative_attention_bias" in name:
                p.copy_(0.7 * torch.randn_like(p))
            else:
                p.copy_(0.2 * torch.randn_like(p))
    return model.eval()


def word_pieces(specials, lowercase, size=260):
    trained = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    trained.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    trained.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trained.train_from_iterator(golden_texts.TEXTS, WordPieceTrainer(
        vocab_size=size, limit_alphabet=150, special_tokens=specials, show_progress=False))
    vocab = trained.get_vocab()
    return dict(sorted(vocab.items(), key=lambda item: item[1]))


def bert_tokenizer(lowercase=True):
    vocab = word_pieces(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], lowercase)
    return hf.BertTokenizer(vocab=vocab, do_lower_case=lowercase)


def mpnet_tokenizer():
    return hf.MPNetTokenizer(vocab=word_pieces(
        ["<s>", "<pad>", "</s>", "<unk>", "[UNK]", "<mask>"], True))


def unigram_tokenizer(work):
    """A tokenizer in the layout of XLM-R: sentencepiece's normaliser and scored pieces."""
    def codes(text):
        return " ".join(f"{ord(c):X}" for c in text)
    rules = work / "rules.tsv"
    rules.write_text("".join(f"{codes(a)}\t{codes(b)}\n" for a, b in FOLDS.items()))
    text = work / "text.txt"
    text.write_text("\n".join(" ".join(t.split()) for t in golden_texts.TEXTS))
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(work / "sp"), vocab_size=300,
        model_type="unigram", normalization_rule_tsv=str(rules),
        character_coverage=0.98, minloglevel=2, hard_vocab_limit=False)
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString((work / "sp.model").read_bytes())
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [(p.piece, p.score) for p in proto.pieces[3:]] + [("<mask>", 0.0)]
    return hf.XLMRobertaTokenizer(
        vocab=pieces, _spm_precompiled_charsmap=proto.normalizer_spec.precompiled_charsmap)


SIZES = dict(hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
             intermediate_size=INNER)
DISTIL = dict(dim=HIDDEN, n_layers=LAYERS, n_heads=HEADS, hidden_dim=INNER,
              max_position_embeddings=POSITIONS)
AFTER_PADDING = POSITIONS + 2  # these networks number positions from 2 on


def save_parts(folder, model, tokenizer, dtype):
    tokenizer.model_max_length = POSITIONS
    model.to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def move(source, target):
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("README.md"))


def write_json(path, value):
    path.write_text(json.dumps(value, separators=(",", ":"), ensure_ascii=True) + "\n")


def legacy_layout(folder, mode):
    """The files as most published folders have them: of sentence-transformers 2 and 3."""
    names = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
    listed = json.loads((folder / "modules.json").read_text())
    write_json(folder / "modules.json", [
        {"idx": i, "name": str(i), "path": names[m["type"].rsplit(".", 1)[1]],
         "type": "sentence_transformers.models." + m["type"].rsplit(".", 1)[1]}
        for i, m in enumerate(listed)])
    write_json(folder / "sentence_bert_config.json",
               {"max_seq_length": WINDOW, "do_lower_case": False})
    modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
    write_json(folder / "1_Pooling" / "config.json", {
        "word_embedding_dimension": HIDDEN,
        **{"pooling_mode_" + m: m == mode for m in modes}})


def write_vocabulary(folder, tokenizer):
    vocab = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    (folder / "vocab.txt").write_text("".join(piece + "\n" for piece, _ in vocab))


def encoder(name, work, model, tokenizer, mode, dtype=torch.float32, normalize=True,
            legacy=False, inner_prefix=None):
    parts, whole = work / (name + "-parts"), work / name
    save_parts(parts, scramble(model), tokenizer, dtype)
    modules = [Transformer(str(parts), max_seq_length=WINDOW, model_kwargs={"dtype": dtype}),
               Pooling(HIDDEN, mode)] + ([Normalize()] if normalize else [])
    SentenceTransformer(modules=modules, device="cpu").save(str(whole))
    if legacy:
        legacy_layout(whole, {"mean": "mean_tokens", "max": "max_tokens"}[mode])
        if not isinstance(tokenizer, hf.XLMRobertaTokenizer):
            write_vocabulary(whole, tokenizer)
    if inner_prefix is not None:  # the names a checkpoint with a task head has
        shutil.copy(parts / "model.safetensors", whole / "model.safetensors")
    reference = SentenceTransformer(str(whole), device="cpu",
                                    model_kwargs={"dtype": torch.float32})
    rows = []
    for text in TEXTS:
        ids = reference.preprocess([text])["input_ids"][0].tolist()
        vector = reference.encode([text], normalize_embeddings=True)[0]
        rows.append({"text": text, "ids": ids,
                     "vector": [float(numpy.format_float_positional(x)) for x in vector]})
    move(whole, OUT / name)
    write_json(OUT / name / "reference.json", {"texts": rows})


def reranker(name, work, model, tokenizer, dtype=torch.float16):
    parts, whole = work / (name + "-parts"), work / name
    save_parts(parts, scramble(model), tokenizer, dtype)
    CrossEncoder(str(parts), max_length=WINDOW, device="cpu",
                 model_kwargs={"dtype": dtype}).save_pretrained(str(whole))
    network = hf.AutoModelForSequenceClassification.from_pretrained(
        whole, dtype=torch.float32).eval()
    cutter = hf.AutoTokenizer.from_pretrained(whole)
    scorer = CrossEncoder(str(whole), device="cpu", model_kwargs={"dtype": torch.float32})
    rows = []
    for query in QUERIES:
        for text in TEXTS[::3]:
            fed = cutter([query], [text], truncation="longest_first", max_length=WINDOW,
                         return_token_type_ids=True, return_tensors="pt")
            ids, types = fed["input_ids"], fed["token_type_ids"]
            if not isinstance(network, hf.BertForSequenceClassification):
                types = torch.zeros_like(ids)  # these networks are given none
                fed.pop("token_type_ids")
            with torch.no_grad():
                logits = network(**fed).logits[0]
            scored = scorer.predict([(query, text)], activation_fn=torch.nn.Identity())
            assert numpy.abs(numpy.ravel(scored) - logits.numpy()).max() < 1e-5
            rows.append({"query": query, "text": text, "ids": ids[0].tolist(),
                         "types": types[0].tolist(), "logits": logits.tolist()})
    move(whole, OUT / name)
    write_json(OUT / name / "reference.json", {"pairs": rows})


README = """# Tiny models

Written by `tools/golden/make_model_goldens.py`, which says how to run it; do not edit by
hand. Each folder is a model of random weights as the library saves it, and in
`reference.json` what the library makes of {texts} texts or {pairs} pairs.

**Tolerance.** Ids are equal; numbers of fp32 vectors and logits differ by less than 2e-5.

**Made with** {versions}.
"""


def write_readme():
    made_with = ", ".join(f"{m.__name__} {m.__version__}" for m in (
        torch, sentence_transformers, hf, tokenizers, sentencepiece))
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "README.md").write_text(README.format(
        texts=len(TEXTS), pairs=len(QUERIES) * len(TEXTS[::3]), versions=made_with))


def main():
    torch.manual_seed(SEED)
    write_readme()
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        cased, uncased = bert_tokenizer(lowercase=False), bert_tokenizer()
        mpnet, unigram = mpnet_tokenizer(), unigram_tokenizer(work)

        def bert_config(tokenizer, **more):
            return hf.BertConfig(vocab_size=len(tokenizer), **SIZES, **more,
                                 max_position_embeddings=POSITIONS)

        def wide_config(kind, tokenizer, **more):
            return kind(vocab_size=len(tokenizer), max_position_embeddings=AFTER_PADDING,
                        **SIZES, **more)

        encoder("bert-cased-cls-f16", work, hf.BertModel(bert_config(cased)), cased, "cls",
                dtype=torch.float16)
        encoder("bert-max-bf16", work, hf.BertForMaskedLM(bert_config(uncased)), uncased,
                "max", dtype=torch.bfloat16, normalize=False, legacy=True,
                inner_prefix="bert.")
        encoder("distilbert-mean", work,
                hf.DistilBertModel(hf.DistilBertConfig(vocab_size=len(uncased), **DISTIL)),
                uncased, "mean", legacy=True)
        encoder("mpnet-mean", work, hf.MPNetModel(wide_config(hf.MPNetConfig, mpnet,
                                                              layer_norm_eps=1e-5)),
                mpnet, "mean", legacy=True)
        encoder("xlm-roberta-mean", work, hf.XLMRobertaModel(
            wide_config(hf.XLMRobertaConfig, unigram, type_vocab_size=1,
                        layer_norm_eps=1e-5)), unigram, "mean")
        encoder("bert-unigram-mean", work, hf.BertModel(bert_config(unigram)), unigram,
                "mean", dtype=torch.float16, legacy=True)
        reranker("bert-rank", work, hf.BertForSequenceClassification(
            bert_config(uncased, num_labels=1)), uncased, dtype=torch.float32)
        reranker("distilbert-rank", work, hf.DistilBertForSequenceClassification(
            hf.DistilBertConfig(vocab_size=len(uncased), num_labels=2, **DISTIL)), uncased)
        reranker("mpnet-rank", work, hf.MPNetForSequenceClassification(
            wide_config(hf.MPNetConfig, mpnet, num_labels=3)), mpnet)
        reranker("xlm-roberta-rank", work, hf.XLMRobertaForSequenceClassification(
            wide_config(hf.XLMRobertaConfig, unigram, type_vocab_size=1, num_labels=1)),
            unigram)


if __name__ == "__main__":
    main()
