/* rounding.c - factors the moments of a layer's inputs and rounds weights with them.
 *
 * Moments are products of matrices, which the kernel for linear layers computes: rows
 * wait until BLOCK of them are there, as its weights, and are its activations too.  Of
 * the moments only the lower triangle is computed.  The factorisation works on it from
 * the last row up, MF_ROUNDING_ROWS rows at a time so that a row is loaded once for all
 * of them; rounding takes as many inputs at a time for the same reason. */
#include "num/rounding.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "num/kernels.h"
#include "num/matrix_layout.h"

#define VECTOR_BYTES 16
#define NAME(function) function##_plain
#include "num/rounding_loops.h"

enum { BLOCK = 512, STRIP = 64, PANEL = 16, OUTPUTS = MF_ROUNDING_OUTPUTS };

_Static_assert(PANEL % ROWS == 0 && STRIP % MF_PANEL == 0, "whole ones of each other");

/* What is added to every input's own moment, as a share of their mean: inputs that the
 * noted ones say little about keep some weight. */
static const double damping = 0.2;

struct mf_rounding {
    const mf_kernels *kernels;
    size_t width;
    size_t stride;      /* of `matrix`: `width` and what is missing to whole steps */
    size_t waiting;     /* rows in `columns` */
    mf_matrix *columns; /* taking BLOCK numbers to `width` */
    float *rows;        /* [STRIP, BLOCK]: some of the columns */
    float *products;    /* [STRIP, width] */
    /* [width, stride]: moments; once prepared, below the diagonal, how much of the
     * error of input j input k makes up for, at [k, j] */
    float *matrix;
    float *weights; /* [width, OUTPUTS]; then their errors */
    int8_t *result; /* [width, OUTPUTS] */
    mf_rounding_take_out_function *take_out;
    mf_rounding_owed_function *owed;
};

static void choose_loops(mf_rounding *r) {
    r->take_out = mf_rounding_take_out_plain;
    r->owed = mf_rounding_owed_plain;
#if defined(__x86_64__)
    if (r->kernels->level >= MF_CPU_AVX512) {
        r->take_out = mf_rounding_take_out_avx512;
        r->owed = mf_rounding_owed_avx512;
    } else if (r->kernels->level == MF_CPU_AVX2) {
        r->take_out = mf_rounding_take_out_avx2;
        r->owed = mf_rounding_owed_avx2;
    }
#endif
}

mf_rc mf_rounding_new(mf_cpu_level level, size_t width, mf_rounding **out,
                      mf_err *err) {
    mf_rounding *r = mf_alloc_zero(1, sizeof *r);
    if (r == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory to round weights");
    }
    r->kernels = mf_kernels_at(level);
    r->width = width;
    r->stride = (width + MF_ROUNDING_STEP - 1) / MF_ROUNDING_STEP * MF_ROUNDING_STEP;
    choose_loops(r);
    r->rows = mf_alloc_array(STRIP * BLOCK, sizeof *r->rows);
    r->products = mf_alloc_array(width * STRIP, sizeof *r->products);
    r->matrix = mf_alloc_zero(width * r->stride, sizeof *r->matrix);
    r->weights = mf_alloc_zero(width * OUTPUTS, sizeof *r->weights);
    r->result = mf_alloc_zero(width * OUTPUTS, sizeof *r->result);
    mf_rc rc = MF_OK;
    if (r->rows == NULL || r->products == NULL || r->matrix == NULL ||
        r->weights == NULL || r->result == NULL) {
        rc =
            MF_FAIL(err, MF_E_NOMEM, "no memory to round weights of %zu inputs", width);
    } else {
        rc = mf_matrix_new(width, BLOCK, &r->columns, err);
    }
    if (rc != MF_OK) {
        mf_rounding_free(r);
        return rc;
    }
    memset(r->columns->bias, 0, r->columns->panel_count * MF_PANEL * sizeof(float));
    *out = r;
    return MF_OK;
}

void mf_rounding_free(mf_rounding *rounding) {
    if (rounding != NULL) {
        mf_free(rounding->rows);
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
    size_t cells = rounding->width * rounding->stride;
    memset(rounding->matrix, 0, cells * sizeof *rounding->matrix);
    rounding->waiting = 0;
}

/* Where number k of waiting row `row` is, and those behind it in the same panel. */
static float *waiting_at(const mf_rounding *r, size_t row, size_t k) {
    return r->columns->panels + (k / MF_PANEL * BLOCK + row) * MF_PANEL + k % MF_PANEL;
}

/* Turns columns first..first+count into rows. */
static void gather_columns(mf_rounding *r, size_t first, size_t count) {
    enum { LINE = 16 };
    for (size_t row = 0; row < BLOCK; row += LINE) {
        for (size_t k = 0; k < count; k++) {
            const float *from = waiting_at(r, row, first + k);
            for (size_t i = 0; i < LINE; i++) {
                r->rows[k * BLOCK + row + i] = from[i * MF_PANEL];
            }
        }
    }
}

/* The moments of STRIP inputs with those up to the last of themselves. */
static void add_strip(mf_rounding *r, size_t first) {
    size_t rest = r->width - first;
    size_t count = rest < STRIP ? rest : STRIP;
    mf_matrix columns = *r->columns; /* the first of them */
    columns.outputs = first + count;
    columns.panel_count = (columns.outputs + MF_PANEL - 1) / MF_PANEL;
    gather_columns(r, first, count);
    r->kernels->linear(&(mf_linear_call){
        .matrix = &columns, .x = r->rows, .rows = count, .y = r->products});
    for (size_t i = 0; i < count; i++) {
        float *to = r->matrix + (first + i) * r->stride;
        for (size_t j = 0; j < columns.outputs; j++) {
            to[j] += r->products[i * columns.outputs + j];
        }
    }
}

static void add_moments(mf_rounding *r) {
    for (size_t k = 0; k < r->width; k += MF_PANEL) { /* rows that nobody noted */
        size_t missing = BLOCK - r->waiting;
        memset(waiting_at(r, r->waiting, k), 0, missing * MF_PANEL * sizeof(float));
    }
    for (size_t first = 0; first < r->width; first += STRIP) {
        add_strip(r, first);
    }
    r->waiting = 0;
}

void mf_rounding_note(mf_rounding *rounding, const float *x) {
    if (rounding->waiting == BLOCK) {
        add_moments(rounding);
    }
    for (size_t k = 0; k < rounding->width; k += MF_PANEL) {
        size_t rest = rounding->width - k;
        size_t count = rest < MF_PANEL ? rest : MF_PANEL;
        memcpy(waiting_at(rounding, rounding->waiting, k), x + k, count * sizeof *x);
    }
    rounding->waiting++;
}

/* --- factors ---------------------------------------------------------------------- */

/* Divides by the factors and adds the damping; returns how much that is. */
static float condition(const mf_rounding *r, const float *factors) {
    double trace = 0.0;
    for (size_t k = 0; k < r->width; k++) {
        float *row = r->matrix + k * r->stride;
        for (size_t j = 0; factors != NULL && j <= k; j++) {
            row[j] /= factors[k] * factors[j];
        }
        trace += (double)row[k];
    }
    float added = (float)(damping * trace / (double)r->width);
    if (!(added > 0.0F)) {
        added = 1.0F; /* nothing was noted */
    }
    for (size_t k = 0; k < r->width; k++) {
        r->matrix[k * r->stride + k] += added;
    }
    return added;
}

/* Takes row k's part out of row i < k. */
static void take_row_out(const mf_rounding *r, size_t i, size_t k) {
    float *to = r->matrix + i * r->stride;
    const float *row = r->matrix + k * r->stride;
    float share = row[i] / row[k];
    for (size_t j = 0; j <= i; j++) {
        to[j] -= share * row[j];
    }
}

/* Takes finished rows low..high out of row i < low, the last first. */
static void take_panel_out(const mf_rounding *r, size_t i, size_t low, size_t high) {
    for (size_t k = high; k > low; k -= ROWS) { /* whole panels, as low is above 0 */
        const float *last = r->matrix + (k - 1) * r->stride;
        float shares[ROWS];
        for (size_t n = 0; n < ROWS; n++) {
            const float *row = last - n * r->stride;
            shares[n] = row[i] / row[k - 1 - n];
        }
        r->take_out(r->matrix + i * r->stride, last, r->stride, shares, i + 1);
    }
}

void mf_rounding_prepare(mf_rounding *rounding, const float *factors) {
    mf_rounding *r = rounding;
    add_moments(r);
    float pivot_min = condition(r, factors);
    for (size_t high = r->width; high > 0;) {
        size_t low = high > PANEL ? high - PANEL : 0;
        for (size_t k = high; k-- > low;) {
            /* No pivot is below what was added to the diagonal, but for errors of
             * rounding. */
            float *pivot = r->matrix + k * r->stride + k;
            *pivot = fmaxf(*pivot, pivot_min);
            for (size_t i = low; i < k; i++) {
                take_row_out(r, i, k);
            }
        }
        for (size_t i = 0; i < low; i++) {
            take_panel_out(r, i, low, high);
        }
        high = low;
    }
    for (size_t k = 0; k < r->width; k++) {
        float *row = r->matrix + k * r->stride;
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

/* Rounds the weights of input k, at which `owed` [OUTPUTS] is to be made up for. */
static void round_input(mf_rounding *r, size_t k, const float *scales,
                        const float *owed) {
    float *errors = r->weights + k * OUTPUTS;
    for (size_t n = 0; n < OUTPUTS; n++) {
        float weight = errors[n];
        float steps = scales[n] == 0.0F ? 0.0F : (weight + owed[n]) / scales[n];
        float q = rintf(fmaxf(fminf(steps, 127.0F), -127.0F));
        r->result[k * OUTPUTS + n] = (int8_t)q;
        errors[n] = weight - q * scales[n];
    }
}

void mf_rounding_run(mf_rounding *rounding, const float scales[MF_ROUNDING_OUTPUTS]) {
    mf_rounding *r = rounding;
    const float *errors = r->weights; /* those of inputs already rounded */
    for (size_t first = 0; first < r->width; first += ROWS) {
        float owed[ROWS * OUTPUTS] = {0};
        size_t rest = r->width - first;
        size_t count = rest < ROWS ? rest : ROWS;
        const float *shares = r->matrix + first * r->stride;
        if (count == ROWS) {
            r->owed(shares, r->stride, errors, first, owed);
        }
        for (size_t i = 0; i < count; i++) {
            float *sums = owed + i * OUTPUTS;
            for (size_t j = count == ROWS ? first : 0; j < first + i; j++) {
                for (size_t n = 0; n < OUTPUTS; n++) {
                    sums[n] += shares[i * r->stride + j] * errors[j * OUTPUTS + n];
                }
            }
            round_input(r, first + i, scales, sums);
        }
    }
}
