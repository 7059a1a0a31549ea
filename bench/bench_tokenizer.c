/* bench_tokenizer.c - how fast texts become token ids, beside what reading them costs.
 *
 *   bench_tokenizer [folder of models] [text file]
 *
 * The folder holds all-MiniLM-L6-v2, o200k_base.tiktoken and cl100k_base.tiktoken.
 * Without a file the text is the project's own documentation, repeated; give one of
 * your own, of some megabytes, for figures that count.
 *
 * Everything runs on one thread and is timed by that thread's processor time, so that
 * other programs disturb it less.  The tokenizers take turns, and so does the limit: a
 * loop that looks at every byte once and counts the words.  A figure is the median of
 * the repeats, with the lowest and highest behind it; the share of the limit is taken
 * within each repeat.  Then come runs that no rule cuts, of four sizes: tokenizers that
 * take quadratic time on them show it here. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "model/encoding.h"
#include "model/wordpiece.h"
#include "os/file.h"

enum {
    REPEATS = 15,
    TEXT_BYTES = 4 << 20, /* the documentation is repeated up to here */
    FILE_BYTES_MAX = 256 << 20,
    SUBJECTS = 4,
};

/* What is measured: the limit has neither tokenizer. */
typedef struct subject {
    const char *name;
    mf_wordpiece *wordpiece;
    mf_encoding *encoding;
    double open_ms;
    size_t tokens;
    double rate[REPEATS];  /* million bytes a second */
    double share[REPEATS]; /* of the limit in the same repeat */
} subject;

static double thread_s(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now); /* cannot fail on Linux */
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static void must(mf_rc rc, const mf_err *err) {
    if (rc != MF_OK) {
        (void)fprintf(stderr, "%s\n", err->text);
        exit(1);
    }
}

/* --- the text --- */

static void add_documents(mf_buf *text) {
    struct dirent **entries = NULL;
    int count = scandir(MF_BENCH_DOCS_DIR, &entries, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        char path[MF_PATH_MAX];
        mf_str name = mf_str_from(entries[i]->d_name);
        if (mf_str_ends(name, MF_STR(".md")) &&
            mf_path_join(path, sizeof path, MF_BENCH_DOCS_DIR, name.p, NULL) == MF_OK) {
            mf_buf page;
            mf_buf_init(&page, FILE_BYTES_MAX);
            mf_err err;
            must(mf_file_read(path, &page, &err), &err);
            must(mf_buf_add_str(text, mf_buf_view(&page)), &err);
            mf_buf_done(&page);
        }
        free(entries[i]); /* of the C library */
    }
    free(entries);
    mf_err err = {.text = "no documentation to tokenize"};
    must(text->len > 0 ? MF_OK : MF_E_NOTFOUND, &err);
    for (size_t once = text->len; text->len < TEXT_BYTES;) {
        char *copy = mf_strndup(text->p, once);
        must(copy != NULL ? mf_buf_add(text, copy, once) : MF_E_NOMEM, &err);
        mf_free(copy);
    }
}

/* --- measuring --- */

static size_t count_words(mf_str text) {
    size_t words = 0;
    bool inside = false;
    for (size_t i = 0; i < text.len; i++) {
        bool letter = text.p[i] != ' ' && text.p[i] != '\n';
        words += letter && !inside;
        inside = letter;
    }
    return words;
}

static size_t run(const subject *s, mf_str text, uint32_t *ids) {
    if (s->encoding != NULL) {
        return mf_encoding_ids(s->encoding, text, ids, text.len);
    }
    if (s->wordpiece != NULL) {
        return mf_wordpiece_encode(s->wordpiece, text, (int32_t *)ids, text.len + 2,
                                   NULL);
    }
    return count_words(text);
}

/* Million bytes a second. */
static double rate_of(subject *s, mf_str text, uint32_t *ids) {
    double start = thread_s();
    s->tokens = run(s, text, ids);
    return (double)text.len / 1e6 / (thread_s() - start);
}

static void measure(subject subjects[SUBJECTS], mf_str text, uint32_t *ids) {
    for (int repeat = 0; repeat < REPEATS; repeat++) {
        for (int i = 0; i < SUBJECTS; i++) {
            subject *s = &subjects[i];
            s->rate[repeat] = rate_of(s, text, ids);
            s->share[repeat] = s->rate[repeat] / subjects[0].rate[repeat];
        }
    }
}

static void report(subject *s, mf_str text) {
    qsort(s->rate, REPEATS, sizeof *s->rate, by_value);
    qsort(s->share, REPEATS, sizeof *s->share, by_value);
    double rate = s->rate[REPEATS / 2];
    printf("%-12s %8.1f (%.1f .. %.1f) %8.2f %6.0f %%", s->name, rate, s->rate[0],
           s->rate[REPEATS - 1], rate * (double)s->tokens / (double)text.len,
           100 * s->share[REPEATS / 2]);
    if (s->open_ms > 0) {
        printf("  opened in %.1f ms", s->open_ms);
    }
    printf("\n");
}

static void measure_run(subject subjects[SUBJECTS], const char *name, mf_str text,
                        uint32_t *ids) {
    printf("%-34s", name);
    for (size_t bytes = 1 << 14; bytes <= text.len; bytes *= 8) {
        for (int i = 1; i < SUBJECTS; i++) {
            double rates[REPEATS];
            for (int repeat = 0; repeat < REPEATS; repeat++) {
                rates[repeat] = rate_of(&subjects[i], (mf_str){text.p, bytes}, ids);
            }
            qsort(rates, REPEATS, sizeof *rates, by_value);
            printf("%7.0f", rates[REPEATS / 2]);
        }
        printf(bytes * 8 <= text.len ? "  |" : "\n");
    }
}

/* --- the tokenizers --- */

static void open_all(subject subjects[SUBJECTS], const char *models) {
    char path[MF_PATH_MAX];
    mf_err err;
    double start = thread_s();
    must(mf_path_join(path, sizeof path, models, "all-MiniLM-L6-v2", &err), &err);
    must(mf_wordpiece_open(path, &subjects[1].wordpiece, &err), &err);
    subjects[1].open_ms = (thread_s() - start) * 1e3;
    for (int kind = 0; kind < MF_ENCODING_COUNT; kind++) {
        subject *s = &subjects[2 + kind];
        char file[64];
        s->name = mf_encoding_name((mf_encoding_kind)kind);
        (void)snprintf(file, sizeof file, "%s.tiktoken", s->name);
        start = thread_s();
        must(mf_path_join(path, sizeof path, models, file, &err), &err);
        must(mf_encoding_open((mf_encoding_kind)kind, path, &s->encoding, &err), &err);
        s->open_ms = (thread_s() - start) * 1e3;
    }
}

static void measure_runs(subject subjects[SUBJECTS], uint32_t *ids) {
    size_t len = (size_t)1 << 20;
    char *bytes = mf_alloc(len);
    mf_err err = {.text = "no memory for a run"};
    must(bytes != NULL ? MF_OK : MF_E_NOMEM, &err);
    printf("\nMB/s without a break: wordpiece, o200k_base, cl100k_base for 16 KiB, "
           "128 KiB and 1 MiB\n");
    memset(bytes, 'a', len);
    measure_run(subjects, "  one letter", (mf_str){bytes, len}, ids);
    memset(bytes, ' ', len);
    measure_run(subjects, "  blanks", (mf_str){bytes, len}, ids);
    uint64_t state = 1;
    for (size_t i = 0; i < len; i++) {
        state = state * UINT64_C(6364136223846793005) + 1442695040888963407;
        bytes[i] = (char)('a' + (state >> 33) % 26);
    }
    measure_run(subjects, "  random letters", (mf_str){bytes, len}, ids);
    for (size_t i = 0; i < len; i++) {
        state = state * UINT64_C(6364136223846793005) + 1442695040888963407;
        bytes[i] = (char)(state >> 33);
    }
    measure_run(subjects, "  random bytes", (mf_str){bytes, len}, ids);
    mf_free(bytes);
}

int main(int argc, char **argv) {
    const char *models = argc > 1 ? argv[1] : MF_BENCH_MODEL_DIR "/..";
    mf_buf text;
    mf_buf_init(&text, FILE_BYTES_MAX);
    mf_err err;
    if (argc > 2) {
        must(mf_file_read(argv[2], &text, &err), &err);
    } else {
        add_documents(&text);
    }
    subject subjects[SUBJECTS] = {{.name = "limit"}, {.name = "wordpiece"}};
    open_all(subjects, models);
    size_t ids_max = text.len > TEXT_BYTES ? text.len : TEXT_BYTES;
    uint32_t *ids = mf_alloc_array(ids_max + 2, sizeof *ids);
    must(ids != NULL ? MF_OK : MF_E_NOMEM, &err);
    mf_str view = mf_buf_view(&text);
    measure(subjects, view, ids);
    printf("%zu bytes, %d repeats by turns\n%-12s %8s %18s %8s %8s\n", view.len,
           REPEATS, "", "MB/s", "(lowest .. highest)", "Mtok/s", "of limit");
    for (int i = 0; i < SUBJECTS; i++) {
        report(&subjects[i], view);
    }
    measure_runs(subjects, ids);
    for (int i = 0; i < SUBJECTS; i++) {
        mf_wordpiece_close(subjects[i].wordpiece);
        mf_encoding_close(subjects[i].encoding);
    }
    mf_free(ids);
    mf_buf_done(&text);
    return 0;
}
