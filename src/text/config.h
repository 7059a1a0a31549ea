/* config.h - the settings: one table, four sources, one frozen struct.
 *
 * Sources, later ones winning: the table's defaults, a YAML file, the environment
 * (MEMFUSE_ + the key in capitals with dots as underscores, for example
 * MEMFUSE_BUFFER_ROUND_BUFFER_MAX_TOKENS), then `--set key=value`.  Unknown keys and
 * values out of range are errors that name the file and line (or variable, or
 * argument), the key and what is allowed; a close key is suggested.
 *
 * mf_settings holds the values in force.  Readers take a snapshot, a plain struct that
 * never changes; a reload builds a new one from the same sources and puts it in force
 * only if all of it is valid.  Snapshots live until close, so nobody waits for
 * anybody. */
#ifndef MF_TEXT_CONFIG_H
#define MF_TEXT_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

enum { MF_CONFIG_TEXT_MAX = 1024 };

typedef struct mf_config {
#define MF_INT(field, key, min, def, max, reload, help) int64_t field;
#define MF_REAL(field, key, min, def, max, reload, help) double field;
#define MF_BOOL(field, key, def, reload, help) bool field;
#define MF_TEXT(field, key, def, reload, help) char field[MF_CONFIG_TEXT_MAX];
#define MF_CHOICE(field, key, def, choices, reload, help) char field[32];
#include "text/config.def"
#undef MF_INT
#undef MF_REAL
#undef MF_BOOL
#undef MF_TEXT
#undef MF_CHOICE
} mf_config;

void mf_config_defaults(mf_config *out);

/* May a user have `value` for `key`?  MF_E_INVAL, naming key and what is allowed, for
 * an unknown key, one that is the same for all, or a value out of range.  `normal`
 * receives the value as the settings write it.  A value with .p NULL asks for the key
 * alone. */
MF_CHECKED mf_rc mf_config_check_user(mf_str key, mf_str value,
                                      char normal[MF_CONFIG_TEXT_MAX], mf_err *err);
/* Sets it; false, with nothing changed, when that is not allowed. */
bool mf_config_set_user(mf_config *config, mf_str key, mf_str value);

typedef struct mf_config_sources {
    const char *file;         /* YAML; NULL: none */
    char *const *environment; /* like environ; NULL: none */
    const char *const *sets;  /* "key=value", set_count of them */
    size_t set_count;
} mf_config_sources;

typedef struct mf_settings mf_settings;

/* Copies what it needs of `sources`. */
MF_CHECKED mf_rc mf_settings_open(const mf_config_sources *sources, mf_settings **out,
                                  mf_err *err);
void mf_settings_close(mf_settings *settings);
const mf_config *
mf_settings_get(const mf_settings *settings); /* any thread; until close */

/* Reads the sources again.  All or nothing: on failure the old values stay.  A changed
 * value that is not reloadable is a failure too (MF_E_INVAL, "needs a restart").
 * `report`, unless NULL, receives one line per changed key: "key: old -> new". */
MF_CHECKED mf_rc mf_settings_reload(mf_settings *settings, mf_buf *report, mf_err *err);

/* For `memfuse config` and the reference page: calls `each` for every row in table
 * order. */
typedef struct mf_setting_info {
    const char *key, *type, *range, *def, *help;
    bool reloadable;
    bool per_user;      /* a user may have a value of its own */
    const char *value;  /* in force, as text */
    const char *source; /* "default", "FILE:LINE", "environment NAME" or "--set" */
} mf_setting_info;
void mf_settings_each(const mf_settings *settings,
                      void (*each)(void *ctx, const mf_setting_info *info), void *ctx);

#endif
