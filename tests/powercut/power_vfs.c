/* power_vfs.c - a disk that loses power, as a SQLite VFS. */
#include "power_vfs.h"

#include <limits.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"

/* A write since the last sync; a truncation has bytes == NULL and size as `offset`. */
typedef struct change {
    struct change *next;
    uint64_t serial; /* over all files */
    int64_t offset;
    uint32_t len;
    unsigned char *bytes;
} change;

enum { NAME_DURABLE = 0 };
#define NAME_KEPT UINT64_MAX

typedef struct disk_file {
    struct disk_file *next;
    char path[512];
    unsigned char *image; /* [capacity], as of the last sync */
    int64_t size, capacity;
    change *first, **last;
    uint64_t created;  /* number of the name change that made it, or NAME_DURABLE */
    uint64_t unlinked; /* number of the one that removed it, or NAME_KEPT */
} disk_file;

typedef struct power_file {
    sqlite3_file base;
    disk_file *disk; /* NULL for temporary files */
    bool sync_directory;
    sqlite3_file *real;
} power_file;

static sqlite3_vfs *real_vfs;
static sqlite3_vfs power_vfs;

static pthread_mutex_t disk_mu = PTHREAD_MUTEX_INITIALIZER;
/* guarded by disk_mu */
static disk_file *files;
static uint64_t change_serial, name_serial;
static uint64_t cut_countdown; /* 0: none planned */
static bool is_cut;
static struct {
    power_call call;
    uint64_t countdown; /* 0: none planned */
    int code;
    bool fired;
} fault;

/* --- the model --- */

static void drop_changes(disk_file *f) {
    while (f->first != NULL) {
        change *c = f->first;
        f->first = c->next;
        mf_free(c->bytes);
        mf_free(c);
    }
    f->last = &f->first;
}

static void free_file(disk_file *f) {
    drop_changes(f);
    mf_free(f->image);
    mf_free(f);
}

static void resize(disk_file *f, int64_t to) {
    if (to > f->capacity) {
        int64_t capacity = to * 2;
        unsigned char *more = mf_realloc(f->image, (size_t)capacity);
        MF_ASSERT(more != NULL);
        f->image = more;
        f->capacity = capacity;
    }
    if (to > f->size) {
        memset(f->image + f->size, 0, (size_t)(to - f->size));
    }
    f->size = to;
}

static void apply(disk_file *f, const change *c, uint32_t from, uint32_t len) {
    if (c->bytes == NULL) {
        resize(f, c->offset);
        return;
    }
    int64_t end = c->offset + from + len;
    if (end > f->size) {
        resize(f, end);
    }
    memcpy(f->image + c->offset + from, c->bytes + from, len);
}

static disk_file *find_locked(const char *path) {
    for (disk_file *f = files; f != NULL; f = f->next) {
        if (f->unlinked == NAME_KEPT && strcmp(f->path, path) == 0) {
            return f;
        }
    }
    return NULL;
}

static disk_file *add_locked(const char *path, uint64_t created) {
    disk_file *f = mf_alloc_zero(1, sizeof *f);
    MF_ASSERT(f != NULL && strlen(path) < sizeof f->path);
    memcpy(f->path, path, strlen(path) + 1);
    f->last = &f->first;
    f->created = created;
    f->unlinked = NAME_KEPT;
    f->next = files;
    files = f;
    return f;
}

/* A file met for the first time that is there already was put there by power_restore or
 * durably by the program itself. */
static void load_image(disk_file *f) {
    FILE *in = fopen(f->path, "rb");
    MF_ASSERT(in != NULL);
    MF_ASSERT(fseek(in, 0, SEEK_END) == 0);
    resize(f, ftell(in));
    rewind(in);
    MF_ASSERT(f->size == 0 ||
              fread(f->image, 1, (size_t)f->size, in) == (size_t)f->size);
    (void)fclose(in); /* only read */
}

static void record_locked(disk_file *f, int64_t offset, const void *bytes,
                          uint32_t len) {
    change *c = mf_alloc_zero(1, sizeof *c);
    MF_ASSERT(c != NULL);
    c->serial = ++change_serial;
    c->offset = offset;
    c->len = len;
    if (bytes != NULL) {
        c->bytes = mf_alloc(len);
        MF_ASSERT(c->bytes != NULL);
        memcpy(c->bytes, bytes, len);
    }
    *f->last = c;
    f->last = &c->next;
}

static void sync_directory_locked(void) {
    disk_file **slot = &files;
    while (*slot != NULL) {
        disk_file *f = *slot;
        if (f->unlinked != NAME_KEPT) {
            *slot = f->next;
            free_file(f);
        } else {
            f->created = NAME_DURABLE;
            slot = &f->next;
        }
    }
}

/* Counts a change; false: the power is gone, also when it went with this change. */
static bool power_on_locked(void) {
    if (!is_cut && cut_countdown > 0 && --cut_countdown == 0) {
        is_cut = true;
    }
    return !is_cut;
}

static int planned_failure_locked(power_call call) {
    if (fault.countdown > 0 && fault.call == call && --fault.countdown == 0) {
        fault.fired = true;
        return fault.code;
    }
    return SQLITE_OK;
}

/* --- file methods --- */

static power_file *of(sqlite3_file *base) {
    return (power_file *)base;
}

static int file_close(sqlite3_file *base) {
    return of(base)->real->pMethods->xClose(of(base)->real);
}

static int file_read(sqlite3_file *base, void *to, int len, sqlite3_int64 offset) {
    return of(base)->real->pMethods->xRead(of(base)->real, to, len, offset);
}

static int file_write(sqlite3_file *base, const void *from, int len,
                      sqlite3_int64 offset) {
    power_file *p = of(base);
    int code = SQLITE_OK;
    if (p->disk != NULL) {
        pthread_mutex_lock(&disk_mu);
        code = planned_failure_locked(POWER_WRITE);
        bool was_cut = is_cut;
        bool on = power_on_locked();
        if (!was_cut && code == SQLITE_OK) {
            record_locked(p->disk, offset, from, (uint32_t)len);
        }
        if (!on) {
            code = SQLITE_IOERR_WRITE;
        }
        pthread_mutex_unlock(&disk_mu);
    }
    return code == SQLITE_OK ? p->real->pMethods->xWrite(p->real, from, len, offset)
                             : code;
}

static int file_truncate(sqlite3_file *base, sqlite3_int64 size) {
    power_file *p = of(base);
    bool on = true;
    if (p->disk != NULL) {
        pthread_mutex_lock(&disk_mu);
        on = power_on_locked();
        if (on) {
            record_locked(p->disk, size, NULL, 0);
        }
        pthread_mutex_unlock(&disk_mu);
    }
    return on ? p->real->pMethods->xTruncate(p->real, size) : SQLITE_IOERR_TRUNCATE;
}

/* The real disk is not the subject of the test, so nothing is synced there. */
static int file_sync(sqlite3_file *base, int flags) {
    (void)flags;
    power_file *p = of(base);
    if (p->disk == NULL) {
        return SQLITE_OK;
    }
    pthread_mutex_lock(&disk_mu);
    int code = planned_failure_locked(POWER_SYNC);
    if (!power_on_locked()) {
        code = SQLITE_IOERR_FSYNC;
    }
    if (code == SQLITE_OK) {
        for (const change *c = p->disk->first; c != NULL; c = c->next) {
            apply(p->disk, c, 0, c->len);
        }
        drop_changes(p->disk);
        if (p->sync_directory) {
            sync_directory_locked();
            p->sync_directory = false;
        }
    }
    pthread_mutex_unlock(&disk_mu);
    return code;
}

static int file_size(sqlite3_file *base, sqlite3_int64 *size) {
    return of(base)->real->pMethods->xFileSize(of(base)->real, size);
}
static int file_lock(sqlite3_file *base, int level) {
    return of(base)->real->pMethods->xLock(of(base)->real, level);
}
static int file_unlock(sqlite3_file *base, int level) {
    return of(base)->real->pMethods->xUnlock(of(base)->real, level);
}
static int file_check_lock(sqlite3_file *base, int *out) {
    return of(base)->real->pMethods->xCheckReservedLock(of(base)->real, out);
}
static int file_control(sqlite3_file *base, int op, void *arg) {
    return of(base)->real->pMethods->xFileControl(of(base)->real, op, arg);
}
static int file_sector_size(sqlite3_file *base) {
    return of(base)->real->pMethods->xSectorSize(of(base)->real);
}
static int file_traits(sqlite3_file *base) {
    return of(base)->real->pMethods->xDeviceCharacteristics(of(base)->real);
}
static int file_shm_map(sqlite3_file *base, int page, int size, int extend,
                        void volatile **out) {
    return of(base)->real->pMethods->xShmMap(of(base)->real, page, size, extend, out);
}
static int file_shm_lock(sqlite3_file *base, int offset, int n, int flags) {
    return of(base)->real->pMethods->xShmLock(of(base)->real, offset, n, flags);
}
static void file_shm_barrier(sqlite3_file *base) {
    of(base)->real->pMethods->xShmBarrier(of(base)->real);
}
static int file_shm_unmap(sqlite3_file *base, int delete_flag) {
    return of(base)->real->pMethods->xShmUnmap(of(base)->real, delete_flag);
}

static const sqlite3_io_methods power_methods = {
    .iVersion = 2, /* with shared memory, without mapping the file */
    .xClose = file_close,
    .xRead = file_read,
    .xWrite = file_write,
    .xTruncate = file_truncate,
    .xSync = file_sync,
    .xFileSize = file_size,
    .xLock = file_lock,
    .xUnlock = file_unlock,
    .xCheckReservedLock = file_check_lock,
    .xFileControl = file_control,
    .xSectorSize = file_sector_size,
    .xDeviceCharacteristics = file_traits,
    .xShmMap = file_shm_map,
    .xShmLock = file_shm_lock,
    .xShmBarrier = file_shm_barrier,
    .xShmUnmap = file_shm_unmap,
};

/* --- the file system --- */

static int vfs_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *base, int flags,
                    int *out_flags) {
    enum {
        LOGS = SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_SUPER_JOURNAL,
        MODELLED = LOGS | SQLITE_OPEN_MAIN_DB
    };
    (void)vfs;
    power_file *p = of(base);
    *p = (power_file){.real = (sqlite3_file *)(void *)(p + 1)};
    bool modelled = name != NULL && (flags & MODELLED) != 0;
    int exists = 0;
    pthread_mutex_lock(&disk_mu);
    bool refused = is_cut && (flags & SQLITE_OPEN_CREATE) != 0;
    if (modelled) {
        (void)real_vfs->xAccess(real_vfs, name, SQLITE_ACCESS_EXISTS, &exists);
    }
    int code = refused ? SQLITE_CANTOPEN
                       : real_vfs->xOpen(real_vfs, name, p->real, flags, out_flags);
    if (code == SQLITE_OK && modelled) {
        p->disk = find_locked(name);
        if (p->disk == NULL) {
            p->disk = add_locked(name, exists ? NAME_DURABLE : ++name_serial);
            load_image(p->disk);
        }
        p->sync_directory = (flags & SQLITE_OPEN_CREATE) != 0 && (flags & LOGS) != 0;
    }
    pthread_mutex_unlock(&disk_mu);
    if (code == SQLITE_OK) {
        base->pMethods = &power_methods;
    }
    return code;
}

static int vfs_delete(sqlite3_vfs *vfs, const char *name, int sync_directory) {
    (void)vfs;
    pthread_mutex_lock(&disk_mu);
    int code = SQLITE_IOERR_DELETE;
    if (power_on_locked()) {
        code = real_vfs->xDelete(real_vfs, name, 0);
        disk_file *f = find_locked(name);
        if (code == SQLITE_OK && f != NULL) {
            f->unlinked = ++name_serial;
        }
        if (code == SQLITE_OK && sync_directory) {
            sync_directory_locked();
        }
    }
    pthread_mutex_unlock(&disk_mu);
    return code;
}

void power_install(void) {
    MF_ASSERT(sqlite3_initialize() == SQLITE_OK);
    real_vfs = sqlite3_vfs_find(NULL);
    power_vfs = *real_vfs; /* what is not replaced below works on names and time only */
    power_vfs.zName = "power";
    power_vfs.szOsFile = (int)sizeof(power_file) + real_vfs->szOsFile;
    power_vfs.pNext = NULL;
    power_vfs.xOpen = vfs_open;
    power_vfs.xDelete = vfs_delete;
    MF_ASSERT(sqlite3_vfs_register(&power_vfs, 1) == SQLITE_OK);
}

/* --- what tests ask for --- */

static void reset_locked(void) {
    while (files != NULL) {
        disk_file *f = files;
        files = f->next;
        free_file(f);
    }
    change_serial = 0;
    name_serial = 0;
    cut_countdown = 0;
    is_cut = false;
    memset(&fault, 0, sizeof fault);
}

void power_reset(void) {
    pthread_mutex_lock(&disk_mu);
    reset_locked();
    pthread_mutex_unlock(&disk_mu);
}

void power_cut_after(uint64_t changes) {
    pthread_mutex_lock(&disk_mu);
    cut_countdown = changes;
    pthread_mutex_unlock(&disk_mu);
}

void power_cut_now(void) {
    pthread_mutex_lock(&disk_mu);
    is_cut = true;
    pthread_mutex_unlock(&disk_mu);
}

bool power_is_cut(void) {
    pthread_mutex_lock(&disk_mu);
    bool cut = is_cut;
    pthread_mutex_unlock(&disk_mu);
    return cut;
}

void power_fail_at(power_call call, uint64_t nth, int code) {
    pthread_mutex_lock(&disk_mu);
    fault.call = call;
    fault.countdown = nth;
    fault.code = code;
    fault.fired = false;
    pthread_mutex_unlock(&disk_mu);
}

bool power_failed(void) {
    pthread_mutex_lock(&disk_mu);
    bool fired = fault.fired;
    pthread_mutex_unlock(&disk_mu);
    return fired;
}

/* Of one write, blocks at multiples of `unit` in the file, each kept or not. */
static void apply_some(disk_file *f, const change *c, uint32_t unit, mf_rng *rng) {
    if (c->bytes == NULL) {
        if (mf_rng_below(rng, 2) == 0) {
            apply(f, c, 0, 0);
        }
        return;
    }
    uint32_t from = 0;
    while (from < c->len) {
        uint32_t to_border = unit - (uint32_t)((uint64_t)(c->offset + from) % unit);
        uint32_t len = to_border < c->len - from ? to_border : c->len - from;
        if (mf_rng_below(rng, 2) == 0) {
            apply(f, c, from, len);
        }
        from += len;
    }
}

static void settle(disk_file *f, power_mode mode, uint32_t unit, mf_rng *rng) {
    for (const change *c = f->first; c != NULL; c = c->next) {
        if (mode == POWER_SUBSET) {
            apply_some(f, c, unit, rng);
        } else if (mode == POWER_TEAR && c->serial == change_serial &&
                   c->bytes != NULL) {
            uint64_t units = mf_rng_below(rng, c->len / unit + 1);
            apply(f, c, 0, (uint32_t)units * unit);
        } else if (mode != POWER_DROP) {
            apply(f, c, 0, c->len);
        }
    }
}

static void write_down(const disk_file *f, const char *to) {
    char path[PATH_MAX];
    const char *name = strrchr(f->path, '/');
    (void)snprintf(path, sizeof path, "%s%s", to, name); /* short by construction */
    FILE *out = fopen(path, "wb");
    MF_ASSERT(out != NULL);
    MF_ASSERT(f->size == 0 ||
              fwrite(f->image, 1, (size_t)f->size, out) == (size_t)f->size);
    MF_ASSERT(fclose(out) == 0);
}

/* Directory changes reach the disk in order, so a first part of them is there. */
static uint64_t names_that_survive(power_mode mode, mf_rng *rng) {
    switch (mode) {
    case POWER_SUBSET:
        return mf_rng_below(rng, name_serial + 1);
    case POWER_TEAR:
        return name_serial;
    default:
        return 0;
    }
}

void power_restore(const char *from, const char *to, power_mode mode, uint32_t unit,
                   mf_rng *rng) {
    pthread_mutex_lock(&disk_mu);
    MF_ASSERT(is_cut);
    uint64_t names = names_that_survive(mode, rng);
    for (disk_file *f = files; f != NULL; f = f->next) {
        bool there = f->created <= names && f->unlinked > names;
        if (there && strncmp(f->path, from, strlen(from)) == 0) {
            settle(f, mode, unit, rng);
            write_down(f, to);
        }
    }
    reset_locked();
    pthread_mutex_unlock(&disk_mu);
}
