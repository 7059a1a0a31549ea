/* file_advise_test.c - cooling a mapping loses nothing. */
#include "os/file_advise.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static void a_cooled_view_reads_the_same_bytes(void **state) {
    (void)state;
    char folder[] = "/tmp/mf-advise-XXXXXX";
    assert_non_null(mkdtemp(folder));
    char path[64];
    (void)snprintf(path, sizeof path, "%s/bytes", folder);
    static char bytes[3 * 4096 + 7];
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (char)(i * 31 % 127);
    }
    assert_int_equal(mf_file_write_atomic(path, (mf_str){bytes, sizeof bytes}, NULL),
                     MF_OK);
    mf_file_view view = {NULL, 0};
    assert_int_equal(mf_file_map(path, &view, NULL), MF_OK);
    assert_memory_equal(view.p, bytes, sizeof bytes);
    mf_file_view_cool(&view);
    assert_memory_equal(view.p, bytes, sizeof bytes);
    mf_file_unmap(&view);
    mf_file_view_cool(&view); /* an empty view is fine */
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cooled_view_reads_the_same_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
