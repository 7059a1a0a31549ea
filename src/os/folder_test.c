/* folder_test.c - folders are listed in order, removed with what is in them and nothing
 * beyond, and replaced whole. */
#include "os/folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "os/file.h"

enum { ARENA_MAX = 1 << 20 };

typedef struct fixture {
    char dir[64];
    mf_arena *arena;
} fixture;

static int make(void **state) {
    static fixture f;
    (void)snprintf(f.dir, sizeof f.dir, "/tmp/mf-folder-test-XXXXXX");
    assert_non_null(mkdtemp(f.dir));
    assert_int_equal(mf_arena_new(ARENA_MAX, &f.arena, NULL), MF_OK);
    *state = &f;
    return 0;
}

static int clean(void **state) {
    fixture *f = *state;
    mf_arena_free(f->arena);
    assert_int_equal(mf_folder_remove(f->dir, NULL), MF_OK);
    assert_int_equal(mf_alloc_live(), 0);
    return 0;
}

static const char *below(const fixture *f, const char *name) {
    static char paths[4][MF_PATH_MAX];
    static size_t turn;
    char *path = paths[turn++ % 4];
    assert_int_equal(mf_path_join(path, MF_PATH_MAX, f->dir, name, NULL), MF_OK);
    return path;
}

static void put(const fixture *f, const char *name, const char *text) {
    mf_str bytes = mf_str_from(text);
    assert_int_equal(mf_file_write_atomic(below(f, name), bytes, NULL), MF_OK);
}

static void make_folder(const fixture *f, const char *name) {
    assert_int_equal(mf_dir_make(below(f, name), NULL), MF_OK);
}

static void entries_come_sorted_with_kind_and_size(void **state) {
    fixture *f = *state;
    const mf_folder_entry *entries = NULL;
    size_t count = 99;
    assert_int_equal(mf_folder_list(f->dir, f->arena, &entries, &count, NULL), MF_OK);
    assert_int_equal(count, 0);
    make_folder(f, "m");
    put(f, "z", "12345");
    put(f, "a", "");
    put(f, ".hidden", "x");
    assert_int_equal(symlink("z", below(f, "link")), 0);
    assert_int_equal(symlink("nowhere", below(f, "broken")), 0);
    assert_int_equal(mkfifo(below(f, "pipe"), 0600), 0);
    assert_int_equal(mf_folder_list(f->dir, f->arena, &entries, &count, NULL), MF_OK);
    static const mf_folder_entry expected[] = {
        {"a", false, 0}, {"link", false, 5}, {"m", true, 0}, {"z", false, 5}};
    assert_int_equal(count, 4);
    for (size_t i = 0; i < count; i++) {
        assert_string_equal(entries[i].name, expected[i].name);
        assert_int_equal(entries[i].is_folder, expected[i].is_folder);
        assert_int_equal(entries[i].bytes, expected[i].bytes);
    }
}

static void many_entries_are_listed_and_too_many_refused(void **state) {
    fixture *f = *state;
    const mf_folder_entry *entries = NULL;
    size_t count = 0;
    mf_err err;
    char name[16];
    for (int i = 0; i < MF_FOLDER_ENTRIES_MAX; i++) {
        (void)snprintf(name, sizeof name, "%06d", i);
        FILE *file = fopen(below(f, name), "w");
        assert_non_null(file);
        assert_int_equal(fclose(file), 0);
    }
    assert_int_equal(mf_folder_list(f->dir, f->arena, &entries, &count, &err), MF_OK);
    assert_int_equal(count, MF_FOLDER_ENTRIES_MAX);
    assert_string_equal(entries[4095].name, "004095");
    put(f, "one more", "");
    assert_int_equal(mf_folder_list(f->dir, f->arena, &entries, &count, &err),
                     MF_E_LIMIT);
}

static void a_missing_folder_is_told(void **state) {
    fixture *f = *state;
    const mf_folder_entry *entries = NULL;
    size_t count = 0;
    mf_err err;
    const char *path = below(f, "none");
    assert_int_equal(mf_folder_list(path, f->arena, &entries, &count, &err),
                     MF_E_NOTFOUND);
    assert_non_null(strstr(err.text, path));
    assert_int_equal(mf_folder_remove(path, &err), MF_OK);
    assert_int_equal(mf_folder_sync(path, &err), MF_E_NOTFOUND);
    assert_int_equal(mf_folder_sync(f->dir, &err), MF_OK);
}

static void removal_takes_everything_inside_and_follows_no_link(void **state) {
    fixture *f = *state;
    make_folder(f, "kept");
    put(f, "kept/file", "x");
    make_folder(f, "gone/deep/deeper");
    put(f, "gone/deep/file", "x");
    put(f, "gone/.hidden", "x");
    assert_int_equal(symlink("../kept", below(f, "gone/link")), 0);
    assert_int_equal(mf_folder_remove(below(f, "gone"), NULL), MF_OK);
    assert_false(mf_file_exists(below(f, "gone")));
    assert_true(mf_file_exists(below(f, "kept/file")));
}

static void removal_stops_at_its_depth(void **state) {
    fixture *f = *state;
    mf_err err;
    make_folder(f, "0/1/2/3/4/5/6/7/8");
    assert_int_equal(mf_folder_remove(below(f, "0"), &err), MF_E_IO);
    assert_true(mf_file_exists(below(f, "0/1/2/3/4/5/6/7/8")));
    assert_int_equal(mf_folder_remove(below(f, "0/1"), &err), MF_OK);
}

static void a_folder_moves_into_an_empty_place(void **state) {
    fixture *f = *state;
    make_folder(f, "new");
    put(f, "new/file", "x");
    assert_int_equal(mf_folder_replace(below(f, "new"), below(f, "place"), NULL),
                     MF_OK);
    assert_true(mf_file_exists(below(f, "place/file")));
    assert_false(mf_file_exists(below(f, "new")));
}

static void a_folder_takes_the_place_of_another(void **state) {
    fixture *f = *state;
    mf_err err;
    make_folder(f, "place/sub");
    put(f, "place/old", "x");
    make_folder(f, "new");
    put(f, "new/file", "x");
    assert_int_equal(mf_folder_replace(below(f, "new"), below(f, "place"), &err),
                     MF_OK);
    assert_true(mf_file_exists(below(f, "place/file")));
    assert_false(mf_file_exists(below(f, "place/old")));
    assert_false(mf_file_exists(below(f, "new")));
    assert_int_equal(mf_folder_replace(below(f, "none"), below(f, "place"), &err),
                     MF_E_NOTFOUND);
    assert_true(mf_file_exists(below(f, "place/file")));
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, make, clean)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(entries_come_sorted_with_kind_and_size),
        CASE(many_entries_are_listed_and_too_many_refused),
        CASE(a_missing_folder_is_told),
        CASE(removal_takes_everything_inside_and_follows_no_link),
        CASE(removal_stops_at_its_depth),
        CASE(a_folder_moves_into_an_empty_place),
        CASE(a_folder_takes_the_place_of_another),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
