/* model_sums_test.c - checksums are those of sha256sum, and its files are read. */
#include "lib/model_sums.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "os/file.h"
#include "os/folder.h"

/* Of "abc" and of nothing: FIPS 180-4, example A.1, and its padding alone. */
#define SUM_ABC "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define SUM_NONE "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static void a_file_has_the_sum_of_its_bytes(void **state) {
    (void)state;
    char dir[] = "/tmp/mf-sums-test-XXXXXX";
    char path[MF_PATH_MAX];
    char sum[MF_SHA256_TEXT] = "";
    assert_non_null(mkdtemp(dir));
    assert_int_equal(mf_path_join(path, sizeof path, dir, "file", NULL), MF_OK);
    assert_int_equal(mf_sha256_file(path, sum, NULL), MF_E_NOTFOUND);
    assert_string_equal(sum, "");
    assert_int_equal(mf_file_write_atomic(path, MF_STR("abc"), NULL), MF_OK);
    assert_int_equal(mf_sha256_file(path, sum, NULL), MF_OK);
    assert_string_equal(sum, SUM_ABC);
    assert_int_equal(mf_file_write_atomic(path, MF_STR(""), NULL), MF_OK);
    assert_int_equal(mf_sha256_file(path, sum, NULL), MF_OK);
    assert_string_equal(sum, SUM_NONE);
    assert_int_equal(mf_folder_remove(dir, NULL), MF_OK);
}

static void lines_are_read_and_comments_passed_over(void **state) {
    (void)state;
    mf_str text = MF_STR("# from somewhere\n" SUM_ABC "  config.json\n\n" SUM_NONE
                         "  1_Pooling/my config.json");
    mf_str rest = text;
    mf_str sum;
    mf_str name;
    bool broken = false;
    assert_true(mf_sums_next(&rest, &sum, &name, &broken));
    assert_true(mf_str_eq(sum, MF_STR(SUM_ABC)));
    assert_true(mf_str_eq(name, MF_STR("config.json")));
    assert_true(mf_sums_next(&rest, &sum, &name, &broken));
    assert_true(mf_str_eq(name, MF_STR("1_Pooling/my config.json")));
    assert_false(mf_sums_next(&rest, &sum, &name, &broken));
    assert_false(broken);
    assert_true(mf_str_eq(mf_sums_find(text, MF_STR("config.json")), MF_STR(SUM_ABC)));
    assert_null(mf_sums_find(text, MF_STR("config")).p);
    assert_null(mf_sums_find(MF_STR_NONE, MF_STR("config.json")).p);
}

static void other_lines_are_noticed(void **state) {
    (void)state;
    static const char *const lines[] = {
        "nonsense",           SUM_ABC,          SUM_ABC "  ",
        SUM_ABC " one",       SUM_ABC " *file", "BA" SUM_ABC "  file",
        "x" SUM_ABC "  file", "abc  file",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        mf_str rest = mf_str_from(lines[i]);
        mf_str sum;
        mf_str name;
        bool broken = false;
        assert_false(mf_sums_next(&rest, &sum, &name, &broken));
        assert_true(broken);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_has_the_sum_of_its_bytes),
        cmocka_unit_test(lines_are_read_and_comments_passed_over),
        cmocka_unit_test(other_lines_are_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
