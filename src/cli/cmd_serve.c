/* cmd_serve.c - `memfuse serve`: the engine behind sockets, and the signals that steer
 * it.
 *
 * SIGTERM and SIGINT drain and stop; a second one ends the process at once.  SIGHUP
 * reads the settings again. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

static void print_ready(void *ctx, const char *const *addresses, size_t count) {
    const cli_common *common = ctx;
    for (size_t i = 0; i < count; i++) {
        (void)printf("ready http://%s\n", addresses[i]);
    }
    if (!common->quiet && count > 0) {
        const char *port = strrchr(addresses[0], ':');
        (void)printf(
            "Point the MemFuse SDK at http://localhost%s  (documentation: /docs, stop: "
            "Ctrl-C)\n",
            port != NULL ? port : "");
    }
    (void)fflush(stdout);
}

static void reload(mf_engine *engine) {
    char error[MF_ENGINE_ERROR_TEXT];
    char *report = NULL;
    if (mf_engine_reload(engine, &report, error) != 0) {
        cli_error("settings not reloaded: %s", error);
        return;
    }
    (void)fprintf(stderr, "memfuse: settings reloaded%s%s",
                  report[0] ? ":\n" : ", no change\n", report);
    mf_engine_free(report);
}

/* The thread that waits for signals, so that none is handled in a signal context. */
static void *steer(void *arg) {
    mf_engine *engine = arg;
    sigset_t signals;
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGINT);
    (void)sigaddset(&signals, SIGHUP);
    (void)sigaddset(&signals, SIGUSR1);
    bool stopping = false;
    for (;;) {
        int which = 0;
        if (sigwait(&signals, &which) != 0 || which == SIGUSR1) {
            return NULL; /* SIGUSR1: serving has ended by itself */
        }
        if (which == SIGHUP) {
            reload(engine);
        } else if (stopping) {
            _exit(CLI_FAILED);
        } else {
            stopping = true;
            mf_engine_stop(engine);
        }
    }
}

static void block_signals(void) {
    sigset_t signals;
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGINT);
    (void)sigaddset(&signals, SIGHUP);
    (void)sigaddset(&signals, SIGUSR1);
    (void)sigaddset(&signals,
                    SIGPIPE); /* a reader that leaves is an error code, not a death */
    (void)pthread_sigmask(SIG_BLOCK, &signals, NULL);
}

int cmd_serve(cli_common *common, int argc, char **argv) {
    const char *addresses[CLI_SETS_MAX];
    size_t count = 0;
    bool check = false;
    const cli_option options[] = {
        {.name = "listen",
         .letter = 'l',
         .value = "ADDR:PORT",
         .text = addresses,
         .count = &count,
         .help = "address to serve on; may be repeated; port 0 picks one"},
        {.name = "check-config", .flag = &check, .help = "check the settings and exit"},
        {.name = NULL},
    };
    int exit_code = CLI_OK;
    int operands =
        cli_parse(cli_find_command("serve"), options, common, argc, argv, &exit_code);
    if (operands < 0) {
        return exit_code;
    }
    if (operands < argc) {
        cli_error("serve takes no operand, but got '%s'", argv[operands]);
        return CLI_USAGE;
    }
    char error[MF_ENGINE_ERROR_TEXT];
    if (check) {
        mf_engine_options engine_options = mf_engine_options_default();
        engine_options.config_file = common->config_file;
        engine_options.sets = common->sets;
        engine_options.set_count = common->set_count;
        char *json = NULL;
        if (mf_engine_settings(&engine_options, &json, error) != 0) {
            cli_error("%s", error);
            return CLI_FAILED;
        }
        mf_engine_free(json);
        (void)printf("the settings are valid\n");
        return CLI_OK;
    }
    block_signals();
    mf_engine *engine = cli_open(common, MF_ENGINE_EMBEDDED);
    if (engine == NULL) {
        return CLI_FAILED;
    }
    pthread_t thread;
    if (pthread_create(&thread, NULL, steer, engine) != 0) {
        cli_error("cannot start the signal thread");
        mf_engine_close(engine);
        return CLI_FAILED;
    }
    int rc = mf_engine_serve(engine, addresses, count, print_ready, common, error);
    if (rc != 0) {
        cli_error("%s", error);
    }
    (void)pthread_kill(thread, SIGUSR1);
    (void)pthread_join(thread, NULL);
    mf_engine_close(engine);
    return rc == 0 ? CLI_OK : CLI_FAILED;
}
