/* cli.h - what the subcommands of `memfuse` share.
 *
 * The program is the library's first embedder: it knows include/memfuse/, the C library
 * and yyjson for reading replies, nothing else of memfuse.
 *
 * Exit codes: 0 done, 1 it failed (the reason is on stderr), 2 the command line is
 * wrong. */
#ifndef MF_CLI_CLI_H
#define MF_CLI_CLI_H

#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>
#include <yyjson.h>

#include "memfuse/memfuse.h"

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_SETS_MAX = 64 };
enum { CLI_PATH_TEXT = 8192 };

/* Options every command takes. */
typedef struct cli_common {
    const char *config_file;
    const char *sets[CLI_SETS_MAX];
    size_t set_count;
    char data_set[4200]; /* "server.data_dir=..." made from --data */
    bool json;           /* results as JSON on stdout */
    bool quiet;          /* no progress */
} cli_common;

/* One option of a command.  `value` is the placeholder shown in help; NULL: a flag; one
 * that begins with '[' may be left out, and `text` then receives "". */
typedef struct cli_option {
    const char *name;
    char letter; /* 0: none */
    const char *value;
    const char *help;
    const char **text; /* receives the value (options with a value) ... */
    bool *flag;        /* ... or is set (flags) */
    size_t *count; /* repeatable: text is an array of CLI_SETS_MAX, this its count */
} cli_option;

typedef struct cli_command {
    const char *name;
    const char *operands; /* shown in usage, for example "QUERY..." */
    const char *summary;
    int (*run)(cli_common *common, int argc, char **argv);
} cli_command;

/* Reads common options and `options` (ended by a row without a name) from argv, argv[0]
 * being the command.  Returns the index of the first operand; -1 after an error or
 * --help with *exit_code set. */
int cli_parse(const cli_command *command, const cli_option *options, cli_common *common,
              int argc, char **argv, int *exit_code);

/* Opens the engine by the common options; NULL after telling why. */
mf_engine *cli_open(const cli_common *common, mf_engine_mode mode);

/* One API call.  The parsed `data` of a success; on failure NULL after telling the
 * message. With `missing_ok`, a 404 gives NULL and sets *missing instead of telling. */
yyjson_doc *cli_call(mf_engine *engine, const char *method, const char *path,
                     yyjson_mut_doc *body);
yyjson_doc *cli_call_find(mf_engine *engine, const char *path, bool *missing);
yyjson_val *cli_data(yyjson_doc *reply);
/* Prints the reply's data object as JSON, one line. */
void cli_print_json(yyjson_doc *reply);

/* Prints nested objects as "a.b  value" lines, in the order the server gives them. */
void cli_print_values(yyjson_val *object, const char *prefix);

/* Percent-encodes into `out` (cut if it does not fit: names are far shorter). */
void cli_url_encode(const char *text, char *out, size_t size);

enum { CLI_ID_MAX = 40 };
/* Ids by name.  false after telling why.  `create`: made when missing. */
bool cli_user_id(mf_engine *engine, const char *name, bool create, char id[CLI_ID_MAX]);
bool cli_agent_id(mf_engine *engine, const char *name, bool create,
                  char id[CLI_ID_MAX]);
bool cli_session_id(mf_engine *engine, const char *user_id, const char *agent_id,
                    const char *name, bool create, char id[CLI_ID_MAX]);

void cli_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
const char *cli_text(yyjson_val *object, const char *key); /* "" when absent */
bool cli_confirm(const char *question, bool yes); /* --yes, or asks on a terminal */

/* The value of one setting as the options give it.  false after telling why. */
bool cli_setting(const cli_common *common, const char *key, char *out, size_t size);
/* The folder of a model: a path with a slash as it is, a name in DATA/models; NULL:
 * what the settings say.  It need not exist.  false after telling why. */
bool cli_model_dir(const cli_common *common, const char *model, char *out, size_t size);

/* `memfuse config --user`: shows the layers of a user's settings after changing those
 * that common->sets and `unsets` name. */
typedef struct cli_user_config {
    const char *user;
    const char *key; /* the only one shown; NULL: all */
    const char *unsets[CLI_SETS_MAX];
    size_t unset_count;
} cli_user_config;
int cli_config_of_user(const cli_common *common, const cli_user_config *wanted);

/* The models in the memory of a server: what they are, when one runs; loading one;
 * releasing those nobody uses. */
void cli_model_print_memory(const cli_common *common);
int cli_model_preload(const cli_common *common, const char *model);
int cli_model_clear(const cli_common *common);

/* Progress on stderr: a bar on a terminal, nothing elsewhere.  `total` 0: unknown. */
void cli_progress(const cli_common *common, const char *what, size_t done,
                  size_t total);
void cli_progress_end(const cli_common *common);

/* The same for work whose speed is worth knowing: a rate, and the seconds left when the
 * end is known.  Drawn a few times a second at most. */
typedef struct cli_meter {
    bool shown; /* stderr is a terminal and nobody asked for quiet */
    long long start_ms, drawn_ms;
} cli_meter;

void cli_meter_start(cli_meter *meter, const cli_common *common);
/* `done` of what the rate counts, in `unit`, after `part` of `whole` (0: not known) of
 * the way, which may be counted in something else. */
void cli_meter_draw(cli_meter *meter, const char *what, double done, const char *unit,
                    double part, double whole);
void cli_meter_end(cli_meter *meter); /* takes the line away */

/* `status --watch`: looks at a running server every so many seconds until Ctrl-C, and
 * prints as the common options say; an exit code. */
int cli_watch(const cli_common *common, mf_engine *engine, double every_s);
/* The tables of a status: operations that were done, and the health indicators. */
void cli_print_operations(yyjson_val *data);
void cli_print_health(yyjson_val *data);
/* The seconds of --watch=SECONDS ("": 2).  false after telling why. */
bool cli_watch_seconds(const char *text, double *out);

/* Signals of commands that must clean up: after cli_catch_signals, SIGINT and SIGTERM
 * only raise a flag; cli_die_as_asked then ends the process by the signal, as its
 * parent expects. */
void cli_catch_signals(void);
bool cli_is_interrupted(void);
void cli_die_as_asked(void);

int cmd_serve(cli_common *common, int argc, char **argv);
int cmd_add(cli_common *common, int argc, char **argv);
int cmd_search(cli_common *common, int argc, char **argv);
int cmd_user(cli_common *common, int argc, char **argv);
int cmd_session(cli_common *common, int argc, char **argv);
int cmd_status(cli_common *common, int argc, char **argv);
int cmd_jobs(cli_common *common, int argc, char **argv);
int cmd_memory(cli_common *common, int argc, char **argv);
int cmd_embed(cli_common *common, int argc, char **argv);
int cmd_model(cli_common *common, int argc, char **argv);
int cmd_bench(cli_common *common, int argc, char **argv);
int cmd_tokenize(cli_common *common, int argc, char **argv);
int cmd_config(cli_common *common, int argc, char **argv);
int cmd_import(cli_common *common, int argc, char **argv);

extern const cli_command CLI_COMMANDS[];
const cli_command *cli_find_command(const char *name);

#endif
