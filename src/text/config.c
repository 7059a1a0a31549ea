/* config.c - reads the settings table from its four sources.
 *
 * One pass fills a draft: table defaults, then YAML, environment, `--set`.  Each
 * accepted value also records where it came from, so `memfuse config` and error
 * messages can say so.  A draft goes into force only when every source was read without
 * an error.
 *
 * YAML goes through libyaml's event parser, which never builds a tree: nested mappings
 * become dotted keys, a sequence of scalars becomes a comma-separated text, and
 * anchors, aliases and deeper structures are refused because no setting needs them. */
#include "text/config.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <yaml.h>

#include "base/alloc.h"
#include "base/mutex.h"
#include "base/str.h"
#include "os/file.h"

enum {
    CONFIG_FILE_MAX = 1 << 20, /* bytes */
    CONFIG_DEPTH_MAX = 8,      /* nested mappings */
    CONFIG_KEY_MAX = 256,
    CONFIG_SOURCE_MAX = 320,
};

typedef enum setting_type {
    SETTING_INT,
    SETTING_REAL,
    SETTING_BOOL,
    SETTING_TEXT,
    SETTING_CHOICE
} setting_type;

typedef struct setting {
    const char *key;
    setting_type type;
    size_t offset, size;
    double min, max; /* exact for every bound in the table */
    const char *def; /* as text */
    const char *choices;
    bool reloadable, per_user;
    const char *help;
} setting;

#define TEXT_OF(x) #x
#define MF_INT(field, key, min, def, max, reload, help)                                \
    {key,                                                                              \
     SETTING_INT,                                                                      \
     offsetof(mf_config, field),                                                       \
     sizeof(int64_t),                                                                  \
     min,                                                                              \
     max,                                                                              \
     TEXT_OF(def),                                                                     \
     NULL,                                                                             \
     (reload) != 0,                                                                    \
     (reload) == 2,                                                                    \
     help},
#define MF_REAL(field, key, min, def, max, reload, help)                               \
    {key,                                                                              \
     SETTING_REAL,                                                                     \
     offsetof(mf_config, field),                                                       \
     sizeof(double),                                                                   \
     min,                                                                              \
     max,                                                                              \
     TEXT_OF(def),                                                                     \
     NULL,                                                                             \
     (reload) != 0,                                                                    \
     (reload) == 2,                                                                    \
     help},
#define MF_BOOL(field, key, def, reload, help)                                         \
    {key,                                                                              \
     SETTING_BOOL,                                                                     \
     offsetof(mf_config, field),                                                       \
     sizeof(bool),                                                                     \
     0,                                                                                \
     1,                                                                                \
     (def) ? "true" : "false",                                                         \
     NULL,                                                                             \
     (reload) != 0,                                                                    \
     (reload) == 2,                                                                    \
     help},
#define MF_TEXT(field, key, def, reload, help)                                         \
    {key,                                                                              \
     SETTING_TEXT,                                                                     \
     offsetof(mf_config, field),                                                       \
     MF_CONFIG_TEXT_MAX,                                                               \
     0,                                                                                \
     0,                                                                                \
     def,                                                                              \
     NULL,                                                                             \
     (reload) != 0,                                                                    \
     (reload) == 2,                                                                    \
     help},
#define MF_CHOICE(field, key, def, choices, reload, help)                              \
    {key,                                                                              \
     SETTING_CHOICE,                                                                   \
     offsetof(mf_config, field),                                                       \
     32,                                                                               \
     0,                                                                                \
     0,                                                                                \
     def,                                                                              \
     choices,                                                                          \
     (reload) != 0,                                                                    \
     (reload) == 2,                                                                    \
     help},
static const setting SETTINGS[] = {
#include "text/config.def"
};
#undef MF_INT
#undef MF_REAL
#undef MF_BOOL
#undef MF_TEXT
#undef MF_CHOICE

enum { SETTING_COUNT = sizeof(SETTINGS) / sizeof(SETTINGS[0]) };

/* Variables of clients, set-up and tests that share the prefix and are not settings. */
static const char *const OTHER_VARIABLES[] = {
    "MEMFUSE_API_KEY",
    "MEMFUSE_BASE_URL",
    "MEMFUSE_OPENAI_PASSTHROUGH",
    "MEMFUSE_ANTHROPIC_PASSTHROUGH",
    "MEMFUSE_GEMINI_PASSTHROUGH",
    "MEMFUSE_DATA",
    "MEMFUSE_FAULT",
    "MEMFUSE_MODEL_SOURCE",
    "MEMFUSE_SDK_TESTS",
    "MEMFUSE_BIN",
};

typedef struct draft {
    mf_config values;
    char sources[SETTING_COUNT][CONFIG_SOURCE_MAX];
} draft;

typedef struct snapshot {
    struct snapshot *older;
    draft d;
} snapshot;

struct mf_settings {
    mf_mutex reload_mu;           /* one change of in_force at a time */
    _Atomic(snapshot *) in_force; /* newest first; all live until close */
    char *file;                   /* NULL: none */
    char **environment;           /* the MEMFUSE_ ones only */
    size_t environment_count;
    char **sets;
    size_t set_count;
};

/* --- values --- */

static char *field_of(mf_config *config, const setting *row) {
    return (char *)config + row->offset;
}

/* The value as text, into `out`. */
static void value_text(const mf_config *config, const setting *row, char *out,
                       size_t size) {
    const char *field = (const char *)config + row->offset;
    int64_t integer = 0;
    double real = 0;
    switch (row->type) {
    case SETTING_INT:
        memcpy(&integer, field, sizeof integer);
        (void)snprintf(out, size, "%lld", (long long)integer);
        break;
    case SETTING_REAL:
        memcpy(&real, field, sizeof real);
        (void)snprintf(out, size, "%.15g", real);
        break;
    case SETTING_BOOL:
        (void)snprintf(out, size, "%s", *(const bool *)field ? "true" : "false");
        break;
    case SETTING_TEXT:
    case SETTING_CHOICE:
        (void)snprintf(out, size, "%s", field);
        break;
    }
}

static void range_text(const setting *row, char *out, size_t size) {
    switch (row->type) {
    case SETTING_INT:
        (void)snprintf(out, size, "%.0f to %.0f", row->min, row->max);
        break;
    case SETTING_REAL:
        (void)snprintf(out, size, "%.15g to %.15g", row->min, row->max);
        break;
    case SETTING_BOOL:
        (void)snprintf(out, size, "true or false");
        break;
    case SETTING_TEXT:
        (void)snprintf(out, size, "text of at most %d bytes", MF_CONFIG_TEXT_MAX - 1);
        break;
    case SETTING_CHOICE:
        (void)snprintf(out, size, "one of %s", row->choices);
        break;
    }
}

static bool choice_allows(const char *choices, mf_str value) {
    mf_str rest = mf_str_from(choices);
    while (rest.p != NULL) {
        if (mf_str_eq(mf_str_split(&rest, '|'), value)) {
            return true;
        }
    }
    return false;
}

static bool bool_from(mf_str value, bool *out) {
    static const char *const YES[] = {"true", "yes", "on", "1"};
    static const char *const NO[] = {"false", "no", "off", "0"};
    for (size_t i = 0; i < sizeof YES / sizeof YES[0]; i++) {
        bool yes = mf_str_eq_ignore_case(value, mf_str_from(YES[i]));
        if (yes || mf_str_eq_ignore_case(value, mf_str_from(NO[i]))) {
            *out = yes;
            return true;
        }
    }
    return false;
}

static bool store_value(mf_config *config, const setting *row, mf_str value) {
    char *field = field_of(config, row);
    switch (row->type) {
    case SETTING_INT: {
        int64_t integer = 0;
        if (!mf_str_to_i64(value, &integer) || (double)integer < row->min ||
            (double)integer > row->max) {
            return false;
        }
        memcpy(field, &integer, sizeof integer);
        return true;
    }
    case SETTING_REAL: {
        double real = 0;
        if (!mf_str_to_double(value, &real) || real < row->min || real > row->max) {
            return false;
        }
        memcpy(field, &real, sizeof real);
        return true;
    }
    case SETTING_BOOL: {
        bool flag = false;
        if (!bool_from(value, &flag)) {
            return false;
        }
        memcpy(field, &flag, sizeof flag);
        return true;
    }
    case SETTING_CHOICE:
        if (!choice_allows(row->choices, value)) {
            return false;
        }
        break;
    case SETTING_TEXT:
        break;
    }
    if (value.len >= row->size || memchr(value.p ? value.p : "", '\0', value.len)) {
        return false;
    }
    memcpy(field, value.p ? value.p : "", value.len);
    field[value.len] = '\0';
    return true;
}

/* --- keys --- */

static size_t edit_distance(mf_str a, mf_str b) {
    size_t row[CONFIG_KEY_MAX + 1];
    if (a.len > CONFIG_KEY_MAX || b.len > CONFIG_KEY_MAX) {
        return CONFIG_KEY_MAX;
    }
    for (size_t j = 0; j <= b.len; j++) {
        row[j] = j;
    }
    for (size_t i = 1; i <= a.len; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b.len; j++) {
            size_t above = row[j];
            size_t best = diagonal + (a.p[i - 1] != b.p[j - 1]);
            best = above + 1 < best ? above + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            row[j] = best;
            diagonal = above;
        }
    }
    return row[b.len];
}

static const setting *setting_find(mf_str key) {
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        if (mf_str_eq(key, mf_str_from(SETTINGS[i].key))) {
            return &SETTINGS[i];
        }
    }
    return NULL;
}

static mf_rc unknown_key(const char *where, mf_str key, mf_err *err) {
    const char *nearest = NULL;
    size_t nearest_distance = 1 + key.len / 2;
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        size_t distance = edit_distance(key, mf_str_from(SETTINGS[i].key));
        if (distance < nearest_distance) {
            nearest_distance = distance;
            nearest = SETTINGS[i].key;
        }
    }
    char field[MF_ERR_FIELD_MAX];
    (void)snprintf(field, sizeof field, "%.*s", MF_STR_ARGS(key));
    if (nearest != NULL) {
        return MF_FAIL_FIELD(err, MF_E_INVAL, field,
                             "%s: unknown setting '%.*s'; did you mean '%s'?", where,
                             MF_STR_ARGS(key), nearest);
    }
    return MF_FAIL_FIELD(err, MF_E_INVAL, field,
                         "%s: unknown setting '%.*s'; `memfuse config` lists them all",
                         where, MF_STR_ARGS(key));
}

static mf_rc out_of_range(const char *where, const setting *row, mf_str value,
                          mf_err *err) {
    char range[512];
    range_text(row, range, sizeof range);
    return MF_FAIL_FIELD(err, MF_E_INVAL, row->key, "%s%s is '%.*s'; allowed: %s",
                         where, row->key, (int)(value.len > 80 ? 80 : value.len),
                         value.p, range);
}

static mf_rc draft_set(draft *d, mf_str key, mf_str value, const char *where,
                       mf_err *err) {
    const setting *row = setting_find(key);
    if (row == NULL) {
        return unknown_key(where, key, err);
    }
    if (!store_value(&d->values, row, value)) {
        char place[CONFIG_SOURCE_MAX + 4];
        (void)snprintf(place, sizeof place, "%s: ", where);
        return out_of_range(place, row, value, err);
    }
    (void)snprintf(d->sources[row - SETTINGS], CONFIG_SOURCE_MAX, "%s", where);
    return MF_OK;
}

static void draft_defaults(draft *d) {
    memset(d, 0, sizeof *d);
    mf_config_defaults(&d->values);
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        (void)snprintf(d->sources[i], CONFIG_SOURCE_MAX, "default");
    }
}

void mf_config_defaults(mf_config *out) {
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        (void)store_value(out, &SETTINGS[i], mf_str_from(SETTINGS[i].def));
    }
}

/* --- settings of a user --- */

mf_rc mf_config_check_user(mf_str key, mf_str value, char normal[MF_CONFIG_TEXT_MAX],
                           mf_err *err) {
    const setting *row = setting_find(key);
    if (row == NULL) {
        return unknown_key("settings", key, err);
    }
    if (!row->per_user) {
        return MF_FAIL_FIELD(err, MF_E_INVAL, row->key,
                             "%s is the same for all users; set it for all of them",
                             row->key);
    }
    if (value.p == NULL) {
        return MF_OK;
    }
    mf_config *scratch = mf_alloc_zero(1, sizeof *scratch);
    if (scratch == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "out of memory for a setting");
    }
    bool fits = store_value(scratch, row, value);
    if (fits) {
        value_text(scratch, row, normal, MF_CONFIG_TEXT_MAX);
    }
    mf_free(scratch);
    return fits ? MF_OK : out_of_range("", row, value, err);
}

bool mf_config_set_user(mf_config *config, mf_str key, mf_str value) {
    const setting *row = setting_find(key);
    return row != NULL && row->per_user && store_value(config, row, value);
}

/* --- YAML --- */

typedef struct yaml_reader {
    yaml_parser_t parser;
    const char *file;
    draft *d;
    char key[CONFIG_KEY_MAX];          /* dotted path of the value to come */
    size_t key_ends[CONFIG_DEPTH_MAX]; /* length of the path at each open mapping */
    size_t depth;
    char list[MF_CONFIG_TEXT_MAX]; /* a sequence so far, comma-separated */
    size_t list_len;
    bool in_list, have_key;
} yaml_reader;

static void yaml_where(const yaml_reader *r, const yaml_event_t *event, char out[],
                       size_t size) {
    (void)snprintf(out, size, "%.255s:%zu", r->file, event->start_mark.line + 1);
}

static mf_rc yaml_wrong(const yaml_reader *r, const yaml_event_t *event,
                        const char *what, mf_err *err) {
    char where[CONFIG_SOURCE_MAX];
    yaml_where(r, event, where, sizeof where);
    return MF_FAIL_FIELD(err, MF_E_INVAL, r->key, "%s: %s%s%s", where, what,
                         r->key[0] ? " at " : "", r->key);
}

/* Drops the last part of the path once its value is read. */
static void yaml_value_done(yaml_reader *r) {
    r->key[r->depth > 0 ? r->key_ends[r->depth - 1] : 0] = '\0';
    r->have_key = false;
}

/* Sets the key in hand.  Two lines for one key are a mistake of whoever wrote them, and
 * only that person knows which one counts. */
static mf_rc yaml_set(yaml_reader *r, const yaml_event_t *event, mf_str value,
                      mf_err *err) {
    char where[CONFIG_SOURCE_MAX];
    yaml_where(r, event, where, sizeof where);
    const setting *row = setting_find(mf_str_from(r->key));
    const char *source = row != NULL ? r->d->sources[row - SETTINGS] : "";
    mf_str file = {where, strlen(where) - strlen(strrchr(where, ':')) + 1};
    if (mf_str_starts(mf_str_from(source), file)) {
        char what[CONFIG_SOURCE_MAX + 32];
        (void)snprintf(what, sizeof what, "set twice, first at %s,", source);
        return yaml_wrong(r, event, what, err);
    }
    return draft_set(r->d, mf_str_from(r->key), value, where, err);
}

static mf_rc yaml_scalar(yaml_reader *r, const yaml_event_t *event, mf_err *err) {
    mf_str text = {(const char *)event->data.scalar.value, event->data.scalar.length};
    char where[CONFIG_SOURCE_MAX];
    yaml_where(r, event, where, sizeof where);
    if (r->in_list) {
        size_t comma = r->list_len > 0;
        if (r->list_len + comma + text.len >= sizeof r->list) {
            return yaml_wrong(r, event, "the list is too long", err);
        }
        memcpy(r->list + r->list_len, ",", comma);
        memcpy(r->list + r->list_len + comma, text.p, text.len);
        r->list_len += comma + text.len;
        return MF_OK;
    }
    if (r->depth == 0) {
        return yaml_wrong(r, event, "the file must be a mapping of settings", err);
    }
    if (!r->have_key) {
        size_t start = r->key_ends[r->depth - 1];
        int n = snprintf(r->key + start, sizeof r->key - start, "%s%.*s",
                         start > 0 ? "." : "", MF_STR_ARGS(text));
        if (n < 0 || (size_t)n >= sizeof r->key - start) {
            return yaml_wrong(r, event, "a key is too long", err);
        }
        r->have_key = true;
        return MF_OK;
    }
    bool is_null = event->data.scalar.plain_implicit &&
                   (text.len == 0 || mf_str_eq(text, MF_STR("~")) ||
                    mf_str_eq(text, MF_STR("null")));
    if (!is_null) { /* `key:` with nothing behind it keeps the default */
        MF_TRY(yaml_set(r, event, text, err));
    } else if (setting_find(mf_str_from(r->key)) == NULL) {
        return unknown_key(where, mf_str_from(r->key), err);
    }
    yaml_value_done(r);
    return MF_OK;
}

static mf_rc yaml_mapping_start(yaml_reader *r, const yaml_event_t *event,
                                mf_err *err) {
    if (r->in_list || (r->depth > 0 && !r->have_key)) {
        return yaml_wrong(r, event, "a mapping is not allowed here", err);
    }
    if (r->depth == CONFIG_DEPTH_MAX) {
        return yaml_wrong(r, event, "mappings are nested too deeply", err);
    }
    r->key_ends[r->depth++] = strlen(r->key);
    r->have_key = false;
    return MF_OK;
}

static void yaml_mapping_end(yaml_reader *r) {
    r->depth--;
    r->key[r->depth > 0 ? r->key_ends[r->depth - 1] : 0] = '\0';
    r->have_key = false;
}

static mf_rc yaml_list_end(yaml_reader *r, const yaml_event_t *event, mf_err *err) {
    r->in_list = false;
    MF_TRY(yaml_set(r, event, (mf_str){r->list, r->list_len}, err));
    yaml_value_done(r);
    return MF_OK;
}

static mf_rc yaml_event(yaml_reader *r, const yaml_event_t *event, mf_err *err) {
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        return yaml_scalar(r, event, err);
    case YAML_MAPPING_START_EVENT:
        return yaml_mapping_start(r, event, err);
    case YAML_MAPPING_END_EVENT:
        yaml_mapping_end(r);
        return MF_OK;
    case YAML_SEQUENCE_START_EVENT:
        if (r->in_list || !r->have_key) {
            return yaml_wrong(r, event, "a list is not allowed here", err);
        }
        r->in_list = true;
        r->list_len = 0;
        return MF_OK;
    case YAML_SEQUENCE_END_EVENT:
        return yaml_list_end(r, event, err);
    case YAML_ALIAS_EVENT:
        return yaml_wrong(r, event, "aliases are not supported", err);
    default:
        return MF_OK; /* stream and document marks */
    }
}

static mf_rc draft_read_yaml(draft *d, const char *path, mf_err *err) {
    mf_buf bytes;
    mf_buf_init(&bytes, CONFIG_FILE_MAX);
    mf_rc rc = mf_file_read(path, &bytes, err);
    if (rc != MF_OK) {
        mf_buf_done(&bytes);
        return mf_err_wrap(err, rc, "reading settings");
    }
    yaml_reader r = {.file = path, .d = d};
    if (!yaml_parser_initialize(&r.parser)) {
        mf_buf_done(&bytes);
        return MF_FAIL(err, MF_E_NOMEM, "out of memory while reading '%s'", path);
    }
    /* The parser asserts that there is an input, even when it has no bytes. */
    const char *text = bytes.len > 0 ? bytes.p : "";
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, bytes.len);
    for (bool more = true; more && rc == MF_OK;) {
        yaml_event_t event;
        if (!yaml_parser_parse(&r.parser, &event)) {
            rc = MF_FAIL(err, MF_E_INVAL, "%s:%zu: not valid YAML: %s", path,
                         r.parser.problem_mark.line + 1,
                         r.parser.problem ? r.parser.problem : "unknown problem");
            break;
        }
        more = event.type != YAML_STREAM_END_EVENT;
        rc = yaml_event(&r, &event, err);
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&r.parser);
    mf_buf_done(&bytes);
    return rc;
}

/* --- environment and --set --- */

static void variable_of(const char *key, char out[CONFIG_KEY_MAX]) {
    size_t n = (size_t)snprintf(out, CONFIG_KEY_MAX, "MEMFUSE_%s", key);
    for (size_t i = 0; i < n; i++) {
        if (out[i] == '.') {
            out[i] = '_';
        } else if (out[i] >= 'a' && out[i] <= 'z') {
            out[i] = (char)(out[i] - 'a' + 'A');
        }
    }
}

static mf_rc draft_set_variable(draft *d, const char *entry, mf_err *err) {
    mf_str value = mf_str_from(entry);
    mf_str name = mf_str_split(&value, '=');
    for (size_t i = 0; i < sizeof OTHER_VARIABLES / sizeof OTHER_VARIABLES[0]; i++) {
        if (mf_str_eq(name, mf_str_from(OTHER_VARIABLES[i]))) {
            return MF_OK;
        }
    }
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        char variable[CONFIG_KEY_MAX];
        variable_of(SETTINGS[i].key, variable);
        if (mf_str_eq(name, mf_str_from(variable))) {
            char where[CONFIG_SOURCE_MAX];
            (void)snprintf(where, sizeof where, "environment %s", variable);
            return draft_set(d, mf_str_from(SETTINGS[i].key), value, where, err);
        }
    }
    return MF_FAIL(
        err, MF_E_INVAL,
        "environment variable %.*s names no setting; `memfuse config` lists them",
        MF_STR_ARGS(name));
}

static mf_rc draft_set_argument(draft *d, const char *argument, mf_err *err) {
    mf_str value = mf_str_from(argument);
    mf_str key = mf_str_split(&value, '=');
    if (value.p == NULL) {
        return MF_FAIL(err, MF_E_INVAL, "--set %s: expected key=value", argument);
    }
    return draft_set(d, key, value, "--set", err);
}

/* Settings that bound one another: each is good alone, together they make no sense. */
static mf_rc draft_check_order(const draft *d, mf_err *err) {
    static const struct {
        size_t low_offset, high_offset;
        const char *low_key, *high_key;
    } orders[] = {
#define MF_ORDER(low, low_key, high, high_key)                                         \
    {offsetof(mf_config, low), offsetof(mf_config, high), low_key, high_key},
#include "text/config_order.def"
#undef MF_ORDER
    };
    const char *values = (const char *)&d->values;
    for (size_t i = 0; i < sizeof orders / sizeof orders[0]; i++) {
        int64_t low, high;
        memcpy(&low, values + orders[i].low_offset, sizeof low);
        memcpy(&high, values + orders[i].high_offset, sizeof high);
        if (low > high) {
            return MF_FAIL_FIELD(err, MF_E_INVAL, orders[i].low_key,
                                 "%s is %lld; it must not be above %s, which is %lld",
                                 orders[i].low_key, (long long)low, orders[i].high_key,
                                 (long long)high);
        }
    }
    return MF_OK;
}

static mf_rc draft_read(const mf_settings *s, draft *d, mf_err *err) {
    draft_defaults(d);
    if (s->file != NULL) {
        MF_TRY(draft_read_yaml(d, s->file, err));
    }
    for (size_t i = 0; i < s->environment_count; i++) {
        MF_TRY(draft_set_variable(d, s->environment[i], err));
    }
    for (size_t i = 0; i < s->set_count; i++) {
        MF_TRY(draft_set_argument(d, s->sets[i], err));
    }
    return draft_check_order(d, err);
}

/* --- the handle --- */

static bool is_ours(const char *entry) {
    return mf_str_starts(mf_str_from(entry), MF_STR("MEMFUSE_"));
}

static char *copy_text(const char *text) {
    return mf_strndup(text, strlen(text));
}

/* Copies the sources, so that a reload reads what the first read did. */
static bool copy_sources(mf_settings *s, const mf_config_sources *sources) {
    size_t variables = 0;
    for (char *const *e = sources->environment; e != NULL && *e != NULL; e++) {
        variables += is_ours(*e);
    }
    s->environment = mf_alloc_zero(variables + 1, sizeof *s->environment);
    s->sets = mf_alloc_zero(sources->set_count + 1, sizeof *s->sets);
    if (s->environment == NULL || s->sets == NULL) {
        return false;
    }
    if (sources->file != NULL && (s->file = copy_text(sources->file)) == NULL) {
        return false;
    }
    for (char *const *e = sources->environment; e != NULL && *e != NULL; e++) {
        if (is_ours(*e)) {
            if ((s->environment[s->environment_count] = copy_text(*e)) == NULL) {
                return false;
            }
            s->environment_count++;
        }
    }
    for (size_t i = 0; i < sources->set_count; i++, s->set_count++) {
        if ((s->sets[i] = copy_text(sources->sets[i])) == NULL) {
            return false;
        }
    }
    return true;
}

mf_rc mf_settings_open(const mf_config_sources *sources, mf_settings **out,
                       mf_err *err) {
    mf_settings *s = mf_alloc_zero(1, sizeof *s);
    snapshot *first = mf_alloc_zero(1, sizeof *first);
    if (s == NULL || first == NULL) {
        mf_free(s);
        mf_free(first);
        return MF_FAIL(err, MF_E_NOMEM, "out of memory while reading settings");
    }
    mf_mutex_init(&s->reload_mu, MF_RANK_CACHE);
    atomic_init(&s->in_force, first);
    mf_rc rc = MF_OK;
    if (!copy_sources(s, sources)) {
        rc = MF_FAIL(err, MF_E_NOMEM, "out of memory while reading settings");
    } else {
        rc = draft_read(s, &first->d, err);
    }
    if (rc != MF_OK) {
        mf_settings_close(s);
        return rc;
    }
    *out = s;
    return MF_OK;
}

void mf_settings_close(mf_settings *settings) {
    if (settings == NULL) {
        return;
    }
    for (snapshot *s = atomic_load(&settings->in_force); s != NULL;) {
        snapshot *older = s->older;
        mf_free(s);
        s = older;
    }
    for (size_t i = 0; i < settings->environment_count; i++) {
        mf_free(settings->environment[i]);
    }
    for (size_t i = 0; i < settings->set_count; i++) {
        mf_free(settings->sets[i]);
    }
    mf_free(settings->environment);
    mf_free(settings->sets);
    mf_free(settings->file);
    mf_mutex_done(&settings->reload_mu);
    mf_free(settings);
}

const mf_config *mf_settings_get(const mf_settings *settings) {
    return &atomic_load(&settings->in_force)->d.values;
}

/* Compares old and new; writes the report.  MF_E_INVAL for a change that needs a
 * restart. */
static mf_rc compare(const draft *old, const draft *new, mf_buf *report, bool *changed,
                     mf_err *err) {
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        const setting *row = &SETTINGS[i];
        char before[MF_CONFIG_TEXT_MAX];
        char after[MF_CONFIG_TEXT_MAX];
        value_text(&old->values, row, before, sizeof before);
        value_text(&new->values, row, after, sizeof after);
        if (strcmp(before, after) == 0) {
            continue;
        }
        if (!row->reloadable) {
            return MF_FAIL_FIELD(
                err, MF_E_INVAL, row->key,
                "%s: %s changed from '%.60s' to '%.60s' but needs a restart; "
                "nothing was changed",
                new->sources[i], row->key, before, after);
        }
        *changed = true;
        if (report != NULL) {
            (void)mf_buf_printf(report, "%s: %s -> %s\n", row->key, before, after);
        }
    }
    return MF_OK;
}

mf_rc mf_settings_reload(mf_settings *settings, mf_buf *report, mf_err *err) {
    snapshot *next = mf_alloc_zero(1, sizeof *next);
    if (next == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "out of memory while reading settings");
    }
    mf_rc rc = draft_read(settings, &next->d, err);
    bool changed = false;
    mf_mutex_lock(&settings->reload_mu);
    snapshot *old = atomic_load(&settings->in_force);
    if (rc == MF_OK) {
        rc = compare(&old->d, &next->d, report, &changed, err);
    }
    if (rc == MF_OK && changed) {
        next->older = old;
        atomic_store(&settings->in_force, next);
        next = NULL;
    }
    mf_mutex_unlock(&settings->reload_mu);
    mf_free(next);
    return rc;
}

void mf_settings_each(const mf_settings *settings,
                      void (*each)(void *ctx, const mf_setting_info *info), void *ctx) {
    static const char *const TYPE_NAMES[] = {"integer", "number", "boolean", "text",
                                             "choice"};
    const draft *d = &atomic_load(&settings->in_force)->d;
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        const setting *row = &SETTINGS[i];
        char value[MF_CONFIG_TEXT_MAX];
        char range[512];
        value_text(&d->values, row, value, sizeof value);
        range_text(row, range, sizeof range);
        mf_setting_info info = {.key = row->key,
                                .type = TYPE_NAMES[row->type],
                                .range = range,
                                .def = row->def,
                                .help = row->help,
                                .reloadable = row->reloadable,
                                .per_user = row->per_user,
                                .value = value,
                                .source = d->sources[i]};
        each(ctx, &info);
    }
}
