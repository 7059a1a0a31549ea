/* vocab.c - the pieces of a WordPiece vocabulary and the search for the longest one.
 *
 * Two tables (piece_table.h), one of pieces that start a word and one of those inside.
 * Most words are pieces as a whole and take one search; of the others the longest piece
 * is searched for from the whole rest down, and prefixes that are no piece are told by
 * one byte of flags each.
 *
 * The bytes of the pieces are the file's own, kept beside the tables. */
#include "model/vocab.h"

#include "base/alloc.h"
#include "os/file.h"
#include "text/utf8.h"

enum { KIND_START, KIND_INSIDE, KIND_COUNT };

struct mf_vocab {
    mf_buf text; /* the file */
    size_t count;
    uint32_t *offsets; /* [count] where the line of an id begins */
    mf_piece_table tables[KIND_COUNT];
};

/* What a line is looked up by: its kind and the bytes without the "##". */
static int key_of(mf_str line, mf_str *key) {
    bool inside = line.len > 2 && line.p[0] == '#' && line.p[1] == '#';
    *key = inside ? mf_str_sub(line, 2, line.len - 2) : line;
    return inside ? KIND_INSIDE : KIND_START;
}

static const uint8_t *bytes_of(mf_str text) {
    return (const uint8_t *)text.p;
}

/* The next line of the file, its end excluded. */
static mf_str take_line(mf_str *rest) {
    mf_str line = mf_str_split(rest, '\n');
    if (line.len > 0 && line.p[line.len - 1] == '\r') {
        line.len--;
    }
    return line;
}

/* What is wrong with a line, or NULL; `*repeated` gets the id it repeats. */
static const char *enter_line(mf_vocab *vocab, mf_str line, uint32_t *repeated) {
    if (line.len == 0) {
        return "empty entry";
    }
    if (memchr(line.p, '\0', line.len) != NULL) {
        return "a NUL byte in an entry";
    }
    if (!mf_utf8_valid(line)) {
        return "not UTF-8";
    }
    if (line.len > MF_PIECE_BYTES_MAX) {
        return "longer than 1023 bytes";
    }
    mf_str key;
    mf_piece_table *table = &vocab->tables[key_of(line, &key)];
    uint32_t offset = (uint32_t)(key.p - vocab->text.p);
    *repeated = mf_piece_add(table, offset, key.len, (uint32_t)vocab->count);
    if (*repeated != MF_PIECE_NONE) {
        return "repeats line";
    }
    vocab->offsets[vocab->count++] = (uint32_t)(line.p - vocab->text.p);
    return NULL;
}

static mf_rc enter_lines(mf_vocab *vocab, const char *path, mf_err *err) {
    mf_str rest = mf_buf_view(&vocab->text);
    while (rest.len > 0) {
        mf_str line = take_line(&rest);
        uint32_t repeated = MF_PIECE_NONE;
        size_t number = vocab->count + 1;
        const char *wrong = enter_line(vocab, line, &repeated);
        if (wrong != NULL && repeated != MF_PIECE_NONE) {
            return MF_FAIL(err, MF_E_CORRUPT, "'%s' line %zu: %s %u", path, number,
                           wrong, repeated + 1);
        }
        if (wrong != NULL) {
            return MF_FAIL(err, MF_E_CORRUPT, "'%s' line %zu: %s", path, number, wrong);
        }
    }
    return MF_OK;
}

static void count_lines(mf_str text, size_t counts[KIND_COUNT]) {
    while (text.len > 0) {
        mf_str key;
        counts[key_of(take_line(&text), &key)]++;
    }
}

/* Makes the table of the lines in vocab->text. */
static mf_rc load(mf_vocab *vocab, const char *path, mf_err *err) {
    mf_str text = mf_buf_view(&vocab->text);
    size_t counts[KIND_COUNT] = {0};
    count_lines(text, counts);
    size_t lines = counts[KIND_START] + counts[KIND_INSIDE];
    if (lines == 0 || lines > MF_VOCAB_COUNT_MAX) {
        return MF_FAIL(err, MF_E_CORRUPT, "'%s' line %zu: 1 to %d entries are possible",
                       path, lines, MF_VOCAB_COUNT_MAX);
    }
    vocab->offsets = mf_alloc_array(lines, sizeof *vocab->offsets);
    if (vocab->offsets == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu pieces", lines);
    }
    for (int kind = 0; kind < KIND_COUNT; kind++) {
        MF_TRY(mf_piece_table_init(&vocab->tables[kind], counts[kind], bytes_of(text),
                                   err));
    }
    return enter_lines(vocab, path, err);
}

static mf_rc read_file(mf_vocab *vocab, const char *path, mf_err *err) {
    mf_rc rc = mf_file_read(path, &vocab->text, err);
    if (rc == MF_E_NOTFOUND) {
        return MF_FAIL(err, MF_E_IO, "there is no '%s'", path);
    }
    if (rc == MF_E_LIMIT) {
        return MF_FAIL(err, MF_E_CORRUPT, "'%s' is larger than %d bytes", path,
                       MF_VOCAB_BYTES_MAX);
    }
    return rc;
}

/* `lines` NULL: those of the file `path`. */
static mf_rc open_vocab(const mf_str *lines, const char *path, mf_vocab **out,
                        mf_err *err) {
    mf_vocab *vocab = mf_alloc_zero(1, sizeof *vocab);
    if (vocab == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a vocabulary");
    }
    mf_buf_init(&vocab->text, MF_VOCAB_BYTES_MAX);
    mf_rc rc = MF_OK;
    if (lines == NULL) {
        rc = read_file(vocab, path, err);
    } else if (mf_buf_add_str(&vocab->text, *lines) != MF_OK) {
        rc = MF_FAIL(err, vocab->text.failed, "no memory for a vocabulary");
    }
    if (rc == MF_OK) {
        rc = load(vocab, path, err);
    }
    if (rc != MF_OK) {
        mf_vocab_close(vocab);
        return rc;
    }
    *out = vocab;
    return MF_OK;
}

mf_rc mf_vocab_open(const char *path, mf_vocab **out, mf_err *err) {
    return open_vocab(NULL, path, out, err);
}

mf_rc mf_vocab_from_lines(mf_str lines, const char *name, mf_vocab **out, mf_err *err) {
    return open_vocab(&lines, name, out, err);
}

void mf_vocab_close(mf_vocab *vocab) {
    if (vocab == NULL) {
        return;
    }
    for (int kind = 0; kind < KIND_COUNT; kind++) {
        mf_piece_table_done(&vocab->tables[kind]);
    }
    mf_free(vocab->offsets);
    mf_buf_done(&vocab->text);
    mf_free(vocab);
}

size_t mf_vocab_count(const mf_vocab *vocab) {
    return vocab->count;
}

/* The tables say MF_PIECE_NONE where this module says -1. */
static int32_t id_of(uint32_t value) {
    return value == MF_PIECE_NONE ? -1 : (int32_t)value;
}

int32_t mf_vocab_find(const mf_vocab *vocab, mf_str entry) {
    mf_str key;
    const mf_piece_table *table = &vocab->tables[key_of(entry, &key)];
    return key.len == 0 ? -1
                        : id_of(mf_piece_find(table, bytes_of(key), key.len, key.len));
}

int32_t mf_vocab_find_word(const mf_vocab *vocab, mf_piece_key key) {
    return id_of(mf_piece_find_key(&vocab->tables[KIND_START], key));
}

mf_str mf_vocab_entry(const mf_vocab *vocab, int32_t id) {
    if (id < 0 || (size_t)id >= vocab->count) {
        return MF_STR_NONE;
    }
    mf_str text = mf_buf_view(&vocab->text);
    size_t offset = vocab->offsets[id];
    mf_str rest = mf_str_sub(text, offset, text.len - offset);
    return take_line(&rest);
}

/* The longest piece that `rest` starts with; its id and length, or -1. */
static int32_t longest(const mf_piece_table *table, mf_str rest, size_t *len) {
    const uint8_t *p = bytes_of(rest);
    size_t n = rest.len < table->len_max ? rest.len : table->len_max;
    for (; n > 0; n--) {
        /* A prefix that ends inside a character is no piece: all pieces are UTF-8. */
        uint32_t id = mf_piece_find(table, p, n, n + MF_PIECE_SLACK);
        if (id != MF_PIECE_NONE) {
            *len = n;
            return (int32_t)id;
        }
    }
    return -1;
}

size_t mf_vocab_cut(const mf_vocab *vocab, mf_str word, int32_t *ids) {
    size_t count = 0;
    const mf_piece_table *table = &vocab->tables[KIND_START];
    while (word.len > 0) {
        size_t len = 0;
        int32_t id = longest(table, word, &len);
        if (id < 0) {
            return 0;
        }
        ids[count++] = id;
        word = mf_str_sub(word, len, word.len - len);
        table = &vocab->tables[KIND_INSIDE];
    }
    return count;
}
