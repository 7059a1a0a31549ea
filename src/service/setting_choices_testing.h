/* setting_choices_testing.h - for tests that run under many settings: every switch and
 * every choice among names that begins with "buffer.", found in the table itself, so
 * that new ones are met as soon as they exist. */
#ifndef MF_SERVICE_SETTING_CHOICES_TESTING_H
#define MF_SERVICE_SETTING_CHOICES_TESTING_H

#include "base/rng.h"
#include "service/service_testing.h"

enum { CHOICES_MAX = 32, CHOICE_VALUES = 8 };

typedef struct choice {
    char key[96];
    char values[CHOICE_VALUES][32];
    size_t count, picked;
    bool reloadable;
} choice;

static choice choices[CHOICES_MAX];
static size_t choice_count;

static inline void choices_note(void *ctx, const mf_setting_info *info) {
    (void)ctx;
    bool truth = strcmp(info->type, "boolean") == 0;
    if (strncmp(info->key, "buffer.", 7) != 0 ||
        strcmp(info->key, "buffer.enabled") == 0 ||
        (!truth && strcmp(info->type, "choice") != 0)) {
        return;
    }
    choice *c = &choices[choice_count++];
    assert_true(choice_count < CHOICES_MAX);
    (void)snprintf(c->key, sizeof c->key, "%s", info->key);
    c->reloadable = info->reloadable;
    mf_str rest = mf_str_from(truth ? "true|false" : info->range + strlen("one of "));
    for (; rest.len > 0 && c->count < CHOICE_VALUES; c->count++) {
        mf_str value = mf_str_split(&rest, '|');
        (void)snprintf(c->values[c->count], sizeof c->values[0], "%.*s",
                       MF_STR_ARGS(value));
    }
}

/* Call it once, before the others. */
static inline void choices_find(world *t) {
    mf_settings *settings;
    mf_config_sources none = {.file = NULL};
    choice_count = 0;
    OK(mf_settings_open(&none, &settings, &t->err));
    mf_settings_each(settings, choices_note, NULL);
    mf_settings_close(settings);
    assert_true(choice_count > 0);
}

/* A YAML line for each, of values picked at random: all of them for a new process
 * (`life`), else only those that a reload may change. */
static inline void choices_write(FILE *out, mf_rng *rng, bool life) {
    for (size_t i = 0; i < choice_count; i++) {
        choice *c = &choices[i];
        if (life || c->reloadable) {
            c->picked = (size_t)mf_rng_below(rng, c->count);
        }
        (void)fprintf(out, "%s: %s\n", c->key, c->values[c->picked]);
    }
}

/* Is this the value written last?  false also when there is no such key. */
static inline bool choice_is(const char *key, const char *value) {
    for (size_t i = 0; i < choice_count; i++) {
        const choice *c = &choices[i];
        if (strcmp(c->key, key) == 0) {
            return strcmp(c->values[c->picked], value) == 0;
        }
    }
    return false;
}

#endif
