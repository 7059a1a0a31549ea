/* main.c - the memfuse program: finds the subcommand and runs it. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

static int cmd_version(cli_common *common, int argc, char **argv);
static int cmd_help(cli_common *common, int argc, char **argv);

const cli_command CLI_COMMANDS[] = {
    {"serve", "", "serve the HTTP API until stopped", cmd_serve},
    {"add", "TEXT...", "store a message", cmd_add},
    {"search", "QUERY...", "find what bears on a question", cmd_search},
    {"user", "list|create|rename|delete [NAME]", "manage users", cmd_user},
    {"session", "list|messages|delete [NAME]", "look into a user's sessions",
     cmd_session},
    {"import", "FILE", "store many messages from JSON Lines", cmd_import},
    {"embed", "", "turn lines of text into vectors", cmd_embed},
    {"status", "", "what is stored and how it runs", cmd_status},
    {"jobs", "list|retry|drop [ID...]", "work of the background, and jobs given up",
     cmd_jobs},
    {"memory", "[stats|cleanup|reset]", "what memory is used for, and get some back",
     cmd_memory},
    {"model", "list|info|verify|pull|preload|clear|bench [MODEL]",
     "get, check, keep in memory and measure encoders", cmd_model},
    {"bench", "encoder", "measure how fast texts become vectors", cmd_bench},
    {"tokenize", "[TEXT...]", "count or show the tokens of a text", cmd_tokenize},
    {"config", "[KEY]", "every setting, its value and where it came from", cmd_config},
    {"version", "", "print the version", cmd_version},
    {"help", "[COMMAND]", "explain a command", cmd_help},
    {NULL, NULL, NULL, NULL},
};

const cli_command *cli_find_command(const char *name) {
    for (const cli_command *c = CLI_COMMANDS; c->name != NULL; c++) {
        if (strcmp(c->name, name) == 0) {
            return c;
        }
    }
    return NULL;
}

static void print_overview(FILE *out) {
    (void)fprintf(out,
                  "memfuse %s - the memory of LLM agents in one program\n\n"
                  "Usage: memfuse COMMAND [OPTIONS]\n\nCommands:\n",
                  mf_engine_version());
    for (const cli_command *c = CLI_COMMANDS; c->name != NULL; c++) {
        (void)fprintf(out, "  %-9s %s\n", c->name, c->summary);
    }
    (void)fprintf(
        out, "\n`memfuse COMMAND --help` explains a command.  Commands use the server\n"
             "that is running on the data directory, or open the data themselves.\n");
}

static int cmd_version(cli_common *common, int argc, char **argv) {
    const cli_option none[] = {{.name = NULL}};
    int exit_code = CLI_OK;
    if (cli_parse(cli_find_command("version"), none, common, argc, argv, &exit_code) <
        0) {
        return exit_code;
    }
    (void)printf(common->json ? "{\"version\":\"%s\"}\n" : "memfuse %s\n",
                 mf_engine_version());
    return CLI_OK;
}

static int cmd_help(cli_common *common, int argc, char **argv) {
    if (argc < 2) {
        print_overview(stdout);
        return CLI_OK;
    }
    const cli_command *command = cli_find_command(argv[1]);
    if (command == NULL) {
        cli_error("there is no command '%s'; `memfuse help` lists them", argv[1]);
        return CLI_USAGE;
    }
    if (command->run == cmd_help) {
        print_overview(stdout);
        return CLI_OK;
    }
    char help[] = "--help";
    char *arguments[] = {argv[1], help, NULL};
    return command->run(common, 2, arguments);
}

int main(int argc, char **argv) {
    if (argc < 2) {
        print_overview(stderr);
        return CLI_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_overview(stdout);
        return CLI_OK;
    }
    cli_common common = {.quiet = false};
    const cli_command *command =
        cli_find_command(strcmp(argv[1], "--version") == 0 ? "version" : argv[1]);
    if (command == NULL) {
        cli_error("there is no command '%s'; `memfuse help` lists them", argv[1]);
        return CLI_USAGE;
    }
    return command->run(&common, argc - 1, argv + 1);
}
