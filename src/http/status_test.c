/* status_test.c - the table of figures has each place and each sample once, named as
 * Prometheus wants it. */
#include "http/status.h"

#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static mf_str family_of(const mf_stat_row *row) {
    mf_str rest = mf_str_from(row->metric);
    return mf_str_split(&rest, '{');
}

static void no_place_and_no_sample_is_told_twice(void **state) {
    (void)state;
    for (size_t i = 0; i < MF_STAT_ROWS; i++) {
        for (size_t k = 0; k < i; k++) {
            const mf_stat_row *a = &mf_stat_rows[k];
            const mf_stat_row *b = &mf_stat_rows[i];
            if (strcmp(a->group, b->group) == 0 && strcmp(a->field, b->field) == 0) {
                fail_msg("%s.%s is in the table twice", a->group, a->field);
            }
            if (strcmp(a->metric, b->metric) == 0) {
                fail_msg("%s is in the table twice", a->metric);
            }
        }
    }
}

static void rows_of_a_family_stand_together_and_agree(void **state) {
    (void)state;
    for (size_t i = 1; i < MF_STAT_ROWS; i++) {
        const mf_stat_row *before = &mf_stat_rows[i - 1];
        const mf_stat_row *row = &mf_stat_rows[i];
        mf_str family = family_of(row);
        if (mf_str_eq(family, family_of(before))) {
            assert_int_equal(row->kind, before->kind);
            assert_string_equal(row->help, before->help);
            continue;
        }
        for (size_t k = 0; k < i; k++) {
            if (mf_str_eq(family, family_of(&mf_stat_rows[k]))) {
                fail_msg("the rows of %.*s do not stand together", MF_STR_ARGS(family));
            }
        }
    }
}

static void names_follow_the_rules_of_prometheus(void **state) {
    (void)state;
    for (size_t i = 0; i < MF_STAT_ROWS; i++) {
        const mf_stat_row *row = &mf_stat_rows[i];
        mf_str family = family_of(row);
        assert_true(mf_str_starts(family, MF_STR("memfuse_")));
        for (size_t k = 0; k < family.len; k++) {
            char c = family.p[k];
            assert_true((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_');
        }
        bool total = mf_str_ends(family, MF_STR("_total"));
        if (total != (row->kind == MF_STAT_COUNTER)) {
            fail_msg("%s: a counter, and nothing else, ends in _total", row->metric);
        }
        assert_true(row->help[0] != '\0');
        assert_true(row->unit >= 1);
    }
}

static void without_a_model_its_rows_are_left_out(void **state) {
    (void)state;
    static mf_service_status without, with = {.has_model = true};
    size_t left_out = 0;
    for (size_t i = 0; i < MF_STAT_ROWS; i++) {
        const mf_stat_row *row = &mf_stat_rows[i];
        assert_true(mf_stat_is_here(row, &with));
        left_out += mf_stat_is_here(row, &without) ? 0 : 1;
        if (strcmp(row->group, "store") == 0) {
            assert_true(mf_stat_is_here(row, &without));
        }
    }
    assert_true(left_out > 10);
}

static void values_are_read_in_the_order_of_the_table(void **state) {
    (void)state;
    static mf_service_status status = {.uptime_ms = 1234, .store.messages = 77};
    uint64_t values[MF_STAT_ROWS];
    mf_stat_read(&status, values);
    for (size_t i = 0; i < MF_STAT_ROWS; i++) {
        const mf_stat_row *row = &mf_stat_rows[i];
        if (strcmp(row->field, "uptime_ms") == 0) {
            assert_int_equal(values[i], 1234);
        }
        if (strcmp(row->group, "store") == 0 && strcmp(row->field, "messages") == 0) {
            assert_int_equal(values[i], 77);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_place_and_no_sample_is_told_twice),
        cmocka_unit_test(rows_of_a_family_stand_together_and_agree),
        cmocka_unit_test(names_follow_the_rules_of_prometheus),
        cmocka_unit_test(without_a_model_its_rows_are_left_out),
        cmocka_unit_test(values_are_read_in_the_order_of_the_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
