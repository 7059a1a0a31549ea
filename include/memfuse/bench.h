/* bench.h - how fast a sentence encoder runs on this machine.
 *
 * What is measured is the whole way of a text to its vector, tokenising included, on
 * one core; beside it, in the same run and by turns, what the processor could do at
 * most. Times are processor time of the measuring thread, so that other programs
 * disturb them less.  A figure is the median of several repeats and comes with the
 * lowest and the highest.
 *
 * The call takes seconds and may be made from any thread; figures mean something only
 * if nothing else in the process is busy.  The library never prints. */
#ifndef MEMFUSE_BENCH_H
#define MEMFUSE_BENCH_H

#include <stdint.h>

#include "memfuse/memfuse.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    MF_BENCH_REPEATS_DEFAULT = 9,
    MF_BENCH_REPEATS_MAX = 99,
    MF_BENCH_SLICE_MS_DEFAULT = 200,
    MF_BENCH_SLICE_MS_MAX = 60000,
};

typedef struct mf_bench_options {
    const char *model_dir; /* a Hugging Face folder, docs/encoder.md */
    const char *precision; /* as the setting model.precision; NULL: "auto" */
    const char *kernel;    /* "scalar", "avx2", "avx512", "amx"; NULL: the best here */
    const char *const *texts; /* to encode, UTF-8; NULL: the built-in messages */
    size_t text_count;        /* of them; 0 only if texts is NULL */
    unsigned repeats;         /* 1..MF_BENCH_REPEATS_MAX */
    unsigned slice_ms;        /* processor time of one repeat of the batch, at least;
                                 1..MF_BENCH_SLICE_MS_MAX */
    /* Called on the calling thread after each step, unless NULL, with `done` of `total`
     * steps.  A result other than 0 gives up: the call fails with the code "stopping".
     */
    int (*progress)(void *ctx, const char *what, uint64_t done, uint64_t total);
    void *progress_ctx;
} mf_bench_options;

MF_API mf_bench_options mf_bench_options_default(void); /* all but model_dir */

/* Names for options.kernel and options.precision, ended by NULL, best first: what this
 * processor runs.  Plain C is the reference and slow, so "scalar" is among them only
 * where there is nothing else. */
MF_API const char *const *mf_bench_kernels(void);
MF_API const char *const *mf_bench_precisions(void);

/* Measures one precision on one level of kernels.  0 on success; otherwise a code
 * (mf_engine_code_name) and a sentence in `error` (MF_ENGINE_ERROR_TEXT bytes, or
 * NULL): what opening the model can fail with, "invalid" for an option, "unsupported"
 * for a kernel this processor lacks, "stopping", "no_memory".
 *
 * *json receives an object, to be freed with mf_engine_free:
 *
 *   precision          what ran: "fp32", "bf16", "int8"
 *   tokens_per_s       of the texts, [CLS] and [SEP] included; nothing is padded
 *   texts_per_s
 *   gflops             operations of the linear layers, two per weight and token, in
 *                      thousand millions a second of the whole forward pass
 *   peak_gflops        most that multiply-adds of this precision reach in the vector
 *                      registers; null for kernels in plain C
 *   peak_fraction      gflops / peak_gflops, each repeat with its own peak
 *   cosine_min         least cosine to the same model in fp32, over a built-in set of
 *                      varied texts
 *   query_p50_us       a question of about ten tokens, microseconds, caches warm
 *   query_cold_p50_us  the same after 128 MB of other memory were touched
 *   query_tokens       tokens of that question
 *   threads_2_ratio    tokens per second of two threads, each with a lane, over those
 * of one; null on one core tile_peak_gflops   as peak_gflops, in tile registers; null
 * for kernels without them cosine_mean model, kernel      what was measured open_ms to
 * open the model and a lane, its files in the page cache rss_mb             memory of
 * the whole process in RAM then, million bytes texts, tokens_per_text, repeats,
 * slice_ms spread             an object: of each figure with repeats [lowest, highest]
 */
MF_API int mf_bench_encoder(const mf_bench_options *options, char **json, char *error);

#ifdef __cplusplus
}
#endif

#endif
