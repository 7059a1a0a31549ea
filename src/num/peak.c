/* peak.c - loops of multiply-adds, one per instruction.
 *
 * Each has so many independent sums that no addition waits for another.  The loops of
 * vector instructions are assembler as a whole: what a compiler makes of them must not
 * depend on how the program is built.  Sums are of ordinary numbers, since zeros would
 * take less power than a kernel does. */
#include "num/peak.h"

#include <stdint.h>
#include <string.h>
#include <time.h>

#include "base/assert.h"
#include "base/clock.h"
#include "num/tiles.h"

enum {
    CHAINS = 12, /* independent sums */
    STEPS = 400000,
    PLAIN_CHAINS = 8,
    TILES = 4, /* sums of tiles: with two tiles of factors, six of eight registers */
    TILE_STEPS = 60000,
};

#define UNROLL _Pragma("GCC unroll 16")

/* Every function below does its steps and returns how many operations that were. */
typedef double spin_function(void);

static double spin_plain_floats(void) {
    float sums[PLAIN_CHAINS];
    for (int i = 0; i < PLAIN_CHAINS; i++) {
        sums[i] = (float)i;
    }
    volatile float factor = 0.999F; /* unknown to the compiler */
    const float a = factor;
    for (int step = 0; step < STEPS; step++) {
        UNROLL
        for (int i = 0; i < PLAIN_CHAINS; i++) {
            sums[i] = sums[i] * a + 0.001F;
        }
    }
    volatile float sink = 0.0F;
    for (int i = 0; i < PLAIN_CHAINS; i++) {
        sink = sink + sums[i];
    }
    return 2.0 * PLAIN_CHAINS * STEPS;
}

static double spin_plain_integers(void) {
    uint32_t sums[PLAIN_CHAINS];
    for (uint32_t i = 0; i < PLAIN_CHAINS; i++) {
        sums[i] = i;
    }
    volatile uint32_t factor = 77;
    const uint32_t a = factor;
    for (int step = 0; step < STEPS; step++) {
        UNROLL
        for (int i = 0; i < PLAIN_CHAINS; i++) {
            sums[i] = sums[i] * a + 1;
        }
    }
    volatile uint32_t sink = 0;
    for (int i = 0; i < PLAIN_CHAINS; i++) {
        sink = sink + sums[i];
    }
    return 2.0 * PLAIN_CHAINS * STEPS;
}

#if defined(__x86_64__)
/* `line` for each of the CHAINS sums, registers 0..11; 12 holds a factor. */
#define EACH_SUM(line)                                                                 \
    line("0") line("1") line("2") line("3") line("4") line("5") line("6") line("7")    \
        line("8") line("9") line("10") line("11")
#define SUM_REGISTERS                                                                  \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",    \
        "xmm10", "xmm11", "xmm12", "xmm13"

/* Sums begin as what 12 holds, and every step does `line` to each. */
#define SPIN(load, begin, line, factor)                                                \
    do {                                                                               \
        int64_t steps = STEPS;                                                         \
        __asm__ volatile(                                                              \
            load EACH_SUM(begin) "1:\n\t" EACH_SUM(line) "decq %0\n\tjnz 1b\n\t"       \
                                                         "vzeroupper"                  \
            : "+r"(steps)                                                              \
            : "m"(factor)                                                              \
            : "cc", SUM_REGISTERS);                                                    \
    } while (0)

#define LOAD_YMM "vbroadcastss %1, %%ymm12\n\t"
#define LOAD_ZMM "vbroadcastss %1, %%zmm12\n\t"
#define BEGIN_YMM(i) "vmovaps %%ymm12, %%ymm" i "\n\t"
#define BEGIN_ZMM(i) "vmovaps %%zmm12, %%zmm" i "\n\t"

static double spin_avx2_floats(void) {
#define LINE(i) "vfmadd213ps %%ymm12, %%ymm12, %%ymm" i "\n\t"
    const float factor = 0.5F;
    SPIN(LOAD_YMM, BEGIN_YMM, LINE, factor);
#undef LINE
    return 2.0 * 8 * CHAINS * STEPS;
}

/* AVX2 has exact products of 8 bits only by way of 16: multiply, add pairs, add. */
static double spin_avx2_bytes(void) {
#define LINE(i)                                                                        \
    "vpmaddwd %%ymm12, %%ymm12, %%ymm13\n\tvpaddd %%ymm13, %%ymm" i ", %%ymm" i "\n\t"
    const int16_t factor[2] = {3, -5};
    SPIN(LOAD_YMM, BEGIN_YMM, LINE, factor);
#undef LINE
    return 2.0 * 16 * CHAINS * STEPS;
}

static double spin_avx512_floats(void) {
#define LINE(i) "vfmadd213ps %%zmm12, %%zmm12, %%zmm" i "\n\t"
    const float factor = 0.5F;
    SPIN(LOAD_ZMM, BEGIN_ZMM, LINE, factor);
#undef LINE
    return 2.0 * 16 * CHAINS * STEPS;
}

static double spin_avx512_halves(void) {
#define LINE(i) "vdpbf16ps %%zmm12, %%zmm12, %%zmm" i "\n\t"
    const uint16_t factor[2] = {0x3F00, 0x3E80}; /* 0.5 and 0.25 */
    SPIN(LOAD_ZMM, BEGIN_ZMM, LINE, factor);
#undef LINE
    return 2.0 * 32 * CHAINS * STEPS;
}

static double spin_avx512_bytes(void) {
#define LINE(i) "vpdpbusd %%zmm12, %%zmm12, %%zmm" i "\n\t"
    const int8_t factor[4] = {93, -71, 55, -38};
    SPIN(LOAD_ZMM, BEGIN_ZMM, LINE, factor);
#undef LINE
    return 2.0 * 64 * CHAINS * STEPS;
}

static double spin_tiles(void) {
    mf_tile_shapes shapes = {.palette = 1};
    uint8_t factors[MF_TILE_ROWS][MF_TILE_BYTES];
    int64_t steps = TILE_STEPS;
    memset(factors, 0x5D, sizeof factors);
    for (int i = 0; i < TILES + 2; i++) {
        shapes.row_bytes[i] = MF_TILE_BYTES;
        shapes.rows[i] = MF_TILE_ROWS;
    }
    __asm__ volatile("ldtilecfg %1\n\t"
                     "tileloadd (%2, %3), %%tmm4\n\ttileloadd (%2, %3), %%tmm5\n\t"
                     "tilezero %%tmm0\n\ttilezero %%tmm1\n\t"
                     "tilezero %%tmm2\n\ttilezero %%tmm3\n\t"
                     "1:\n\t"
                     "tdpbusd %%tmm5, %%tmm4, %%tmm0\n\t"
                     "tdpbusd %%tmm5, %%tmm4, %%tmm1\n\t"
                     "tdpbusd %%tmm5, %%tmm4, %%tmm2\n\t"
                     "tdpbusd %%tmm5, %%tmm4, %%tmm3\n\t"
                     "decq %0\n\tjnz 1b\n\t"
                     "tilerelease"
                     : "+r"(steps)
                     : "m"(shapes), "r"(factors), "r"((size_t)MF_TILE_BYTES),
                       "m"(factors)
                     : "cc");
    return 2.0 * MF_TILE_ROWS * MF_TILE_ROWS * MF_TILE_BYTES * TILES * TILE_STEPS;
}
#endif

static spin_function *choose(mf_cpu_level level, mf_peak_kind kind) {
    bool bytes = kind == MF_PEAK_INT8;
    bool tiles = kind == MF_PEAK_INT8_TILE;
#if defined(__x86_64__)
    if (tiles && level == MF_CPU_AMX) {
        return spin_tiles;
    }
    if (!tiles && (level == MF_CPU_AMX || level == MF_CPU_AVX512)) {
        bool halves =
            kind == MF_PEAK_BF16 && level == MF_CPU_AVX512 && mf_cpu_has_bf16();
        return bytes    ? spin_avx512_bytes
               : halves ? spin_avx512_halves
                        : spin_avx512_floats;
    }
    if (!tiles && level == MF_CPU_AVX2) {
        return bytes ? spin_avx2_bytes : spin_avx2_floats;
    }
#endif
    (void)level;
    return tiles ? NULL : bytes ? spin_plain_integers : spin_plain_floats;
}

static int64_t thread_ns(void) {
    struct timespec now;
    MF_ASSERT(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) == 0);
    return (int64_t)now.tv_sec * MF_NS_PER_S + now.tv_nsec;
}

double mf_peak_gops(mf_cpu_level level, mf_peak_kind kind) {
    MF_ASSERT(mf_cpu_has(level));
    MF_ASSERT(kind < MF_PEAK_KIND_COUNT);
    spin_function *spin = choose(level, kind);
    if (spin == NULL) {
        return 0.0;
    }
    int64_t start = thread_ns();
    double operations = spin();
    int64_t spent = thread_ns() - start;
    return operations / (double)(spent > 0 ? spent : 1);
}
