/* text_codec.h - short texts as zstd frames, with dictionaries shared by many of them.
 *
 * A message alone is too short for a compressor to learn from, so frames are made with
 * a dictionary trained on the store's texts.  A frame is readable only with the very
 * dictionary it was made with; dictionaries are never changed, and a store may have
 * several, one per generation.
 *
 * A codec holds the dictionaries of one store: any thread may use it.  A lane is what
 * one connection needs to work: one thread at a time.
 *
 * A frame is a standard one of zstd, without the dictionary's number, with the length
 * of the text and a checksum, so that a damaged one is seen.  The length is checked
 * against what the row says before any memory is taken for the text. */
#ifndef MF_STORE_SQLITE_TEXT_CODEC_H
#define MF_STORE_SQLITE_TEXT_CODEC_H

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"

enum {
    MF_PACK_TEXT_MAX = 1 << 20,       /* longer texts stay plain */
    MF_PACK_TEXT_MIN = 32,            /* shorter ones too */
    MF_PACK_DICTIONARY_MAX = 1 << 18, /* bytes of one */
    MF_PACK_DICTIONARIES_MAX = 64,    /* generations of one store */
};

typedef struct mf_text_codec mf_text_codec;
typedef struct mf_text_lane mf_text_lane;

MF_CHECKED mf_rc mf_text_codec_open(mf_text_codec **out, mf_err *err);
void mf_text_codec_close(mf_text_codec *codec); /* no lane is left; NULL is fine */
/* Makes dictionary `id` (> 0) known; one that is known already is left as it is.
 * MF_E_CORRUPT for bytes zstd does not take, MF_E_LIMIT for too many, MF_E_NOMEM. */
MF_CHECKED mf_rc mf_text_codec_add(mf_text_codec *codec, int64_t id, mf_str bytes,
                                   mf_err *err);
/* Is it one?  MF_E_CORRUPT says no. */
MF_CHECKED mf_rc mf_text_dictionary_check(mf_str bytes, mf_err *err);
bool mf_text_codec_has(mf_text_codec *codec, int64_t id); /* 0, no dictionary: true */

MF_CHECKED mf_rc mf_text_lane_open(mf_text_codec *codec, mf_text_lane **out,
                                   mf_err *err);
void mf_text_lane_close(mf_text_lane *lane); /* NULL is fine */

/* The frame of `text`, in the lane's memory until its next call; .p NULL when it would
 * save less than an eighth, or the text is too short or too long.  `id` is known. */
MF_CHECKED mf_rc mf_text_lane_pack(mf_text_lane *lane, int64_t id, mf_str text,
                                   mf_str *frame, mf_err *err);
/* The text of a frame, `text_len` bytes, in `arena` with a NUL behind it; in the lane's
 * memory until its next call when `arena` is NULL.  `id` is known.  MF_E_CORRUPT when
 * the frame does not hold a text of that length, MF_E_NOMEM. */
MF_CHECKED mf_rc mf_text_lane_unpack(mf_text_lane *lane, int64_t id, mf_str frame,
                                     int64_t text_len, mf_arena *arena, mf_str *text,
                                     mf_err *err);

/* Trains a dictionary of at most `bytes_max` bytes (mf_free it).  What it holds is
 * readable by whoever has the file, and outlives the texts it was trained on, so it is
 * made only of words that stand side by side in at least MF_PACK_SHARED of the samples:
 * what one message alone says cannot get in.  *out is .p NULL when the samples have too
 * little in common.  MF_E_NOMEM. */
enum { MF_PACK_SHARED = 8 };
MF_CHECKED mf_rc mf_text_train(const mf_str *samples, size_t count, size_t bytes_max,
                               mf_str *out, mf_err *err);

#endif
