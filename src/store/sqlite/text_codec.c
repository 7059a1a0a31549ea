/* text_codec.c - zstd behind the few calls the store needs.
 *
 * Dictionaries are digested once and then only read, so lanes use them without a lock;
 * the lock covers the list of them, which only grows. */
#include "store/sqlite/text_codec.h"

#include <zstd.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/mutex.h"

/* The level all figures of docs/storage-compression.md are for. */
static const int pack_level = 6;

typedef struct dictionary {
    int64_t id;
    ZSTD_CDict *pack;
    ZSTD_DDict *unpack;
} dictionary;

struct mf_text_codec {
    mf_mutex mu;
    dictionary
        known[MF_PACK_DICTIONARIES_MAX]; /* guarded by mu; entries never change */
    size_t count;                        /* guarded by mu */
};

struct mf_text_lane {
    mf_text_codec *codec;
    ZSTD_CCtx *pack; /* made by the first text packed */
    ZSTD_DCtx *unpack;
    char *space; /* for a frame, or for a text */
    size_t space_size;
    dictionary last; /* the one used last; id 0: none yet */
};

mf_rc mf_text_codec_open(mf_text_codec **out, mf_err *err) {
    mf_text_codec *codec = mf_alloc_zero(1, sizeof *codec);
    if (codec == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a text codec");
    }
    mf_mutex_init(&codec->mu, MF_RANK_STORE);
    *out = codec;
    return MF_OK;
}

static void free_dictionary(dictionary *d) {
    (void)ZSTD_freeCDict(d->pack); /* these two cannot fail */
    (void)ZSTD_freeDDict(d->unpack);
}

void mf_text_codec_close(mf_text_codec *codec) {
    if (codec == NULL) {
        return;
    }
    for (size_t i = 0; i < codec->count; i++) {
        free_dictionary(&codec->known[i]);
    }
    mf_mutex_done(&codec->mu);
    mf_free(codec);
}

static bool find(mf_text_codec *codec, int64_t id, dictionary *out) {
    bool found = false;
    mf_mutex_lock(&codec->mu);
    for (size_t i = 0; i < codec->count && !found; i++) {
        found = codec->known[i].id == id;
        if (found) {
            *out = codec->known[i];
        }
    }
    mf_mutex_unlock(&codec->mu);
    return found;
}

bool mf_text_codec_has(mf_text_codec *codec, int64_t id) {
    dictionary ignored;
    return id == 0 || find(codec, id, &ignored);
}

mf_rc mf_text_dictionary_check(mf_str bytes, mf_err *err) {
    if (bytes.len == 0 || bytes.len > MF_PACK_DICTIONARY_MAX ||
        ZSTD_getDictID_fromDict(bytes.p, bytes.len) == 0) {
        return MF_FAIL(err, MF_E_CORRUPT, "a text dictionary is damaged");
    }
    return MF_OK;
}

mf_rc mf_text_codec_add(mf_text_codec *codec, int64_t id, mf_str bytes, mf_err *err) {
    MF_TRY(mf_text_dictionary_check(bytes, err));
    if (id <= 0) {
        return MF_FAIL(err, MF_E_CORRUPT, "%lld names no text dictionary",
                       (long long)id);
    }
    if (mf_text_codec_has(codec, id)) {
        return MF_OK;
    }
    dictionary made = {.id = id,
                       .pack = ZSTD_createCDict(bytes.p, bytes.len, pack_level),
                       .unpack = ZSTD_createDDict(bytes.p, bytes.len)};
    if (made.pack == NULL || made.unpack == NULL) {
        free_dictionary(&made);
        /* zstd does not say why; it takes memory before it looks at the tables. */
        return MF_FAIL(err, MF_E_CORRUPT, "text dictionary %lld is damaged",
                       (long long)id);
    }
    bool room = false;
    bool taken = false;
    mf_mutex_lock(&codec->mu);
    for (size_t i = 0; i < codec->count; i++) {
        taken = taken || codec->known[i].id == id;
    }
    room = codec->count < MF_PACK_DICTIONARIES_MAX;
    if (room && !taken) {
        codec->known[codec->count++] = made;
    }
    mf_mutex_unlock(&codec->mu);
    if (taken || !room) {
        free_dictionary(&made);
    }
    return taken || room ? MF_OK
                         : MF_FAIL(err, MF_E_LIMIT, "more than %d text dictionaries",
                                   (int)MF_PACK_DICTIONARIES_MAX);
}

/* --- lanes --- */

mf_rc mf_text_lane_open(mf_text_codec *codec, mf_text_lane **out, mf_err *err) {
    mf_text_lane *lane = mf_alloc_zero(1, sizeof *lane);
    if (lane == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a text lane");
    }
    lane->codec = codec;
    lane->unpack = ZSTD_createDCtx();
    if (lane->unpack == NULL) {
        mf_free(lane);
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a text lane");
    }
    *out = lane;
    return MF_OK;
}

void mf_text_lane_close(mf_text_lane *lane) {
    if (lane != NULL) {
        (void)ZSTD_freeCCtx(lane->pack); /* these two cannot fail */
        (void)ZSTD_freeDCtx(lane->unpack);
        mf_free(lane->space);
        mf_free(lane);
    }
}

static mf_rc reserve(mf_text_lane *lane, size_t size, mf_err *err) {
    if (size <= lane->space_size) {
        return MF_OK;
    }
    char *grown = mf_realloc(lane->space, size);
    if (grown == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a text of %zu bytes", size);
    }
    lane->space = grown;
    lane->space_size = size;
    return MF_OK;
}

static const dictionary *dictionary_of(mf_text_lane *lane, int64_t id) {
    if (id != 0 && lane->last.id != id) {
        bool known = find(lane->codec, id, &lane->last);
        MF_ASSERT(known);
    }
    return &lane->last;
}

static mf_rc open_pack(mf_text_lane *lane, mf_err *err) {
    if (lane->pack != NULL) {
        return MF_OK;
    }
    lane->pack = ZSTD_createCCtx();
    if (lane->pack == NULL ||
        ZSTD_isError(
            ZSTD_CCtx_setParameter(lane->pack, ZSTD_c_compressionLevel, pack_level)) ||
        ZSTD_isError(ZSTD_CCtx_setParameter(lane->pack, ZSTD_c_checksumFlag, 1)) ||
        ZSTD_isError(ZSTD_CCtx_setParameter(lane->pack, ZSTD_c_dictIDFlag, 0))) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory to compress texts");
    }
    return MF_OK;
}

mf_rc mf_text_lane_pack(mf_text_lane *lane, int64_t id, mf_str text, mf_str *frame,
                        mf_err *err) {
    *frame = MF_STR_NONE;
    if (text.len < MF_PACK_TEXT_MIN || text.len > MF_PACK_TEXT_MAX) {
        return MF_OK;
    }
    size_t bound = ZSTD_compressBound(text.len);
    MF_TRY(open_pack(lane, err));
    MF_TRY(reserve(lane, bound, err));
    const ZSTD_CDict *with = id != 0 ? dictionary_of(lane, id)->pack : NULL;
    size_t size = ZSTD_CCtx_refCDict(lane->pack, with);
    if (!ZSTD_isError(size)) {
        size = ZSTD_compress2(lane->pack, lane->space, bound, text.p, text.len);
    }
    if (ZSTD_isError(size)) {
        return MF_FAIL(err, MF_E_NOMEM, "cannot compress a text: %s",
                       ZSTD_getErrorName(size));
    }
    if (size <= text.len - text.len / 8) {
        *frame = (mf_str){lane->space, size};
    }
    return MF_OK;
}

static mf_rc check_length(mf_str frame, int64_t text_len, mf_err *err) {
    unsigned long long told = ZSTD_getFrameContentSize(frame.p, frame.len);
    if (text_len <= 0 || text_len > MF_PACK_TEXT_MAX ||
        told != (unsigned long long)text_len) {
        return MF_FAIL(err, MF_E_CORRUPT, "a packed text does not have its length");
    }
    return MF_OK;
}

mf_rc mf_text_lane_unpack(mf_text_lane *lane, int64_t id, mf_str frame,
                          int64_t text_len, mf_arena *arena, mf_str *text,
                          mf_err *err) {
    MF_TRY(check_length(frame, text_len, err));
    size_t len = (size_t)text_len;
    char *out;
    if (arena != NULL) {
        out = mf_arena_alloc(arena, len + 1);
        if (out == NULL) {
            return MF_FAIL(err, MF_E_NOMEM, "no memory for a text of %zu bytes", len);
        }
    } else {
        MF_TRY(reserve(lane, len + 1, err));
        out = lane->space;
    }
    size_t got =
        id != 0 ? ZSTD_decompress_usingDDict(lane->unpack, out, len, frame.p, frame.len,
                                             dictionary_of(lane, id)->unpack)
                : ZSTD_decompressDCtx(lane->unpack, out, len, frame.p, frame.len);
    if (ZSTD_isError(got) || got != len) {
        return MF_FAIL(err, MF_E_CORRUPT, "a packed text is damaged: %s",
                       ZSTD_isError(got) ? ZSTD_getErrorName(got) : "too short");
    }
    out[len] = '\0';
    *text = (mf_str){out, len};
    return MF_OK;
}
