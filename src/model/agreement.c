/* agreement.c - compares the vectors of two encoders.
 *
 * Nearest texts are found by comparing all with all.  That is a product of matrices, so
 * the vectors of some texts at a time are laid out as the weights of a linear layer,
 * and the kernel that runs linear layers gives their products with all texts. */
#include "model/agreement.h"

#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "num/kernels.h"

enum {
    COLUMNS = 1024, /* texts laid out at a time */
    ROWS = 64,      /* texts they are compared with in one call of the kernel */
};

/* A text near another one. */
typedef struct neighbour {
    float score;
    uint32_t text;
} neighbour;

typedef struct work {
    size_t dim;
    size_t nearest;    /* neighbours of a text that are looked for */
    float *exact;      /* [count, dim] */
    float *other;      /* [count, dim] */
    neighbour *wanted; /* [count, nearest], the nearest first */
    neighbour *found;  /* likewise */
    float *scores;     /* [ROWS, COLUMNS] */
    float *zeros;      /* [COLUMNS]: what a linear layer has for a bias */
} work;

static void work_done(work *w) {
    mf_free(w->exact);
    mf_free(w->other);
    mf_free(w->wanted);
    mf_free(w->found);
    mf_free(w->scores);
    mf_free(w->zeros);
}

static mf_rc work_init(work *w, const mf_agreement_call *call, size_t dim,
                       mf_err *err) {
    size_t count = call->count;
    size_t nearest = call->nearest < count - 1 ? call->nearest : count - 1;
    *w = (work){
        .dim = dim,
        .nearest = nearest,
        .exact = mf_alloc_array(count * dim, sizeof *w->exact),
        .other = mf_alloc_array(count * dim, sizeof *w->other),
        .wanted = mf_alloc_array(count * nearest, sizeof *w->wanted),
        .found = mf_alloc_array(count * nearest, sizeof *w->found),
        .scores = mf_alloc_array((size_t)ROWS * COLUMNS, sizeof *w->scores),
        .zeros = mf_alloc_zero(COLUMNS, sizeof *w->zeros),
    };
    if (w->exact == NULL || w->other == NULL || w->wanted == NULL || w->found == NULL ||
        w->scores == NULL || w->zeros == NULL) {
        work_done(w);
        return MF_FAIL(err, MF_E_NOMEM, "no memory to compare %zu texts", count);
    }
    return MF_OK;
}

/* --- vectors ---------------------------------------------------------------------- */

static mf_rc encode_with(mf_lane *exact, mf_lane *other, const mf_agreement_call *call,
                         work *w, mf_err *err) {
    for (size_t done = 0; done < call->count;) {
        size_t take = call->count - done;
        take = take < MF_ENCODE_BATCH_MAX ? take : MF_ENCODE_BATCH_MAX;
        const mf_str *texts = call->texts + done;
        MF_TRY(mf_lane_encode(exact, texts, take, MF_NEVER, w->exact + done * w->dim,
                              NULL, err));
        MF_TRY(mf_lane_encode(other, texts, take, MF_NEVER, w->other + done * w->dim,
                              NULL, err));
        done += take;
        if (call->progress != NULL &&
            !call->progress(call->context, done, call->count)) {
            return MF_FAIL(err, MF_E_STOPPING, "stopped after %zu of %zu texts", done,
                           call->count);
        }
    }
    return MF_OK;
}

static mf_rc encode_all(const mf_agreement_call *call, work *w, mf_err *err) {
    mf_lane *exact = NULL;
    mf_lane *other = NULL;
    mf_rc rc = mf_lane_open(call->exact, &exact, err);
    if (rc == MF_OK) {
        rc = mf_lane_open(call->other, &other, err);
    }
    if (rc == MF_OK) {
        rc = encode_with(exact, other, call, w, err);
    }
    mf_lane_close(exact);
    mf_lane_close(other);
    return rc;
}

static void compare_vectors(const work *w, size_t count, mf_agreement *out) {
    double sum = 0.0;
    out->cosine_min = 2.0; /* more than any */
    for (size_t text = 0; text < count; text++) {
        const float *a = w->exact + text * w->dim;
        const float *b = w->other + text * w->dim;
        double cosine = 0.0; /* both are of norm 1 */
        for (size_t i = 0; i < w->dim; i++) {
            cosine += (double)a[i] * (double)b[i];
        }
        sum += cosine;
        if (cosine < out->cosine_min) {
            out->cosine_min = cosine;
            out->worst = text;
        }
    }
    out->cosine_mean = sum / (double)count;
}

/* --- neighbours ------------------------------------------------------------------- */

/* Puts texts first..first+count, whose scores these are, among the nearest of `text`,
 * which holds as many as `*kept`.  Of texts equally near the first stays. */
static void keep_nearest(const float *scores, size_t first, size_t count, size_t text,
                         size_t nearest, neighbour *list, size_t *kept) {
    for (size_t i = 0; i < count; i++) {
        bool full = *kept == nearest;
        if (first + i == text || (full && scores[i] <= list[nearest - 1].score)) {
            continue;
        }
        size_t at = full ? nearest - 1 : (*kept)++;
        for (; at > 0 && list[at - 1].score < scores[i]; at--) {
            list[at] = list[at - 1];
        }
        list[at] = (neighbour){scores[i], (uint32_t)(first + i)};
    }
}

/* Compares all texts with those laid out in `block`, `width` of them from `first` on.
 */
static void scan_block(const work *w, const mf_matrix *block, const float *vectors,
                       size_t count, size_t first, size_t width, neighbour *lists) {
    for (size_t row = 0; row < count; row += ROWS) {
        size_t rows = count - row < ROWS ? count - row : ROWS;
        mf_kernels_best()->linear(&(mf_linear_call){.matrix = block,
                                                    .x = vectors + row * w->dim,
                                                    .rows = rows,
                                                    .y = w->scores});
        for (size_t i = 0; i < rows; i++) {
            size_t text = row + i;
            /* Every earlier text but this one was offered already. */
            size_t offered = first - (text < first ? 1 : 0);
            size_t kept = offered < w->nearest ? offered : w->nearest;
            keep_nearest(w->scores + i * width, first, width, text, w->nearest,
                         lists + text * w->nearest, &kept);
        }
    }
}

static mf_rc find_nearest(const work *w, const float *vectors, size_t count,
                          neighbour *lists, mf_err *err) {
    for (size_t first = 0; first < count; first += COLUMNS) {
        size_t width = count - first < COLUMNS ? count - first : COLUMNS;
        mf_matrix *block = NULL;
        MF_TRY(mf_matrix_new(width, w->dim, &block, err));
        mf_matrix_set(block, 0, width, vectors + first * w->dim, w->zeros);
        scan_block(w, block, vectors, count, first, width, lists);
        mf_matrix_free(block);
    }
    return MF_OK;
}

/* How many of the `nearest` texts of `wanted` are among those of `found`. */
static size_t count_common(const neighbour *wanted, const neighbour *found,
                           size_t nearest) {
    size_t common = 0;
    for (size_t i = 0; i < nearest; i++) {
        for (size_t k = 0; k < nearest; k++) {
            common += wanted[i].text == found[k].text;
        }
    }
    return common;
}

static mf_rc compare_neighbours(const work *w, size_t count, mf_agreement *out,
                                mf_err *err) {
    size_t common = 0;
    MF_TRY(find_nearest(w, w->exact, count, w->wanted, err));
    MF_TRY(find_nearest(w, w->other, count, w->found, err));
    for (size_t at = 0; at < count * w->nearest; at += w->nearest) {
        common += count_common(w->wanted + at, w->found + at, w->nearest);
    }
    out->recall = (double)common / (double)(count * w->nearest);
    return MF_OK;
}

/* --- all of it -------------------------------------------------------------------- */

static mf_rc check_call(const mf_agreement_call *call, size_t *dim, mf_err *err) {
    mf_encoder_info exact;
    mf_encoder_info other;
    mf_encoder_get_info(call->exact, &exact);
    mf_encoder_get_info(call->other, &other);
    if (exact.dim != other.dim) {
        return MF_FAIL(err, MF_E_INVAL, "vectors of %zu and of %zu numbers", exact.dim,
                       other.dim);
    }
    if (call->count < 2 || call->count > MF_AGREEMENT_TEXTS_MAX) {
        return MF_FAIL(err, MF_E_INVAL, "%zu texts to compare, allowed are 2 to %d",
                       call->count, MF_AGREEMENT_TEXTS_MAX);
    }
    if (call->nearest < 1 || call->nearest > MF_AGREEMENT_NEAREST_MAX) {
        return MF_FAIL(err, MF_E_INVAL, "%zu nearest texts, allowed are 1 to %d",
                       call->nearest, MF_AGREEMENT_NEAREST_MAX);
    }
    *dim = exact.dim;
    return MF_OK;
}

mf_rc mf_agreement_measure(const mf_agreement_call *call, mf_agreement *out,
                           mf_err *err) {
    mf_agreement result = {0};
    size_t dim = 0;
    work w;
    MF_TRY(check_call(call, &dim, err));
    MF_TRY(work_init(&w, call, dim, err));
    mf_rc rc = encode_all(call, &w, err);
    if (rc == MF_OK) {
        compare_vectors(&w, call->count, &result);
        rc = compare_neighbours(&w, call->count, &result, err);
    }
    work_done(&w);
    if (rc == MF_OK) {
        *out = result;
    }
    return rc;
}
