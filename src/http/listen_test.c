/* listen_test.c - names become sockets, and a stale one does not stand in the way. */
#include "http/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

static void localhost_is_both_loopbacks_on_one_port(void **state) {
    (void)state;
    mf_listen_socket sockets[MF_LISTEN_SOCKETS_MAX];
    size_t count = 0;
    char bound[MF_LISTEN_TEXT];
    assert_int_equal(mf_listen_tcp(MF_STR("localhost:0"), sockets, &count, bound, NULL),
                     MF_OK);
    assert_true(count == 1 || count == 2);
    const char *port = strrchr(bound, ':');
    assert_non_null(port);
    assert_string_not_equal(port, ":0");
    if (count == 2) {
        assert_string_equal(strrchr(sockets[0].text, ':'), port);
        assert_string_equal(strrchr(sockets[1].text, ':'), port);
        assert_memory_equal(sockets[0].text, "127.0.0.1:", 10);
        assert_memory_equal(sockets[1].text, "[::1]:", 6);
        assert_memory_equal(bound, "localhost:", 10);
    }
    for (size_t i = 0; i < count; i++) {
        mf_listen_close(&sockets[i]);
        mf_listen_close(&sockets[i]);
    }
}

static void a_port_in_use_is_an_error_that_names_it(void **state) {
    (void)state;
    mf_listen_socket first[MF_LISTEN_SOCKETS_MAX];
    mf_listen_socket second[MF_LISTEN_SOCKETS_MAX];
    size_t count = 0;
    size_t none = 77;
    char bound[MF_LISTEN_TEXT];
    char unused[MF_LISTEN_TEXT];
    assert_int_equal(mf_listen_tcp(MF_STR("127.0.0.1:0"), first, &count, bound, NULL),
                     MF_OK);
    assert_int_equal(count, 1);
    mf_err err = {0};
    assert_int_equal(mf_listen_tcp(mf_str_from(bound), second, &none, unused, &err),
                     MF_E_IO);
    assert_int_equal(err.sys, EADDRINUSE);
    assert_non_null(strstr(err.text, bound));
    assert_int_equal(none, 77);
    mf_listen_close(&first[0]);
}

static void a_refusing_socket_takes_nobody_and_keeps_its_descriptor(void **state) {
    (void)state;
    mf_listen_socket made[MF_LISTEN_SOCKETS_MAX];
    size_t count = 0;
    char bound[MF_LISTEN_TEXT];
    assert_int_equal(mf_listen_tcp(MF_STR("127.0.0.1:0"), made, &count, bound, NULL),
                     MF_OK);
    struct sockaddr_in address = {0};
    socklen_t len = sizeof address;
    assert_int_equal(getsockname(made[0].fd, (struct sockaddr *)&address, &len), 0);
    mf_listen_refuse(&made[0]);
    mf_listen_refuse(&made[0]);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), -1);
    assert_int_equal(errno, ECONNREFUSED);
    assert_int_equal(close(fd), 0);
    assert_true(fcntl(made[0].fd, F_GETFD) >= 0);
    mf_listen_close(&made[0]);
}

static void malformed_addresses_are_refused(void **state) {
    (void)state;
    static const char *const rows[] = {"",
                                       "localhost",
                                       ":80",
                                       "127.0.0.1:",
                                       "127.0.0.1:x",
                                       "127.0.0.1:65536",
                                       "127.0.0.1:-1",
                                       "::1:80",
                                       "[]:80"};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        mf_listen_socket sockets[MF_LISTEN_SOCKETS_MAX];
        size_t count = 0;
        char bound[MF_LISTEN_TEXT];
        assert_int_equal(
            mf_listen_tcp(mf_str_from(rows[i]), sockets, &count, bound, NULL),
            MF_E_INVAL);
    }
}

static void a_stale_local_socket_is_replaced_and_a_live_one_is_not(void **state) {
    (void)state;
    char folder[] = "/tmp/mf-listen-XXXXXX";
    assert_non_null(mkdtemp(folder));
    char path[64];
    (void)snprintf(path, sizeof path, "%s/socket", folder);
    /* What a killed process leaves behind. */
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, path, strlen(path) + 1);
    int dead = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(dead, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(close(dead), 0);

    mf_listen_socket live;
    mf_listen_socket second;
    assert_int_equal(mf_listen_unix(path, &live, NULL), MF_OK);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(mf_listen_unix(path, &second, NULL), MF_E_IO);
    mf_listen_close(&live);
    assert_int_equal(stat(path, &st), -1);

    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(mf_listen_unix(path, &second, NULL),
                     MF_E_IO); /* no socket: left alone */
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
}

static void a_path_too_long_for_a_local_socket_is_refused(void **state) {
    (void)state;
    char path[300];
    memset(path, 'x', sizeof path);
    path[sizeof path - 1] = '\0';
    mf_listen_socket made;
    assert_int_equal(mf_listen_unix(path, &made, NULL), MF_E_INVAL);
    assert_int_equal(mf_listen_unix("", &made, NULL), MF_E_INVAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(localhost_is_both_loopbacks_on_one_port),
        cmocka_unit_test(a_port_in_use_is_an_error_that_names_it),
        cmocka_unit_test(a_refusing_socket_takes_nobody_and_keeps_its_descriptor),
        cmocka_unit_test(malformed_addresses_are_refused),
        cmocka_unit_test(a_stale_local_socket_is_replaced_and_a_live_one_is_not),
        cmocka_unit_test(a_path_too_long_for_a_local_socket_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
