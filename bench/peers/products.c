/* products.c - the bare products of the model's linear layers, beside oneDNN and
 * OpenBLAS.
 *
 *   bench_products [--json]
 *
 * The four shapes of all-MiniLM-L6-v2, for a question of 10 tokens, a message of 32 and
 * a group of 96.  A library gets its weights in the layout it likes best, packed before
 * the clock starts, and does nothing but the product and, with 8 bits, one scale and
 * bias per output.  memfuse's kernels do what the encoder needs on top: with 8 bits
 * also a scale per token.
 *
 * One thread, by its processor time; the candidates of a row take turns with each other
 * and with the register loop.  A figure is the median of the repeats, with the lowest
 * and the highest behind it.
 *
 * Needs the packages libdnnl-dev (2.x) and libopenblas-dev, which nothing else here
 * does; `make bench-peers` installs them. */
#include <cblas.h>
#include <dnnl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "num/kernels.h"
#include "num/peak.h"

#if DNNL_VERSION_MAJOR != 2
#error "products.c is written for oneDNN 2.x"
#endif

enum {
    REPEATS = 9,
    SLICE_NS = 10 * 1000 * 1000, /* least time of one repeat */
    ROWS_MAX = 96,
    SIDE_MAX = 1536,
    ALIGN = 64,
};

static const size_t shapes[][2] = {/* inputs, outputs */
                                   {384, 384},
                                   {384, 1152},
                                   {384, 1536},
                                   {1536, 384}};
static const size_t row_counts[] = {10, 32, 96};

/* --- data ------------------------------------------------------------------------- */

/* One product, in the forms that the candidates take. */
typedef struct problem {
    size_t rows, inputs, outputs;
    float *x;       /* [rows, inputs] */
    float *weights; /* [outputs, inputs] */
    float *bias;    /* [outputs] */
    float *y;       /* [rows, outputs] */
    uint8_t *x8;    /* [rows, inputs] */
    float *scales8; /* [rows] of x8 */
    mf_matrix *matrix;
    void *image8;
    mf_matrix8 matrix8;
} problem;

static void must(int ok, const char *what) {
    if (!ok) {
        (void)fprintf(stderr, "bench_products: %s failed\n", what);
        exit(1);
    }
}

static void *room(size_t bytes) {
    void *block = mf_alloc_aligned(ALIGN, bytes);
    must(block != NULL, "memory");
    memset(block, 0, bytes);
    return block;
}

static float *random_floats(mf_rng *rng, size_t count) {
    float *v = room(count * sizeof *v);
    for (size_t i = 0; i < count; i++) {
        v[i] = (float)(mf_rng_unit(rng) - 0.5);
    }
    return v;
}

static problem make_problem(size_t rows, size_t inputs, size_t outputs) {
    mf_rng rng;
    mf_rng_init(&rng, 7);
    problem p = {.rows = rows, .inputs = inputs, .outputs = outputs};
    p.x = random_floats(&rng, rows * inputs);
    p.weights = random_floats(&rng, outputs * inputs);
    p.bias = random_floats(&rng, outputs);
    p.y = room(rows * outputs * sizeof *p.y);
    p.x8 = room(rows * mf_stride8(inputs));
    p.scales8 = room(rows * sizeof *p.scales8);
    must(mf_matrix_new(outputs, inputs, &p.matrix, NULL) == MF_OK, "memory");
    mf_matrix_set(p.matrix, 0, outputs, p.weights, p.bias);
    p.image8 = room(mf_matrix8_bytes(outputs, inputs));
    mf_matrix8_set(p.image8, outputs, inputs,
                   &(mf_matrix8_part){.count = outputs,
                                      .weights = p.weights,
                                      .bias = p.bias,
                                      .coding = MF_CODING_CENTRED});
    p.matrix8 = mf_matrix8_view(p.image8, outputs, inputs);
    mf_rows8 x8 = {p.x8, p.scales8};
    mf_kernels_best()->quantize(p.x, rows, inputs, MF_CODING_CENTRED, &x8);
    return p;
}

static void drop_problem(problem *p) {
    mf_free(p->x);
    mf_free(p->weights);
    mf_free(p->bias);
    mf_free(p->y);
    mf_free(p->x8);
    mf_free(p->scales8);
    mf_matrix_free(p->matrix);
    mf_free(p->image8);
}

/* --- oneDNN ----------------------------------------------------------------------- */

typedef struct library {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
} library;

/* A product ready to be executed again and again; `product` NULL: not on this
 * processor. */
typedef struct dnnl_product {
    dnnl_primitive_t product;
    dnnl_memory_t x, weights, bias, y;
} dnnl_product;

static void sure(dnnl_status_t status, const char *what) {
    must(status == dnnl_success, what);
}

static dnnl_memory_desc_t describe(size_t rows, size_t columns, dnnl_data_type_t type,
                                   dnnl_format_tag_t tag) {
    const dnnl_dims_t dims = {(dnnl_dim_t)rows, (dnnl_dim_t)columns};
    dnnl_memory_desc_t desc;
    sure(dnnl_memory_desc_init_by_tag(&desc, 2, dims, type, tag), "describing memory");
    return desc;
}

static dnnl_memory_t memory_of(const library *lib, const dnnl_memory_desc_t *desc) {
    dnnl_memory_t memory = NULL;
    sure(dnnl_memory_create(&memory, desc, lib->engine, DNNL_MEMORY_ALLOCATE),
         "memory");
    return memory;
}

static void convert(const library *lib, dnnl_memory_t from, dnnl_memory_t to) {
    const dnnl_memory_desc_t *from_desc = NULL;
    const dnnl_memory_desc_t *to_desc = NULL;
    dnnl_primitive_desc_t desc = NULL;
    dnnl_primitive_t reorder = NULL;
    sure(dnnl_memory_get_memory_desc(from, &from_desc), "description");
    sure(dnnl_memory_get_memory_desc(to, &to_desc), "description");
    sure(dnnl_reorder_primitive_desc_create(&desc, from_desc, lib->engine, to_desc,
                                            lib->engine, NULL),
         "conversion");
    sure(dnnl_primitive_create(&reorder, desc), "conversion");
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
    sure(dnnl_primitive_execute(reorder, lib->stream, 2, args), "conversion");
    sure(dnnl_stream_wait(lib->stream), "conversion");
    (void)dnnl_primitive_destroy(reorder);
    (void)dnnl_primitive_desc_destroy(desc);
}

/* Memory of the given description that holds `values` [rows, columns], seen transposed
 * where `tag` says so. */
static dnnl_memory_t filled(const library *lib, const dnnl_memory_desc_t *desc,
                            const float *values, size_t rows, size_t columns,
                            dnnl_format_tag_t tag) {
    dnnl_memory_desc_t plain = describe(rows, columns, dnnl_f32, tag);
    dnnl_memory_t from = memory_of(lib, &plain);
    void *bytes = NULL;
    sure(dnnl_memory_get_data_handle(from, &bytes), "memory");
    memcpy(bytes, values, rows * columns * sizeof *values);
    dnnl_memory_t to = memory_of(lib, desc);
    convert(lib, from, to);
    (void)dnnl_memory_destroy(from);
    return to;
}

/* The kinds of numbers of activations and weights.  8-bit values are cut off rather
 * than scaled, which takes the same time. */
static dnnl_product make_dnnl(const library *lib, const problem *p, dnnl_data_type_t x,
                              dnnl_data_type_t weights) {
    dnnl_product made = {.product = NULL};
    dnnl_memory_desc_t x_desc = describe(p->rows, p->inputs, x, dnnl_ab);
    dnnl_memory_desc_t w_desc =
        describe(p->inputs, p->outputs, weights, dnnl_format_tag_any);
    dnnl_memory_desc_t bias_desc = describe(1, p->outputs, dnnl_f32, dnnl_ab);
    dnnl_memory_desc_t y_desc = describe(p->rows, p->outputs, dnnl_f32, dnnl_ab);
    dnnl_primitive_attr_t attr = NULL;
    sure(dnnl_primitive_attr_create(&attr), "attributes");
    if (weights == dnnl_s8) { /* one scale per output */
        sure(dnnl_primitive_attr_set_output_scales(attr, (dnnl_dim_t)p->outputs, 2,
                                                   p->bias),
             "scales");
    }
    dnnl_matmul_desc_t desc;
    dnnl_primitive_desc_t ready = NULL;
    sure(dnnl_matmul_desc_init(&desc, &x_desc, &w_desc, &bias_desc, &y_desc),
         "product");
    dnnl_status_t status =
        dnnl_primitive_desc_create(&ready, &desc, attr, lib->engine, NULL);
    (void)dnnl_primitive_attr_destroy(attr);
    if (status != dnnl_success) {
        return made;
    }
    const dnnl_memory_desc_t *packed =
        dnnl_primitive_desc_query_md(ready, dnnl_query_weights_md, 0);
    made.x = filled(lib, &x_desc, p->x, p->rows, p->inputs, dnnl_ab);
    made.weights = filled(lib, packed, p->weights, p->inputs, p->outputs, dnnl_ba);
    made.bias = filled(lib, &bias_desc, p->bias, 1, p->outputs, dnnl_ab);
    made.y = memory_of(lib, &y_desc);
    sure(dnnl_primitive_create(&made.product, ready), "product");
    (void)dnnl_primitive_desc_destroy(ready);
    return made;
}

static void drop_dnnl(dnnl_product *made) {
    if (made->product != NULL) {
        (void)dnnl_primitive_destroy(made->product);
        (void)dnnl_memory_destroy(made->x);
        (void)dnnl_memory_destroy(made->weights);
        (void)dnnl_memory_destroy(made->bias);
        (void)dnnl_memory_destroy(made->y);
    }
}

/* --- candidates ------------------------------------------------------------------- */

typedef enum candidate {
    OPENBLAS_FP32,
    ONEDNN_FP32,
    MEMFUSE_FP32,
    PEAK_FP32,
    ONEDNN_BF16,
    PEAK_BF16,
    ONEDNN_INT8,
    MEMFUSE_INT8,
    PEAK_INT8,
    CANDIDATES
} candidate;

static const char *const names[CANDIDATES] = {
    "OpenBLAS fp32",      "oneDNN fp32",  "memfuse fp32",
    "register loop fp32", "oneDNN bf16",  "register loop bf16",
    "oneDNN int8",        "memfuse int8", "register loop int8"};

typedef struct contest {
    const library *lib;
    problem p;
    dnnl_product fp32, bf16, int8;
} contest;

static void run_dnnl(const contest *c, const dnnl_product *made) {
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, made->x},
                                    {DNNL_ARG_WEIGHTS, made->weights},
                                    {DNNL_ARG_BIAS, made->bias},
                                    {DNNL_ARG_DST, made->y}};
    sure(dnnl_primitive_execute(made->product, c->lib->stream, 4, args), "product");
    sure(dnnl_stream_wait(c->lib->stream), "product");
}

static void run_candidate(const contest *c, candidate which) {
    const problem *p = &c->p;
    switch (which) {
    case OPENBLAS_FP32:
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)p->rows,
                    (int)p->outputs, (int)p->inputs, 1.0F, p->x, (int)p->inputs,
                    p->weights, (int)p->inputs, 0.0F, p->y, (int)p->outputs);
        break;
    case MEMFUSE_FP32:
        mf_kernels_best()->linear(&(mf_linear_call){
            .matrix = p->matrix, .x = p->x, .rows = p->rows, .y = p->y});
        break;
    case MEMFUSE_INT8:
        mf_kernels_best()->linear8(&(mf_linear8_call){.matrix = &p->matrix8,
                                                      .x = {p->x8, p->scales8},
                                                      .rows = p->rows,
                                                      .y = p->y});
        break;
    case ONEDNN_FP32:
        run_dnnl(c, &c->fp32);
        break;
    case ONEDNN_BF16:
        run_dnnl(c, &c->bf16);
        break;
    default:
        run_dnnl(c, &c->int8);
    }
}

static int64_t thread_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now); /* cannot fail on Linux */
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static bool is_there(const contest *c, candidate which) {
    return (which != ONEDNN_BF16 || c->bf16.product != NULL) &&
           (which != ONEDNN_INT8 || c->int8.product != NULL);
}

/* Thousand million operations a second. */
static double measure(const contest *c, candidate which) {
    switch (which) {
    case PEAK_FP32:
        return mf_peak_gops(mf_cpu_best(), MF_PEAK_FP32);
    case PEAK_BF16:
        return mf_peak_gops(mf_cpu_best(), MF_PEAK_BF16);
    case PEAK_INT8:
        return mf_peak_gops(mf_cpu_best(), MF_PEAK_INT8);
    default:
        break;
    }
    int64_t start = thread_ns();
    int64_t spent = 0;
    double calls = 0.0;
    do {
        run_candidate(c, which);
        calls += 1.0;
        spent = thread_ns() - start;
    } while (spent < SLICE_NS);
    const problem *p = &c->p;
    double operations = 2.0 * (double)p->rows * (double)p->inputs * (double)p->outputs;
    return operations * calls / (double)spent;
}

/* --- telling ---------------------------------------------------------------------- */

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static void tell(const contest *c, candidate which, double values[REPEATS], bool json) {
    const problem *p = &c->p;
    qsort(values, REPEATS, sizeof *values, by_value);
    double low = values[0];
    double median = values[REPEATS / 2];
    double high = values[REPEATS - 1];
    (void)printf(json ? "{\"inputs\":%zu,\"outputs\":%zu,\"rows\":%zu,\"name\":\"%s\","
                        "\"gops\":%.1f,\"low\":%.1f,\"high\":%.1f}\n"
                      : "%5zu x %4zu  %3zu rows  %-20s %8.1f Gop/s  (%.1f .. %.1f)\n",
                 p->inputs, p->outputs, p->rows, names[which], median, low, high);
}

static void compete(const library *lib, size_t rows, const size_t shape[2], bool json) {
    static double values[CANDIDATES][REPEATS];
    contest c = {.lib = lib, .p = make_problem(rows, shape[0], shape[1])};
    c.fp32 = make_dnnl(lib, &c.p, dnnl_f32, dnnl_f32);
    c.bf16 = make_dnnl(lib, &c.p, dnnl_bf16, dnnl_bf16);
    c.int8 = make_dnnl(lib, &c.p, dnnl_u8, dnnl_s8);
    for (size_t repeat = 0; repeat < REPEATS; repeat++) {
        for (candidate i = 0; i < CANDIDATES; i++) {
            values[i][repeat] = is_there(&c, i) ? measure(&c, i) : 0.0;
        }
    }
    for (candidate i = 0; i < CANDIDATES; i++) {
        if (is_there(&c, i)) {
            tell(&c, i, values[i], json);
        }
    }
    (void)fflush(stdout); /* a failure to write shows at the end */
    drop_dnnl(&c.fp32);
    drop_dnnl(&c.bf16);
    drop_dnnl(&c.int8);
    drop_problem(&c.p);
}

/* Libraries settle when they are loaded how many threads they have and which kernels
 * they use, so the program starts again once it has said what is best: one thread, and
 * for OpenBLAS, which takes a processor younger than itself for a very old one,
 * AVX-512. */
static void settle_libraries(char **argv) {
    if (getenv("OMP_NUM_THREADS") != NULL) {
        return;
    }
    bool blind =
        mf_cpu_has(MF_CPU_AVX512) && strcmp(openblas_get_corename(), "Prescott") == 0;
    must(setenv("OMP_NUM_THREADS", "1", 1) == 0 &&
             setenv("OPENBLAS_NUM_THREADS", "1", 1) == 0 &&
             (!blind || setenv("OPENBLAS_CORETYPE", "SkylakeX", 1) == 0),
         "memory");
    (void)execv("/proc/self/exe", argv);
    must(0, "starting again");
}

int main(int argc, char **argv) {
    bool json = argc > 1 && strcmp(argv[1], "--json") == 0;
    settle_libraries(argv);
    library lib;
    sure(dnnl_engine_create(&lib.engine, dnnl_cpu, 0), "engine");
    sure(dnnl_stream_create(&lib.stream, lib.engine, dnnl_stream_default_flags),
         "stream");
    for (size_t r = 0; r < sizeof row_counts / sizeof row_counts[0]; r++) {
        for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
            compete(&lib, row_counts[r], shapes[s], json);
        }
    }
    (void)dnnl_stream_destroy(lib.stream);
    (void)dnnl_engine_destroy(lib.engine);
    return fflush(stdout) == 0 ? 0 : 1;
}
