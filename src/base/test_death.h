/* test_death.h - for unit tests: runs code that must end the process, in a child. */
#ifndef MF_BASE_TEST_DEATH_H
#define MF_BASE_TEST_DEATH_H

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* How the child ended, as waitpid tells it; -1 when there was none.  What it prints on
 * stderr is thrown away. */
static inline int mf_test_child_status(void (*run)(void)) {
    pid_t child = fork();
    if (child == 0) {
        int null = open("/dev/null", O_WRONLY);
        if (null >= 0) {
            (void)dup2(null, STDERR_FILENO);
        }
        run();
        _exit(0);
    }
    int status = -1;
    return child > 0 && waitpid(child, &status, 0) == child ? status : -1;
}

static inline bool mf_test_aborts(void (*run)(void)) {
    int status = mf_test_child_status(run);
    return status != -1 && WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

#endif
