/* power_vfs.h - a disk that loses power, as a SQLite VFS.
 *
 * Lies over SQLite's own VFS and becomes the process's default.  Reads, locks and
 * shared memory go to real files; beside them it keeps, per file, what a disk would
 * surely hold: the bytes at the last sync, the writes since, and whether the file's
 * name is known to the directory on disk.  After a cut every change is refused, and
 * power_restore() writes down one of the states the disk may be found in.
 *
 * What makes a name durable follows SQLite's Unix VFS: the first sync of a journal or
 * log that was opened for creation also syncs the directory, and so does a delete that
 * asks for it.  The content of a file alone never does. */
#ifndef MF_POWER_VFS_H
#define MF_POWER_VFS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/rng.h"

/* What of the unsynced is found again. */
typedef enum power_mode {
    POWER_DROP,   /* nothing */
    POWER_SUBSET, /* any of the blocks written, in any combination; some of the names */
    POWER_TEAR,   /* everything, but of the last write only a first part */
    POWER_NAMES, /* all bytes, but no file created or deleted since its directory's sync
                  */
    POWER_MODE_COUNT
} power_mode;

typedef enum power_call { POWER_WRITE, POWER_SYNC } power_call;

void power_install(void);
/* Forgets all files and faults: a new disk. */
void power_reset(void);
/* The power goes at the n-th change (write, truncate, sync, delete) from now, n >=
 * 1. */
void power_cut_after(uint64_t changes);
void power_cut_now(void);
bool power_is_cut(void);
/* The n-th call from now, n >= 1, fails once with SQLite's `code`. */
void power_fail_at(power_call call, uint64_t nth, int code);
bool power_failed(void); /* has it? */
/* After a cut: writes into the folder `to` what the disk holds of the folder `from`,
 * with blocks of `unit` bytes (512 or 4096), and starts anew. */
void power_restore(const char *from, const char *to, power_mode mode, uint32_t unit,
                   mf_rng *rng);

#endif
