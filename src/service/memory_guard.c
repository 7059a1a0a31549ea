/* memory_guard.c - keeps the process within memory.budget_mb.
 *
 * One thread does all the work, so no two cleanups meet; others leave it a request and
 * wait.  The figures of the last look are atomics, each right by itself: a request
 * reads them together with the allocator's count of now, and needs no more than that.
 *
 * A request may begin to refuse (growth must not wait for a thread to wake up); only
 * the guard's thread, which has measured again, stops it.
 *
 * Making room that did not help is not repeated at once: what is left is in use, and
 * emptying the caches again would only make everything slow.  The pause doubles up to
 * half a minute, and ends when room was made or was not needed. */
#include "service/memory_guard.h"

#include <inttypes.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mutex.h"
#include "os/file.h"

enum {
    TICK_MS = 500,
    TICK_REFUSING_MS = 100,
    LOOK_MS = 20,     /* between looks by requests */
    COMMIT_MS = 1000, /* most time for one round of commits */
    PAUSE_FIRST_MS = 1000,
    PAUSE_MAX_MS = 30000,
    /* of the budget, in percent */
    CLEAN_PERCENT = 85, /* the cleanup's threshold is no higher */
    RELIEVE_PERCENT = 90,
    TARGET_PERCENT = 80,
    REFUSE_PERCENT = 96,
    RESUME_PERCENT = 92,
    EMPTYING_ROUNDS = 64 /* halves of anything that fits in memory */
};

struct mf_memory_guard {
    /* constant after open */
    mf_memory_guard_options options;
    mf_thread thread;

    /* the last look, and what followed from it */
    atomic_size_t own_bytes, private_bytes, resident_bytes;
    atomic_size_t used_bytes, used_bytes_max;
    atomic_int_fast64_t looked_ns;
    atomic_bool refusing;
    atomic_ullong refused, cleanups, reliefs, users_left, entries_dropped, commits;
    atomic_int_fast64_t last_cleanup_us;

    /* the guard's thread only */
    int64_t interval_due_ns;
    int64_t pause_until_ns;
    int64_t pause_ms;

    mf_mutex guard_mu;
    mf_cond changed;
    /* guarded by guard_mu */
    bool stopping, woken;
    uint64_t checks_wanted, checks_done;
    uint64_t forced_wanted, forced_done;
    mf_memory_cleanup forced_result;
};

static const mf_config *config_of(const mf_memory_guard *guard) {
    return mf_settings_get(guard->options.settings);
}

static size_t megabytes(int64_t count) {
    return (size_t)count << 20;
}

static size_t share(size_t bytes, size_t percent) {
    return bytes / 100 * percent;
}

static size_t budget_of(const mf_memory_guard *guard) {
    return megabytes(config_of(guard)->memory_budget_mb);
}

static size_t threshold_of(const mf_memory_guard *guard) {
    size_t threshold = megabytes(config_of(guard)->memory_cleanup_threshold_mb);
    size_t most = share(budget_of(guard), CLEAN_PERCENT);
    return threshold < most ? threshold : most;
}

/* --- looking ---------------------------------------------------------------------- */

void mf_memory_figures_take(mf_memory_figures *out) {
    *out = (mf_memory_figures){.own_bytes = mf_alloc_live_bytes(),
                               .private_bytes = mf_process_private_bytes(),
                               .resident_bytes = mf_process_rss_bytes()};
}

static size_t less(size_t bytes, size_t part) {
    return bytes > part ? bytes - part : 0;
}

mf_memory_figures mf_memory_figures_since(const mf_memory_figures *before) {
    mf_memory_figures now;
    mf_memory_figures_take(&now);
    return (mf_memory_figures){
        .own_bytes = less(now.own_bytes, before->own_bytes),
        .private_bytes = less(now.private_bytes, before->private_bytes),
        .resident_bytes = less(now.resident_bytes, before->resident_bytes)};
}

static void measure_process(void *ctx, mf_memory_figures *out) {
    (void)ctx;
    mf_memory_figures_take(out);
}

/* Measures; the bytes used. */
static size_t look(mf_memory_guard *guard) {
    const mf_memory_ops *ops = &guard->options.ops;
    mf_memory_figures f;
    ops->measure(ops->ctx, &f);
    const mf_memory_figures *model = &guard->options.model;
    size_t own = less(f.own_bytes, model->own_bytes);
    size_t private_bytes = less(f.private_bytes, model->private_bytes);
    size_t used = own > private_bytes ? own : private_bytes;
    atomic_store(&guard->own_bytes, f.own_bytes);
    atomic_store(&guard->private_bytes, f.private_bytes);
    atomic_store(&guard->resident_bytes, f.resident_bytes);
    atomic_store(&guard->used_bytes, used);
    size_t seen = atomic_load(&guard->used_bytes_max);
    while (used > seen &&
           !atomic_compare_exchange_weak(&guard->used_bytes_max, &seen, used)) {
    }
    return used;
}

static void wake(void *ctx) {
    mf_memory_guard *guard = ctx;
    mf_mutex_lock(&guard->guard_mu);
    guard->woken = true;
    mf_cond_broadcast(&guard->changed);
    mf_mutex_unlock(&guard->guard_mu);
}

/* A request's look, unless another has just looked. */
static void look_if_due(mf_memory_guard *guard, int64_t now_ns) {
    int64_t last = atomic_load(&guard->looked_ns);
    if (now_ns - last < (int64_t)LOOK_MS * MF_NS_PER_MS ||
        !atomic_compare_exchange_strong(&guard->looked_ns, &last, now_ns)) {
        return;
    }
    size_t budget = budget_of(guard);
    size_t used = look(guard);
    if (used > share(budget, REFUSE_PERCENT)) {
        atomic_store(&guard->refusing, true);
    }
    if (used > share(budget, RELIEVE_PERCENT)) {
        wake(guard);
    }
}

mf_rc mf_memory_guard_admit(mf_memory_guard *guard, int64_t now_ns, size_t bytes,
                            mf_err *err) {
    look_if_due(guard, now_ns);
    size_t budget = budget_of(guard);
    size_t used = atomic_load(&guard->used_bytes);
    if (!atomic_load(&guard->refusing) && bytes <= budget && used <= budget - bytes) {
        return MF_OK;
    }
    atomic_fetch_add(&guard->refused, 1);
    return MF_FAIL(err, MF_E_NOMEM,
                   "the memory budget of %" PRId64
                   " MB (setting memory.budget_mb) has no room for new work just now",
                   config_of(guard)->memory_budget_mb);
}

size_t mf_memory_guard_used(const mf_memory_guard *guard, size_t live_bytes) {
    size_t used = atomic_load(&guard->used_bytes);
    size_t own = atomic_load(&guard->own_bytes);
    if (live_bytes >= own) {
        return used + (live_bytes - own);
    }
    return used > own - live_bytes ? used - (own - live_bytes) : 0;
}

/* --- making room ------------------------------------------------------------------ */

typedef struct room {
    size_t entries, users;
} room;

static void halve_caches(mf_memory_guard *guard, room *made) {
    mf_cache_cleanup done = {0};
    if (guard->options.caches != NULL) {
        mf_cache_manager_cleanup(guard->options.caches, &done);
    }
    made->entries += done.entries;
}

static void empty_caches(mf_memory_guard *guard, room *made) {
    for (int i = 0; i < EMPTYING_ROUNDS; i++) {
        size_t before = made->entries;
        halve_caches(guard, made);
        if (made->entries == before) {
            return;
        }
    }
}

static void let_users_leave(mf_memory_guard *guard, size_t bytes, room *made) {
    const mf_memory_ops *ops = &guard->options.ops;
    size_t count = 0;
    ops->users_leave(ops->ctx, bytes, &count);
    made->users += count;
}

/* Pages go back, and what is used then. */
static size_t give_back(mf_memory_guard *guard) {
    mf_alloc_trim();
    return look(guard);
}

/* The steps in the header's order, until at most `target` bytes are used. */
static size_t make_room(mf_memory_guard *guard, size_t target, room *made) {
    const mf_memory_ops *ops = &guard->options.ops;
    halve_caches(guard, made);
    size_t used = give_back(guard);
    if (used > target) {
        let_users_leave(guard, used - target, made);
        used = give_back(guard);
    }
    if (used > target) {
        ops->shrink_store(ops->ctx);
        used = give_back(guard);
    }
    if (used > target) {
        ops->commit(ops->ctx, mf_deadline_in_ms(COMMIT_MS));
        atomic_fetch_add(&guard->commits, 1);
        let_users_leave(guard, used - target, made);
        used = give_back(guard);
    }
    if (used > target) {
        empty_caches(guard, made);
        used = give_back(guard);
    }
    return used;
}

static void count_room(mf_memory_guard *guard, const room *made, size_t before,
                       size_t after, const char *why) {
    const double megabyte = 1 << 20;
    atomic_fetch_add(&guard->users_left, made->users);
    atomic_fetch_add(&guard->entries_dropped, made->entries);
    mf_recent_add_performance(guard->options.recent, "memory_freed_mb",
                              ((double)before - (double)after) / megabyte, why);
}

static void set_refusing(mf_memory_guard *guard, bool refusing, size_t used) {
    if (atomic_exchange(&guard->refusing, refusing) != refusing) {
        mf_log(MF_LOG_WARN, refusing ? "memory_full" : "memory_has_room",
               "used_mb=%zu budget_mb=%zu", used >> 20, budget_of(guard) >> 20);
    }
}

/* The hard budget. */
static void relieve(mf_memory_guard *guard) {
    size_t budget = budget_of(guard);
    size_t used = look(guard);
    if (used <= share(budget, RELIEVE_PERCENT)) {
        guard->pause_ms = 0;
        guard->pause_until_ns = 0;
    } else if (mf_now_ns() >= guard->pause_until_ns) {
        room made = {0};
        size_t before = used;
        used = make_room(guard, share(budget, TARGET_PERCENT), &made);
        count_room(guard, &made, before, used, "budget");
        atomic_fetch_add(&guard->reliefs, 1);
        mf_log(MF_LOG_INFO, "memory_relief",
               "before_mb=%zu after_mb=%zu entries=%zu users=%zu", before >> 20,
               used >> 20, made.entries, made.users);
        if (used > share(budget, RELIEVE_PERCENT)) {
            int64_t longer = guard->pause_ms * 2;
            guard->pause_ms = longer == 0             ? PAUSE_FIRST_MS
                              : longer < PAUSE_MAX_MS ? longer
                                                      : PAUSE_MAX_MS;
            guard->pause_until_ns = mf_deadline_in_ms(guard->pause_ms);
        }
    }
    if (used > share(budget, REFUSE_PERCENT)) {
        set_refusing(guard, true, used);
    } else if (used < share(budget, RESUME_PERCENT)) {
        set_refusing(guard, false, used);
    }
}

/* --- the cleanup service ---------------------------------------------------------- */

static void clean_up(mf_memory_guard *guard, bool forced, mf_memory_cleanup *out) {
    const mf_memory_ops *ops = &guard->options.ops;
    int64_t started_ns = mf_now_ns();
    room made = {0};
    size_t before = look(guard);
    size_t threshold = threshold_of(guard);
    halve_caches(guard, &made);
    size_t used = give_back(guard);
    size_t surplus = forced             ? ops->users_bytes(ops->ctx) / 2
                     : used > threshold ? used - threshold
                                        : 0;
    if (surplus > 0) {
        let_users_leave(guard, surplus, &made);
        used = give_back(guard);
    }
    count_room(guard, &made, before, used, forced ? "forced" : "interval");
    atomic_store(&guard->last_cleanup_us, mf_wall_us());
    *out = (mf_memory_cleanup){
        .forced = forced,
        .before_bytes = before,
        .after_bytes = used,
        .objects_collected = made.entries + made.users,
        .duration_ns = mf_now_ns() - started_ns,
        .cleanup_count = atomic_fetch_add(&guard->cleanups, 1) + 1,
    };
    mf_log(MF_LOG_INFO, "memory_cleanup",
           "forced=%d before_mb=%zu after_mb=%zu objects=%zu us=%lld", (int)forced,
           before >> 20, used >> 20, out->objects_collected,
           (long long)(out->duration_ns / MF_NS_PER_US));
}

static void clean_up_if_due(mf_memory_guard *guard) {
    int64_t now_ns = mf_now_ns();
    if (now_ns < guard->interval_due_ns) {
        return;
    }
    guard->interval_due_ns =
        mf_deadline_in_ms(config_of(guard)->memory_cleanup_interval_s * 1000);
    mf_memory_cleanup done;
    if (look(guard) > threshold_of(guard)) {
        clean_up(guard, false, &done);
    } else {
        (void)give_back(guard); /* what was freed in pieces does not add up */
    }
}

/* Settings may have been read again, and entries may have come since. */
static void keep_cache_budget(mf_memory_guard *guard) {
    mf_cache_manager *caches = guard->options.caches;
    const mf_config *config = config_of(guard);
    mf_cache_cleanup done;
    if (caches != NULL) {
        mf_cache_manager_set_budget(caches, megabytes(config->memory_cache_budget_mb),
                                    (unsigned)config->memory_cache_pressure_percent);
        while (mf_cache_manager_cleanup_if_needed(caches, &done) && done.entries > 0) {
            atomic_fetch_add(&guard->entries_dropped, done.entries);
        }
    }
}

/* --- the thread ------------------------------------------------------------------- */

/* Waits for something to do; false at the end.  *forced: a cleanup was asked for. */
static bool wait_for_turn(mf_memory_guard *guard, uint64_t *checks, uint64_t *forced) {
    bool refusing = atomic_load(&guard->refusing);
    int64_t until = mf_deadline_in_ms(refusing ? TICK_REFUSING_MS : TICK_MS);
    mf_mutex_lock(&guard->guard_mu);
    while (!guard->stopping && !guard->woken &&
           guard->checks_done == guard->checks_wanted &&
           guard->forced_done == guard->forced_wanted &&
           mf_cond_wait(&guard->changed, &guard->guard_mu, until)) {
    }
    guard->woken = false;
    *checks = guard->checks_wanted;
    *forced = guard->forced_wanted == guard->forced_done ? 0 : guard->forced_wanted;
    bool stopping = guard->stopping;
    mf_mutex_unlock(&guard->guard_mu);
    return !stopping;
}

static void run(void *arg) {
    mf_memory_guard *guard = arg;
    uint64_t checks = 0;
    uint64_t forced = 0;
    do {
        mf_memory_cleanup done = {0};
        if (forced > 0) {
            clean_up(guard, true, &done);
        }
        clean_up_if_due(guard);
        keep_cache_budget(guard);
        if (guard->options.ops.idle_leave != NULL) {
            guard->options.ops.idle_leave(guard->options.ops.ctx);
        }
        relieve(guard);
        mf_mutex_lock(&guard->guard_mu);
        guard->checks_done = checks;
        if (forced > 0) {
            guard->forced_done = forced;
            guard->forced_result = done;
        }
        mf_cond_broadcast(&guard->changed);
        mf_mutex_unlock(&guard->guard_mu);
    } while (wait_for_turn(guard, &checks, &forced));
}

/* Waits until *done reaches `ticket`. */
static mf_rc wait_locked(mf_memory_guard *guard, const uint64_t *done, uint64_t ticket,
                         int64_t deadline_ns, mf_err *err)
    MF_REQUIRES(guard->guard_mu) {
    while (*done < ticket && !guard->stopping) {
        if (!mf_cond_wait(&guard->changed, &guard->guard_mu, deadline_ns) &&
            *done < ticket) {
            return MF_FAIL(err, MF_E_TIMEOUT, "the cleanup takes too long");
        }
    }
    return *done >= ticket ? MF_OK
                           : MF_FAIL(err, MF_E_STOPPING, "memfuse is shutting down");
}

mf_rc mf_memory_guard_cleanup(mf_memory_guard *guard, int64_t deadline_ns,
                              mf_memory_cleanup *out, mf_err *err) {
    mf_mutex_lock(&guard->guard_mu);
    uint64_t ticket = ++guard->forced_wanted;
    mf_cond_broadcast(&guard->changed);
    mf_rc rc = wait_locked(guard, &guard->forced_done, ticket, deadline_ns, err);
    if (rc == MF_OK) {
        *out = guard->forced_result;
    }
    mf_mutex_unlock(&guard->guard_mu);
    return rc;
}

mf_rc mf_memory_guard_check(mf_memory_guard *guard, int64_t deadline_ns, mf_err *err) {
    mf_mutex_lock(&guard->guard_mu);
    uint64_t ticket = ++guard->checks_wanted;
    mf_cond_broadcast(&guard->changed);
    mf_rc rc = wait_locked(guard, &guard->checks_done, ticket, deadline_ns, err);
    mf_mutex_unlock(&guard->guard_mu);
    return rc;
}

/* --- life ------------------------------------------------------------------------- */

mf_rc mf_memory_guard_open(const mf_memory_guard_options *options,
                           mf_memory_guard **out, mf_err *err) {
    mf_memory_guard *guard = mf_alloc_zero(1, sizeof *guard);
    if (guard == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for the memory guard");
    }
    guard->options = *options;
    if (guard->options.ops.measure == NULL) {
        guard->options.ops.measure = measure_process;
    }
    mf_mutex_init(&guard->guard_mu, MF_RANK_LEAF);
    mf_cond_init(&guard->changed);
    atomic_store(&guard->looked_ns, mf_now_ns());
    (void)look(guard);
    if (options->caches != NULL) {
        mf_cache_manager_watch(options->caches, wake, guard);
    }
    *out = guard;
    return MF_OK;
}

mf_rc mf_memory_guard_start(mf_memory_guard *guard, mf_err *err) {
    return mf_thread_start(&guard->thread, "mf-memory", run, guard, err);
}

void mf_memory_guard_stop(mf_memory_guard *guard) {
    if (guard == NULL) {
        return;
    }
    mf_mutex_lock(&guard->guard_mu);
    guard->stopping = true;
    mf_cond_broadcast(&guard->changed);
    mf_mutex_unlock(&guard->guard_mu);
    mf_thread_join(&guard->thread);
}

void mf_memory_guard_close(mf_memory_guard *guard) {
    if (guard == NULL) {
        return;
    }
    mf_memory_guard_stop(guard);
    if (guard->options.caches != NULL) {
        mf_cache_manager_watch(guard->options.caches, NULL, NULL);
    }
    mf_cond_done(&guard->changed);
    mf_mutex_done(&guard->guard_mu);
    mf_free(guard);
}

void mf_memory_guard_get_stats(mf_memory_guard *guard, mf_memory_guard_stats *out) {
    size_t used = atomic_load(&guard->used_bytes);
    *out = (mf_memory_guard_stats){
        .running = guard->thread.started,
        .figures = {.own_bytes = atomic_load(&guard->own_bytes),
                    .private_bytes = atomic_load(&guard->private_bytes),
                    .resident_bytes = atomic_load(&guard->resident_bytes)},
        .used_bytes = used,
        .used_bytes_max = atomic_load(&guard->used_bytes_max),
        .model = guard->options.model,
        .budget_bytes = budget_of(guard),
        .threshold_bytes = threshold_of(guard),
        .interval_s = config_of(guard)->memory_cleanup_interval_s,
        .cleanups = atomic_load(&guard->cleanups),
        .last_cleanup_us = atomic_load(&guard->last_cleanup_us),
        .pressure = used > threshold_of(guard),
        .refusing = atomic_load(&guard->refusing),
        .refused = atomic_load(&guard->refused),
        .reliefs = atomic_load(&guard->reliefs),
        .users_left = atomic_load(&guard->users_left),
        .entries_dropped = atomic_load(&guard->entries_dropped),
        .commits = atomic_load(&guard->commits),
    };
}
