/* cmd_tokenize.c - `memfuse tokenize`: how many tokens a text has, and which.
 *
 * The text is the operands joined by blanks, or all of standard input, or with --lines
 * each line of it.  For every text a line is printed: a count, ids, tokens in quotes,
 * or a JSON object.  Needs rank files or model folders only, neither data nor a server.
 *
 * Tokens are bytes and may end inside a character.  In quotes such bytes are \xNN; in
 * JSON a token that is not UTF-8 is an array of its bytes instead of a string. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "memfuse/tokenizer.h"

typedef struct tokenizing {
    const cli_common *common;
    mf_tokenizer *tokenizer;
    bool ids, tokens; /* what to print; neither: the count */
    uint32_t *room;   /* for ids */
    size_t room_count;
} tokenizing;

typedef struct choice {
    const char *model, *encoding, *ranks;
    bool count, ids, tokens, lines;
} choice;

/* --- printing --- */

/* Length of the UTF-8 character at p, of which `left` bytes exist; 0: there is none. */
static size_t char_len(const unsigned char *p, size_t left) {
    size_t len = p[0] < 0x80                   ? 1
                 : p[0] >= 0xC2 && p[0] < 0xE0 ? 2
                 : p[0] >= 0xE0 && p[0] < 0xF0 ? 3
                 : p[0] >= 0xF0 && p[0] < 0xF5 ? 4
                                               : 0;
    if (len > left) {
        return 0;
    }
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xC0) != 0x80) {
            return 0;
        }
    }
    /* Overlong forms, surrogates, beyond U+10FFFF. */
    bool bad = (p[0] == 0xE0 && p[1] < 0xA0) || (p[0] == 0xED && p[1] > 0x9F) ||
               (p[0] == 0xF0 && p[1] < 0x90) || (p[0] == 0xF4 && p[1] > 0x8F);
    return bad ? 0 : len;
}

static bool is_text(const unsigned char *p, size_t len) {
    for (size_t at = 0, n; at < len; at += n) {
        n = char_len(p + at, len - at);
        if (n == 0) {
            return false;
        }
    }
    return true;
}

/* One byte of a token, or a whole character of several, with the escapes of JSON or
 * with \xNN. */
static void print_char(const unsigned char *p, size_t len, bool json) {
    if (len > 1) {
        (void)fwrite(p, 1, len, stdout);
    } else if (*p == '"' || *p == '\\') {
        (void)printf("\\%c", *p);
    } else if (*p == '\n' || *p == '\r' || *p == '\t') {
        (void)printf("\\%c", *p == '\n' ? 'n' : *p == '\r' ? 'r' : 't');
    } else if (*p < 0x20 || *p >= 0x7F) {
        (void)printf(json ? "\\u%04x" : "\\x%02X", *p);
    } else {
        (void)putchar(*p);
    }
}

static void print_quoted(const unsigned char *p, size_t len, bool json) {
    (void)putchar('"');
    for (size_t at = 0; at < len;) {
        size_t n = char_len(p + at, len - at);
        n = n > 0 ? n : 1;
        print_char(p + at, n, json);
        at += n;
    }
    (void)putchar('"');
}

static void print_token(const tokenizing *t, uint32_t id, bool json) {
    size_t len = 0;
    const unsigned char *p =
        (const unsigned char *)mf_tokenizer_token(t->tokenizer, id, &len);
    if (!json || is_text(p, len)) {
        print_quoted(p, len, json);
        return;
    }
    for (size_t i = 0; i < len; i++) {
        (void)printf("%c%u", i == 0 ? '[' : ',', p[i]);
    }
    (void)putchar(']');
}

static void print_list(const tokenizing *t, size_t count, bool tokens, bool json) {
    for (size_t i = 0; i < count; i++) {
        if (i > 0) {
            (void)putchar(json ? ',' : ' ');
        }
        if (tokens) {
            print_token(t, t->room[i], json);
        } else {
            (void)printf("%u", t->room[i]);
        }
    }
}

static void print_json(const tokenizing *t, size_t count) {
    (void)printf("{\"count\":%zu", count);
    if (t->ids) {
        (void)printf(",\"ids\":[");
        print_list(t, count, false, true);
        (void)putchar(']');
    }
    if (t->tokens) {
        (void)printf(",\"tokens\":[");
        print_list(t, count, true, true);
        (void)putchar(']');
    }
    (void)printf("}\n");
}

/* --- texts --- */

/* One text; false after telling that there is no memory for its ids. */
static bool tokenize_text(tokenizing *t, const char *text, size_t len) {
    if (!t->ids && !t->tokens) {
        size_t count = mf_tokenizer_encode(t->tokenizer, text, len, NULL, 0);
        (void)printf(t->common->json ? "{\"count\":%zu}\n" : "%zu\n", count);
        return true;
    }
    if (t->room_count < len + 2) {
        size_t wanted = len + 2 + t->room_count / 2;
        uint32_t *more = realloc(t->room, wanted * sizeof *more);
        if (more == NULL) {
            cli_error("out of memory for the tokens of %zu bytes", len);
            return false;
        }
        t->room = more;
        t->room_count = wanted;
    }
    size_t count = mf_tokenizer_encode(t->tokenizer, text, len, t->room, t->room_count);
    if (t->common->json) {
        print_json(t, count);
    } else {
        print_list(t, count, t->tokens, false);
        (void)putchar('\n');
    }
    return true;
}

static bool tokenize_lines(tokenizing *t) {
    char *line = NULL;
    size_t room = 0;
    bool ok = true;
    for (ssize_t n; ok && (n = getline(&line, &room, stdin)) > 0;) {
        size_t len = (size_t)n;
        ok = tokenize_text(t, line, len - (line[len - 1] == '\n'));
    }
    free(line);
    return ok;
}

/* The operands joined by blanks, or all of standard input. */
static bool tokenize_whole(tokenizing *t, int argc, char **argv) {
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    bool ok = out != NULL;
    char block[65536];
    for (size_t n; ok && argc == 0 && (n = fread(block, 1, sizeof block, stdin)) > 0;) {
        ok = fwrite(block, 1, n, out) == n;
    }
    for (int i = 0; ok && i < argc; i++) {
        ok = fprintf(out, "%s%s", i > 0 ? " " : "", argv[i]) >= 0;
    }
    ok = out != NULL && fclose(out) == 0 && ok;
    if (!ok) {
        cli_error("out of memory for the text");
    }
    ok = ok && !ferror(stdin) && tokenize_text(t, text, len);
    free(text);
    return ok;
}

/* --- the tokenizer --- */

/* The rank file: the one given, for o200k_base that of the settings, or
 * DATA/models/NAME.tiktoken.  false after telling why. */
static bool ranks_path(const cli_common *common, const choice *c, char *out,
                       size_t size) {
    if (c->ranks != NULL) {
        (void)snprintf(out, size, "%s", c->ranks);
        return true;
    }
    out[0] = '\0';
    if (strcmp(c->encoding, "o200k_base") == 0 &&
        !cli_setting(common, "model.ranks_file", out, size)) {
        return false;
    }
    char data[CLI_PATH_TEXT / 4];
    if (out[0] == '\0') {
        if (!cli_setting(common, "server.data_dir", data, sizeof data)) {
            return false;
        }
        (void)snprintf(out, size, "%s/models/%s.tiktoken", data, c->encoding);
    }
    return true;
}

/* NULL after telling why. */
static mf_tokenizer *open_tokenizer(const cli_common *common, const choice *c) {
    char path[CLI_PATH_TEXT];
    char error[MF_ENGINE_ERROR_TEXT];
    mf_tokenizer *tokenizer = NULL;
    bool found = c->model != NULL ? cli_model_dir(common, c->model, path, sizeof path)
                                  : ranks_path(common, c, path, sizeof path);
    if (!found) {
        return NULL;
    }
    int code = c->model != NULL
                   ? mf_tokenizer_open_model(path, &tokenizer, error)
                   : mf_tokenizer_open_encoding(c->encoding, path, &tokenizer, error);
    if (code != 0) {
        cli_error("%s", error);
    }
    return tokenizer;
}

static bool is_encoding(const char *name) {
    const char *const *names = mf_tokenizer_encodings();
    while (*names != NULL && strcmp(*names, name) != 0) {
        names++;
    }
    return *names != NULL;
}

/* What is wrong with the options, or NULL. */
static const char *why_not(const cli_common *common, const choice *c, int operands) {
    if (c->model != NULL && (c->encoding != NULL || c->ranks != NULL)) {
        return "--model is a tokenizer of its own: no --encoding or --ranks with it";
    }
    if (c->encoding != NULL && !is_encoding(c->encoding)) {
        return "--encoding is o200k_base or cl100k_base";
    }
    if (!common->json && c->count + c->ids + c->tokens > 1) {
        return "one of --count, --ids and --tokens at a time, or --json";
    }
    if (c->lines && operands > 0) {
        return "--lines reads standard input: no TEXT with it";
    }
    return NULL;
}

static int run(cli_common *common, choice *c, int argc, char **argv) {
    const char *wrong = why_not(common, c, argc);
    if (wrong != NULL) {
        cli_error("%s", wrong);
        return CLI_USAGE;
    }
    if (c->encoding == NULL) {
        c->encoding = "o200k_base";
    }
    tokenizing t = {.common = common, .ids = c->ids, .tokens = c->tokens};
    t.tokenizer = open_tokenizer(common, c);
    if (t.tokenizer == NULL) {
        return CLI_FAILED;
    }
    bool ok = c->lines ? tokenize_lines(&t) : tokenize_whole(&t, argc, argv);
    if (ok && ferror(stdin)) {
        cli_error("standard input: %s", strerror(errno));
        ok = false;
    }
    if (ok && (fflush(stdout) != 0 || ferror(stdout))) {
        cli_error("standard output: %s", strerror(errno));
        ok = false;
    }
    free(t.room);
    mf_tokenizer_close(t.tokenizer);
    return ok ? CLI_OK : CLI_FAILED;
}

int cmd_tokenize(cli_common *common, int argc, char **argv) {
    choice c = {.model = NULL};
    const cli_option options[] = {
        {.name = "encoding",
         .letter = 'e',
         .value = "NAME",
         .text = &c.encoding,
         .help = "o200k_base or cl100k_base (default: o200k_base)"},
        {.name = "ranks",
         .value = "FILE",
         .text = &c.ranks,
         .help = "its rank file (default: DATA/models/NAME.tiktoken)"},
        {.name = "model",
         .letter = 'm',
         .value = "MODEL",
         .text = &c.model,
         .help =
             "the tokens of an encoder instead: a folder, or a name in DATA/models"},
        {.name = "lines",
         .letter = 'l',
         .flag = &c.lines,
         .help = "each line of standard input is a text, not all of it"},
        {.name = "count",
         .letter = 'n',
         .flag = &c.count,
         .help = "print how many tokens there are (the default)"},
        {.name = "ids", .letter = 'i', .flag = &c.ids, .help = "print their numbers"},
        {.name = "tokens",
         .letter = 't',
         .flag = &c.tokens,
         .help = "print them in quotes"},
        {.name = NULL},
    };
    int exit_code = CLI_OK;
    int operands = cli_parse(cli_find_command("tokenize"), options, common, argc, argv,
                             &exit_code);
    return operands < 0 ? exit_code : run(common, &c, argc - operands, argv + operands);
}
