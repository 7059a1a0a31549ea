/* testing.h - a whole door for tests and fuzzing: service over a store in memory,
 * without a model, so that search goes by words. */
#ifndef MF_HTTP_DOOR_TESTING_H
#define MF_HTTP_DOOR_TESTING_H

#include "http/door.h"
#include "model/token_counter.h"
#include "store/conn_pool.h"
#include "store/writer.h"

typedef struct mf_testing {
    mf_settings *settings;
    mf_store *store;
    mf_writer *writer;
    mf_conn_pool *readers, *background;
    mf_token_counter *tokens;
    mf_cache_manager *caches;
    mf_service *service;
    mf_door *door;
} mf_testing;

static inline void mf_testing_close(mf_testing *t) {
    mf_door_close(t->door);
    if (t->service != NULL) {
        mf_service_close(t->service);
    }
    if (t->writer != NULL) {
        mf_writer_close(t->writer);
    }
    mf_conn_pool_close(t->readers);
    mf_conn_pool_close(t->background);
    if (t->store != NULL) {
        t->store->ops->close(t->store);
    }
    if (t->tokens != NULL) {
        mf_token_counter_close(t->tokens);
    }
    mf_cache_manager_close(t->caches);
    if (t->settings != NULL) {
        mf_settings_close(t->settings);
    }
    *t = (mf_testing){0};
}

/* Takes `store` in any case; mf_testing_close is due after a failure too.  `sets` are
 * "key=value" settings, `set_count` of them. */
static inline mf_rc mf_testing_open(mf_testing *t, mf_store *store,
                                    const char *const *sets, size_t set_count,
                                    mf_err *err) {
    *t = (mf_testing){.store = store};
    const mf_config_sources sources = {.sets = sets, .set_count = set_count};
    const mf_writer_options writer = {.queue_max = 4096, .group_max = 512};
    MF_TRY(mf_settings_open(&sources, &t->settings, err));
    MF_TRY(mf_writer_open(t->store, &writer, &t->writer, err));
    MF_TRY(mf_conn_pool_open(t->store, 8, &t->readers, err));
    MF_TRY(mf_conn_pool_open(t->store, 4, &t->background, err));
    MF_TRY(mf_token_counter_open(NULL, &t->tokens, err));
    MF_TRY(mf_cache_manager_open(64 << 20, 80, &t->caches, err));
    const mf_service_parts parts = {.store = t->store,
                                    .writer = t->writer,
                                    .readers = t->readers,
                                    .background = t->background,
                                    .tokens = t->tokens,
                                    .settings = t->settings,
                                    .caches = t->caches};
    MF_TRY(mf_service_open(&parts, &t->service, err));
    return mf_door_open(t->service, t->settings, &t->door, err);
}

#endif
