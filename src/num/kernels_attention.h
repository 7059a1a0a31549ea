/* kernels_attention.h - private to num/: attention, written once.
 *
 * Included by every variant, plain C too, behind kernels_rows.h, whose rules hold here.
 * It needs more of a vector of floats,
 *
 *   vf_power_of_two(n)          2^n for whole n in [-126, 127]
 *   vf_fraction(a)              a minus the whole number nearest to it
 *   vf_scale(a, n)              a 2^n for whole n, if it is a normal number
 *   vf_cut(a, count, rest)      the first `count` lanes of a, and `rest` in the others
 *
 * a vector of MF_LANES pairs of bf16 numbers, `vp`, each pair one word of 32 bits,
 *
 *   vp_load, vp_store, vp_zero
 *   vp_pack(low, high)          pairs of two vectors' numbers, rounded to the nearest,
 *                               from half-way away from zero
 *   vp_low, vp_high             one half of each pair, as floats
 *   vp_transpose(square)        word j of vector i to word i of vector j
 *
 * and ATTENTION_ROWS, how many queries fit in the registers at once, in bf16 together
 * with ATTENTION_VECS vectors of keys or values. */
#include <stdint.h>

_Static_assert(MF_ATTENTION_STEP == 2 * MF_LANES, "attention works on two vectors");
_Static_assert(ATTENTION_ROWS <= MF_ATTENTION_ROWS, "the scratch holds the score rows");

/* e^x for x <= 0: x = n ln 2 + r with |r| <= ln 2 / 2, e^r by a polynomial, 2^n by the
 * exponent bits.  ln 2 is split in two so that r is exact.  Relative error below 1e-7;
 * x below -87 gives e^-87, about 1e-38. */
INLINE vf exp_negative(vf x) {
    x = vf_max(x, vf_set(-87.0F));
    vf n = vf_round(vf_mul(x, vf_set(1.44269504F)));
    vf r = vf_fma(n, vf_set(-0.693359375F), x);
    r = vf_fma(n, vf_set(2.12194440e-4F), r);
    vf p = vf_set(1.394869993e-03F);
    p = vf_fma(p, r, vf_set(8.375212550e-03F));
    p = vf_fma(p, r, vf_set(4.166621715e-02F));
    p = vf_fma(p, r, vf_set(1.666641384e-01F));
    p = vf_fma(p, r, vf_set(0.5F));
    p = vf_fma(p, r, vf_set(1.0F));
    p = vf_fma(p, r, vf_set(1.0F));
    return vf_mul(p, vf_power_of_two(n));
}

/* --- attention -------------------------------------------------------------------- */

/* keys [tokens, stride] to keys_t [dim, padded]; columns beyond the last token zero. */
static void transpose_keys(const float *keys, size_t stride, size_t tokens, size_t dim,
                           float *keys_t, size_t padded) {
    for (size_t d = 0; d < dim; d++) {
        float *line = keys_t + d * padded;
        for (size_t j = 0; j < tokens; j++) {
            line[j] = keys[j * stride + d];
        }
        for (size_t j = tokens; j < padded; j++) {
            line[j] = 0.0F;
        }
    }
}

/* scores[row] = scale * (query row . every key), for `rows` queries that lie `stride`
 * apart. */
INLINE void score_rows(size_t rows, const float *queries, size_t stride, float scale,
                       const float *keys_t, size_t padded, size_t dim, float *scores) {
    for (size_t j = 0; j < padded; j += MF_ATTENTION_STEP) {
        vf sums[ATTENTION_ROWS][2];
        UNROLL
        for (size_t row = 0; row < rows; row++) {
            sums[row][0] = vf_set(0.0F);
            sums[row][1] = vf_set(0.0F);
        }
        for (size_t d = 0; d < dim; d++) {
            vf k0 = vf_load(keys_t + d * padded + j);
            vf k1 = vf_load(keys_t + d * padded + j + MF_LANES);
            UNROLL
            for (size_t row = 0; row < rows; row++) {
                vf q = vf_set(queries[row * stride + d]);
                sums[row][0] = vf_fma(q, k0, sums[row][0]);
                sums[row][1] = vf_fma(q, k1, sums[row][1]);
            }
        }
        UNROLL
        for (size_t row = 0; row < rows; row++) {
            float *place = scores + row * padded + j;
            vf_store(place, vf_mul(sums[row][0], vf_set(scale)));
            vf_store(place + MF_LANES, vf_mul(sums[row][1], vf_set(scale)));
        }
    }
}

/* Adds to the scores of one query what the distances of its keys add. */
static void add_relative(const float *relative, size_t tokens, float *scores) {
    size_t j = 0;
    for (; j + MF_LANES <= tokens; j += MF_LANES) {
        vf_store(scores + j, vf_add(vf_load(scores + j), vf_load(relative + j)));
    }
    for (; j < tokens; j++) {
        scores[j] += relative[j];
    }
}

/* Turns rows of scores into e^(score - largest), and gives one over their sums.
 * Padding up to a whole vector is given a score so low that it adds nothing.  Rows go
 * side by side: each step of one waits for the step before it. */
INLINE void soften(size_t rows, float *scores, size_t stride, size_t tokens,
                   float inverse[ATTENTION_ROWS]) {
    size_t padded = (tokens + MF_LANES - 1) / MF_LANES * MF_LANES;
    vf largest[ATTENTION_ROWS];
    vf sums[ATTENTION_ROWS];
    UNROLL
    for (size_t row = 0; row < rows; row++) {
        for (size_t j = tokens; j < padded; j++) {
            scores[row * stride + j] = -INFINITY;
        }
        largest[row] = vf_load(scores + row * stride);
        sums[row] = vf_set(0.0F);
    }
    for (size_t j = MF_LANES; j < padded; j += MF_LANES) {
        UNROLL
        for (size_t row = 0; row < rows; row++) {
            largest[row] = vf_max(largest[row], vf_load(scores + row * stride + j));
        }
    }
    UNROLL
    for (size_t row = 0; row < rows; row++) {
        largest[row] = vf_set(vf_highest(largest[row]));
    }
    for (size_t j = 0; j < padded; j += MF_LANES) {
        UNROLL
        for (size_t row = 0; row < rows; row++) {
            float *place = scores + row * stride + j;
            vf weight = exp_negative(vf_sub(vf_load(place), largest[row]));
            vf_store(place, weight);
            sums[row] = vf_add(sums[row], weight);
        }
    }
    UNROLL
    for (size_t row = 0; row < rows; row++) {
        inverse[row] = 1.0F / vf_sum(sums[row]);
    }
}

/* context[row] = inverse[row] * (weights[row] . values), MF_LANES columns at a time. */
INLINE void mix_values(size_t rows, const float *weights, size_t padded,
                       const float *inverse, const float *values, size_t stride,
                       size_t tokens, float *context, size_t context_stride) {
    vf sums[ATTENTION_ROWS];
    UNROLL
    for (size_t row = 0; row < rows; row++) {
        sums[row] = vf_set(0.0F);
    }
    for (size_t j = 0; j < tokens; j++) {
        vf value = vf_load(values + j * stride);
        UNROLL
        for (size_t row = 0; row < rows; row++) {
            sums[row] = vf_fma(vf_set(weights[row * padded + j]), value, sums[row]);
        }
    }
    UNROLL
    for (size_t row = 0; row < rows; row++) {
        vf_store(context + row * context_stride,
                 vf_mul(sums[row], vf_set(inverse[row])));
    }
}

/* `rows` queries of one head, from `token` on, against the keys in the scratch. */
INLINE void attend(size_t rows, const mf_attention_call *call, size_t head,
                   size_t token) {
    size_t dim = call->head_dim;
    size_t hidden = call->heads * dim;
    size_t stride = 3 * hidden;
    size_t padded = mf_attention_padded(call->tokens);
    float *scores = call->scratch + dim * padded;
    const float *queries = call->qkv + token * stride + head * dim;
    const float *values = call->qkv + 2 * hidden + head * dim;
    float *context = call->context + token * hidden + head * dim;
    float inverse[ATTENTION_ROWS];
    float scale = 1.0F / sqrtf((float)dim);
    score_rows(rows, queries, stride, scale, call->scratch, padded, dim, scores);
    for (size_t row = 0; call->relative != NULL && row < rows; row++) {
        add_relative(mf_attention_relative(call, head, token + row), call->tokens,
                     scores + row * padded);
    }
    soften(rows, scores, padded, call->tokens, inverse);
    for (size_t d = 0; d < dim; d += MF_LANES) {
        mix_values(rows, scores, padded, inverse, values + d, stride, call->tokens,
                   context + d, hidden);
    }
}

typedef void attend_function(const mf_attention_call *call, size_t head, size_t token);

#define ATTEND(rows)                                                                   \
    static __attribute__((noinline)) void attend_##rows(const mf_attention_call *call, \
                                                        size_t head, size_t token) {   \
        attend(rows, call, head, token);                                               \
    }
ATTEND(1)
ATTEND(2)
#if ATTENTION_ROWS == 6
ATTEND(3)
ATTEND(4)
ATTEND(5)
ATTEND(6)
#endif

static attend_function *const attends[ATTENTION_ROWS + 1] = {
    NULL,     attend_1, attend_2,
#if ATTENTION_ROWS == 6
    attend_3, attend_4, attend_5, attend_6,
#endif
};

static void attention(const mf_attention_call *call) {
    size_t hidden = call->heads * call->head_dim;
    for (size_t head = 0; head < call->heads; head++) {
        transpose_keys(call->qkv + hidden + head * call->head_dim, 3 * hidden,
                       call->tokens, call->head_dim, call->scratch,
                       mf_attention_padded(call->tokens));
        for (size_t token = 0; token < call->tokens; token += ATTENTION_ROWS) {
            size_t rest = call->tokens - token;
            attends[rest < ATTENTION_ROWS ? rest : ATTENTION_ROWS](call, head, token);
        }
    }
}

/* --- attention in bf16 ------------------------------------------------------------ */

/* Queries, keys, values and weights have the 8 significant bits of bf16 here, products
 * of two are exact in a float, and sums are floats.  A dot product goes in chunks of
 * MF_CHUNK numbers: the products of the chunk's first half are added up one by one, so
 * are those of its second half, then the two sums to each other and to the total.  That
 * is how the tile unit of x86 adds (attend_tiles in kernels_avx512.c); all the others
 * follow it, and so all give the same bits.
 *
 * Two numbers half a chunk apart make a pair, one word of 32 bits, whatever they belong
 * to: two dimensions of a query or a key, or two keys' values of one dimension.  Pairs
 * of whole vectors are made without moving anything between lanes.
 *
 * The tile unit takes numbers below 2^-126 for zero, and vectors do not.  Such numbers
 * are far below the last bit of anything else in a score or a context. */

enum { PAIRS = MF_CHUNK / 2 }; /* in a chunk */

_Static_assert((int)PAIRS == (int)MF_LANES, "half a chunk is a vector");

/* One head of one text, in the scratch. */
typedef struct head16 {
    const mf_attention_call *call;
    const float *queries; /* of the first token, as are the next two */
    const float *keys_in;
    const float *values_in;
    size_t stride; /* from token to token */
    size_t head;
    size_t dim;
    size_t chunks;    /* of a head's dimensions */
    size_t padded;    /* tokens, rounded up to whole chunks */
    uint32_t *keys;   /* pairs [chunks, PAIRS, padded] */
    uint32_t *values; /* pairs [padded / 2, dim] */
} head16;

static head16 head16_at(const mf_attention_call *call, size_t head, float *scratch) {
    size_t dim = call->head_dim;
    size_t hidden = call->heads * dim;
    size_t chunks = (dim + MF_CHUNK - 1) / MF_CHUNK;
    size_t padded = mf_attention_padded(call->tokens);
    float *values = scratch + chunks * PAIRS * padded;
    return (head16){
        .call = call,
        .queries = call->qkv + head * dim,
        .keys_in = call->qkv + hidden + head * dim,
        .values_in = call->qkv + 2 * hidden + head * dim,
        .stride = 3 * hidden,
        .head = head,
        .dim = dim,
        .chunks = chunks,
        .padded = padded,
        .keys = (uint32_t *)(void *)scratch,
        .values = (uint32_t *)(void *)values,
    };
}

/* A chunk of a query or a key; dimensions beyond the last are zero. */
INLINE vp chunk_of(const float *row, size_t dim, size_t chunk) {
    size_t at = chunk * MF_CHUNK;
    bool whole = at + PAIRS < dim;
    return vp_pack(vf_load(row + at), whole ? vf_load(row + at + PAIRS) : vf_set(0.0F));
}

/* One chunk of MF_LANES keys from token `first` on.  Keys come as rows and are needed
 * as columns, in whole vectors.  Tokens beyond the last are zero. */
INLINE void turn_keys(const head16 *h, size_t first, size_t chunk,
                      vp square[MF_LANES]) {
    UNROLL
    for (size_t i = 0; i < MF_LANES; i++) {
        size_t token = first + i;
        square[i] = token < h->call->tokens
                        ? chunk_of(h->keys_in + token * h->stride, h->dim, chunk)
                        : vp_zero();
    }
    vp_transpose(square);
}

/* Divides the scores of one query by sqrt(head_dim) and adds what distances add. */
static void add_distances(const head16 *h, size_t token, float *scores) {
    const float *relative = mf_attention_relative(h->call, h->head, token);
    vf scale = vf_set(1.0F / sqrtf((float)h->dim));
    size_t tokens = h->call->tokens;
    size_t j = 0;
    for (; j + MF_LANES <= tokens; j += MF_LANES) {
        vf_store(scores + j, vf_fma(vf_load(scores + j), scale, vf_load(relative + j)));
    }
    if (j < tokens) {
        float some[MF_LANES] = {0};
        memcpy(some, relative + j, (tokens - j) * sizeof *some);
        vf_store(scores + j, vf_fma(vf_load(scores + j), scale, vf_load(some)));
    }
}

/* 2^x for x up to 0 or a little more; x below -40 counts as -40.  x = n + f with whole
 * n and |f| <= 1/2, both exact, and 2^f is a polynomial.  Relative error below 8e-5, a
 * twentieth of what rounding to bf16 may add. */
INLINE vf power_rough(vf x) {
    x = vf_max(x, vf_set(-40.0F));
    vf f = vf_fraction(x);
    vf p = vf_set(5.517166907e-02F);
    p = vf_fma(p, f, vf_set(2.426111222e-01F));
    p = vf_fma(p, f, vf_set(6.932609855e-01F));
    p = vf_fma(p, f, vf_set(9.999280735e-01F));
    return vf_scale(p, vf_sub(x, f));
}

/* What scores are multiplied by before 2^x is taken of them. */
static float score_factor(const head16 *h) {
    const float to_powers_of_2 = 1.44269504F;
    return h->call->relative != NULL ? to_powers_of_2
                                     : to_powers_of_2 / sqrtf((float)h->dim);
}

/* In each lane the largest of some of the scores of one query: all lanes together have
 * seen all of them.  With relative scores, adds them first. */
INLINE vf largest_scores(const head16 *h, size_t token, float *scores) {
    size_t tokens = h->call->tokens;
    if (h->call->relative != NULL) {
        add_distances(h, token, scores);
    }
    vf largest = vf_set(-INFINITY);
    size_t j = 0;
    for (; j + MF_LANES <= tokens; j += MF_LANES) {
        largest = vf_max(largest, vf_load(scores + j));
    }
    if (j < tokens) {
        vf last = vf_cut(vf_load(scores + j), tokens - j, -INFINITY);
        largest = vf_max(largest, last);
    }
    return largest;
}

/* How a row of scores becomes weights: 2^(factor score + shift). */
typedef struct softness {
    vf factor;
    vf shift;
} softness;

INLINE vf weights_of(const float *scores, size_t count, softness s) {
    vf weights = power_rough(vf_fma(vf_load(scores), s.factor, s.shift));
    return count < MF_LANES ? vf_cut(weights, count, 0.0F) : weights;
}

/* From the scores of one query to its weights, e^(score - largest), rounded: as pairs,
 * those of a chunk `step` words apart, or in the place of the scores if `pairs` is
 * NULL. Returns the lanes' sums of the weights before rounding. */
INLINE vf soften16(const head16 *h, float *scores, softness s, uint32_t *pairs,
                   size_t step) {
    size_t tokens = h->call->tokens;
    vf sum = vf_set(0.0F);
    for (size_t j = 0; j < tokens; j += MF_CHUNK) {
        size_t left = tokens - j;
        vf low = weights_of(scores + j, left, s);
        vf high = vf_set(0.0F);
        if (left > PAIRS) {
            high = weights_of(scores + j + PAIRS, left - PAIRS, s);
        }
        sum = vf_add(sum, vf_add(low, high));
        vp both = vp_pack(low, high);
        if (pairs != NULL) {
            vp_store(pairs + j / MF_CHUNK * step, both);
        } else {
            vf_store(scores + j, vp_low(both));
            vf_store(scores + j + PAIRS, vp_high(both));
        }
    }
    return sum;
}

/* The same for `rows` queries from `token` on, at most MF_LANES, whose scores lie
 * h->padded apart: `pairs` is NULL or has a row of words for each, and `sums` gets
 * their sums.  Sums over lanes are made for all rows at once. */
INLINE void soften_rows(const head16 *h, size_t token, size_t rows, float *scores,
                        uint32_t *pairs, size_t step, float sums[MF_LANES]) {
    float factor = score_factor(h);
    vf lanes[MF_LANES];
    float largest[MF_LANES];
    for (size_t row = 0; row < MF_LANES; row++) {
        lanes[row] = row < rows
                         ? largest_scores(h, token + row, scores + row * h->padded)
                         : vf_set(0.0F);
    }
    vf_highests(lanes, largest);
    for (size_t row = 0; row < rows; row++) {
        softness s = {vf_set(factor), vf_set(-largest[row] * factor)};
        lanes[row] = soften16(h, scores + row * h->padded, s,
                              pairs == NULL ? NULL : pairs + row * PAIRS, step);
    }
    for (size_t row = rows; row < MF_LANES; row++) {
        lanes[row] = vf_set(1.0F);
    }
    vf_sums(lanes, sums);
}

/* --- attention in bf16, by vectors ------------------------------------------------ */

/* One head, rounded, but as floats: taking pairs apart each time they are needed costs
 * more than their memory saves.  Parts lie in the scratch one after the other. */
typedef struct floats16 {
    head16 head;
    float *keys;    /* [chunks * MF_CHUNK, padded] */
    float *values;  /* [padded, chunks * MF_CHUNK] */
    float *queries; /* [MF_ATTENTION_ROWS, chunks * MF_CHUNK], a block of them */
    float *scores;  /* [MF_ATTENTION_ROWS, padded], then their weights */
    float inverse[MF_LANES]; /* one over the sum of each row's weights */
} floats16;

_Static_assert((int)MF_ATTENTION_ROWS == (int)MF_LANES, "rows are softened at once");

static void prepare_keys(const floats16 *f) {
    const head16 *h = &f->head;
    for (size_t first = 0; first < h->call->tokens; first += MF_LANES) {
        for (size_t chunk = 0; chunk < h->chunks; chunk++) {
            vp square[MF_LANES];
            float *to = f->keys + chunk * MF_CHUNK * h->padded + first;
            turn_keys(h, first, chunk, square);
            UNROLL
            for (size_t i = 0; i < PAIRS; i++) {
                vf_store(to + i * h->padded, vp_low(square[i]));
                vf_store(to + (i + PAIRS) * h->padded, vp_high(square[i]));
            }
        }
    }
}

/* Queries or values of `rows` tokens. */
static void round_rows(const head16 *h, const float *from, size_t rows, float *to) {
    for (size_t row = 0; row < rows; row++, from += h->stride) {
        for (size_t chunk = 0; chunk < h->chunks; chunk++, to += MF_CHUNK) {
            vp pairs = chunk_of(from, h->dim, chunk);
            vf_store(to, vp_low(pairs));
            vf_store(to + PAIRS, vp_high(pairs));
        }
    }
}

/* Some rows of numbers, `factors`, times a matrix of as many rows as they have columns,
 * one chunk: the columns of `vecs` vectors from `matrix` on. */
typedef struct chunk16 {
    const float *factors; /* rows factor_stride apart */
    size_t factor_stride;
    const float *matrix; /* rows matrix_stride apart */
    size_t matrix_stride;
    size_t count; /* numbers of the chunk, 1..MF_CHUNK; the others are zero */
} chunk16;

/* Adds to `totals`.  Zeros beyond `count` would add nothing and are left out. */
INLINE void add_chunk(size_t rows, size_t vecs, const chunk16 *c,
                      vf totals[ATTENTION_ROWS][ATTENTION_VECS]) {
    vf lows[ATTENTION_ROWS][ATTENTION_VECS];
    vf highs[ATTENTION_ROWS][ATTENTION_VECS];
    size_t firsts = c->count < PAIRS ? c->count : PAIRS;
    const float *low = c->matrix;
    const float *high = low + PAIRS * c->matrix_stride;
    const float *factors = c->factors;
    const float *both_end = factors + (c->count - firsts);
    const float *end = factors + firsts;
    UNROLL
    for (size_t row = 0; row < rows; row++) {
        UNROLL
        for (size_t v = 0; v < vecs; v++) {
            lows[row][v] = highs[row][v] = vf_set(0.0F);
        }
    }
    for (; factors < both_end; factors++) {
        UNROLL
        for (size_t row = 0; row < rows; row++) {
            vf one = vf_set(factors[row * c->factor_stride]);
            vf two = vf_set(factors[row * c->factor_stride + PAIRS]);
            UNROLL
            for (size_t v = 0; v < vecs; v++) {
                lows[row][v] = vf_fma(one, vf_load(low + v * MF_LANES), lows[row][v]);
                highs[row][v] =
                    vf_fma(two, vf_load(high + v * MF_LANES), highs[row][v]);
            }
        }
        low += c->matrix_stride;
        high += c->matrix_stride;
    }
    for (; factors < end; factors++) {
        UNROLL
        for (size_t row = 0; row < rows; row++) {
            vf one = vf_set(factors[row * c->factor_stride]);
            UNROLL
            for (size_t v = 0; v < vecs; v++) {
                lows[row][v] = vf_fma(one, vf_load(low + v * MF_LANES), lows[row][v]);
            }
        }
        low += c->matrix_stride;
    }
    UNROLL
    for (size_t row = 0; row < rows; row++) {
        UNROLL
        for (size_t v = 0; v < vecs; v++) {
            totals[row][v] =
                vf_add(totals[row][v], vf_add(lows[row][v], highs[row][v]));
        }
    }
}

/* Rows of factors, `count` numbers each, times the columns of `vecs` vectors. */
INLINE void add_chunks(size_t rows, size_t vecs, chunk16 c, size_t count,
                       vf totals[ATTENTION_ROWS][ATTENTION_VECS]) {
    UNROLL
    for (size_t row = 0; row < rows; row++) {
        UNROLL
        for (size_t v = 0; v < vecs; v++) {
            totals[row][v] = vf_set(0.0F);
        }
    }
    for (size_t at = 0; at < count; at += MF_CHUNK) {
        c.count = count - at < MF_CHUNK ? count - at : MF_CHUNK;
        add_chunk(rows, vecs, &c, totals);
        c.factors += MF_CHUNK;
        c.matrix += MF_CHUNK * c.matrix_stride;
    }
}

/* Scores of `rows` queries of the block, from its query `row` on, and `vecs` vectors of
 * keys from key j on. */
INLINE void score16(size_t rows, size_t vecs, const floats16 *f, size_t row, size_t j) {
    const head16 *h = &f->head;
    size_t width = h->chunks * MF_CHUNK;
    vf totals[ATTENTION_ROWS][ATTENTION_VECS];
    chunk16 c = {.factors = f->queries + row * width,
                 .factor_stride = width,
                 .matrix = f->keys + j,
                 .matrix_stride = h->padded};
    add_chunks(rows, vecs, c, width, totals);
    UNROLL
    for (size_t i = 0; i < rows; i++) {
        UNROLL
        for (size_t v = 0; v < vecs; v++) {
            vf_store(f->scores + (row + i) * h->padded + j + v * MF_LANES,
                     totals[i][v]);
        }
    }
}

/* Weighted sums of the values of `vecs` vectors of dimensions, from d on. */
INLINE void mix16(size_t rows, size_t vecs, const floats16 *f, size_t row, size_t d,
                  float *context) {
    const head16 *h = &f->head;
    size_t hidden = h->call->heads * h->dim;
    vf totals[ATTENTION_ROWS][ATTENTION_VECS];
    chunk16 c = {.factors = f->scores + row * h->padded,
                 .factor_stride = h->padded,
                 .matrix = f->values + d,
                 .matrix_stride = h->chunks * MF_CHUNK};
    add_chunks(rows, vecs, c, h->call->tokens, totals);
    UNROLL
    for (size_t i = 0; i < rows; i++) {
        vf inverse = vf_set(f->inverse[row + i]);
        UNROLL
        for (size_t v = 0; v < vecs; v++) {
            vf_store(context + i * hidden + d + v * MF_LANES,
                     vf_mul(totals[i][v], inverse));
        }
    }
}

INLINE void score_rows16(size_t rows, const floats16 *f, size_t row) {
    size_t j = 0;
    for (; j + (ATTENTION_VECS - 1) * MF_LANES < f->head.call->tokens;
         j += ATTENTION_VECS * MF_LANES) {
        score16(rows, ATTENTION_VECS, f, row, j);
    }
    if (j < f->head.call->tokens) {
        score16(rows, 1, f, row, j);
    }
}

INLINE void mix_rows16(size_t rows, const floats16 *f, size_t row, float *context) {
    size_t d = 0;
    for (; d + ATTENTION_VECS * MF_LANES <= f->head.dim;
         d += ATTENTION_VECS * MF_LANES) {
        mix16(rows, ATTENTION_VECS, f, row, d, context);
    }
    if (d < f->head.dim) {
        mix16(rows, 1, f, row, d, context);
    }
}

typedef struct rows16_functions {
    void (*score)(const floats16 *f, size_t row);
    void (*mix)(const floats16 *f, size_t row, float *context);
} rows16_functions;

#define ROWS16(rows)                                                                   \
    static                                                                             \
        __attribute__((noinline)) void score16_##rows(const floats16 *f, size_t row) { \
        score_rows16(rows, f, row);                                                    \
    }                                                                                  \
    static __attribute__((noinline)) void mix16_##rows(const floats16 *f, size_t row,  \
                                                       float *context) {               \
        mix_rows16(rows, f, row, context);                                             \
    }
ROWS16(1)
ROWS16(2)
#if ATTENTION_ROWS == 6
ROWS16(3)
ROWS16(4)
ROWS16(5)
ROWS16(6)
#endif

static const rows16_functions rows16[ATTENTION_ROWS + 1] = {
    {NULL, NULL},         {score16_1, mix16_1}, {score16_2, mix16_2},
#if ATTENTION_ROWS == 6
    {score16_3, mix16_3}, {score16_4, mix16_4}, {score16_5, mix16_5},
    {score16_6, mix16_6},
#endif
};

/* How many of the rows left in a block go next. */
static size_t next_rows(size_t left) {
    return left < ATTENTION_ROWS ? left : ATTENTION_ROWS;
}

static void attend16(floats16 *f, size_t token, size_t rows) {
    const head16 *h = &f->head;
    size_t hidden = h->call->heads * h->dim;
    float *context = h->call->context + token * hidden + h->head * h->dim;
    float sums[MF_LANES];
    round_rows(h, h->queries + token * h->stride, rows, f->queries);
    for (size_t row = 0; row < rows; row += ATTENTION_ROWS) {
        rows16[next_rows(rows - row)].score(f, row);
    }
    soften_rows(h, token, rows, f->scores, NULL, 0, sums);
    for (size_t row = 0; row < MF_LANES; row++) {
        f->inverse[row] = 1.0F / sums[row];
    }
    for (size_t row = 0; row < rows; row += ATTENTION_ROWS) {
        rows16[next_rows(rows - row)].mix(f, row, context + row * hidden);
    }
}

static void attention16(const mf_attention_call *call) {
    for (size_t head = 0; head < call->heads; head++) {
        floats16 f = {.head = head16_at(call, head, call->scratch)};
        const head16 *h = &f.head;
        f.keys = call->scratch;
        f.values = f.keys + h->chunks * MF_CHUNK * h->padded;
        f.queries = f.values + h->padded * h->chunks * MF_CHUNK;
        f.scores = f.queries + MF_ATTENTION_ROWS * h->chunks * MF_CHUNK;
        prepare_keys(&f);
        round_rows(h, h->values_in, call->tokens, f.values);
        for (size_t token = 0; token < call->tokens; token += MF_ATTENTION_ROWS) {
            size_t rest = call->tokens - token;
            attend16(&f, token, rest < MF_ATTENTION_ROWS ? rest : MF_ATTENTION_ROWS);
        }
    }
}
