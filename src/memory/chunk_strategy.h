/* chunk_strategy.h - how the messages of one list become the texts that are embedded.
 *
 * A list is what one add stores: the messages of a round.  Its text is what they say,
 * one below the other, and every strategy cuts that text into chunks:
 *
 *   turn        what each message says, by itself
 *   message     the whole list is one chunk
 *   contextual  whole messages together up to `words_max` words; a longer message is
 * cut there.  Up to `context_chunks` chunks before it, of this list or of those before
 * it in the session, fill the room a chunk leaves in the encoder's window character
 * `characters_max` code points, each chunk beginning `characters_overlap` before the
 * end of the one before integrated  as contextual without context, and no chunk has
 * more than `tokens_max` tokens unless one word has
 *
 * A CJK character counts as a word.  People are shown a chunk with "[role]: " before
 * each message; the encoder is not, because that cost recall (docs/chunking.md).
 *
 * Chunks are where a vector comes from, not what a
 * search returns: a message has the vectors of those windows of its chunks in which
 * some of its own text stands, and in a list of several messages also that of its text
 * alone, without which a list's other messages would drown it (mf_chunk_list_texts).
 *
 * Everything here is a pure function of the texts, the roles and the rules; safe from
 * any thread. */
#ifndef MF_MEMORY_CHUNK_STRATEGY_H
#define MF_MEMORY_CHUNK_STRATEGY_H

#include "base/arena.h"
#include "model/token_counter.h"
#include "model/tokenizer.h"
#include "store/store.h"
#include "text/config.h"

typedef enum mf_chunk_strategy {
    MF_CHUNK_TURN,
    MF_CHUNK_MESSAGE,
    MF_CHUNK_CONTEXTUAL,
    MF_CHUNK_CHARACTER,
    MF_CHUNK_INTEGRATED
} mf_chunk_strategy;

enum {
    /* Text of a list; in a longer one each message is a list of its own, so that what
     * one message costs stays bounded. */
    MF_CHUNK_LIST_BYTES_MAX = 1 << 20,
    MF_CHUNK_RULES_TEXT = 64,
};

typedef struct mf_chunk_rules {
    mf_chunk_strategy strategy;
    size_t words_max;      /* contextual, integrated */
    size_t context_chunks; /* contextual, else 0 */
    size_t characters_max, characters_overlap;
    size_t tokens_max;
    const mf_token_counter *tokens; /* integrated; borrowed */
} mf_chunk_rules;

/* The rules that `config` names.  MF_E_INVAL when the overlap is not shorter than a
 * chunk; err->field is the setting. */
MF_CHECKED mf_rc mf_chunk_rules_of(const mf_config *config,
                                   const mf_token_counter *tokens, mf_chunk_rules *out,
                                   mf_err *err);
const char *mf_chunk_strategy_name(mf_chunk_strategy strategy);
/* Everything that decides how texts are cut, in a few words: two rules with the same
 * ones give the same chunks.  Empty for turn. */
void mf_chunk_rules_text(const mf_chunk_rules *rules, char out[MF_CHUNK_RULES_TEXT]);

typedef struct mf_chunk_line {
    mf_role role;
    mf_str text;
} mf_chunk_line;

/* Bytes `from` to `to` of a list's text, the last one not among them. */
typedef struct mf_chunk_span {
    size_t from, to;
} mf_chunk_span;

typedef struct mf_chunk_window {
    mf_chunk_span span;
    size_t chunk;
    bool last; /* of its chunk */
} mf_chunk_window;

/* Everything in arena memory. */
typedef struct mf_chunk_list {
    mf_str text;
    const mf_chunk_line *roles; /* [line_count]: borrowed from the caller */
    const mf_chunk_span *lines; /* [line_count]: where each message stands */
    size_t line_count;
    const mf_chunk_span *chunks; /* [chunk_count], at least one, in order */
    size_t chunk_count;
    const mf_chunk_window *windows; /* NULL until mf_chunk_list_fit */
    size_t window_count;
} mf_chunk_list;

/* Cuts the list of `count` >= 1 messages; `lines` outlive it.  MF_E_NOMEM. */
MF_CHECKED mf_rc mf_chunk_list_cut(const mf_chunk_rules *rules,
                                   const mf_chunk_line *lines, size_t count,
                                   mf_arena *arena, mf_chunk_list *out, mf_err *err);
mf_str mf_chunk_list_chunk(const mf_chunk_list *list, size_t index);
/* The chunk as people see it: "[role]: " before each message that begins in it, unless
 * the strategy is turn. */
MF_CHECKED mf_rc mf_chunk_list_show(const mf_chunk_list *list,
                                    const mf_chunk_rules *rules, size_t index,
                                    mf_arena *arena, mf_str *out, mf_err *err);
/* Has the chunk text of this message? */
bool mf_chunk_list_holds(const mf_chunk_list *list, size_t index, size_t line);

/* Cuts the chunks into windows of `window` ids of `wp` (see memory/chunks.h). */
MF_CHECKED mf_rc mf_chunk_list_fit(mf_chunk_list *list, const mf_model_tokenizer *wp,
                                   size_t window, mf_arena *arena, mf_err *err);

/* The texts whose vectors the message `line` of a fitted list has, into parts
 * [parts_max], at least one; what is more is left out.  `before` are chunks of earlier
 * lists, `before_count` of them, the newest last; of them and of the list's own as many
 * are used as the rules say. */
MF_CHECKED mf_rc mf_chunk_list_texts(const mf_chunk_list *list,
                                     const mf_chunk_rules *rules,
                                     const mf_model_tokenizer *wp, size_t window,
                                     const mf_str *before, size_t before_count,
                                     size_t line, mf_arena *arena, mf_str *parts,
                                     size_t parts_max, size_t *count, mf_err *err);

#endif
