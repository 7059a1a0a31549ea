/* query_text.h - what a query asks, freed of what chat adapters put around it.
 *
 * Adapters send the recent turns and the new one joined into one text, each turn with
 * its role, `User: `, `Assistant: ` or `System: `, and between turns the two characters
 * backslash and n (or a line break).  Taken as it is, the old turns would fill the
 * encoder's window and outvote the words of the new question. */
#ifndef MF_MEMORY_QUERY_TEXT_H
#define MF_MEMORY_QUERY_TEXT_H

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"

enum {
    MF_QUERY_TURNS_MAX = 64, /* newest turns looked at */
    MF_QUERY_ENCODER_FILL =
        120, /* bytes up to which older turns fill a short last one */
    MF_QUERY_WORDS_HISTORY = 120, /* bytes of older turns whose words count */
    MF_QUERY_LAST_WEIGHT = 12,    /* how often words of the last turn count */
    MF_QUERY_REPEAT_MAX = 1024,   /* bytes; a longer last turn speaks for itself */
};

typedef struct mf_query_text {
    mf_str encoder; /* the last turn, then the beginning of older ones if it is short */
    mf_str words;   /* for mf_index_query.text, where a word said twice weighs twice */
} mf_query_text;

/* Text that holds no turns, a bare question, passes unchanged as both, whatever else is
 * in it.  Otherwise the texts live in `arena`, or point into `text`.  MF_E_NOMEM. */
MF_CHECKED mf_rc mf_query_text_clean(mf_arena *arena, mf_str text, mf_query_text *out,
                                     mf_err *err);

#endif
