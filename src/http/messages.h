/* messages.h - reading messages out of request bodies. */
#ifndef MF_HTTP_MESSAGES_H
#define MF_HTTP_MESSAGES_H

#include "http/call.h"

/* Checks one message object: role, content, metadata.  `field` is its dotted path, used
 * in refusals; "" for the body itself.  Views point into the document or the arena. */
MF_CHECKED mf_rc mf_message_read(mf_call *call, yyjson_val *object, const char *field,
                                 mf_new_message *out, mf_err *err);

#endif
