/* handlers.h - what answers each route: one function per name in routes.def.
 *
 * A handler reads call->request, ->params and ->body, calls service/, puts the reply's
 * data together and ends with mf_call_ok, or returns the error to be shown.  Handlers
 * of LATER routes that return MF_OK have seen to it that mf_call_end is called once,
 * and do not touch the call any more. */
#ifndef MF_HTTP_HANDLERS_H
#define MF_HTTP_HANDLERS_H

#include "http/call.h"

#define MF_HANDLER(name) MF_CHECKED mf_rc mf_handle_##name(mf_call *call, mf_err *err)

MF_HANDLER(health); /* admin.c */
MF_HANDLER(flush);
MF_HANDLER(reload);
MF_HANDLER(openapi);
MF_HANDLER(docs);
MF_HANDLER(metrics);   /* metrics.c */
MF_HANDLER(status);    /* status.c */
MF_HANDLER(jobs_list); /* jobs_admin.c */
MF_HANDLER(job_retry);
MF_HANDLER(job_drop);
MF_HANDLER(memory_stats); /* memory_admin.c */
MF_HANDLER(memory_cleanup);
MF_HANDLER(memory_reset);
MF_HANDLER(import);     /* import.c */
MF_HANDLER(named_list); /* named.c */
MF_HANDLER(named_create);
MF_HANDLER(named_get);
MF_HANDLER(named_update);
MF_HANDLER(named_delete);
MF_HANDLER(sessions_list); /* sessions.c */
MF_HANDLER(session_create);
MF_HANDLER(session_get);
MF_HANDLER(session_update);
MF_HANDLER(session_delete);
MF_HANDLER(messages_list); /* messages.c */
MF_HANDLER(messages_add);
MF_HANDLER(messages_read);
MF_HANDLER(messages_update);
MF_HANDLER(messages_delete);
MF_HANDLER(query);          /* query.c */
MF_HANDLER(session_chunks); /* chunks.c */
MF_HANDLER(round_chunks);
MF_HANDLER(chunks_stats);
MF_HANDLER(knowledge_list); /* knowledge.c */
MF_HANDLER(knowledge_add);
MF_HANDLER(knowledge_read);
MF_HANDLER(knowledge_update);
MF_HANDLER(knowledge_delete);
MF_HANDLER(api_keys_list); /* api_keys.c */
MF_HANDLER(api_key_create);
MF_HANDLER(api_key_delete);

MF_HANDLER(settings_list); /* settings.c */
MF_HANDLER(settings_put);
MF_HANDLER(settings_delete);
MF_HANDLER(setting_get);
MF_HANDLER(setting_put);
MF_HANDLER(setting_delete);
MF_HANDLER(models_info); /* models_admin.c */
MF_HANDLER(models_preload);
MF_HANDLER(models_clear);

#undef MF_HANDLER

#endif
