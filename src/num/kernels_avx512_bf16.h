/* kernels_avx512_bf16.h - private to num/: the linear layer in bf16 with vdpbf16ps,
 * which adds the products of a pair in one instruction.
 *
 * Included by kernels_avx512.c behind kernels_vector16.h.  The instruction is written
 * as such: compilers know it only where a whole file may use it.  Activations are
 * packed in pairs, the first half of each row of floats. */

INLINE void tile16_pairs(size_t rows, const tile16_call *call) {
    vf sums[TILE_ROWS][TILE_VECS];
    const float *triples[(TILE_ROWS + 2) / 3];
    const uint32_t *weights = call->weights;
    const uint32_t *next = call->next;
    const size_t stride = call->x_stride;
    const size_t pairs = call->pairs;
    const size_t next_step = call->next_step;
    UNROLL
    for (size_t row = 0; row < rows; row++) {
        if (row % 3 == 0) {
            triples[row / 3] = call->x + row * stride;
        }
        UNROLL
        for (size_t v = 0; v < TILE_VECS; v++) {
            sums[row][v] = vf_load(call->bias + v * MF_LANES);
        }
    }
    for (size_t pair = 0; pair < pairs; pair++, next += next_step) {
        vf w[TILE_VECS];
        __builtin_prefetch(next, 0, 2);
        __builtin_prefetch(next + MF_LANES, 0, 2);
        UNROLL
        for (size_t v = 0; v < TILE_VECS; v++) {
            w[v] = _mm512_castsi512_ps(_mm512_loadu_si512(weights + v * MF_LANES));
        }
        weights += MF_PANEL;
        UNROLL
        for (size_t row = 0; row < rows; row++) {
            vf a = vf_set(triples[row / 3][(row % 3) * stride + pair]);
            UNROLL
            for (size_t v = 0; v < TILE_VECS; v++) {
                __asm__("vdpbf16ps %2, %1, %0"
                        : "+v"(sums[row][v])
                        : "v"(a), "v"(w[v]));
            }
        }
    }
    UNROLL
    for (size_t row = 0; row < rows; row++) {
        UNROLL
        for (size_t v = 0; v < TILE_VECS; v++) {
            vf_store(call->y + row * call->y_stride + v * MF_LANES, sums[row][v]);
        }
    }
}

#define TILE16_PAIRS(rows)                                                             \
    static                                                                             \
        __attribute__((noinline)) void tile16_pairs_##rows(const tile16_call *call) {  \
        tile16_pairs(rows, call);                                                      \
    }
TILE16_PAIRS(1)
TILE16_PAIRS(2)
TILE16_PAIRS(3)
TILE16_PAIRS(4)
TILE16_PAIRS(5)
TILE16_PAIRS(6)
TILE16_PAIRS(7)
TILE16_PAIRS(8)
TILE16_PAIRS(9)
TILE16_PAIRS(10)
TILE16_PAIRS(11)
TILE16_PAIRS(12)

static tile16_function *const tiles16_pairs[TILE_ROWS + 1] = {
    NULL,
    tile16_pairs_1,
    tile16_pairs_2,
    tile16_pairs_3,
    tile16_pairs_4,
    tile16_pairs_5,
    tile16_pairs_6,
    tile16_pairs_7,
    tile16_pairs_8,
    tile16_pairs_9,
    tile16_pairs_10,
    tile16_pairs_11,
    tile16_pairs_12,
};

static void linear16_pairs(const mf_linear16_call *call) {
    linear16_by(call, tiles16_pairs);
}

static void round16_pairs(const float *x, size_t rows, size_t width, float *out) {
    size_t stride = mf_stride16(width);
    for (size_t row = 0; row < rows; row++, x += width, out += stride) {
        size_t i = 0;
        for (; i + 2 <= width; i += 2) {
            uint32_t pair = mf_bits16(x[i]) >> 16 | mf_bits16(x[i + 1]);
            memcpy(out + i / 2, &pair, sizeof pair);
        }
        if (i < width) {
            uint32_t pair = mf_bits16(x[i]) >> 16;
            memcpy(out + i / 2, &pair, sizeof pair);
        }
    }
}
