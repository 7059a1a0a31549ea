/* file_stamp_test.c - a stamp stays while a file does, and changes when it changes. */
#include "os/file_stamp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "os/file.h"

static void a_stamp_changes_with_size_and_replacement_only(void **state) {
    (void)state;
    char folder[] = "/tmp/mf-stamp-XXXXXX";
    char path[64];
    char other[64];
    mf_file_stamp first;
    mf_file_stamp again;
    mf_err err;
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof path, "%s/bytes", folder);
    (void)snprintf(other, sizeof other, "%s/other", folder);
    assert_int_equal(mf_file_stamp_get(path, &first, &err), MF_E_NOTFOUND);
    assert_int_equal(mf_file_write_atomic(path, MF_STR("one"), NULL), MF_OK);
    assert_int_equal(mf_file_stamp_get(path, &first, &err), MF_OK);
    assert_int_equal(mf_file_stamp_get(path, &again, &err), MF_OK);
    assert_true(mf_file_stamp_eq(&first, &again));
    assert_int_equal(first.bytes, 3);
    /* As long as before, and made while the old file still has its number. */
    assert_int_equal(mf_file_write_atomic(other, MF_STR("two"), NULL), MF_OK);
    assert_int_equal(rename(other, path), 0);
    assert_int_equal(mf_file_stamp_get(path, &again, &err), MF_OK);
    assert_false(mf_file_stamp_eq(&first, &again));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stamp_changes_with_size_and_replacement_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
