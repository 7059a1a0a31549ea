/* reply.c - see reply.h. */
#include "lib/reply.h"

#include <stdio.h>

#include "base/alloc.h"
#include "memfuse/memfuse.h"

enum { REPLY_MAX = 16 << 20 };

int mf_reply_error(const mf_err *err, mf_rc rc, char *error) {
    if (error != NULL && rc != MF_OK) {
        (void)snprintf(error, MF_ENGINE_ERROR_TEXT, "%s", err->text);
    }
    return (int)rc;
}

mf_rc mf_reply_begin(mf_reply *reply, mf_err *err) {
    MF_TRY(mf_arena_new(REPLY_MAX, &reply->arena, err));
    yyjson_alc alc;
    mf_json_arena_alc(reply->arena, &alc);
    reply->doc = yyjson_mut_doc_new(&alc);
    return reply->doc != NULL ? MF_OK
                              : MF_FAIL(err, MF_E_NOMEM, "out of memory for a reply");
}

mf_rc mf_reply_end(mf_reply *reply, char **json, mf_err *err) {
    mf_str text = mf_json_write(reply->doc, reply->arena);
    char *copy = text.p != NULL ? mf_strndup(text.p, text.len) : NULL;
    if (copy == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "out of memory for the reply");
    }
    *json = copy;
    return MF_OK;
}

void mf_reply_done(mf_reply *reply) {
    mf_arena_free(reply->arena);
    *reply = (mf_reply){.arena = NULL};
}
