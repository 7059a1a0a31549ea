/* lock_file_test.c - one owner at a time, named to those who come too late. */
#include "os/lock_file.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fault.h"
#include "os/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static char folder[64];
static char path[128];

static int make_folder(void **state) {
    (void)state;
    (void)snprintf(folder, sizeof folder, "/tmp/memfuse-lock-XXXXXX");
    return mkdtemp(folder) != NULL &&
                   mf_path_join(path, sizeof path, folder, "lock", NULL) == MF_OK
               ? 0
               : -1;
}

static int remove_folder(void **state) {
    (void)state;
    (void)unlink(path);
    return rmdir(folder);
}

static mf_lock_file *lock_it(void) {
    mf_lock_file *lock = NULL;
    assert_int_equal(mf_lock_file_open(path, &lock, NULL), MF_OK);
    return lock;
}

static void assert_text_is(const char *lines) {
    char want[256];
    mf_buf text;
    (void)snprintf(want, sizeof want, "pid %ld\n%s", (long)getpid(), lines);
    mf_buf_init(&text, MF_LOCK_TEXT_MAX);
    assert_int_equal(mf_lock_file_read_text(path, &text, NULL), MF_OK);
    assert_string_equal(text.p, want);
    mf_buf_done(&text);
}

static mf_rc read_text_rc(void) {
    mf_buf text;
    mf_buf_init(&text, MF_LOCK_TEXT_MAX);
    mf_rc rc = mf_lock_file_read_text(path, &text, NULL);
    mf_buf_done(&text);
    return rc;
}

static void a_second_owner_is_refused_and_told_the_first(void **state) {
    (void)state;
    mf_lock_file *lock = lock_it();
    mf_lock_file *second = NULL;
    mf_err err;
    assert_int_equal(mf_lock_file_open(path, &second, &err), MF_E_LOCKED);
    assert_null(second);
    char pid[32];
    (void)snprintf(pid, sizeof pid, "process %ld", (long)getpid());
    assert_non_null(strstr(err.text, pid));
    assert_text_is(""); /* the refused one changed nothing */
    mf_lock_file_close(lock);
    mf_lock_file_close(NULL);
    lock = lock_it();
    mf_lock_file_close(lock);
}

static void text_is_there_for_others_while_the_lock_is_held(void **state) {
    (void)state;
    assert_int_equal(read_text_rc(), MF_E_NOTFOUND); /* no file */
    mf_lock_file *lock = lock_it();
    assert_text_is("");
    assert_int_equal(
        mf_lock_file_set_text(lock, MF_STR("address 127.0.0.1:8000\nmore\n"), NULL),
        MF_OK);
    assert_text_is("address 127.0.0.1:8000\nmore\n");
    assert_int_equal(mf_lock_file_set_text(lock, MF_STR("short\n"), NULL), MF_OK);
    assert_text_is("short\n");
    mf_lock_file_close(lock);
    assert_true(mf_file_exists(path));
    assert_int_equal(read_text_rc(), MF_E_NOTFOUND); /* a file, but nobody holds it */
    lock = lock_it();
    assert_text_is(""); /* the words of the last owner are gone */
    mf_lock_file_close(lock);
}

static void reading_does_not_take_the_lock(void **state) {
    (void)state;
    mf_lock_file *lock = lock_it();
    for (int i = 0; i < 3; i++) {
        assert_text_is("");
    }
    mf_lock_file *second = NULL;
    assert_int_equal(mf_lock_file_open(path, &second, NULL), MF_E_LOCKED);
    mf_lock_file_close(lock);
}

static void text_beyond_the_limit_is_refused_and_the_old_stays(void **state) {
    (void)state;
    char big[MF_LOCK_TEXT_MAX];
    memset(big, 'x', sizeof big);
    mf_lock_file *lock = lock_it();
    assert_int_equal(mf_lock_file_set_text(lock, MF_STR("kept\n"), NULL), MF_OK);
    mf_err err;
    assert_int_equal(mf_lock_file_set_text(lock, (mf_str){big, sizeof big}, &err),
                     MF_E_LIMIT);
    assert_text_is("kept\n");
    assert_int_equal(mf_lock_file_set_text(lock, (mf_str){big, 900}, NULL), MF_OK);
    mf_buf text;
    mf_buf_init(&text, 10); /* too small for it */
    assert_int_equal(mf_lock_file_read_text(path, &text, &err), MF_E_LIMIT);
    mf_buf_done(&text);
    mf_lock_file_close(lock);
}

static void the_lock_of_a_killed_process_is_free(void **state) {
    (void)state;
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        mf_lock_file *lock = NULL;
        char answer = mf_lock_file_open(path, &lock, NULL) == MF_OK ? 'y' : 'n';
        (void)!write(ready[1], &answer, 1); /* the parent sees a missing answer */
        for (;;) {
            pause();
        }
    }
    close(ready[1]);
    char answer = 0;
    assert_int_equal(read(ready[0], &answer, 1), 1);
    assert_int_equal(answer, 'y');
    mf_lock_file *lock = NULL;
    mf_err err;
    assert_int_equal(mf_lock_file_open(path, &lock, &err), MF_E_LOCKED);
    char pid[32];
    (void)snprintf(pid, sizeof pid, "process %ld", (long)child);
    assert_non_null(strstr(err.text, pid));
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    close(ready[0]);
    lock = lock_it();
    mf_lock_file_close(lock);
}

static void a_file_without_a_pid_is_told_without_one(void **state) {
    (void)state;
    mf_lock_file *lock = lock_it();
    int fd = open(path, O_WRONLY | O_TRUNC);
    assert_true(fd >= 0);
    close(fd);
    mf_lock_file *second = NULL;
    mf_err err;
    assert_int_equal(mf_lock_file_open(path, &second, &err), MF_E_LOCKED);
    assert_non_null(strstr(err.text, "another process"));
    mf_lock_file_close(lock);
}

static void opening_in_a_missing_folder_is_not_found(void **state) {
    (void)state;
    mf_lock_file *lock = NULL;
    mf_err err;
    assert_int_equal(mf_lock_file_open("/nonexistent/lock", &lock, &err),
                     MF_E_NOTFOUND);
    assert_null(lock);
}

static void each_fault_while_opening_leaves_the_lock_free(void **state) {
    (void)state;
    static const char *points[] = {MF_FAULT_ALLOC, "lock_file.write"};
    size_t live = mf_alloc_live();
    for (size_t i = 0; i < 2; i++) {
        MF_EACH_FAULT(points[i], n) {
            mf_lock_file *lock = NULL;
            mf_err err;
            if (mf_lock_file_open(path, &lock, &err) != MF_OK) {
                assert_true(mf_fault_fired());
                assert_int_equal(err.rc, i == 0 ? MF_E_NOMEM : MF_E_IO);
                assert_null(lock);
                lock = lock_it(); /* the next try works */
            }
            assert_in_range(n, 0, 1);
            mf_lock_file_close(lock);
            assert_int_equal(mf_alloc_live(), live);
        }
    }
}

int main(void) {
#define IN_FOLDER(test)                                                                \
    cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(a_second_owner_is_refused_and_told_the_first),
        IN_FOLDER(text_is_there_for_others_while_the_lock_is_held),
        IN_FOLDER(reading_does_not_take_the_lock),
        IN_FOLDER(text_beyond_the_limit_is_refused_and_the_old_stays),
        IN_FOLDER(the_lock_of_a_killed_process_is_free),
        IN_FOLDER(a_file_without_a_pid_is_told_without_one),
        IN_FOLDER(opening_in_a_missing_folder_is_not_found),
        IN_FOLDER(each_fault_while_opening_leaves_the_lock_free),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
