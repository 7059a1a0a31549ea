/* config_test.c - every source is read, later ones win, and nothing wrong gets through
 * without naming its place, its key and what is allowed. */
#include "text/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/fault.h"

static char yaml_path[] = "/tmp/memfuse-config-XXXXXX";

static void write_yaml(const char *text) {
    FILE *f = fopen(yaml_path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static int make_file(void **state) {
    (void)state;
    int fd = mkstemp(yaml_path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state) {
    (void)state;
    return unlink(yaml_path);
}

static void defaults_are_those_of_the_seeds(void **state) {
    (void)state;
    mf_config c;
    mf_config_defaults(&c);
    assert_true(c.buffer_enabled);
    assert_int_equal(c.buffer_round_max_tokens, 800);
    assert_int_equal(c.buffer_round_max_size, 5);
    assert_string_equal(c.buffer_token_model, "gpt-4o-mini");
    assert_int_equal(c.buffer_hybrid_max_size, 5);
    assert_string_equal(c.buffer_chunk_strategy, "turn");
    assert_string_equal(c.buffer_embedding_model, "all-MiniLM-L6-v2");
    assert_int_equal(c.buffer_query_max_size, 15);
    assert_int_equal(c.buffer_query_cache_size, 100);
    assert_string_equal(c.buffer_query_sort_by, "score");
    assert_string_equal(c.buffer_query_order, "desc");
    assert_int_equal(c.server_port, 8000);
    assert_string_equal(c.store_synchronous, "full");
}

static void later_sources_win(void **state) {
    (void)state;
    write_yaml("# a comment\n"
               "buffer:\n"
               "  round_buffer: {max_tokens: 700, max_size: 9}\n"
               "  query:\n"
               "    cache_size: 7\n"
               "server:\n"
               "  listen: [127.0.0.1:1, '[::1]:2']\n"
               "  host:\n"
               "retrieval: {bm25_b: 0.5}\n");
    char *environment[] = {(char[]){"PATH=/bin"}, (char[]){"MEMFUSE_API_KEY=x"},
                           (char[]){"MEMFUSE_BUFFER_ROUND_BUFFER_MAX_SIZE=8"},
                           (char[]){"MEMFUSE_BUFFER_ENABLED=off"}, NULL};
    const char *sets[] = {"buffer.query.cache_size=6", "log.level=debug"};
    mf_config_sources sources = {yaml_path, environment, sets, 2};
    mf_settings *s = NULL;
    mf_err err = {0};
    assert_int_equal(mf_settings_open(&sources, &s, &err), MF_OK);
    const mf_config *c = mf_settings_get(s);
    assert_int_equal(c->buffer_round_max_tokens, 700);
    assert_int_equal(c->buffer_round_max_size, 8);
    assert_int_equal(c->buffer_query_cache_size, 6);
    assert_false(c->buffer_enabled);
    assert_string_equal(c->server_listen, "127.0.0.1:1,[::1]:2");
    assert_string_equal(c->server_host, "localhost");
    assert_true(c->retrieval_bm25_b == 0.5);
    mf_settings_close(s);
}

typedef struct found {
    const char *key;
    char value[64], source[128];
} found;

static void find_row(void *ctx, const mf_setting_info *info) {
    found *f = ctx;
    if (strcmp(info->key, f->key) == 0) {
        (void)snprintf(f->value, sizeof f->value, "%s", info->value);
        (void)snprintf(f->source, sizeof f->source, "%s", info->source);
    }
}

static void every_value_tells_where_it_came_from(void **state) {
    (void)state;
    write_yaml("store:\n  group_max: 3\n");
    char *environment[] = {(char[]){"MEMFUSE_STORE_READERS=4"}, NULL};
    const char *sets[] = {"user.active_max=2"};
    mf_config_sources sources = {yaml_path, environment, sets, 1};
    mf_settings *s = NULL;
    assert_int_equal(mf_settings_open(&sources, &s, NULL), MF_OK);
    char in_file[64];
    (void)snprintf(in_file, sizeof in_file, "%s:2", yaml_path);
    const struct {
        const char *key, *value, *source;
    } rows[] = {{"store.group_max", "3", in_file},
                {"store.readers", "4", "environment MEMFUSE_STORE_READERS"},
                {"user.active_max", "2", "--set"},
                {"server.port", "8000", "default"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        found f = {.key = rows[i].key};
        mf_settings_each(s, find_row, &f);
        assert_string_equal(f.value, rows[i].value);
        assert_string_equal(f.source, rows[i].source);
    }
    mf_settings_close(s);
}

static void wrong_yaml_names_line_key_and_range(void **state) {
    (void)state;
    static const struct {
        const char *yaml, *says;
    } rows[] = {
        {"buffer:\n  round_buffer:\n    max_tokens: 0\n",
         ":3: buffer.round_buffer.max_tokens is '0'; allowed: 1 to 1000000"},
        {"buffer:\n  round_bufer:\n    max_tokens: 5\n",
         ":3: unknown setting 'buffer.round_bufer.max_tokens'; did you mean "
         "'buffer.round_buffer.max_tokens'?"},
        {"server: {port: 70000}\n", ":1: server.port is '70000'; allowed: 0 to 65535"},
        {"server: {port: eight}\n", "server.port is 'eight'"},
        {"server: {port: -1}\n", "server.port is '-1'"},
        {"server: {port: 99999999999999999999}\n", "server.port is"},
        {"store:\n  synchronous: sometimes\n",
         ":2: store.synchronous is 'sometimes'; allowed: "
         "one of full|normal|off"},
        {"buffer: {enabled: maybe}\n", "allowed: true or false"},
        {"retrieval: {bm25_b: .nan}\n", "retrieval.bm25_b is"},
        {"wholly_unknown: 1\n", "unknown setting 'wholly_unknown'"},
        {"server:\n  nothing_here:\n", "unknown setting 'server.nothing_here'"},
        {"- a\n", "a list is not allowed here"},
        {"just text\n", "the file must be a mapping"},
        {"server: [{a: 1}]\n", "a mapping is not allowed here"},
        {"server: &a {port: 1}\nlog: *a\n", "aliases are not supported"},
        {"a: {a: {a: {a: {a: {a: {a: {a: {a: 1}}}}}}}}}\n", "nested too deeply"},
        {"server: {port: 1\n", "not valid YAML"},
        {"server:\n  port: 1\n  port: 2\n", ":3: set twice, first at "},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        write_yaml(rows[i].yaml);
        mf_config_sources sources = {.file = yaml_path};
        mf_settings *s = NULL;
        mf_err err = {0};
        assert_int_equal(mf_settings_open(&sources, &s, &err), MF_E_INVAL);
        assert_null(s);
        if (strstr(err.text, rows[i].says) == NULL) {
            fail_msg("'%s' does not say '%s'", err.text, rows[i].says);
        }
    }
}

static void wrong_arguments_and_variables_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *set, *variable, *says;
    } rows[] = {
        {"server.port", NULL, "expected key=value"},
        {"server.prt=1", NULL,
         "--set: unknown setting 'server.prt'; did you mean 'server.port'"},
        {"server.port=", NULL, "server.port is ''"},
        {NULL, "MEMFUSE_SERVER_PRT=1", "MEMFUSE_SERVER_PRT names no setting"},
        {NULL, "MEMFUSE_SERVER_PORT=x",
         "environment MEMFUSE_SERVER_PORT: server.port is 'x'"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char variable[64] = "";
        char *environment[] = {variable, NULL};
        if (rows[i].variable != NULL) {
            (void)snprintf(variable, sizeof variable, "%s", rows[i].variable);
        }
        mf_config_sources sources = {NULL, environment, &rows[i].set,
                                     rows[i].set != NULL};
        mf_settings *s = NULL;
        mf_err err = {0};
        assert_int_equal(mf_settings_open(&sources, &s, &err), MF_E_INVAL);
        if (strstr(err.text, rows[i].says) == NULL) {
            fail_msg("'%s' does not say '%s'", err.text, rows[i].says);
        }
    }
}

/* --- every number of the table --- */

typedef struct number_row {
    const char *key;
    bool whole;
    double min, max;
} number_row;

static const number_row numbers[] = {
#define MF_INT(field, key, min, def, max, reload, help)                                \
    {key, true, (double)(min), (double)(max)},
#define MF_REAL(field, key, min, def, max, reload, help) {key, false, min, max},
#define MF_BOOL(field, key, def, reload, help)
#define MF_TEXT(field, key, def, reload, help)
#define MF_CHOICE(field, key, def, choices, reload, help)
#include "text/config.def"
#undef MF_INT
#undef MF_REAL
#undef MF_BOOL
#undef MF_TEXT
#undef MF_CHOICE
};

static mf_rc set_number(const number_row *row, const char *value, mf_err *err) {
    char set[256];
    (void)snprintf(set, sizeof set, "%s=%s", row->key, value);
    const char *sets[] = {set};
    mf_config_sources sources = {.sets = sets, .set_count = 1};
    mf_settings *settings = NULL;
    mf_rc rc = mf_settings_open(&sources, &settings, err);
    mf_settings_close(settings);
    return rc;
}

/* `value` as the table would write it, and steps beyond it. */
static const char *number_text(const number_row *row, double value, int beyond) {
    static char text[64];
    if (row->whole) {
        (void)snprintf(text, sizeof text, "%lld", (long long)value + beyond);
    } else {
        (void)snprintf(text, sizeof text, "%g", value + 0.5 * beyond);
    }
    return text;
}

static void refuses(const number_row *row, const char *value) {
    mf_err err;
    mf_rc rc = set_number(row, value, &err);
    if (rc != MF_E_INVAL || strstr(err.text, row->key) == NULL) {
        fail_msg("%s=%s: %s: %s", row->key, value, mf_rc_name(rc),
                 rc != MF_OK ? err.text : "");
    }
}

/* A bound may still be refused beside the default of a setting it is ordered with
 * (config_order.def): that is told as such. */
static void accepts(const number_row *row, const char *value) {
    mf_err err = {.text = ""};
    if (set_number(row, value, &err) != MF_OK &&
        strstr(err.text, "must not be above") == NULL) {
        fail_msg("%s: a bound is refused: %s", row->key, err.text);
    }
}

static void settings_that_bound_one_another_are_checked_together(void **state) {
    (void)state;
    const char *wrong[] = {"health.transfers.low=200"};
    const char *right[] = {"health.transfers.low=200", "health.transfers.high=300"};
    mf_config_sources sources = {.sets = wrong, .set_count = 1};
    mf_settings *s = NULL;
    mf_err err = {0};
    assert_int_equal(mf_settings_open(&sources, &s, &err), MF_E_INVAL);
    assert_string_equal(err.text, "health.transfers.low is 200; it must not be above "
                                  "health.transfers.high, which is 100");
    assert_string_equal(err.field, "health.transfers.low");
    sources = (mf_config_sources){.sets = right, .set_count = 2};
    assert_int_equal(mf_settings_open(&sources, &s, NULL), MF_OK);
    assert_int_equal(mf_settings_get(s)->health_transfers_low, 200);
    mf_settings_close(s);
}

static void every_number_keeps_its_bounds_and_is_named(void **state) {
    (void)state;
    static const char *const wrong[] = {"",
                                        "many",
                                        "1x",
                                        "0x10",
                                        "1 2",
                                        "--1",
                                        "nan",
                                        "inf",
                                        "-inf",
                                        "1e999",
                                        "99999999999999999999",
                                        "-99999999999999999999"};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        const number_row *row = &numbers[i];
        accepts(row, number_text(row, row->min, 0));
        accepts(row, number_text(row, row->max, 0));
        refuses(row, number_text(row, row->min, -1));
        refuses(row, number_text(row, row->max, 1));
        for (size_t k = 0; k < sizeof wrong / sizeof wrong[0]; k++) {
            refuses(row, wrong[k]);
        }
        if (row->min > 0) {
            refuses(row, "0");
            refuses(row, "-1");
        }
    }
}

static void missing_file_is_an_error_that_names_it(void **state) {
    (void)state;
    mf_config_sources sources = {.file = "/nonexistent/memfuse.yaml"};
    mf_settings *s = NULL;
    mf_err err = {0};
    assert_int_equal(mf_settings_open(&sources, &s, &err), MF_E_NOTFOUND);
    assert_non_null(strstr(err.text, "/nonexistent/memfuse.yaml"));
}

static void an_empty_file_changes_nothing(void **state) {
    (void)state;
    static const char *const texts[] = {"", "\n", "# nothing yet\n"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        write_yaml(texts[i]);
        mf_config_sources sources = {.file = yaml_path};
        mf_settings *s = NULL;
        assert_int_equal(mf_settings_open(&sources, &s, NULL), MF_OK);
        assert_int_equal(mf_settings_get(s)->server_port, 8000);
        mf_settings_close(s);
    }
}

static void reload_is_all_or_nothing(void **state) {
    (void)state;
    write_yaml("retrieval: {top_k: 3}\n");
    mf_config_sources sources = {.file = yaml_path};
    mf_settings *s = NULL;
    mf_err err = {0};
    assert_int_equal(mf_settings_open(&sources, &s, &err), MF_OK);
    const mf_config *before = mf_settings_get(s);

    write_yaml("retrieval: {top_k: 4, bm25_b: 7}\n");
    assert_int_equal(mf_settings_reload(s, NULL, &err), MF_E_INVAL);
    assert_ptr_equal(mf_settings_get(s), before);

    write_yaml("retrieval: {top_k: 4}\nserver: {port: 9}\n");
    assert_int_equal(mf_settings_reload(s, NULL, &err), MF_E_INVAL);
    assert_non_null(strstr(err.text, "server.port"));
    assert_non_null(strstr(err.text, "needs a restart"));
    assert_int_equal(mf_settings_get(s)->retrieval_top_k, 3);

    write_yaml("retrieval: {top_k: 4}\n");
    mf_buf report;
    mf_buf_init(&report, 4096);
    assert_int_equal(mf_settings_reload(s, &report, &err), MF_OK);
    assert_string_equal(report.p, "retrieval.top_k: 3 -> 4\n");
    assert_int_equal(mf_settings_get(s)->retrieval_top_k, 4);
    assert_int_equal(before->retrieval_top_k, 3); /* the old snapshot still stands */
    mf_buf_done(&report);
    mf_settings_close(s);
}

static void open_survives_each_failed_allocation(void **state) {
    (void)state;
    write_yaml("retrieval: {top_k: 3}\n");
    char *environment[] = {(char[]){"MEMFUSE_STORE_READERS=4"}, NULL};
    const char *sets[] = {"user.active_max=2"};
    mf_config_sources sources = {yaml_path, environment, sets, 1};
    size_t live = mf_alloc_live();
    MF_EACH_FAULT("alloc", n) {
        mf_settings *s = NULL;
        mf_err err = {0};
        if (mf_settings_open(&sources, &s, &err) == MF_OK) {
            assert_false(mf_fault_fired());
        } else {
            assert_int_equal(err.rc, MF_E_NOMEM);
            assert_null(s);
        }
        mf_settings_close(s);
        assert_int_equal(mf_alloc_live(), live);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_those_of_the_seeds),
        cmocka_unit_test(later_sources_win),
        cmocka_unit_test(every_value_tells_where_it_came_from),
        cmocka_unit_test(wrong_yaml_names_line_key_and_range),
        cmocka_unit_test(wrong_arguments_and_variables_are_refused),
        cmocka_unit_test(every_number_keeps_its_bounds_and_is_named),
        cmocka_unit_test(settings_that_bound_one_another_are_checked_together),
        cmocka_unit_test(missing_file_is_an_error_that_names_it),
        cmocka_unit_test(an_empty_file_changes_nothing),
        cmocka_unit_test(reload_is_all_or_nothing),
        cmocka_unit_test(open_survives_each_failed_allocation),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
