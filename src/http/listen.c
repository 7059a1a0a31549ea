/* listen.c - listening sockets from their names.
 *
 * IPv6 sockets take IPv6 only, so that "[::]" and "0.0.0.0" can be served side by side
 * and a peer's address has one form.  A client that tries localhost may reach ::1 or
 * 127.0.0.1 first, so localhost means both, on one port. */
#include "http/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 1024, SAME_PORT_TRIES = 32 };

typedef struct endpoint {
    char host[MF_LISTEN_TEXT];
    int port;
} endpoint;

static mf_rc parse_endpoint(mf_str address, endpoint *out, mf_err *err) {
    mf_str host = address;
    mf_str port = MF_STR_NONE;
    for (size_t i = address.len; i > 0; i--) {
        if (address.p[i - 1] == ':') {
            host.len = i - 1;
            port = mf_str_sub(address, i, address.len);
            break;
        }
    }
    if (mf_str_starts(host, MF_STR("[")) && mf_str_ends(host, MF_STR("]"))) {
        host = mf_str_sub(host, 1, host.len - 2);
    } else if (mf_str_find(host, MF_STR(":"), 0) != SIZE_MAX) {
        host.len = 0; /* an IPv6 address needs its brackets */
    }
    int64_t number = -1;
    if (host.len == 0 || host.len >= sizeof out->host ||
        !mf_str_to_i64(port, &number) || number < 0 || number > 65535) {
        return MF_FAIL(
            err, MF_E_INVAL,
            "'%.*s' is no address to listen on: write HOST:PORT or [IPV6]:PORT",
            MF_STR_ARGS(mf_str_sub(address, 0, 100)));
    }
    memcpy(out->host, host.p, host.len);
    out->host[host.len] = '\0';
    out->port = (int)number;
    return MF_OK;
}

static int port_of(const struct sockaddr_storage *address) {
    const void *p = address;
    return ntohs(address->ss_family == AF_INET6
                     ? ((const struct sockaddr_in6 *)p)->sin6_port
                     : ((const struct sockaddr_in *)p)->sin_port);
}

static void name_socket(mf_listen_socket *s) {
    struct sockaddr_storage own = {0};
    socklen_t len = sizeof own;
    char host[INET6_ADDRSTRLEN] = "?";
    (void)getsockname(s->fd, (struct sockaddr *)&own,
                      &len); /* bound, so it has a name */
    const void *p = &own;
    if (own.ss_family == AF_INET6) {
        (void)inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)p)->sin6_addr, host,
                        sizeof host);
        (void)snprintf(s->text, sizeof s->text, "[%s]:%d", host, port_of(&own));
    } else {
        (void)inet_ntop(AF_INET, &((const struct sockaddr_in *)p)->sin_addr, host,
                        sizeof host);
        (void)snprintf(s->text, sizeof s->text, "%s:%d", host, port_of(&own));
    }
}

/* 0, or the errno of what went wrong. */
static int open_socket(const struct sockaddr *address, socklen_t len,
                       mf_listen_socket *out) {
    int one = 1;
    *out =
        (mf_listen_socket){.fd = socket(address->sa_family,
                                        SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
    if (out->fd < 0) {
        return errno;
    }
    bool good = setsockopt(out->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0;
    if (address->sa_family == AF_INET6) {
        good = good &&
               setsockopt(out->fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one) == 0;
    }
    if (!good || bind(out->fd, address, len) != 0 || listen(out->fd, BACKLOG) != 0) {
        int why = errno;
        (void)close(out->fd);
        out->fd = -1;
        return why;
    }
    name_socket(out);
    return 0;
}

static bool lacks_address(int why) {
    return why == EAFNOSUPPORT || why == EADDRNOTAVAIL;
}

/* Both loopbacks on one port; 0 or an errno. */
static int open_localhost(int port, mf_listen_socket *out, size_t *count) {
    struct sockaddr_in v4 = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6,
                              .sin6_port = htons((uint16_t)port),
                              .sin6_addr = in6addr_loopback};
    *count = 0;
    int why4 = open_socket((struct sockaddr *)&v4, sizeof v4, &out[0]);
    if (why4 != 0 && !lacks_address(why4)) {
        return why4;
    }
    if (why4 == 0) {
        struct sockaddr_storage own = {0};
        socklen_t len = sizeof own;
        (void)getsockname(out[0].fd, (struct sockaddr *)&own, &len);
        v6.sin6_port = htons((uint16_t)port_of(&own));
        *count = 1;
    }
    int why6 = open_socket((struct sockaddr *)&v6, sizeof v6, &out[*count]);
    if (why6 == 0) {
        (*count)++;
        return 0;
    }
    if (*count == 1 && lacks_address(why6)) {
        return 0;
    }
    if (*count == 1) {
        mf_listen_close(&out[0]);
    }
    return why6;
}

/* A free port of one family may be taken in the other: then another is tried. */
static int open_localhost_anywhere(int port, mf_listen_socket *out, size_t *count) {
    int why = 0;
    for (int i = 0; i < SAME_PORT_TRIES; i++) {
        why = open_localhost(port, out, count);
        if (why != EADDRINUSE || port != 0) {
            break;
        }
    }
    return why;
}

static mf_rc open_name(const endpoint *e, mf_listen_socket *out, size_t *count,
                       mf_err *err) {
    char port[8];
    struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV,
                             .ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    (void)snprintf(port, sizeof port, "%d", e->port);
    int failed = getaddrinfo(e->host, port, &hints, &list);
    if (failed != 0) {
        return MF_FAIL(err, MF_E_IO, "cannot listen on %s:%s: %s", e->host, port,
                       gai_strerror(failed));
    }
    int why = 0;
    *count = 0;
    for (const struct addrinfo *a = list;
         a != NULL && why == 0 && *count < MF_LISTEN_SOCKETS_MAX; a = a->ai_next) {
        why = open_socket(a->ai_addr, a->ai_addrlen, &out[*count]);
        *count += why == 0;
    }
    freeaddrinfo(list);
    if (why == 0) {
        return MF_OK;
    }
    while (*count > 0) {
        mf_listen_close(&out[--*count]);
    }
    return MF_FAIL_SYS(err, MF_E_IO, why, "cannot listen on %s:%s: %s", e->host, port,
                       strerror(why));
}

mf_rc mf_listen_tcp(mf_str address, mf_listen_socket out[MF_LISTEN_SOCKETS_MAX],
                    size_t *count, char bound[MF_LISTEN_TEXT], mf_err *err) {
    endpoint e;
    size_t n = 0;
    MF_TRY(parse_endpoint(address, &e, err));
    if (!mf_str_eq_ignore_case(mf_str_from(e.host), MF_STR("localhost"))) {
        MF_TRY(open_name(&e, out, &n, err));
        memcpy(bound, out[0].text, MF_LISTEN_TEXT);
        *count = n;
        return MF_OK;
    }
    int why = open_localhost_anywhere(e.port, out, &n);
    if (why != 0) {
        return MF_FAIL_SYS(err, MF_E_IO, why, "cannot listen on localhost:%d: %s",
                           e.port, strerror(why));
    }
    const char *port = strrchr(out[0].text, ':');
    if (n == 1) {
        memcpy(bound, out[0].text, MF_LISTEN_TEXT);
    } else {
        (void)snprintf(bound, MF_LISTEN_TEXT, "localhost%s", port);
    }
    *count = n;
    return MF_OK;
}

/* Removes a socket nobody answers on; anything else at the path is left alone. */
static void remove_stale(const struct sockaddr_un *address) {
    struct stat st;
    if (lstat(address->sun_path, &st) != 0 || !S_ISSOCK(st.st_mode)) {
        return;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return;
    }
    bool dead = connect(fd, (const struct sockaddr *)address, sizeof *address) != 0 &&
                errno == ECONNREFUSED;
    (void)close(fd);
    if (dead) {
        (void)unlink(address->sun_path); /* if it fails, so does bind, which tells */
    }
}

mf_rc mf_listen_unix(const char *path, mf_listen_socket *out, mf_err *err) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t len = strlen(path);
    if (len == 0 || len >= sizeof address.sun_path || len >= sizeof out->text) {
        return MF_FAIL(err, MF_E_INVAL,
                       "the path of a local socket has 1 to %zu bytes: '%.80s'",
                       sizeof address.sun_path - 1, path);
    }
    memcpy(address.sun_path, path, len);
    remove_stale(&address);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        int why = errno;
        if (fd >= 0) {
            (void)close(fd);
        }
        return MF_FAIL_SYS(err, MF_E_IO, why, "cannot listen on '%s': %s", path,
                           strerror(why));
    }
    /* Nobody can connect before listen, so nobody slips in under the wider mode. */
    if (chmod(path, S_IRUSR | S_IWUSR) != 0 || listen(fd, BACKLOG) != 0) {
        int why = errno;
        (void)close(fd);
        (void)unlink(path);
        return MF_FAIL_SYS(err, MF_E_IO, why, "cannot listen on '%s': %s", path,
                           strerror(why));
    }
    *out = (mf_listen_socket){.fd = fd, .is_unix = true};
    memcpy(out->text, path, len + 1);
    return MF_OK;
}

void mf_listen_refuse(mf_listen_socket *socket_made) {
    if (socket_made->fd < 0) {
        return;
    }
    (void)shutdown(socket_made->fd, SHUT_RDWR);
    if (socket_made->is_unix) {
        (void)unlink(socket_made->text);
        socket_made->is_unix = false;
    }
}

void mf_listen_close(mf_listen_socket *socket_made) {
    mf_listen_refuse(socket_made);
    if (socket_made->fd >= 0) {
        (void)close(socket_made->fd);
        socket_made->fd = -1;
    }
}
