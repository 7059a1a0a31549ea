/* reply.h - private to lib/: what every public function gives back, a code with a
 * sentence or a JSON text. */
#ifndef MF_LIB_REPLY_H
#define MF_LIB_REPLY_H

#include "text/json.h"

/* The code a public function returns.  After a failure also copies the sentence to
 * `error`, which has MF_ENGINE_ERROR_TEXT bytes or is NULL. */
int mf_reply_error(const mf_err *err, mf_rc rc, char *error);

/* A JSON document in the making, in memory of its own. */
typedef struct mf_reply {
    mf_arena *arena;
    yyjson_mut_doc *doc;
} mf_reply;

MF_CHECKED mf_rc mf_reply_begin(mf_reply *reply, mf_err *err);
/* Writes the document as text to be freed with mf_engine_free.  MF_E_NOMEM, also when
 * memory ran out while it was built. */
MF_CHECKED mf_rc mf_reply_end(mf_reply *reply, char **json, mf_err *err);
void mf_reply_done(mf_reply *reply); /* fine on one that is empty */

#endif
