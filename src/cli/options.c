/* options.c - reads a command's options and writes its help from the same rows. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

enum { ROWS_MAX = 32 };

typedef struct parser {
    const cli_option *rows[ROWS_MAX];
    struct option longs[ROWS_MAX + 1];
    char shorts[3 * ROWS_MAX + 1];
    int count;
} parser;

static bool is_optional(const cli_option *row) {
    return row->value != NULL && row->value[0] == '[';
}

static void add_rows(parser *p, const cli_option *options) {
    size_t end = strlen(p->shorts);
    for (; options->name != NULL && p->count < ROWS_MAX; options++) {
        int has_value = options->value != NULL;
        p->longs[p->count] = (struct option){
            .name = options->name, .has_arg = is_optional(options) ? 2 : has_value};
        p->rows[p->count++] = options;
        if (options->letter != 0) {
            p->shorts[end++] = options->letter;
            if (has_value) {
                p->shorts[end++] = ':';
            }
        }
    }
    p->shorts[end] = '\0';
}

static void print_help(const cli_command *command, const parser *p) {
    (void)printf("Usage: memfuse %s [OPTIONS]%s%s\n%s.\n\nOptions:\n", command->name,
                 command->operands[0] ? " " : "", command->operands, command->summary);
    for (int i = 0; i < p->count; i++) {
        const cli_option *row = p->rows[i];
        char left[64];
        char letter[5] = "    ";
        if (row->letter != 0) {
            (void)snprintf(letter, sizeof letter, "-%c, ", row->letter);
        }
        (void)snprintf(left, sizeof left, "%s--%s%s%s", letter, row->name,
                       row->value && !is_optional(row) ? " " : "",
                       row->value ? row->value : "");
        (void)printf("  %-28s %s\n", left, row->help);
    }
}

static const cli_option *row_of_letter(const parser *p, int letter) {
    for (int i = 0; i < p->count; i++) {
        if (p->rows[i]->letter == letter) {
            return p->rows[i];
        }
    }
    return NULL;
}

static bool take(const cli_option *row, const char *value) {
    if (row->value == NULL) {
        *row->flag = true;
    } else if (row->count == NULL) {
        *row->text = value != NULL ? value : "";
    } else if (*row->count < CLI_SETS_MAX) {
        row->text[(*row->count)++] = value;
    } else {
        cli_error("--%s is given more than %d times", row->name, CLI_SETS_MAX);
        return false;
    }
    return true;
}

int cli_parse(const cli_command *command, const cli_option *options, cli_common *common,
              int argc, char **argv, int *exit_code) {
    const char *data = NULL;
    bool help = false;
    const cli_option shared[] = {
        {.name = "data",
         .letter = 'd',
         .value = "DIR",
         .text = &data,
         .help = "data directory (default: data)"},
        {.name = "config",
         .letter = 'c',
         .value = "FILE",
         .text = &common->config_file,
         .help = "settings in YAML"},
        {.name = "set",
         .value = "KEY=VALUE",
         .text = common->sets,
         .count = &common->set_count,
         .help = "one setting; may be repeated"},
        {.name = "json", .flag = &common->json, .help = "print results as JSON"},
        {.name = "quiet", .letter = 'q', .flag = &common->quiet, .help = "no progress"},
        {.name = "help", .letter = 'h', .flag = &help, .help = "this text"},
        {.name = NULL},
    };
    parser p = {.count = 0};
    add_rows(&p, options);
    add_rows(&p, shared);
    *exit_code = CLI_USAGE;
    optind = 1;
    opterr = 0;
    int which = -1;
    for (int c; (c = getopt_long(argc, argv, p.shorts, p.longs, &which)) != -1;
         which = -1) {
        const cli_option *row = c == 0     ? p.rows[which]
                                : c == '?' ? NULL
                                           : row_of_letter(&p, c);
        if (row == NULL) {
            cli_error("'%s' is not an option of `memfuse %s`, or lacks its value; see "
                      "`memfuse %s --help`",
                      argv[optind - 1], command->name, command->name);
            return -1;
        }
        if (!take(row, optarg)) {
            return -1;
        }
    }
    if (help) {
        print_help(command, &p);
        *exit_code = CLI_OK;
        return -1;
    }
    if (data != NULL) {
        (void)snprintf(common->data_set, sizeof common->data_set, "server.data_dir=%s",
                       data);
        if (common->set_count == CLI_SETS_MAX) {
            cli_error("too many --set options");
            return -1;
        }
        common->sets[common->set_count++] = common->data_set;
    }
    return optind;
}
