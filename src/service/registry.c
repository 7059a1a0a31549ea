/* registry.c - active users by id, in 64 parts.
 *
 * A part is a map, a ring of its users and a hand on the ring.  References are taken
 * only here, under a part's lock, or from somebody who has one.  So a user whose count
 * is 1 under its part's lock is held by the registry alone, and can leave without
 * anybody noticing: what it knows is in the store.
 *
 * Order of use.  A moving list under one lock would make every look-up a write that all
 * threads share.  Here a look-up only stamps the user with the time, to a tick of the
 * kernel's clock, because an exact time costs more than the whole look-up; and whoever
 * needs room looks at the next LOOKS_MAX users under the hands, from part to part, and
 * lets the one with the oldest stamp go: a second chance for everybody who was used
 * since the hand last came by, and the least recently used among few users.
 *
 * Making a user.  The first thread to ask for a cold one leaves a `making` on the part,
 * checks in the store that the user exists, and enters it; threads that come meanwhile
 * wait on the part's condition and take over its outcome.  A user that is asked for
 * while it is deleted must not come back: a deletion marks the `making`, and its maker
 * checks again.
 *
 * Invariants, while a part's lock is free:
 *   1. A user is in the map and on the ring of its part, or in neither.
 *   2. There is at most one `making` for an id, and then the id is not in the map. */
#include "service/registry.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/map.h"
#include "base/mutex.h"
#include "service/user_impl.h"

enum {
    PARTS = 64,
    USERS_MAX = 20000000, /* in one part; twice the most user.active_max can be */
    LOOKS_MAX = 32,       /* users looked at to find one that can leave */
    LOOKS_PER_PART = 8,
    MAKE_TRIES = 8,
    SWEEPS_PER_TIMEOUT = 4, /* how exactly the idle time-out is kept */
};

/* On the stack of the thread that makes the user. */
typedef struct making {
    struct making *next;
    mf_uuid id;
    size_t waiters;
    bool dropped; /* the user was deleted since the check began */
    bool done;
    mf_user *user; /* when it is done: the outcome */
    mf_rc rc;
    mf_err err;
} making;

typedef struct part {
    mf_mutex part_mu; /* guards all below */
    mf_cond part_cond;
    mf_map *users;
    mf_user *hand; /* on the ring; NULL when the part is empty */
    making *makings;
    uint64_t hits;
    atomic_size_t count; /* of users; also read without the lock */
} part;

struct mf_registry {
    const mf_service_parts *parts;
    mf_user_totals *totals;
    atomic_size_t count;
    atomic_size_t turn; /* the part that looks for leavers next */
    atomic_llong sweep_due_ns;
    atomic_ullong created, coalesced, failed, bytes_freed;
    atomic_ullong left[MF_LEFT_COUNT_OF];
    part part[PARTS];
};

const char *mf_user_leaving_name(mf_user_leaving cause) {
    static const char *const names[] = {"count", "bytes", "idle", "pressure",
                                        "deleted"};
    return cause < MF_LEFT_COUNT_OF ? names[cause] : "unknown";
}

mf_rc mf_registry_open(const mf_service_parts *parts, mf_user_totals *totals,
                       mf_registry **out, mf_err *err) {
    mf_registry *registry = mf_alloc_zero(1, sizeof(*registry));
    if (registry == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for the table of users");
    }
    registry->parts = parts;
    registry->totals = totals;
    mf_rc rc = MF_OK;
    for (size_t i = 0; i < PARTS; i++) {
        part *p = &registry->part[i];
        mf_mutex_init(&p->part_mu, MF_RANK_REGISTRY);
        mf_cond_init(&p->part_cond);
        if (rc == MF_OK) {
            rc = mf_map_new(USERS_MAX, &p->users, err);
        }
    }
    if (rc != MF_OK) {
        mf_registry_close(registry);
        return rc;
    }
    *out = registry;
    return MF_OK;
}

/* Later bytes of an id are random (base/uuid.h). */
static part *part_of(mf_registry *registry, mf_uuid id) {
    return &registry->part[id.b[MF_UUID_BYTES - 1] % PARTS];
}

/* --- the ring --- */

static void ring_add_locked(part *p, mf_user *user) MF_REQUIRES(p->part_mu) {
    if (p->hand == NULL) {
        user->ring.prev = user;
        user->ring.next = user;
        p->hand = user;
    } else { /* behind the hand: it comes by last */
        user->ring.prev = p->hand->ring.prev;
        user->ring.next = p->hand;
        user->ring.prev->ring.next = user;
        user->ring.next->ring.prev = user;
    }
}

static void ring_cut_locked(part *p, mf_user *user) MF_REQUIRES(p->part_mu) {
    if (user->ring.next == user) {
        p->hand = NULL;
    } else {
        user->ring.prev->ring.next = user->ring.next;
        user->ring.next->ring.prev = user->ring.prev;
        p->hand = p->hand == user ? user->ring.next : p->hand;
    }
    user->ring.prev = NULL;
    user->ring.next = NULL;
}

static void enter_count(mf_registry *registry, part *p) {
    atomic_fetch_add(&p->count, 1);
    atomic_fetch_add(&registry->count, 1);
    atomic_fetch_add(&registry->created, 1);
}

/* Out of the map, the ring and the counts.  The caller gets the registry's reference.
 */
static void leave_locked(mf_registry *registry, part *p, mf_user *user,
                         mf_user_leaving cause) MF_REQUIRES(p->part_mu) {
    (void)mf_map_remove(p->users, mf_uuid_key(&user->id));
    ring_cut_locked(p, user);
    atomic_fetch_sub(&p->count, 1);
    atomic_fetch_sub(&registry->count, 1);
    atomic_fetch_add(&registry->left[cause], 1);
    atomic_fetch_add(&registry->bytes_freed, mf_user_bytes(user));
}

void mf_registry_close(mf_registry *registry) {
    if (registry == NULL) {
        return;
    }
    for (size_t i = 0; i < PARTS; i++) {
        part *p = &registry->part[i];
        while (p->hand != NULL) {
            mf_user *user = p->hand;
            ring_cut_locked(p, user);
            mf_user_unref(user);
        }
        mf_map_free(p->users);
        mf_cond_done(&p->part_cond);
        mf_mutex_done(&p->part_mu);
    }
    mf_free(registry);
}

/* --- finding and making --- */

static mf_user *find_locked(part *p, mf_uuid id, int64_t now_ns)
    MF_REQUIRES(p->part_mu) {
    mf_user *user = mf_map_get(p->users, mf_uuid_key(&id));
    if (user != NULL) {
        user->used_ns = now_ns;
        p->hits++;
        (void)mf_user_ref(user);
    }
    return user;
}

mf_user *mf_registry_find(mf_registry *registry, mf_uuid id) {
    int64_t now_ns = mf_now_coarse_ns();
    part *p = part_of(registry, id);
    mf_mutex_lock(&p->part_mu);
    mf_user *user = find_locked(p, id, now_ns);
    mf_mutex_unlock(&p->part_mu);
    return user;
}

static making *find_making_locked(part *p, mf_uuid id) MF_REQUIRES(p->part_mu) {
    making *m = p->makings;
    while (m != NULL && !mf_uuid_eq(m->id, id)) {
        m = m->next;
    }
    return m;
}

/* Another thread makes the user: its outcome is ours.  Gives the lock back. */
static mf_rc join_making(mf_registry *registry, part *p, making *m, int64_t deadline_ns,
                         mf_user **out, mf_err *err) {
    atomic_fetch_add(&registry->coalesced, 1);
    m->waiters++;
    bool in_time = true;
    while (!m->done && in_time) {
        in_time = mf_cond_wait(&p->part_cond, &p->part_mu, deadline_ns);
    }
    mf_rc rc = m->done ? m->rc : MF_E_TIMEOUT;
    if (rc == MF_OK) {
        *out = mf_user_ref(m->user);
    } else if (m->done && err != NULL) {
        *err = m->err;
    }
    bool was_done = m->done;
    m->waiters--;
    mf_cond_broadcast(&p->part_cond);
    mf_mutex_unlock(&p->part_mu);
    return was_done ? rc
                    : MF_FAIL(err, rc,
                              "the user is still being looked up for another "
                              "request");
}

/* Puts the user into the table unless it was deleted since the check.  It is not in
 * there: the `making` keeps others out. */
static mf_rc enter(mf_registry *registry, part *p, making *m, mf_user *made) {
    mf_rc rc = MF_OK;
    mf_mutex_lock(&p->part_mu);
    if (m->dropped) {
        m->dropped = false;
        rc = MF_E_BUSY;
    } else {
        rc = mf_map_put(p->users, mf_uuid_key(&m->id), made, NULL);
    }
    if (rc == MF_OK) {
        made->used_ns = mf_now_coarse_ns();
        ring_add_locked(p, made);
        enter_count(registry, p);
        m->user = mf_user_ref(made); /* the maker's; `made` is the registry's */
    }
    mf_mutex_unlock(&p->part_mu);
    return rc;
}

static mf_rc make(mf_registry *registry, part *p, making *m, mf_registry_check check,
                  void *ctx) {
    mf_rc rc = MF_E_BUSY;
    for (int i = 0; i < MAKE_TRIES && rc == MF_E_BUSY; i++) {
        mf_user_overrides *own = NULL;
        mf_user *made;
        MF_TRY(check(ctx, m->id, &own, &m->err));
        MF_TRY(
            mf_user_new(registry->parts, registry->totals, m->id, own, &made, &m->err));
        rc = enter(registry, p, m, made);
        if (rc != MF_OK) {
            mf_user_unref(made);
        }
    }
    return rc == MF_OK
               ? MF_OK
               : MF_FAIL(&m->err, rc, "the user cannot be made active just now");
}

/* The user is there for all to find, or it failed.  Waits until those who waited have
 * taken the outcome off this thread's stack. */
static void finish_making(part *p, making *m, mf_rc rc) {
    mf_mutex_lock(&p->part_mu);
    m->rc = rc;
    m->done = true;
    mf_cond_broadcast(&p->part_cond);
    making **link = &p->makings;
    while (*link != m) {
        link = &(*link)->next;
    }
    *link = m->next;
    while (m->waiters > 0) {
        (void)mf_cond_wait(&p->part_cond, &p->part_mu, MF_NEVER);
    }
    mf_mutex_unlock(&p->part_mu);
}

mf_rc mf_registry_get(mf_registry *registry, mf_uuid id, mf_registry_check check,
                      void *ctx, int64_t deadline_ns, mf_user **out, mf_err *err) {
    int64_t now_ns = mf_now_coarse_ns();
    part *p = part_of(registry, id);
    mf_mutex_lock(&p->part_mu);
    mf_user *user = find_locked(p, id, now_ns);
    if (user != NULL) {
        mf_mutex_unlock(&p->part_mu);
        *out = user;
        return MF_OK;
    }
    making *other = find_making_locked(p, id);
    if (other != NULL) {
        return join_making(registry, p, other, deadline_ns, out, err);
    }
    making mine = {.next = p->makings, .id = id};
    p->makings = &mine;
    mf_mutex_unlock(&p->part_mu);
    mf_rc rc = make(registry, p, &mine, check, ctx);
    finish_making(p, &mine, rc);
    if (rc != MF_OK) {
        atomic_fetch_add(&registry->failed, 1);
        if (err != NULL) {
            *err = mine.err;
        }
        return rc;
    }
    *out = mine.user;
    return MF_OK;
}

void mf_registry_drop(mf_registry *registry, mf_uuid id) {
    part *p = part_of(registry, id);
    mf_mutex_lock(&p->part_mu);
    making *m = find_making_locked(p, id);
    if (m != NULL) {
        m->dropped = true;
    }
    mf_user *user = mf_map_get(p->users, mf_uuid_key(&id));
    if (user != NULL) {
        leave_locked(registry, p, user, MF_LEFT_DELETED);
        mf_user_set_gone(user);
    }
    mf_mutex_unlock(&p->part_mu);
    mf_user_unref(user);
}

/* --- leaving --- */

size_t mf_registry_count(mf_registry *registry) {
    return atomic_load(&registry->count);
}

static bool over_count(mf_registry *registry, const mf_config *config) {
    return atomic_load(&registry->count) > (size_t)config->user_active_max;
}

static bool over_bytes(mf_registry *registry, const mf_config *config) {
    return atomic_load(&registry->totals->bytes) >
               (size_t)config->user_active_bytes_max &&
           atomic_load(&registry->count) > 1;
}

bool mf_registry_is_over(mf_registry *registry) {
    const mf_config *config = mf_settings_get(registry->parts->settings);
    return over_count(registry, config) || over_bytes(registry, config);
}

typedef struct candidate {
    bool found;
    mf_uuid id;
    int64_t used_ns;
} candidate;

/* Looks at the next few users under the part's hand; how many. */
static size_t look_at_part(part *p, candidate *best) {
    size_t looks = 0;
    mf_mutex_lock(&p->part_mu);
    size_t count = mf_map_count(p->users);
    for (; looks < LOOKS_PER_PART && looks < count; looks++) {
        mf_user *user = p->hand;
        p->hand = user->ring.next;
        if (atomic_load(&user->refs) == 1 &&
            (!best->found || user->used_ns < best->used_ns)) {
            *best =
                (candidate){.found = true, .id = user->id, .used_ns = user->used_ns};
        }
    }
    mf_mutex_unlock(&p->part_mu);
    return looks;
}

/* Takes the candidate out if it is still there, unused and not used since. */
static mf_user *take_candidate(mf_registry *registry, const candidate *c,
                               mf_user_leaving cause) {
    part *p = part_of(registry, c->id);
    mf_mutex_lock(&p->part_mu);
    mf_user *user = mf_map_get(p->users, mf_uuid_key(&c->id));
    if (user != NULL && atomic_load(&user->refs) == 1 && user->used_ns == c->used_ns) {
        leave_locked(registry, p, user, cause);
    } else {
        user = NULL;
    }
    mf_mutex_unlock(&p->part_mu);
    return user;
}

/* Lets one unused user go; its bytes, 0 when none of those looked at is unused. */
static size_t evict_one(mf_registry *registry, mf_user_leaving cause) {
    candidate best = {0};
    size_t looks = 0;
    size_t first = atomic_fetch_add(&registry->turn, 1);
    for (size_t i = 0; i < PARTS && (looks < LOOKS_MAX || !best.found); i++) {
        part *p = &registry->part[(first + i) % PARTS];
        if (atomic_load(&p->count) > 0) {
            looks += look_at_part(p, &best);
        }
    }
    mf_user *user = best.found ? take_candidate(registry, &best, cause) : NULL;
    if (user == NULL) {
        return 0;
    }
    size_t bytes = mf_user_bytes(user);
    mf_user_unref(user);
    return bytes;
}

/* One thread at a time finds that it is time to look for idle users. */
static void sweep_when_due(mf_registry *registry, const mf_config *config) {
    if (config->user_idle_timeout_s == 0) {
        return;
    }
    int64_t now_ns = mf_now_coarse_ns();
    long long due_ns = atomic_load(&registry->sweep_due_ns);
    int64_t timeout_ns = config->user_idle_timeout_s * MF_NS_PER_S;
    if (now_ns >= due_ns &&
        atomic_compare_exchange_strong(&registry->sweep_due_ns, &due_ns,
                                       now_ns + timeout_ns / SWEEPS_PER_TIMEOUT)) {
        (void)mf_registry_sweep(registry, now_ns - timeout_ns);
    }
}

void mf_registry_trim(mf_registry *registry) {
    const mf_config *config = mf_settings_get(registry->parts->settings);
    size_t freed = 1;
    while (freed > 0 && over_count(registry, config)) {
        freed = evict_one(registry, MF_LEFT_COUNT);
    }
    while (freed > 0 && over_bytes(registry, config)) {
        freed = evict_one(registry, MF_LEFT_BYTES);
    }
    sweep_when_due(registry, config);
}

/* The next idle user of the part after `*steps` of the ring, or NULL at its end. */
static mf_user *take_idle_locked(mf_registry *registry, part *p, int64_t before_ns,
                                 size_t *steps) MF_REQUIRES(p->part_mu) {
    while (*steps > 0 && p->hand != NULL) {
        mf_user *user = p->hand;
        p->hand = user->ring.next;
        (*steps)--;
        if (atomic_load(&user->refs) == 1 && user->used_ns <= before_ns) {
            leave_locked(registry, p, user, MF_LEFT_IDLE);
            return user;
        }
    }
    return NULL;
}

size_t mf_registry_sweep(mf_registry *registry, int64_t before_ns) {
    size_t swept = 0;
    for (size_t i = 0; i < PARTS; i++) {
        part *p = &registry->part[i];
        size_t steps = atomic_load(&p->count);
        mf_user *user = NULL;
        do {
            mf_mutex_lock(&p->part_mu);
            user = take_idle_locked(registry, p, before_ns, &steps);
            mf_mutex_unlock(&p->part_mu);
            swept += user != NULL ? 1 : 0;
            mf_user_unref(user);
        } while (user != NULL);
    }
    return swept;
}

size_t mf_registry_shrink(mf_registry *registry, size_t bytes_wanted) {
    size_t freed = 0;
    size_t step = 1;
    while (freed < bytes_wanted && step > 0) {
        step = evict_one(registry, MF_LEFT_PRESSURE);
        freed += step;
    }
    return freed;
}

/* --- figures --- */

void mf_registry_each(mf_registry *registry, void (*each)(void *ctx, mf_user *user),
                      void *ctx) {
    for (size_t i = 0; i < PARTS; i++) {
        part *p = &registry->part[i];
        mf_mutex_lock(&p->part_mu);
        mf_user *user = p->hand;
        for (size_t n = mf_map_count(p->users); n > 0; n--) {
            each(ctx, user);
            user = user->ring.next;
        }
        mf_mutex_unlock(&p->part_mu);
    }
}

void mf_registry_get_stats(mf_registry *registry, mf_registry_stats *out) {
    const mf_config *config = mf_settings_get(registry->parts->settings);
    const mf_user_totals *totals = registry->totals;
    *out = (mf_registry_stats){
        .count = atomic_load(&registry->count),
        .count_max = (size_t)config->user_active_max,
        .instances = atomic_load(&totals->instances),
        .instances_peak = atomic_load(&totals->instances_peak),
        .bytes = atomic_load(&totals->bytes),
        .bytes_peak = atomic_load(&totals->bytes_peak),
        .bytes_max = (size_t)config->user_active_bytes_max,
        .idle_timeout_s = config->user_idle_timeout_s,
        .created = atomic_load(&registry->created),
        .coalesced = atomic_load(&registry->coalesced),
        .failed = atomic_load(&registry->failed),
        .bytes_freed = atomic_load(&registry->bytes_freed),
    };
    for (size_t i = 0; i < MF_LEFT_COUNT_OF; i++) {
        out->left[i] = atomic_load(&registry->left[i]);
    }
    for (size_t i = 0; i < PARTS; i++) {
        part *p = &registry->part[i];
        mf_mutex_lock(&p->part_mu);
        out->hits += p->hits;
        mf_mutex_unlock(&p->part_mu);
    }
}
