/* vocab.c - the pieces of a WordPiece vocabulary and the search for the longest one.
 *
 * An open-addressing table of {tag, id, key} finds a piece by its bytes.  The hash
 * grows byte by byte, so the hashes of all prefixes of a word cost one pass, and the
 * search for the longest match probes from the longest prefix down without hashing
 * anything again. Most words are pieces as a whole and take one probe.
 *
 * The keys are ranges of the file's own bytes, kept beside the table.  They are fixed
 * once loaded, so no text can lengthen the chains of the table. */
#include "model/vocab.h"

#include "base/alloc.h"
#include "os/file.h"
#include "text/utf8.h"

enum { KIND_START, KIND_INSIDE, KIND_COUNT };

typedef struct slot {
    uint32_t tag;      /* upper half of the hash */
    int32_t id;        /* -1: free */
    uint32_t offset;   /* the key's first byte in the file, behind the "##" */
    uint32_t len_kind; /* its length * KIND_COUNT + kind */
} slot;

struct mf_vocab {
    mf_buf text; /* the file */
    size_t count;
    slot *slots;
    size_t slot_mask; /* slots - 1; a power of two of them, at most half in use */
    size_t len_max[KIND_COUNT]; /* the longest piece of each kind, bytes */
};

static uint64_t hash_start(int kind) {
    return kind == KIND_START ? UINT64_C(0x243F6A8885A308D3)
                              : UINT64_C(0x13198A2E03707344);
}

static uint64_t hash_step(uint64_t hash, char byte) {
    return (hash ^ (uint8_t)byte) * UINT64_C(0x9E3779B97F4A7C15);
}

static size_t hash_slot(uint64_t hash) {
    return (size_t)(hash ^ hash >> 29);
}

static uint32_t hash_tag(uint64_t hash) {
    return (uint32_t)(hash >> 32);
}

/* What a line is looked up by: its kind and the bytes without the "##". */
static int key_of(mf_str line, mf_str *key) {
    bool inside = line.len > 2 && line.p[0] == '#' && line.p[1] == '#';
    *key = inside ? mf_str_sub(line, 2, line.len - 2) : line;
    return inside ? KIND_INSIDE : KIND_START;
}

static uint32_t pack_len(int kind, mf_str key) {
    return (uint32_t)key.len * KIND_COUNT + (uint32_t)kind;
}

/* The slot of a key, or the free one where it would go. */
static slot *probe(const mf_vocab *vocab, int kind, mf_str key, uint64_t hash) {
    uint32_t tag = hash_tag(hash);
    uint32_t len_kind = pack_len(kind, key);
    for (size_t i = hash_slot(hash);; i++) {
        slot *s = &vocab->slots[i & vocab->slot_mask];
        if (s->id < 0) {
            return s;
        }
        if (s->tag == tag && s->len_kind == len_kind &&
            memcmp(vocab->text.p + s->offset, key.p, key.len) == 0) {
            return s;
        }
    }
}

static uint64_t hash_key(int kind, mf_str key) {
    uint64_t hash = hash_start(kind);
    for (size_t i = 0; i < key.len; i++) {
        hash = hash_step(hash, key.p[i]);
    }
    return hash;
}

/* One line of the file, its end excluded; what is wrong with it, or NULL. */
static const char *enter_line(mf_vocab *vocab, mf_str line, int32_t *repeated) {
    if (line.len == 0) {
        return "empty entry";
    }
    if (!mf_utf8_valid(line)) {
        return "not UTF-8";
    }
    mf_str key;
    int kind = key_of(line, &key);
    uint64_t hash = hash_key(kind, key);
    slot *s = probe(vocab, kind, key, hash);
    if (s->id >= 0) {
        *repeated = s->id;
        return "repeats line";
    }
    *s = (slot){.tag = hash_tag(hash),
                .id = (int32_t)vocab->count++,
                .offset = (uint32_t)(key.p - vocab->text.p),
                .len_kind = pack_len(kind, key)};
    if (key.len <= MF_VOCAB_PIECE_MAX && key.len > vocab->len_max[kind]) {
        vocab->len_max[kind] = key.len;
    }
    return NULL;
}

static mf_rc enter_lines(mf_vocab *vocab, const char *path, mf_err *err) {
    mf_str rest = mf_buf_view(&vocab->text);
    while (rest.len > 0) {
        mf_str line = mf_str_split(&rest, '\n');
        if (line.len > 0 && line.p[line.len - 1] == '\r') {
            line.len--;
        }
        int32_t repeated = -1;
        size_t number = vocab->count + 1;
        const char *wrong = enter_line(vocab, line, &repeated);
        if (wrong != NULL && repeated >= 0) {
            return MF_FAIL(err, MF_E_CORRUPT, "'%s' line %zu: %s %d", path, number,
                           wrong, repeated + 1);
        }
        if (wrong != NULL) {
            return MF_FAIL(err, MF_E_CORRUPT, "'%s' line %zu: %s", path, number, wrong);
        }
    }
    return MF_OK;
}

static size_t count_lines(mf_str text) {
    size_t count = text.len > 0 && text.p[text.len - 1] != '\n';
    for (size_t i = 0; i < text.len; i++) {
        count += text.p[i] == '\n';
    }
    return count;
}

static mf_rc load(mf_vocab *vocab, const char *path, mf_err *err) {
    MF_TRY(mf_file_read(path, &vocab->text, err));
    size_t lines = count_lines(mf_buf_view(&vocab->text));
    if (lines == 0 || lines > MF_VOCAB_COUNT_MAX) {
        return MF_FAIL(err, MF_E_CORRUPT, "'%s' line %zu: 1 to %d entries are possible",
                       path, lines, MF_VOCAB_COUNT_MAX);
    }
    size_t slot_count = 16;
    while (slot_count < lines * 2) {
        slot_count *= 2;
    }
    vocab->slot_mask = slot_count - 1;
    vocab->slots = mf_alloc_array(slot_count, sizeof *vocab->slots);
    if (vocab->slots == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu pieces", lines);
    }
    for (size_t i = 0; i < slot_count; i++) {
        vocab->slots[i].id = -1;
    }
    return enter_lines(vocab, path, err);
}

mf_rc mf_vocab_open(const char *path, mf_vocab **out, mf_err *err) {
    mf_vocab *vocab = mf_alloc_zero(1, sizeof *vocab);
    if (vocab == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a vocabulary");
    }
    mf_buf_init(&vocab->text, MF_VOCAB_BYTES_MAX);
    mf_rc rc = load(vocab, path, err);
    if (rc == MF_E_NOTFOUND) {
        rc = MF_FAIL(err, MF_E_IO, "there is no '%s'", path);
    } else if (rc == MF_E_LIMIT) {
        rc = MF_FAIL(err, MF_E_CORRUPT, "'%s' is larger than %d bytes", path,
                     MF_VOCAB_BYTES_MAX);
    }
    if (rc != MF_OK) {
        mf_vocab_close(vocab);
        return rc;
    }
    *out = vocab;
    return MF_OK;
}

void mf_vocab_close(mf_vocab *vocab) {
    if (vocab == NULL) {
        return;
    }
    mf_free(vocab->slots);
    mf_buf_done(&vocab->text);
    mf_free(vocab);
}

size_t mf_vocab_count(const mf_vocab *vocab) {
    return vocab->count;
}

int32_t mf_vocab_find(const mf_vocab *vocab, mf_str entry) {
    mf_str key;
    int kind = key_of(entry, &key);
    return probe(vocab, kind, key, hash_key(kind, key))->id;
}

/* The longest piece of `kind` that `rest` starts with; its id and length, or -1. */
static int32_t longest(const mf_vocab *vocab, int kind, mf_str rest, size_t *len) {
    uint64_t hashes[MF_VOCAB_PIECE_MAX];
    size_t most = rest.len < vocab->len_max[kind] ? rest.len : vocab->len_max[kind];
    uint64_t hash = hash_start(kind);
    for (size_t i = 0; i < most; i++) {
        hash = hash_step(hash, rest.p[i]);
        hashes[i] = hash;
    }
    for (size_t n = most; n > 0; n--) {
        /* A prefix that ends inside a character is no piece: all pieces are UTF-8. */
        int32_t id = probe(vocab, kind, (mf_str){rest.p, n}, hashes[n - 1])->id;
        if (id >= 0) {
            *len = n;
            return id;
        }
    }
    return -1;
}

size_t mf_vocab_cut(const mf_vocab *vocab, mf_str word, int32_t *ids) {
    /* Most words are one piece: no need for the hashes of their prefixes. */
    if (word.len <= vocab->len_max[KIND_START]) {
        uint64_t hash = hash_key(KIND_START, word);
        ids[0] = probe(vocab, KIND_START, word, hash)->id;
        if (ids[0] >= 0) {
            return 1;
        }
    }
    size_t count = 0;
    int kind = KIND_START;
    while (word.len > 0) {
        size_t len = 0;
        int32_t id = longest(vocab, kind, word, &len);
        if (id < 0) {
            return 0;
        }
        ids[count++] = id;
        word = mf_str_sub(word, len, word.len - len);
        kind = KIND_INSIDE;
    }
    return count;
}
