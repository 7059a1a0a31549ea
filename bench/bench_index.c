/* bench_index.c - how fast one user's index adds and searches, beside what the memory
 * of this machine allows.
 *
 *     bench_index [documents ...]        default: 1000 10000 100000
 *
 * Data: unit vectors of 384 dimensions scattered around document_count / 50 centres,
 * and texts of 25 words drawn from a Zipf distribution over 60,000, in sessions of 20.
 * A query is the vector of a document with noise on it and 8 of its words.  Every
 * search goes to the same index, so its data is as warm as the caches can hold it.
 *
 * The limit printed beside the search is the time to read the vectors' bytes once, in
 * order, by the fastest plain loop found (sums of 64-bit words): no exact scan can be
 * faster. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/rng.h"
#include "index/user_index.h"
#include "num/cpu.h"

enum {
    DIM = 384,
    LATENT = 64,
    WORDS = 60000,
    WORDS_PER_DOC = 25,
    WORDS_PER_QUERY = 8,
    DOCS_PER_SESSION = 20,
    QUERIES = 400,
    HITS = 10,
    CANDIDATES = 40,
    TEXT_MAX = 512,
    PASSES = 20,
};

typedef struct data {
    size_t count;
    float *vectors;                   /* [count, DIM] */
    uint32_t (*words)[WORDS_PER_DOC]; /* [count] */
} data;

static double *zipf; /* [WORDS] cumulated probabilities */
static float *map;   /* [LATENT, DIM] */

static void *must(void *block) {
    if (block == NULL) {
        (void)fprintf(stderr, "out of memory\n");
        exit(1);
    }
    return block;
}

static double normal(mf_rng *rng) {
    double u = mf_rng_unit(rng);
    double v = mf_rng_unit(rng);
    return sqrt(-2.0 * log(1.0 - u)) * cos(6.283185307179586 * v);
}

static void make_tables(mf_rng *rng) {
    zipf = must(mf_alloc_array(WORDS, sizeof(*zipf)));
    double sum = 0.0;
    for (size_t i = 0; i < WORDS; i++) {
        sum += 1.0 / (double)(i + 1);
        zipf[i] = sum;
    }
    for (size_t i = 0; i < WORDS; i++) {
        zipf[i] /= sum;
    }
    map = must(mf_alloc_array((size_t)LATENT * DIM, sizeof(*map)));
    for (size_t i = 0; i < (size_t)LATENT * DIM; i++) {
        map[i] = (float)normal(rng);
    }
}

static uint32_t zipf_word(mf_rng *rng) {
    double at = mf_rng_unit(rng);
    size_t low = 0;
    size_t high = WORDS - 1;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (zipf[middle] < at) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return (uint32_t)low;
}

static void to_unit(float *v) {
    double sum = 0.0;
    for (size_t i = 0; i < DIM; i++) {
        sum += (double)v[i] * (double)v[i];
    }
    for (size_t i = 0; i < DIM; i++) {
        v[i] = (float)((double)v[i] / sqrt(sum));
    }
}

static void make_vector(const float *centre, mf_rng *rng, float *out) {
    float latent[LATENT];
    for (size_t i = 0; i < LATENT; i++) {
        latent[i] = centre[i] + 0.5F * (float)normal(rng);
    }
    for (size_t d = 0; d < DIM; d++) {
        float sum = 0.0F;
        for (size_t i = 0; i < LATENT; i++) {
            sum += latent[i] * map[i * DIM + d];
        }
        out[d] = sum;
    }
    to_unit(out);
}

static data make_data(size_t count, mf_rng *rng) {
    data set = {.count = count};
    size_t centres = count / 50 + 1;
    float *centre = must(mf_alloc_array(centres * LATENT, sizeof(*centre)));
    for (size_t i = 0; i < centres * LATENT; i++) {
        centre[i] = (float)normal(rng);
    }
    set.vectors = must(mf_alloc_array(count * DIM, sizeof(*set.vectors)));
    set.words = must(mf_alloc_array(count, sizeof(*set.words)));
    for (size_t i = 0; i < count; i++) {
        make_vector(centre + mf_rng_below(rng, centres) * LATENT, rng,
                    set.vectors + i * DIM);
        for (size_t w = 0; w < WORDS_PER_DOC; w++) {
            set.words[i][w] = zipf_word(rng);
        }
    }
    mf_free(centre);
    return set;
}

static void check(mf_rc rc, const mf_err *err) {
    if (rc != MF_OK) {
        (void)fprintf(stderr, "%s\n", err->text);
        exit(1);
    }
}

static mf_str text_of(const uint32_t *words, size_t count, char out[TEXT_MAX]) {
    size_t len = 0;
    for (size_t i = 0; i < count; i++) {
        len += (size_t)snprintf(out + len, TEXT_MAX - len, "w%" PRIu32 "q ", words[i]);
    }
    return (mf_str){out, len};
}

static int compare_times(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static double micros(int64_t ns) {
    return (double)ns / 1000.0;
}

static mf_index *build(const data *set) {
    mf_index *index = NULL;
    mf_err err;
    check(mf_index_open(DIM, &index, &err), &err);
    int64_t prepare = 0;
    int64_t add = 0;
    int64_t vectors = 0;
    for (size_t i = 0; i < set->count; i++) {
        uint64_t session = i / DOCS_PER_SESSION + 1;
        mf_index_facts facts = {.key = {0, (int64_t)i + 1}};
        memcpy(facts.session_id.b, &session, sizeof(session));
        facts.created_us = 1700000000000000 + (int64_t)session * 3600000000;
        char text[TEXT_MAX];
        mf_str words = text_of(set->words[i], WORDS_PER_DOC, text);
        mf_index_doc *doc = NULL;
        int64_t from = mf_now_ns();
        check(mf_index_doc_prepare(&facts, words, &doc, &err), &err);
        int64_t prepared = mf_now_ns();
        check(mf_index_add(index, doc, &err), &err);
        int64_t added = mf_now_ns();
        check(mf_index_set_vectors(index, facts.key, set->vectors + i * DIM, 1, &err),
              &err);
        vectors += mf_now_ns() - added;
        add += added - prepared;
        prepare += prepared - from;
    }
    int64_t count = (int64_t)set->count;
    (void)printf(
        "%8zu documents: prepare %.2f us, add %.2f us, vector %.2f us; %zu bytes "
        "each\n",
        set->count, micros(prepare / count), micros(add / count),
        micros(vectors / count), mf_index_bytes(index) / set->count);
    return index;
}

static void search(const mf_index *index, const data *set, mf_index_path path,
                   const char *name, mf_rng *rng) {
    static int64_t times[QUERIES];
    mf_index_weights weights = mf_index_weights_default();
    for (size_t q = 0; q < QUERIES; q++) {
        size_t at = mf_rng_below(rng, set->count);
        float vector[DIM];
        for (size_t i = 0; i < DIM; i++) {
            vector[i] = set->vectors[at * DIM + i] + 0.02F * (float)normal(rng);
        }
        to_unit(vector);
        char text[TEXT_MAX];
        mf_index_query query = {.text = text_of(set->words[at], WORDS_PER_QUERY, text),
                                .vector = path == MF_PATH_KEYWORD ? NULL : vector,
                                .path = path,
                                .messages = true,
                                .knowledge = true,
                                .hits_max = HITS};
        mf_index_hit hits[HITS];
        size_t count;
        mf_err err;
        int64_t from = mf_now_ns();
        check(mf_index_search(index, &query, &weights, hits, &count, &err), &err);
        times[q] = mf_now_ns() - from;
        MF_ASSERT(count == HITS);
    }
    qsort(times, QUERIES, sizeof(times[0]), compare_times);
    (void)printf("%20s search p50 %8.1f us  p99 %8.1f us\n", name,
                 micros(times[QUERIES / 2]), micros(times[QUERIES * 99 / 100]));
}

/* The same question asked a little differently: everything is searched, or only what
 * the first one found is scored again.  By turns. */
static void rescore(const mf_index *index, const data *set, mf_rng *rng) {
    static int64_t whole[QUERIES];
    static int64_t few[QUERIES];
    mf_index_weights weights = mf_index_weights_default();
    bool cheaper = true;
    for (size_t q = 0; q < QUERIES && cheaper; q++) {
        size_t at = mf_rng_below(rng, set->count);
        float vector[DIM];
        memcpy(vector, set->vectors + at * DIM, sizeof(vector));
        char text[TEXT_MAX];
        mf_index_query query = {.text = text_of(set->words[at], WORDS_PER_QUERY, text),
                                .vector = vector,
                                .messages = true,
                                .knowledge = true,
                                .hits_max = CANDIDATES};
        mf_index_hit hits[CANDIDATES];
        mf_index_key keys[CANDIDATES];
        size_t count;
        mf_err err;
        check(mf_index_search(index, &query, &weights, hits, &count, &err), &err);
        for (size_t i = 0; i < count; i++) {
            keys[i] = hits[i].facts.key;
        }
        for (size_t i = 0; i < DIM; i++) {
            vector[i] += 0.01F * (float)normal(rng);
        }
        to_unit(vector);
        query.hits_max = HITS;
        int64_t from = mf_now_ns();
        check(mf_index_search(index, &query, &weights, hits, &count, &err), &err);
        int64_t searched = mf_now_ns();
        check(mf_index_rescore(index, &query, &weights, keys, CANDIDATES, hits, &count,
                               &cheaper, &err),
              &err);
        few[q] = mf_now_ns() - searched;
        whole[q] = searched - from;
    }
    if (!cheaper) {
        (void)printf("%20s a search is the cheaper one\n", "scoring 40 again:");
        return;
    }
    qsort(whole, QUERIES, sizeof(whole[0]), compare_times);
    qsort(few, QUERIES, sizeof(few[0]), compare_times);
    (void)printf(
        "%20s search p50 %8.1f us, scoring 40 again p50 %8.1f us  p99 %8.1f us\n",
        "by turns:", micros(whole[QUERIES / 2]), micros(few[QUERIES / 2]),
        micros(few[QUERIES * 99 / 100]));
}

/* Reads as many bytes as the rows have, the best of a few passes. */
static void limit(size_t count) {
    size_t words = count * DIM / sizeof(uint64_t);
    uint64_t *block = must(mf_alloc_array(words, sizeof(*block)));
    for (size_t i = 0; i < words; i++) {
        block[i] = i;
    }
    int64_t best = INT64_MAX;
    volatile uint64_t sink = 0;
    for (size_t pass = 0; pass < PASSES; pass++) {
        uint64_t sums[8] = {0};
        int64_t from = mf_now_ns();
        for (size_t i = 0; i + 8 <= words; i += 8) {
            for (size_t n = 0; n < 8; n++) {
                sums[n] += block[i + n];
            }
        }
        int64_t took = mf_now_ns() - from;
        best = took < best ? took : best;
        sink += sums[0] + sums[1] + sums[2] + sums[3] + sums[4] + sums[5] + sums[6] +
                sums[7];
    }
    (void)sink;
    (void)printf("%20s %.1f us (%.1f GB/s)\n", "reading the rows once", micros(best),
                 (double)(words * sizeof(*block)) / (double)best);
    mf_free(block);
}

static void run(size_t count) {
    mf_rng rng;
    mf_rng_init(&rng, 42);
    data set = make_data(count, &rng);
    mf_index *index = build(&set);
    search(index, &set, MF_PATH_KEYWORD, "words only", &rng);
    search(index, &set, MF_PATH_VECTOR, "vectors only", &rng);
    search(index, &set, MF_PATH_BLEND, "blend", &rng);
    rescore(index, &set, &rng);
    limit(count);
    mf_index_close(index);
    mf_free(set.vectors);
    mf_free(set.words);
}

int main(int argc, char **argv) {
    mf_rng rng;
    mf_rng_init(&rng, 1);
    make_tables(&rng);
    (void)printf("kernels: %s, %d queries each, top %d\n",
                 mf_cpu_level_name(mf_cpu_best()), QUERIES, HITS);
    if (argc == 1) {
        run(1000);
        run(10000);
        run(100000);
    }
    for (int i = 1; i < argc; i++) {
        int64_t count = 0;
        if (!mf_str_to_i64(mf_str_from(argv[i]), &count) || count < HITS ||
            count > 10000000) {
            (void)fprintf(stderr, "documents: a number from %d to 10000000\n", HITS);
            return 2;
        }
        run((size_t)count);
    }
    mf_free(zipf);
    mf_free(map);
    return 0;
}
