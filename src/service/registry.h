/* registry.h - the table of active users, bounded.
 *
 * It holds one reference to each.  When there are more than `user.active_max`, the
 * least recently used that nobody else refers to leaves; a user with a request, a write
 * or background work has such a reference and stays.  Safe from any thread. */
#ifndef MF_SERVICE_REGISTRY_H
#define MF_SERVICE_REGISTRY_H

#include "service/user.h"

typedef struct mf_registry mf_registry;

MF_CHECKED mf_rc mf_registry_open(const mf_service_parts *parts, mf_user_totals *totals,
                                  mf_registry **out, mf_err *err);
void mf_registry_close(mf_registry *registry);

/* A reference to the active user, or NULL when it is not active. */
mf_user *mf_registry_find(mf_registry *registry, mf_uuid id);
/* A reference to the user, made active if it is not.  `drops` is what
 * mf_registry_drops() was before the caller made sure that the user exists: when a user
 * was deleted since, this refuses with MF_E_BUSY, and the caller looks again. */
MF_CHECKED mf_rc mf_registry_enter(mf_registry *registry, mf_uuid id, uint64_t drops,
                                   mf_user **out, mf_err *err);
uint64_t mf_registry_drops(mf_registry *registry);
/* The user was deleted: it leaves, and whoever still holds it finds it gone. */
void mf_registry_drop(mf_registry *registry, mf_uuid id);

size_t mf_registry_count(mf_registry *registry);
bool mf_registry_is_over(mf_registry *registry); /* more users than user.active_max */
/* Lets unused users leave until the bound is kept.  Not under any lock. */
void mf_registry_trim(mf_registry *registry);
/* Calls `each` for every active user, under the registry's lock: it must be quick. */
void mf_registry_each(mf_registry *registry, void (*each)(void *ctx, mf_user *user),
                      void *ctx);

#endif
