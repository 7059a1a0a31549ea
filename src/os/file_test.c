/* file_test.c - files are read and replaced whole or not at all. */
#include "os/file.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fault.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static char folder[64];
static char path[80];

static int make_folder(void **state) {
    (void)state;
    (void)snprintf(folder, sizeof folder, "/tmp/memfuse-file-XXXXXX");
    return mkdtemp(folder) != NULL &&
                   mf_path_join(path, sizeof path, folder, "f", NULL) == MF_OK
               ? 0
               : -1;
}

static int remove_folder(void **state) {
    (void)state;
    (void)unlink(path);
    return rmdir(folder);
}

static size_t files_in_folder(void) {
    DIR *dir = opendir(folder);
    size_t count = 0;
    assert_non_null(dir);
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        count += entry->d_name[0] != '.';
    }
    closedir(dir);
    return count;
}

static void write_file(mf_str bytes) {
    assert_int_equal(mf_file_write_atomic(path, bytes, NULL), MF_OK);
}

static void assert_file_holds(mf_str bytes) {
    mf_buf buf;
    mf_buf_init(&buf, 1 << 20);
    assert_int_equal(mf_file_read(path, &buf, NULL), MF_OK);
    assert_true(mf_str_eq(mf_buf_view(&buf), bytes));
    mf_buf_done(&buf);
}

static void what_was_written_is_read_back(void **state) {
    (void)state;
    static char big[300000];
    for (size_t i = 0; i < sizeof big; i++) {
        big[i] = (char)(i * 7);
    }
    write_file((mf_str){big, sizeof big});
    assert_file_holds((mf_str){big, sizeof big});
    write_file(MF_STR_NONE); /* replaces, and may be empty */
    assert_file_holds(MF_STR_NONE);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(files_in_folder(), 1);
}

static void reading_appends_and_stops_at_the_bound(void **state) {
    (void)state;
    mf_buf buf;
    mf_err err;
    mf_buf_init(&buf, 10);
    assert_int_equal(mf_buf_add_str(&buf, MF_STR("12345")), MF_OK);
    write_file(MF_STR("678901"));
    assert_int_equal(mf_file_read(path, &buf, &err), MF_E_LIMIT);
    assert_string_equal(buf.p, "12345");
    assert_int_equal(buf.failed, MF_OK);
    write_file(MF_STR("67890"));
    assert_int_equal(mf_file_read(path, &buf, &err), MF_OK);
    assert_string_equal(buf.p, "1234567890");
    mf_buf_done(&buf);
}

static void missing_files_are_not_found(void **state) {
    (void)state;
    mf_buf buf;
    mf_buf_init(&buf, 10);
    mf_err err;
    mf_file_view view = {NULL, 7};
    assert_int_equal(mf_file_read("/nonexistent/x", &buf, &err), MF_E_NOTFOUND);
    assert_int_equal(err.sys, ENOENT);
    assert_non_null(strstr(err.text, "/nonexistent/x"));
    assert_int_equal(mf_file_map(path, &view, &err), MF_E_NOTFOUND);
    assert_int_equal(view.size, 7); /* untouched */
    assert_int_equal(mf_file_write_atomic("/nonexistent/x", MF_STR("a"), &err),
                     MF_E_NOTFOUND);
    assert_false(mf_file_exists(path));
}

static void a_folder_is_not_read_as_a_file(void **state) {
    (void)state;
    mf_buf buf;
    mf_buf_init(&buf, 10);
    mf_file_view view = {NULL, 0};
    assert_int_equal(mf_file_read(folder, &buf, NULL), MF_E_IO);
    assert_int_equal(mf_file_map(folder, &view, NULL), MF_E_IO);
    mf_buf_done(&buf);
}

static void a_mapping_shows_the_file_and_outlives_its_name(void **state) {
    (void)state;
    write_file(MF_STR("mapped bytes"));
    assert_true(mf_file_exists(path));
    mf_file_view view;
    assert_int_equal(mf_file_map(path, &view, NULL), MF_OK);
    assert_int_equal(view.size, 12);
    write_file(MF_STR("others")); /* the name has another file now */
    assert_memory_equal(view.p, "mapped bytes", 12);
    mf_file_unmap(&view);
    assert_null(view.p);
    assert_int_equal(view.size, 0);
    mf_file_unmap(&view);
    mf_file_unmap(NULL);
    write_file(MF_STR_NONE);
    assert_int_equal(mf_file_map(path, &view, NULL), MF_OK);
    assert_null(view.p);
    assert_int_equal(view.size, 0);
}

static void each_fault_while_writing_leaves_one_whole_file(void **state) {
    (void)state;
    static const char *points[] = {"file.open", "file.write", "file.sync",
                                   "file.rename"};
    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++) {
        uint64_t n = 0;
        bool fired = true;
        for (; fired; n++) {
            write_file(MF_STR("old"));
            mf_fault_arm(points[i], n, false);
            mf_err err;
            mf_rc rc = mf_file_write_atomic(path, MF_STR("new"), &err);
            fired = mf_fault_fired();
            mf_fault_disarm();
            assert_int_equal(rc, fired ? MF_E_IO : MF_OK);
            if (fired) {
                assert_int_equal(err.sys, EIO);
            }
            /* The second open and sync are the folder's: the new file is in place. */
            assert_file_holds(fired && n == 0 ? MF_STR("old") : MF_STR("new"));
            assert_int_equal(files_in_folder(), 1); /* no temporary file stays */
        }
        assert_int_equal(n, i % 2 == 0 ? 3 : 2);
    }
}

static void each_fault_while_reading_leaves_the_output_alone(void **state) {
    (void)state;
    static const char *points[] = {"file.open", "file.read", "file.map",
                                   MF_FAULT_ALLOC};
    static char big[200000];
    memset(big, 'x', sizeof big);
    write_file((mf_str){big, sizeof big});
    size_t live = mf_alloc_live();
    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++) {
        MF_EACH_FAULT(points[i], n) {
            mf_buf buf;
            mf_buf_init(&buf, 1 << 20);
            mf_file_view view = {NULL, 7};
            mf_rc read_rc = mf_file_read(path, &buf, NULL);
            mf_rc map_rc = mf_file_map(path, &view, NULL);
            assert_int_equal(buf.len, read_rc == MF_OK ? sizeof big : 0);
            assert_int_equal(buf.failed, MF_OK);
            assert_int_equal(view.size, map_rc == MF_OK ? sizeof big : 7);
            assert_int_equal(read_rc != MF_OK || map_rc != MF_OK, mf_fault_fired());
            if (i == 3 && read_rc != MF_OK) {
                assert_int_equal(read_rc, MF_E_NOMEM);
            }
            assert_in_range(n, 0, 20);
            mf_file_unmap(&view);
            mf_buf_done(&buf);
            assert_int_equal(mf_alloc_live(), live);
        }
    }
}

static void folders_are_made_with_their_parents(void **state) {
    (void)state;
    char deep[128];
    char mid[128];
    (void)snprintf(mid, sizeof mid, "%s/a", folder);
    (void)snprintf(deep, sizeof deep, "%s/a//b/", folder);
    assert_int_equal(mf_dir_make(deep, NULL), MF_OK);
    assert_int_equal(mf_dir_make(deep, NULL), MF_OK);
    struct stat st;
    assert_int_equal(stat(deep, &st), 0);
    assert_true(S_ISDIR(st.st_mode));
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_int_equal(rmdir(deep), 0);
    assert_int_equal(rmdir(mid), 0);
    assert_int_equal(mf_dir_make("/", NULL), MF_OK);
    assert_int_equal(mf_dir_make("", NULL), MF_E_INVAL);
    char endless[MF_PATH_MAX + 1];
    memset(endless, 'x', MF_PATH_MAX);
    endless[MF_PATH_MAX] = '\0';
    assert_int_equal(mf_dir_make(endless, NULL), MF_E_LIMIT);
    write_file(MF_STR("in the way"));
    assert_int_equal(mf_dir_make(path, NULL), MF_E_IO);
    (void)snprintf(deep, sizeof deep, "%s/below", path);
    assert_int_not_equal(mf_dir_make(deep, NULL), MF_OK);
}

static void paths_are_joined_with_one_slash(void **state) {
    (void)state;
    static const struct {
        const char *dir;
        const char *name;
        const char *joined;
    } rows[] = {
        {"a", "b", "a/b"}, {"a/", "b", "a/b"},      {"a//", "b", "a/b"},
        {"/", "b", "/b"},  {"", "b", "b"},          {"a", "/b", "/b"},
        {".", "b", "./b"}, {"/a", "b/c", "/a/b/c"}, {"a", "", "a/"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char out[32];
        assert_int_equal(mf_path_join(out, sizeof out, rows[i].dir, rows[i].name, NULL),
                         MF_OK);
        assert_string_equal(out, rows[i].joined);
    }
    char small[4];
    assert_int_equal(mf_path_join(small, sizeof small, "a", "b", NULL), MF_OK);
    assert_int_equal(mf_path_join(small, sizeof small, "a", "bc", NULL), MF_E_LIMIT);
    assert_string_equal(small, "a/b");
}

static void memory_of_the_process_is_plausible(void **state) {
    (void)state;
    size_t before = mf_process_rss_bytes();
    assert_true(before > 100000);
    size_t size = 64 << 20;
    char *block = mf_alloc(size);
    assert_non_null(block);
    for (size_t i = 0; i < size; i += 1024) {
        ((volatile char *)block)[i] = 1;
    }
    assert_true(mf_process_rss_bytes() > before + (32 << 20));
    size_t private_bytes = mf_process_private_bytes();
    if (private_bytes != 0) { /* unknown under a sanitizer */
        assert_true(private_bytes > 32 << 20);
        assert_true(private_bytes <= mf_process_rss_bytes());
        mf_free(block);
        mf_alloc_trim();
        assert_true(mf_process_private_bytes() < private_bytes - (32 << 20));
        return;
    }
    mf_free(block);
}

int main(void) {
#define IN_FOLDER(test)                                                                \
    cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(what_was_written_is_read_back),
        IN_FOLDER(reading_appends_and_stops_at_the_bound),
        IN_FOLDER(missing_files_are_not_found),
        IN_FOLDER(a_folder_is_not_read_as_a_file),
        IN_FOLDER(a_mapping_shows_the_file_and_outlives_its_name),
        IN_FOLDER(each_fault_while_writing_leaves_one_whole_file),
        IN_FOLDER(each_fault_while_reading_leaves_the_output_alone),
        IN_FOLDER(folders_are_made_with_their_parents),
        IN_FOLDER(paths_are_joined_with_one_slash),
        IN_FOLDER(memory_of_the_process_is_plausible),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
