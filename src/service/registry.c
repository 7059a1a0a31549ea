/* registry.c - active users by id, in order of use.
 *
 * References are taken only here, under registry_mu, or from somebody who has one.  So
 * a user whose count is 1 under registry_mu is held by the registry alone, and can
 * leave without anybody noticing: what it knows is in the store.
 *
 * A user that is asked for while it was just deleted must not come back.  Who wants to
 * enter one has read the store before; `drops` counts deletions, and an entry prepared
 * before a deletion is refused after it. */
#include "service/registry.h"

#include "base/alloc.h"
#include "base/map.h"
#include "base/mutex.h"
#include "service/user_impl.h"

enum {
    USERS_MAX = 20000000, /* twice the most user.active_max can be */
    TRIM_LOOKS_MAX = 32   /* candidates looked at in one go */
};

struct mf_registry {
    const mf_service_parts *parts;
    mf_user_totals *totals;
    mf_mutex registry_mu; /* guards all below */
    mf_map *users;
    mf_user *hot, *cold; /* ends of the list in order of use */
    uint64_t drops;
    atomic_size_t count; /* of users; also read without the lock */
};

mf_rc mf_registry_open(const mf_service_parts *parts, mf_user_totals *totals,
                       mf_registry **out, mf_err *err) {
    mf_registry *registry = mf_alloc_zero(1, sizeof(*registry));
    if (registry == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for the table of users");
    }
    mf_rc rc = mf_map_new(USERS_MAX, &registry->users, err);
    if (rc != MF_OK) {
        mf_free(registry);
        return rc;
    }
    registry->parts = parts;
    registry->totals = totals;
    atomic_init(&registry->count, 0);
    mf_mutex_init(&registry->registry_mu, MF_RANK_REGISTRY);
    *out = registry;
    return MF_OK;
}

static void unlink_locked(mf_registry *registry, mf_user *user)
    MF_REQUIRES(registry->registry_mu) {
    *(user->lru.prev != NULL ? &user->lru.prev->lru.next : &registry->hot) =
        user->lru.next;
    *(user->lru.next != NULL ? &user->lru.next->lru.prev : &registry->cold) =
        user->lru.prev;
    user->lru.prev = NULL;
    user->lru.next = NULL;
}

static void link_hot_locked(mf_registry *registry, mf_user *user)
    MF_REQUIRES(registry->registry_mu) {
    user->lru.prev = NULL;
    user->lru.next = registry->hot;
    *(registry->hot != NULL ? &registry->hot->lru.prev : &registry->cold) = user;
    registry->hot = user;
}

static mf_user *find_locked(mf_registry *registry, mf_uuid id)
    MF_REQUIRES(registry->registry_mu) {
    mf_user *user = mf_map_get(registry->users, mf_uuid_key(&id));
    if (user != NULL) {
        if (registry->hot != user) {
            unlink_locked(registry, user);
            link_hot_locked(registry, user);
        }
        (void)mf_user_ref(user);
    }
    return user;
}

void mf_registry_close(mf_registry *registry) {
    if (registry == NULL) {
        return;
    }
    while (registry->hot != NULL) {
        mf_user *user = registry->hot;
        registry->hot = user->lru.next;
        mf_user_unref(user);
    }
    mf_map_free(registry->users);
    mf_mutex_done(&registry->registry_mu);
    mf_free(registry);
}

mf_user *mf_registry_find(mf_registry *registry, mf_uuid id) {
    mf_mutex_lock(&registry->registry_mu);
    mf_user *user = find_locked(registry, id);
    mf_mutex_unlock(&registry->registry_mu);
    return user;
}

mf_rc mf_registry_enter(mf_registry *registry, mf_uuid id, uint64_t drops,
                        mf_user **out, mf_err *err) {
    mf_user *made;
    MF_TRY(mf_user_new(registry->parts, registry->totals, id, &made, err));
    mf_rc rc = MF_OK;
    mf_mutex_lock(&registry->registry_mu);
    mf_user *user = find_locked(registry, id);
    if (user == NULL) {
        rc = registry->drops != drops
                 ? MF_E_BUSY
                 : mf_map_put(registry->users, mf_uuid_key(&id), made, NULL);
        if (rc == MF_OK) {
            link_hot_locked(registry, made);
            atomic_fetch_add(&registry->count, 1);
            user = mf_user_ref(made);
            made = NULL; /* the registry's reference */
        }
    }
    mf_mutex_unlock(&registry->registry_mu);
    mf_user_unref(made);
    if (rc != MF_OK) {
        return MF_FAIL(err, rc, "the user cannot be made active just now");
    }
    *out = user;
    return MF_OK;
}

uint64_t mf_registry_drops(mf_registry *registry) {
    mf_mutex_lock(&registry->registry_mu);
    uint64_t drops = registry->drops;
    mf_mutex_unlock(&registry->registry_mu);
    return drops;
}

void mf_registry_drop(mf_registry *registry, mf_uuid id) {
    mf_mutex_lock(&registry->registry_mu);
    registry->drops++;
    mf_user *user = mf_map_remove(registry->users, mf_uuid_key(&id));
    if (user != NULL) {
        unlink_locked(registry, user);
        atomic_fetch_sub(&registry->count, 1);
        mf_user_set_gone(user);
    }
    mf_mutex_unlock(&registry->registry_mu);
    mf_user_unref(user);
}

size_t mf_registry_count(mf_registry *registry) {
    return atomic_load(&registry->count);
}

bool mf_registry_is_over(mf_registry *registry) {
    const mf_config *config = mf_settings_get(registry->parts->settings);
    return atomic_load(&registry->count) > (size_t)config->user_active_max;
}

/* Takes the coldest unused user out; NULL when none of those looked at is unused.  One
 * in use is moved to the hot end: it is not cold. */
static mf_user *take_unused_locked(mf_registry *registry)
    MF_REQUIRES(registry->registry_mu) {
    for (int i = 0; i < TRIM_LOOKS_MAX && registry->cold != NULL; i++) {
        mf_user *user = registry->cold;
        unlink_locked(registry, user);
        if (atomic_load(&user->refs) == 1) {
            (void)mf_map_remove(registry->users, mf_uuid_key(&user->id));
            atomic_fetch_sub(&registry->count, 1);
            return user;
        }
        link_hot_locked(registry, user);
    }
    return NULL;
}

void mf_registry_trim(mf_registry *registry) {
    while (mf_registry_is_over(registry)) {
        mf_mutex_lock(&registry->registry_mu);
        mf_user *user = take_unused_locked(registry);
        mf_mutex_unlock(&registry->registry_mu);
        if (user == NULL) {
            return;
        }
        mf_user_unref(user);
    }
}

void mf_registry_each(mf_registry *registry, void (*each)(void *ctx, mf_user *user),
                      void *ctx) {
    mf_mutex_lock(&registry->registry_mu);
    for (mf_user *user = registry->hot; user != NULL; user = user->lru.next) {
        each(ctx, user);
    }
    mf_mutex_unlock(&registry->registry_mu);
}
