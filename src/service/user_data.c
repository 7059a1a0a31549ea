/* user_data.c - three small caches kept right by numbers that writes raise.
 *
 * A value is a counted block of bytes behind its stamp; what is cached is copied in and
 * out of it.  A user's row is written as the struct, then the bytes of its texts.
 *
 * Writes of users are counted in a fixed table that users share by the hash of their
 * ids: two in one place only make each other's entries misses now and then. */
#include "service/user_data.h"

#include <stdatomic.h>
#include <string.h>

#include "base/alloc.h"
#include "base/lru.h"

enum { WRITE_COUNTS = 1024, NAME_KEY_MAX = 256, MS_PER_S = 1000 };

struct mf_user_data {
    mf_lru *user_contexts;
    mf_lru *health_data;
    mf_lru *sync_tracking;
    atomic_ullong directory;
    atomic_ullong writes[WRITE_COUNTS];
};

/* --- blocks ----------------------------------------------------------------------- */

typedef struct block {
    atomic_size_t refs;
    uint64_t stamp;
    size_t len;
    char bytes[];
} block;

static void block_release(void *value) {
    block *b = value;
    if (atomic_fetch_sub(&b->refs, 1) == 1) {
        mf_free(b);
    }
}

static void *block_share(void *value) {
    atomic_fetch_add(&((block *)value)->refs, 1);
    return value;
}

/* NULL when memory is short. */
static block *block_new(uint64_t stamp, size_t len) {
    block *b = mf_alloc(sizeof(block) + len);
    if (b != NULL) {
        atomic_init(&b->refs, 1);
        b->stamp = stamp;
        b->len = len;
    }
    return b;
}

/* A reference to the block under the key if it was made at `stamp`; an older one
 * leaves. */
static block *get(mf_lru *cache, mf_str key, uint64_t stamp) {
    block *b = mf_lru_get(cache, key);
    if (b != NULL && b->stamp != stamp) {
        mf_lru_remove(cache, key);
        block_release(b);
        b = NULL;
    }
    return b;
}

static void put(mf_lru *cache, mf_str key, block *b) {
    mf_lru_put(cache, key, b, sizeof(block) + b->len);
}

/* --- life ------------------------------------------------------------------------- */

static mf_rc open_cache(const char *name, int64_t max_size, int64_t ttl_s,
                        mf_cache_manager *caches, mf_lru **out, mf_err *err) {
    const mf_lru_options options = {.name = name,
                                    .manager = caches,
                                    .count_max = (size_t)max_size,
                                    .bytes_max = SIZE_MAX / 2,
                                    .ttl_ms = ttl_s * MS_PER_S,
                                    .release = block_release,
                                    .share = block_share};
    return mf_lru_open(&options, out, err);
}

static mf_rc open_caches(mf_user_data *data, const mf_config *config,
                         mf_cache_manager *caches, mf_err *err) {
    MF_TRY(open_cache("user_contexts", config->cache_user_contexts_max_size,
                      config->cache_user_contexts_ttl_s, caches, &data->user_contexts,
                      err));
    MF_TRY(open_cache("health_data", config->cache_health_data_max_size,
                      config->cache_health_data_ttl_s, caches, &data->health_data,
                      err));
    return open_cache("sync_tracking", config->cache_sync_tracking_max_size,
                      config->cache_sync_tracking_ttl_s, caches, &data->sync_tracking,
                      err);
}

mf_rc mf_user_data_open(const mf_config *config, mf_cache_manager *caches,
                        mf_user_data **out, mf_err *err) {
    mf_user_data *data = mf_alloc_zero(1, sizeof *data);
    if (data == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for the user-data caches");
    }
    mf_rc rc = open_caches(data, config, caches, err);
    if (rc != MF_OK) {
        mf_user_data_close(data);
        return rc;
    }
    *out = data;
    return MF_OK;
}

void mf_user_data_close(mf_user_data *data) {
    if (data != NULL) {
        mf_lru_close(data->user_contexts);
        mf_lru_close(data->health_data);
        mf_lru_close(data->sync_tracking);
        mf_free(data);
    }
}

/* --- user_contexts ---------------------------------------------------------------- */

/* "i" and the id. */
static mf_str id_key(const mf_uuid *id, char room[1 + MF_UUID_BYTES]) {
    room[0] = 'i';
    memcpy(room + 1, id->b, MF_UUID_BYTES);
    return (mf_str){room, 1 + MF_UUID_BYTES};
}

/* "n" and the name, so that no name looks like an id.  false: too long to be kept. */
static bool name_key(mf_str name, char room[NAME_KEY_MAX], mf_str *key) {
    if (name.len >= NAME_KEY_MAX) {
        return false;
    }
    room[0] = 'n';
    if (name.len > 0) {
        memcpy(room + 1, name.p, name.len);
    }
    *key = (mf_str){room, name.len + 1};
    return true;
}

uint64_t mf_user_data_directory(const mf_user_data *data) {
    return atomic_load(&data->directory);
}

void mf_user_data_directory_changed(mf_user_data *data) {
    atomic_fetch_add(&data->directory, 1);
}

static bool read_row(mf_user_data *data, mf_str key, mf_arena *arena,
                     mf_named_row *out) {
    block *b = get(data->user_contexts, key, mf_user_data_directory(data));
    if (b == NULL) {
        return false;
    }
    mf_named_row row;
    memcpy(&row, b->bytes, sizeof row);
    const char *texts = b->bytes + sizeof row;
    row.name = mf_arena_str(arena, (mf_str){texts, row.name.len});
    bool described = row.description.p != NULL;
    if (described) {
        row.description =
            mf_arena_str(arena, (mf_str){texts + row.name.len, row.description.len});
    }
    block_release(b);
    if (row.name.p == NULL || (described && row.description.p == NULL)) {
        return false;
    }
    *out = row;
    return true;
}

bool mf_user_data_get_user(mf_user_data *data, mf_uuid id, mf_arena *arena,
                           mf_named_row *out) {
    char room[1 + MF_UUID_BYTES];
    return read_row(data, id_key(&id, room), arena, out);
}

bool mf_user_data_find_user(mf_user_data *data, mf_str name, mf_arena *arena,
                            mf_named_row *out) {
    char room[NAME_KEY_MAX];
    mf_str key;
    return name_key(name, room, &key) && read_row(data, key, arena, out);
}

static void put_row(mf_user_data *data, mf_str key, uint64_t stamp,
                    const mf_named_row *row) {
    block *b = block_new(stamp, sizeof *row + row->name.len + row->description.len);
    if (b == NULL) {
        return; /* it is only a cache */
    }
    memcpy(b->bytes, row, sizeof *row);
    char *texts = b->bytes + sizeof *row;
    if (row->name.len > 0) {
        memcpy(texts, row->name.p, row->name.len);
    }
    if (row->description.len > 0) {
        memcpy(texts + row->name.len, row->description.p, row->description.len);
    }
    put(data->user_contexts, key, b);
}

void mf_user_data_put_user(mf_user_data *data, uint64_t stamp,
                           const mf_named_row *row) {
    char room[NAME_KEY_MAX];
    mf_str key;
    char id_room[1 + MF_UUID_BYTES];
    put_row(data, id_key(&row->id, id_room), stamp, row);
    if (name_key(row->name, room, &key)) {
        put_row(data, key, stamp, row);
    }
}

/* --- health_data ------------------------------------------------------------------ */

bool mf_user_data_get_counts(mf_user_data *data, uint64_t stamp, mf_store_counts *out) {
    block *b = get(data->health_data, MF_STR("store"), stamp);
    if (b == NULL) {
        return false;
    }
    memcpy(out, b->bytes, sizeof *out);
    block_release(b);
    return true;
}

void mf_user_data_put_counts(mf_user_data *data, uint64_t stamp,
                             const mf_store_counts *counts) {
    block *b = block_new(stamp, sizeof *counts);
    if (b != NULL) {
        memcpy(b->bytes, counts, sizeof *counts);
        put(data->health_data, MF_STR("store"), b);
    }
}

/* --- sync_tracking ---------------------------------------------------------------- */

static size_t place_of(mf_uuid id) {
    return (size_t)mf_str_hash(mf_uuid_key(&id)) % WRITE_COUNTS;
}

void mf_user_data_written(mf_user_data *data, mf_uuid user_id) {
    atomic_fetch_add(&data->writes[place_of(user_id)], 1);
}

uint64_t mf_user_data_writes(const mf_user_data *data, mf_uuid user_id) {
    return atomic_load(&data->writes[place_of(user_id)]);
}

bool mf_user_data_is_synced(mf_user_data *data, mf_uuid user_id) {
    block *b = get(data->sync_tracking, mf_uuid_key(&user_id),
                   mf_user_data_writes(data, user_id));
    bool synced = b != NULL;
    if (synced) {
        block_release(b);
    }
    return synced;
}

void mf_user_data_set_synced(mf_user_data *data, mf_uuid user_id, uint64_t stamp) {
    block *b = block_new(stamp, 0);
    if (b != NULL) {
        put(data->sync_tracking, mf_uuid_key(&user_id), b);
    }
}
