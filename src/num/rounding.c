/* rounding.c - factors the moments of a layer's inputs and rounds weights with them.
 *
 * Moments are products of matrices, which the kernel for linear layers computes: rows
 * wait until BLOCK of them are there, transposed, and are both its weights and its
 * activations.  The factorisation works on the lower triangle, from the last row up,
 * PANEL rows at a time so that a row is loaded once for all of them. */
#include "num/rounding.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "num/kernels.h"

enum { BLOCK = 512, STRIP = 64, PANEL = 16, OUTPUTS = MF_ROUNDING_OUTPUTS };

/* What is added to every input's own moment, as a share of their mean: inputs that the
 * noted ones say little about keep some weight. */
static const double damping = 0.03;

struct mf_rounding {
    size_t width;
    size_t waiting;     /* rows in `rows` */
    float *rows;        /* [width, BLOCK], zero beyond `waiting` */
    mf_matrix *columns; /* the same as weights */
    float *zeros;       /* [width] */
    float *products;    /* [STRIP, width] */
    /* [width, width]: moments; once prepared, below the diagonal, how much of the error
     * of input j input k makes up for, at [k, j] */
    float *matrix;
    float *weights; /* [width, OUTPUTS]; then their errors */
    int8_t *result; /* [width, OUTPUTS] */
};

mf_rc mf_rounding_new(size_t width, mf_rounding **out, mf_err *err) {
    mf_rounding *r = mf_alloc_zero(1, sizeof *r);
    if (r == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory to round weights");
    }
    r->width = width;
    r->rows = mf_alloc_zero(width * BLOCK, sizeof *r->rows);
    r->zeros = mf_alloc_zero(width, sizeof *r->zeros);
    r->products = mf_alloc_array(width * STRIP, sizeof *r->products);
    r->matrix = mf_alloc_zero(width * width, sizeof *r->matrix);
    r->weights = mf_alloc_zero(width * OUTPUTS, sizeof *r->weights);
    r->result = mf_alloc_zero(width * OUTPUTS, sizeof *r->result);
    mf_rc rc = MF_OK;
    if (r->rows == NULL || r->zeros == NULL || r->products == NULL ||
        r->matrix == NULL || r->weights == NULL || r->result == NULL) {
        rc =
            MF_FAIL(err, MF_E_NOMEM, "no memory to round weights of %zu inputs", width);
    } else {
        rc = mf_matrix_new(width, BLOCK, &r->columns, err);
    }
    if (rc != MF_OK) {
        mf_rounding_free(r);
        return rc;
    }
    *out = r;
    return MF_OK;
}

void mf_rounding_free(mf_rounding *rounding) {
    if (rounding != NULL) {
        mf_free(rounding->rows);
        mf_free(rounding->zeros);
        mf_free(rounding->products);
        mf_free(rounding->matrix);
        mf_free(rounding->weights);
        mf_free(rounding->result);
        mf_matrix_free(rounding->columns);
        mf_free(rounding);
    }
}

/* --- moments ---------------------------------------------------------------------- */

void mf_rounding_reset(mf_rounding *rounding) {
    size_t width = rounding->width;
    memset(rounding->matrix, 0, width * width * sizeof *rounding->matrix);
    memset(rounding->rows, 0, width * BLOCK * sizeof *rounding->rows);
    rounding->waiting = 0;
}

static void add_moments(mf_rounding *r) {
    mf_matrix_set(r->columns, 0, r->width, r->rows, r->zeros);
    for (size_t first = 0; first < r->width; first += STRIP) {
        size_t rest = r->width - first;
        size_t rows = rest < STRIP ? rest : STRIP;
        float *to = r->matrix + first * r->width;
        mf_kernels_best()->linear(&(mf_linear_call){.matrix = r->columns,
                                                    .x = r->rows + first * BLOCK,
                                                    .rows = rows,
                                                    .y = r->products});
        for (size_t i = 0; i < rows * r->width; i++) {
            to[i] += r->products[i];
        }
    }
    memset(r->rows, 0, r->width * BLOCK * sizeof *r->rows);
    r->waiting = 0;
}

void mf_rounding_note(mf_rounding *rounding, const float *x) {
    if (rounding->waiting == BLOCK) {
        add_moments(rounding);
    }
    for (size_t i = 0; i < rounding->width; i++) {
        rounding->rows[i * BLOCK + rounding->waiting] = x[i];
    }
    rounding->waiting++;
}

/* --- factors ---------------------------------------------------------------------- */

/* Divides by the factors and adds the damping; returns how much that is. */
static float condition(float *a, size_t width, const float *factors) {
    double trace = 0.0;
    for (size_t k = 0; k < width; k++) {
        for (size_t j = 0; factors != NULL && j <= k; j++) {
            a[k * width + j] /= factors[k] * factors[j];
        }
        trace += (double)a[k * width + k];
    }
    float added = (float)(damping * trace / (double)width);
    if (!(added > 0.0F)) {
        added = 1.0F; /* nothing was noted */
    }
    for (size_t k = 0; k < width; k++) {
        a[k * width + k] += added;
    }
    return added;
}

/* Takes row k's part out of row i < k, whose share of it is `share`. */
static void take_out(float *restrict to, const float *restrict row, float share,
                     size_t count) {
    for (size_t j = 0; j < count; j++) {
        to[j] -= share * row[j];
    }
}

/* Finishes rows low..high.  No pivot is below what was added to the diagonal, but for
 * errors of rounding. */
static void factor_panel(float *a, size_t width, size_t low, size_t high,
                         float pivot_min) {
    for (size_t k = high; k-- > low;) {
        float *row = a + k * width;
        row[k] = fmaxf(row[k], pivot_min);
        for (size_t i = low; i < k; i++) {
            take_out(a + i * width, row, row[i] / row[k], i + 1);
        }
    }
    for (size_t i = 0; i < low; i++) {
        for (size_t k = high; k-- > low;) {
            const float *row = a + k * width;
            take_out(a + i * width, row, row[i] / row[k], i + 1);
        }
    }
}

void mf_rounding_prepare(mf_rounding *rounding, const float *factors) {
    size_t width = rounding->width;
    float *a = rounding->matrix;
    add_moments(rounding);
    float pivot_min = condition(a, width, factors);
    for (size_t high = width; high > 0;) {
        size_t low = high > PANEL ? high - PANEL : 0;
        factor_panel(a, width, low, high, pivot_min);
        high = low;
    }
    for (size_t k = 0; k < width; k++) {
        float *row = a + k * width;
        for (size_t j = 0; j < k; j++) {
            row[j] /= row[k];
        }
    }
}

/* --- rounding --------------------------------------------------------------------- */

float *mf_rounding_weights(mf_rounding *rounding) {
    return rounding->weights;
}

const int8_t *mf_rounding_result(const mf_rounding *rounding) {
    return rounding->result;
}

void mf_rounding_run(mf_rounding *rounding, const float scales[MF_ROUNDING_OUTPUTS]) {
    size_t width = rounding->width;
    float *errors = rounding->weights; /* those of inputs already rounded */
    for (size_t k = 0; k < width; k++) {
        const float *shares = rounding->matrix + k * width;
        float owed[OUTPUTS] = {0};
        for (size_t j = 0; j < k; j++) {
            for (size_t n = 0; n < OUTPUTS; n++) {
                owed[n] += shares[j] * errors[j * OUTPUTS + n];
            }
        }
        for (size_t n = 0; n < OUTPUTS; n++) {
            float weight = errors[k * OUTPUTS + n];
            float steps = scales[n] == 0.0F ? 0.0F : (weight + owed[n]) / scales[n];
            float q = rintf(fmaxf(fminf(steps, 127.0F), -127.0F));
            rounding->result[k * OUTPUTS + n] = (int8_t)q;
            errors[k * OUTPUTS + n] = weight - q * scales[n];
        }
    }
}
