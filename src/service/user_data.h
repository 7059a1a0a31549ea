/* user_data.h - the user-data caches: three small caches of what requests ask for again
 * and again, kept right by numbers that writes raise.
 *
 *   user_contexts   users' rows, by id and by name: who a request is about
 *   health_data     counts that walk whole tables, as the status shows them
 *   sync_tracking   users known to owe neither embedding nor a commit, so that flushing
 *                   one again does not load it
 *
 * Every entry carries a stamp taken before what it holds was read.  Whatever changes
 * the answer raises the number the stamp came from before the change is acknowledged,
 * and an entry whose stamp is not the number of now is a miss.  So nobody is told what
 * was true before a write that has been answered; age (the time to live) only bounds
 * how long an unused entry stays.
 *
 * The caches are named in the cache manager and share its budget.  Thread-safe. */
#ifndef MF_SERVICE_USER_DATA_H
#define MF_SERVICE_USER_DATA_H

#include "base/cache_manager.h"
#include "store/store.h"
#include "text/config.h"

typedef struct mf_user_data mf_user_data;

/* `caches` may be NULL.  MF_E_NOMEM. */
MF_CHECKED mf_rc mf_user_data_open(const mf_config *config, mf_cache_manager *caches,
                                   mf_user_data **out, mf_err *err);
void mf_user_data_close(mf_user_data *data); /* NULL is fine */

/* --- user_contexts: `stamp` is mf_user_data_directory() from before the row was read.
 */

uint64_t mf_user_data_directory(const mf_user_data *data);
/* A user's row was changed or deleted; after the commit, before it is acknowledged. */
void mf_user_data_directory_changed(mf_user_data *data);
/* The row in arena memory; false: not known, or memory is short. */
bool mf_user_data_get_user(mf_user_data *data, mf_uuid id, mf_arena *arena,
                           mf_named_row *out);
bool mf_user_data_find_user(mf_user_data *data, mf_str name, mf_arena *arena,
                            mf_named_row *out);
/* Under its id and its name. */
void mf_user_data_put_user(mf_user_data *data, uint64_t stamp, const mf_named_row *row);

/* --- health_data: `stamp` counts the store's commits from before the reading. */

bool mf_user_data_get_counts(mf_user_data *data, uint64_t stamp, mf_store_counts *out);
void mf_user_data_put_counts(mf_user_data *data, uint64_t stamp,
                             const mf_store_counts *counts);

/* --- sync_tracking --- */

/* A write of the user has ended; before it is acknowledged. */
void mf_user_data_written(mf_user_data *data, mf_uuid user_id);
/* The stamp of the user's writes; to be taken before a flush begins. */
uint64_t mf_user_data_writes(const mf_user_data *data, mf_uuid user_id);
/* No write has ended since the user was found to owe nothing. */
bool mf_user_data_is_synced(mf_user_data *data, mf_uuid user_id);
void mf_user_data_set_synced(mf_user_data *data, mf_uuid user_id, uint64_t stamp);

#endif
