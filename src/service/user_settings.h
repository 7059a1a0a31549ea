/* user_settings.h - the settings in which one user differs from everybody else.
 *
 * Three layers give a value: what a request says, else what the user has of its own,
 * else the settings in force for all.  The middle one is a mf_user_overrides: read from
 * the store when the user becomes active, replaced whole when one of them changes,
 * never changed itself.  It holds the complete settings of the user, so that whoever
 * reads them pays for a pointer. */
#ifndef MF_SERVICE_USER_SETTINGS_H
#define MF_SERVICE_USER_SETTINGS_H

#include "store/store.h"
#include "text/config.h"

typedef struct mf_user_overrides mf_user_overrides; /* counted */

enum { MF_USER_SETTINGS_MAX = 64 }; /* of one user; there are fewer keys */

/* What the store holds of the user, over `base` (which lives as long as the settings).
 * *out is NULL when that is nothing.  A value that the table of settings no longer
 * allows is left out. */
MF_CHECKED mf_rc mf_user_overrides_read(mf_conn *conn, mf_uuid user_id,
                                        const mf_config *base, mf_user_overrides **out,
                                        mf_err *err);
/* The same over another base, after a reload; NULL when memory is short. */
mf_user_overrides *mf_user_overrides_over(const mf_user_overrides *overrides,
                                          const mf_config *base);
mf_user_overrides *mf_user_overrides_ref(mf_user_overrides *overrides);
void mf_user_overrides_unref(mf_user_overrides *overrides); /* NULL is fine */
const mf_config *mf_user_overrides_config(const mf_user_overrides *overrides);
const mf_config *mf_user_overrides_base(const mf_user_overrides *overrides);
size_t mf_user_overrides_bytes(const mf_user_overrides *overrides); /* NULL: 0 */
/* The user's own value of a key; .p NULL: none. */
mf_str mf_user_overrides_find(const mf_user_overrides *overrides, mf_str key);

#endif
