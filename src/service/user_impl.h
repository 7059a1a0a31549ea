/* user_impl.h - what user.c, user_load.c, user_embed.c, the registry and the worker
 * pool know of a user. */
#ifndef MF_SERVICE_USER_IMPL_H
#define MF_SERVICE_USER_IMPL_H

#include "base/mutex.h"
#include "service/user.h"

typedef enum mf_user_state {
    MF_USER_COLD,
    MF_USER_LOADING,
    MF_USER_LOADED
} mf_user_state;

/* Does the store's backlog name the user? */
enum { MF_NOTED_UNKNOWN, MF_NOTED_NO, MF_NOTED_YES };

enum { MF_SLICE_MAX = 64 };

/* Documents being embedded.  A text replaced meanwhile turns its entry stale, so that
 * vectors of the old text never reach the document. */
typedef struct mf_slice {
    mf_index_key keys[MF_SLICE_MAX];
    bool stale[MF_SLICE_MAX];
    size_t count;
    struct mf_slice *next;
} mf_slice;

typedef enum mf_work_state {
    MF_WORK_IDLE,   /* nothing owed; the pool has no reference */
    MF_WORK_READY,  /* waits for a worker */
    MF_WORK_LATER,  /* waits until due_ns */
    MF_WORK_RUNNING /* a worker has it */
} mf_work_state;

struct mf_user {
    /* constant after creation */
    mf_uuid id;
    const mf_service_parts *parts;
    mf_user_totals *totals;

    atomic_size_t refs;
    atomic_bool gone;

    struct { /* guarded by the lock of the user's part of the registry */
        mf_user *prev, *next;
    } ring;
    int64_t used_ns; /* guarded by the same: when somebody last asked for it */

    struct { /* guarded by the pool's pool_mu */
        mf_user *prev, *next;
        mf_work_state state;
        int64_t due_ns;
        bool retry;
        bool again;    /* woken while RUNNING */
        size_t wanted; /* callers of flush that wait for it */
    } work;

    mf_rwlock index_lock;
    mf_index *index; /* guarded by index_lock; NULL unless LOADED */

    mf_mutex state_mu; /* guards the block below; may be taken inside index_lock */
    mf_cond state_changed;
    mf_user_state state;
    bool draining; /* one thread applies changes at a time */
    mf_change *first_change, *last_change;
    size_t change_count, change_bytes;
    mf_slice *slices; /* in flight; each lives on its thread's stack */
    mf_write_buffer *buffer;
    mf_user_overrides *own;   /* NULL: none; has_own says so without the lock */
    mf_query_buffer *answers; /* made on first use, never replaced */
    uint64_t applied;         /* number of the newest write whose outcome is known */
    int64_t written_ns;       /* when a round last came in */
    bool committing;          /* vectors are with the writer */

    unsigned failures; /* in a row; of the worker that has the user */

    uint64_t begun;   /* number of the newest write begun; writer thread only */
    mf_uuid written;  /* session of the newest round; writer thread only */
    atomic_int noted; /* MF_NOTED_...; changed by the writer thread once writes run */

    atomic_bool has_own;
    atomic_ullong version;
    atomic_int has_sessions;
    atomic_size_t documents, vectors, bytes, pending; /* of the index, for the status */
    atomic_size_t accounted; /* bytes of the whole user, as in totals->bytes */
};

void mf_user_release_changes(mf_change *change); /* the whole list; NULL is fine */
/* Puts the index's figures where the status reads them.  Under index_lock. */
void mf_user_publish(mf_user *user);
/* Applies the changes that wait; after a failure the index is thrown away, to be loaded
 * again by whoever needs it next. */
MF_CHECKED mf_rc mf_user_drain(mf_user *user, mf_err *err);
/* Embeds up to `keys_max` pending documents.  *more: some are left.  With `bytes_max`
 * the slice is left alone (and MF_OK returned) when its texts are longer in all. */
MF_CHECKED mf_rc mf_user_embed(mf_user *user, size_t keys_max, size_t bytes_max,
                               mf_embed_class cls, int64_t deadline_ns,
                               const atomic_bool *stop, bool *more, mf_err *err);

mf_flush_policy mf_user_policy(mf_user *user);

#endif
