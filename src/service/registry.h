/* registry.h - the table of active users, bounded by count, by bytes and by idleness.
 *
 * It holds one reference to each.  A user with a request, a write or background work
 * has another one and stays; all others may leave, and nothing is lost with them,
 * because everything in them can be read back from the store.  They leave when there
 * are more than `user.active_max`, when all together hold more than
 * `user.active_bytes_max` (the last one stays: without it every request would load it
 * anew), when nobody asked for them for `user.idle_timeout_s`, when mf_registry_shrink
 * is called, and when they are deleted.  Who leaves first is the least recently used of
 * the LOOKS_MAX that come next in turn (all while there are no more than that), to a
 * tick of the kernel's clock.
 *
 * The table is in 64 parts, each with its own lock, held for one look-up; there is no
 * order to maintain and no lock that all share.  Safe from any thread. */
#ifndef MF_SERVICE_REGISTRY_H
#define MF_SERVICE_REGISTRY_H

#include "service/user.h"

typedef struct mf_registry mf_registry;

MF_CHECKED mf_rc mf_registry_open(const mf_service_parts *parts, mf_user_totals *totals,
                                  mf_registry **out, mf_err *err);
void mf_registry_close(mf_registry *registry);

/* A reference to the active user, or NULL when it is not active. */
mf_user *mf_registry_find(mf_registry *registry, mf_uuid id);

/* Makes sure that a user exists, without any lock held; MF_OK or what the caller of
 * mf_registry_get is told.  *own, NULL before, receives its own settings, if it has
 * some. */
typedef mf_rc (*mf_registry_check)(void *ctx, mf_uuid id, mf_user_overrides **own,
                                   mf_err *err);

/* A reference to the user, made active if it is not.  Threads that ask for the same
 * cold user at once share one `check` and one user: the others wait for the first and
 * get its outcome, failure included.  A user deleted meanwhile is checked again.
 * MF_E_TIMEOUT when another thread's check takes longer than `deadline_ns`. */
MF_CHECKED mf_rc mf_registry_get(mf_registry *registry, mf_uuid id,
                                 mf_registry_check check, void *ctx,
                                 int64_t deadline_ns, mf_user **out, mf_err *err);
/* The user was deleted: it leaves, and whoever still holds it finds it gone. */
void mf_registry_drop(mf_registry *registry, mf_uuid id);

size_t mf_registry_count(mf_registry *registry);
bool mf_registry_is_over(mf_registry *registry); /* over a bound: somebody must leave */

/* The three below free users and take time: not under any lock.
 *
 * Lets unused users leave until the bounds are kept, and a few times a minute those
 * that are idle. */
void mf_registry_trim(mf_registry *registry);
/* Lets every unused user leave that was last asked for at `before_ns` (monotonic) or
 * earlier; how many. */
size_t mf_registry_sweep(mf_registry *registry, int64_t before_ns);
/* Memory is short: lets the least recently used, unused users leave until
 * `bytes_wanted` bytes are free or nobody unused is left.  Returns the bytes freed. */
size_t mf_registry_shrink(mf_registry *registry, size_t bytes_wanted);

/* Calls `each` for every active user, under one part's lock: it must be quick. */
void mf_registry_each(mf_registry *registry, void (*each)(void *ctx, mf_user *user),
                      void *ctx);

void mf_registry_get_stats(mf_registry *registry, mf_registry_stats *out);

#endif
