/* encoder_pack.c - lays the image of a model out, fills it and checks it.
 *
 * One walk over the sections (lay_out) serves measuring, filling and reading, so the
 * three cannot disagree. */
#include "model/encoder_pack.h"

#include <math.h>
#include <stddef.h>
#include <string.h>
#include <xxhash.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "num/kernels.h"

#define PACK_MAGIC "MFPACK8\n"
enum { PACK_VERSION = 5, ALIGN = MF_IMAGE8_ALIGN };

/* The first bytes of an image. */
typedef struct header {
    char magic[8];
    uint32_t version;
    float agreement;
    uint64_t bytes;    /* of the whole image */
    uint64_t checksum; /* XXH3-64 of everything behind this field */
    uint64_t source_bytes;
    int64_t source_modified_ns;
    uint64_t source_inode;
    uint64_t source_hash[2];
    uint32_t hidden;
    uint32_t layers;
    uint32_t inner;
    uint32_t positions;
    uint32_t vocab;
    uint32_t types;
    uint32_t network; /* mf_network */
    uint32_t heads;
    uint32_t buckets;
    uint32_t labels;
    uint32_t unused[4]; /* zero */
} header;

_Static_assert(sizeof(header) == 2 * ALIGN, "sections follow at an aligned place");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the format's byte order");

_Static_assert((int)MF_ENCODER_INNER_MAX <= (int)MF_MATRIX8_INPUTS_MAX,
               "every layer fits a matrix");

enum { CHECKED_FROM = offsetof(header, checksum) + sizeof(uint64_t) };

/* --- sections --------------------------------------------------------------------- */

/* A place in an image, or, with a NULL image, only in the count of its bytes. */
typedef struct cursor {
    const char *image;
    size_t at;
} cursor;

static const void *section(cursor *c, size_t bytes) {
    const char *start = c->image == NULL ? NULL : c->image + c->at;
    c->at += (bytes + ALIGN - 1) / ALIGN * ALIGN;
    return start;
}

static mf_norm8 norm_section(cursor *c, size_t width) {
    mf_norm8 norm;
    norm.exact.gain = section(c, width * sizeof(float));
    norm.exact.bias = section(c, width * sizeof(float));
    norm.shrink = section(c, width * sizeof(float));
    return norm;
}

static mf_matrix8 matrix_section(cursor *c, size_t outputs, size_t inputs) {
    const void *start = section(c, mf_matrix8_bytes(outputs, inputs));
    return start == NULL ? (mf_matrix8){0} : mf_matrix8_view(start, outputs, inputs);
}

static size_t whole_panels(size_t outputs) {
    return (outputs + MF_PANEL8 - 1) / MF_PANEL8 * MF_PANEL8;
}

static mf_first8 first_section(cursor *c, size_t outputs, size_t inputs) {
    mf_first8 first;
    first.known = section(c, inputs * sizeof(float));
    first.bias = section(c, whole_panels(outputs) * sizeof(float));
    return first;
}

static mf_layer8 layer_section(cursor *c, const mf_encoder_config *config) {
    size_t hidden = config->hidden;
    mf_layer8 layer;
    layer.qkv = matrix_section(c, 3 * hidden, hidden);
    layer.out = matrix_section(c, hidden, hidden);
    layer.inner = matrix_section(c, config->inner, hidden);
    layer.outer = matrix_section(c, hidden, config->inner);
    layer.attention_norm = norm_section(c, hidden);
    layer.output_norm = norm_section(c, hidden);
    layer.first_qkv = first_section(c, 3 * hidden, hidden);
    layer.first_inner = first_section(c, config->inner, hidden);
    layer.first_outer = first_section(c, hidden, config->inner);
    layer.qkv_shrink = NULL; /* the caller knows the norm before */
    return layer;
}

static mf_linear_weights linear_section(cursor *c, size_t outputs, size_t inputs) {
    mf_linear_weights linear;
    linear.weights = section(c, outputs * inputs * sizeof(float));
    linear.bias = section(c, outputs * sizeof(float));
    return linear;
}

/* What only some kinds of models have; nothing takes no bytes. */
static void lay_out_extras(cursor *c, const mf_encoder_config *config, mf_pack *pack) {
    size_t hidden = config->hidden;
    pack->type_steps = section(c, hidden * sizeof(float));
    pack->distances = section(c, config->buckets * config->heads * sizeof(float));
    if (config->labels > 0) {
        pack->head.dense = linear_section(c, hidden, hidden);
        pack->head.classifier = linear_section(c, config->labels, hidden);
    }
}

/* Points `pack` at the sections, with room for the layers when there is an image;
 * returns the bytes of the whole. */
static size_t lay_out(const mf_encoder_config *config, const void *image,
                      mf_pack *pack) {
    cursor c = {image, sizeof(header)};
    size_t hidden = config->hidden;
    pack->words = section(&c, config->vocab * hidden);
    pack->word_scales = section(&c, config->vocab * sizeof(float));
    pack->positions = section(&c, config->positions * hidden * sizeof(float));
    pack->input_norm = norm_section(&c, hidden);
    for (size_t i = 0; i < config->layers; i++) {
        mf_layer8 layer = layer_section(&c, config);
        if (image != NULL) {
            layer.qkv_shrink = i == 0 ? pack->input_norm.shrink
                                      : pack->layers[i - 1].output_norm.shrink;
            pack->layers[i] = layer;
        }
    }
    lay_out_extras(&c, config, pack);
    return c.at;
}

size_t mf_pack_bytes(const mf_encoder_config *config) {
    mf_pack none = {.layers = NULL};
    return lay_out(config, NULL, &none);
}

/* --- writing ---------------------------------------------------------------------- */

/* The place in `image` that `section` points at, to write there. */
static void *writable(void *image, const void *section_start) {
    return (char *)image + ((const char *)section_start - (const char *)image);
}

static void write_floats(void *image, const float *section_start, const float *values,
                         size_t count) {
    memcpy(writable(image, section_start), values, count * sizeof *values);
}

/* Some linear modules stacked, which take the same activations. */
typedef struct stack {
    const mf_linear_weights *modules;
    size_t count;
    const float *factors; /* as in mf_matrix8_part */
    mf_coding8 coding;
    mf_rounding *rounding; /* prepared */
} stack;

static void write_matrix(void *image, const mf_matrix8 *to, const stack *from) {
    size_t outputs = to->outputs / from->count;
    for (size_t i = 0; i < from->count; i++) {
        mf_matrix8_set(writable(image, to->panels), to->outputs, to->inputs,
                       &(mf_matrix8_part){
                           .first = i * outputs,
                           .count = outputs,
                           .weights = from->modules[i].weights,
                           .bias = from->modules[i].bias,
                           .factors = from->factors,
                           .coding = from->coding,
                           .rounding = from->rounding,
                       });
    }
}

/* The factor of each channel between activations whose magnitudes reach `peaks` and the
 * modules that take them: five eighths of the difference, in orders of magnitude, go to
 * the weights, whose rounding makes up for most of it. */
static void balance(const stack *from, size_t outputs, size_t inputs,
                    const float *peaks, float *factors) {
    for (size_t k = 0; k < inputs; k++) {
        float largest = 0.0F;
        for (size_t i = 0; i < from->count; i++) {
            for (size_t n = 0; n < outputs; n++) {
                largest =
                    fmaxf(largest, fabsf(from->modules[i].weights[n * inputs + k]));
            }
        }
        bool usable = peaks[k] > 1e-5F && largest > 1e-5F;
        factors[k] =
            usable ? sqrtf(peaks[k] / largest) * sqrtf(sqrtf(sqrtf(peaks[k] * largest)))
                   : 1.0F;
    }
}

/* `matrix` is what was made of the modules. */
static void write_first(void *image, const mf_first8 *to, const stack *from,
                        const mf_matrix8 *matrix, const float *known) {
    size_t inputs = matrix->inputs;
    size_t outputs = matrix->outputs / from->count; /* of a module */
    float *bias = writable(image, to->bias);
    write_floats(image, to->known, known, inputs);
    for (size_t i = 0; i < matrix->outputs; i++) {
        const float *row = from->modules[i / outputs].weights + i % outputs * inputs;
        double sum = (double)matrix->bias[i];
        for (size_t k = 0; k < inputs; k++) {
            sum += (double)row[k] * (double)known[k];
        }
        bias[i] = (float)sum;
    }
}

/* Leaves the middle of what first tokens had in in->least. */
static const float *middle(mf_inputs *in) {
    for (size_t i = 0; i < in->width; i++) {
        in->least[i] += in->most[i];
        in->least[i] *= 0.5F;
    }
    return in->least;
}

/* `factors` is what the layer behind the norm expects; NULL behind the last one. */
static void write_norm(void *image, const mf_norm8 *to, const mf_norm *from,
                       const float *factors, size_t width) {
    float *shrink = writable(image, to->shrink);
    write_floats(image, to->exact.gain, from->gain, width);
    write_floats(image, to->exact.bias, from->bias, width);
    for (size_t i = 0; i < width; i++) {
        shrink[i] = factors == NULL ? 1.0F : 1.0F / factors[i];
    }
}

/* `factors` [2, hidden] receives those of qkv and of inner. */
static void write_layer(const mf_encoder_config *config, const mf_layer_weights *from,
                        mf_calibration *seen, float *factors, void *image,
                        const mf_layer8 *to) {
    size_t hidden = config->hidden;
    mf_inputs *places = seen->places;
    float *inner_factors = factors + hidden;
    stack qkv = {from->qkv, 3, factors, MF_CODING_CENTRED,
                 places[MF_PLACE_QKV].rounding};
    stack out = {&from->out, 1, NULL, MF_CODING_CENTRED, places[MF_PLACE_OUT].rounding};
    stack inner = {&from->inner, 1, inner_factors, MF_CODING_CENTRED,
                   places[MF_PLACE_INNER].rounding};
    stack outer = {&from->outer, 1, NULL, MF_CODING_GELU,
                   places[MF_PLACE_OUTER].rounding};
    balance(&qkv, hidden, hidden, places[MF_PLACE_QKV].peaks, factors);
    balance(&inner, config->inner, hidden, places[MF_PLACE_INNER].peaks, inner_factors);
    mf_rounding_prepare(qkv.rounding, qkv.factors);
    mf_rounding_prepare(out.rounding, NULL);
    mf_rounding_prepare(inner.rounding, inner.factors);
    mf_rounding_prepare(outer.rounding, NULL);
    write_matrix(image, &to->qkv, &qkv);
    write_matrix(image, &to->out, &out);
    write_matrix(image, &to->inner, &inner);
    write_matrix(image, &to->outer, &outer);
    write_norm(image, &to->attention_norm, &from->attention_norm, inner_factors,
               hidden);
    write_first(image, &to->first_qkv, &qkv, &to->qkv, middle(&places[MF_PLACE_QKV]));
    write_first(image, &to->first_inner, &inner, &to->inner,
                middle(&places[MF_PLACE_INNER]));
    /* The least, because what is left must not be below zero by much. */
    write_first(image, &to->first_outer, &outer, &to->outer,
                places[MF_PLACE_OUTER].least);
}

static void write_embeddings(const mf_encoder_config *config, const mf_weights *weights,
                             void *image, const mf_pack *pack) {
    size_t hidden = config->hidden;
    int8_t *words = writable(image, pack->words);
    float *scales = writable(image, pack->word_scales);
    float *positions = writable(image, pack->positions);
    for (size_t word = 0; word < config->vocab; word++) {
        scales[word] = mf_quantize_row8(weights->words + word * hidden, hidden,
                                        words + word * hidden);
    }
    for (size_t at = 0; at < config->positions; at++) {
        for (size_t i = 0; i < hidden; i++) {
            positions[at * hidden + i] =
                weights->positions[at * hidden + i] + weights->types[i];
        }
    }
}

static void write_linear(void *image, const mf_linear_weights *to,
                         const mf_linear_weights *from, size_t outputs, size_t inputs) {
    write_floats(image, to->weights, from->weights, outputs * inputs);
    write_floats(image, to->bias, from->bias, outputs);
}

static void write_extras(const mf_encoder_config *config, const mf_weights *weights,
                         void *image, const mf_pack *pack) {
    size_t hidden = config->hidden;
    float *steps = writable(image, pack->type_steps);
    for (size_t i = 0; config->types > 1 && i < hidden; i++) {
        steps[i] = weights->types[hidden + i] - weights->types[i];
    }
    if (config->buckets > 0) {
        write_floats(image, pack->distances, weights->distances,
                     config->buckets * config->heads);
    }
    if (config->labels > 0) {
        write_linear(image, &pack->head.dense, &weights->head.dense, hidden, hidden);
        write_linear(image, &pack->head.classifier, &weights->head.classifier,
                     config->labels, hidden);
    }
}

/* `factors` [2, hidden] is room for the factors of one layer. */
static mf_rc write_layers(const mf_encoder_config *config, const mf_weights *weights,
                          const mf_pack_work *work, float *factors, void *image,
                          const mf_pack *pack, mf_err *err) {
    size_t hidden = config->hidden;
    const mf_norm8 *before = &pack->input_norm; /* of the layer: feeds its qkv */
    const mf_norm *before_from = &weights->input_norm;
    mf_calibration seen;
    MF_TRY(mf_calibration_init(&seen, config, work->level, err));
    mf_rc rc = MF_OK;
    for (size_t i = 0; rc == MF_OK && i < config->layers; i++) {
        const mf_layer_weights *from = &weights->layers[i];
        mf_calibration_reset(&seen);
        rc = work->observe(work->context, i, &seen, err);
        if (rc == MF_OK) {
            write_layer(config, from, &seen, factors, image, &pack->layers[i]);
            write_norm(image, before, before_from, factors, hidden);
            before = &pack->layers[i].output_norm;
            before_from = &from->output_norm;
        }
    }
    write_norm(image, before, before_from, NULL, hidden);
    mf_calibration_done(&seen);
    return rc;
}

static void write_header(const mf_encoder_config *config, size_t bytes, void *image) {
    header h = {
        .version = PACK_VERSION,
        .bytes = bytes,
        .hidden = (uint32_t)config->hidden,
        .layers = (uint32_t)config->layers,
        .inner = (uint32_t)config->inner,
        .positions = (uint32_t)config->positions,
        .vocab = (uint32_t)config->vocab,
        .types = (uint32_t)config->types,
        .network = (uint32_t)config->network,
        .heads = (uint32_t)config->heads,
        .buckets = (uint32_t)config->buckets,
        .labels = (uint32_t)config->labels,
    };
    memcpy(h.magic, PACK_MAGIC, sizeof h.magic);
    memcpy(image, &h, sizeof h);
}

mf_rc mf_pack_build(const mf_encoder_config *config, const mf_weights *weights,
                    const mf_pack_work *work, void *image, mf_err *err) {
    mf_pack pack = {.layers = mf_alloc_zero(config->layers, sizeof *pack.layers)};
    float *factors = mf_alloc_array(2 * config->hidden, sizeof *factors);
    mf_rc rc =
        pack.layers == NULL || factors == NULL
            ? MF_FAIL(err, MF_E_NOMEM, "no memory to pack %zu layers", config->layers)
            : MF_OK;
    if (rc == MF_OK) {
        write_header(config, lay_out(config, image, &pack), image);
        write_embeddings(config, weights, image, &pack);
        write_extras(config, weights, image, &pack);
        rc = write_layers(config, weights, work, factors, image, &pack, err);
    }
    mf_pack_done(&pack);
    mf_free(factors);
    return rc;
}

static uint64_t checksum(const void *image, size_t bytes) {
    return XXH3_64bits((const char *)image + CHECKED_FROM, bytes - CHECKED_FROM);
}

void mf_pack_seal(void *image, const mf_pack_source *source, float agreement) {
    header h;
    memcpy(&h, image, sizeof h);
    h.agreement = agreement;
    h.source_bytes = source->stamp.bytes;
    h.source_modified_ns = source->stamp.modified_ns;
    h.source_inode = source->stamp.inode;
    memcpy(h.source_hash, source->hash, sizeof h.source_hash);
    memcpy(image, &h, sizeof h); /* the checksum covers most of it */
    h.checksum = checksum(image, h.bytes);
    memcpy(image, &h, sizeof h);
}

/* --- reading ---------------------------------------------------------------------- */

static mf_rc check_header(const mf_encoder_config *config, mf_str bytes, header *h,
                          mf_err *err) {
    if (bytes.len < sizeof *h || memcmp(bytes.p, PACK_MAGIC, sizeof h->magic) != 0) {
        return MF_FAIL(err, MF_E_CORRUPT, "it is no packed model");
    }
    memcpy(h, bytes.p, sizeof *h);
    if (h->version != PACK_VERSION) {
        return MF_FAIL(err, MF_E_CORRUPT, "its format has version %u, expected %d",
                       h->version, PACK_VERSION);
    }
    if (h->hidden != config->hidden || h->layers != config->layers ||
        h->inner != config->inner || h->positions != config->positions ||
        h->vocab != config->vocab || h->types != config->types ||
        h->network != (uint32_t)config->network || h->heads != config->heads ||
        h->buckets != config->buckets || h->labels != config->labels) {
        return MF_FAIL(err, MF_E_CORRUPT, "its model has another shape");
    }
    size_t expected = mf_pack_bytes(config);
    if (h->bytes != expected || bytes.len != expected) {
        return MF_FAIL(err, MF_E_CORRUPT, "it has %zu bytes, expected %zu", bytes.len,
                       expected);
    }
    if (h->checksum != checksum(bytes.p, expected)) {
        return MF_FAIL(err, MF_E_CORRUPT, "its checksum is wrong");
    }
    return MF_OK;
}

/* A right checksum over wrong numbers takes a purpose; it still must not lead to
 * vectors of NaN. */
static bool matrix_is_finite(const mf_kernels *kernels, const mf_matrix8 *m) {
    return kernels->all_finite(m->scales, m->outputs) &&
           kernels->all_finite(m->bias, m->outputs);
}

static bool norm_is_finite(const mf_kernels *kernels, const mf_norm8 *norm,
                           size_t width) {
    return kernels->all_finite(norm->exact.gain, width) &&
           kernels->all_finite(norm->exact.bias, width) &&
           kernels->all_finite(norm->shrink, width);
}

static bool extras_are_finite(const mf_kernels *kernels,
                              const mf_encoder_config *config, const mf_pack *pack) {
    size_t hidden = config->hidden;
    bool fine = kernels->all_finite(pack->type_steps, hidden) &&
                kernels->all_finite(pack->distances, config->buckets * config->heads);
    if (fine && config->labels > 0) {
        const mf_linear_weights *classifier = &pack->head.classifier;
        fine = kernels->all_finite(pack->head.dense.weights, hidden * hidden) &&
               kernels->all_finite(pack->head.dense.bias, hidden) &&
               kernels->all_finite(classifier->weights, config->labels * hidden) &&
               kernels->all_finite(classifier->bias, config->labels);
    }
    return fine;
}

static bool first_is_finite(const mf_kernels *kernels, const mf_first8 *first,
                            size_t outputs, size_t inputs) {
    return kernels->all_finite(first->known, inputs) &&
           kernels->all_finite(first->bias, outputs);
}

static bool pack_is_finite(const mf_encoder_config *config, const mf_pack *pack) {
    const mf_kernels *kernels = mf_kernels_best();
    size_t hidden = config->hidden;
    bool fine = kernels->all_finite(pack->word_scales, config->vocab) &&
                kernels->all_finite(pack->positions, config->positions * hidden) &&
                norm_is_finite(kernels, &pack->input_norm, hidden) &&
                extras_are_finite(kernels, config, pack);
    for (size_t i = 0; fine && i < config->layers; i++) {
        const mf_layer8 *layer = &pack->layers[i];
        fine = matrix_is_finite(kernels, &layer->qkv) &&
               matrix_is_finite(kernels, &layer->out) &&
               matrix_is_finite(kernels, &layer->inner) &&
               matrix_is_finite(kernels, &layer->outer) &&
               norm_is_finite(kernels, &layer->attention_norm, hidden) &&
               norm_is_finite(kernels, &layer->output_norm, hidden) &&
               first_is_finite(kernels, &layer->first_qkv, 3 * hidden, hidden) &&
               first_is_finite(kernels, &layer->first_inner, config->inner, hidden) &&
               first_is_finite(kernels, &layer->first_outer, hidden, config->inner);
    }
    return fine;
}

mf_rc mf_pack_open(const mf_encoder_config *config, mf_str bytes, mf_pack *out,
                   mf_err *err) {
    header h;
    MF_ASSERT((uintptr_t)bytes.p % ALIGN == 0);
    MF_TRY(check_header(config, bytes, &h, err));
    mf_pack pack = {
        .layers = mf_alloc_zero(config->layers, sizeof *pack.layers),
        .source = {{h.source_bytes, h.source_modified_ns, h.source_inode},
                   {h.source_hash[0], h.source_hash[1]}},
        .agreement = h.agreement,
    };
    if (pack.layers == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu layers", config->layers);
    }
    (void)lay_out(config, bytes.p, &pack); /* the size is checked already */
    if (!pack_is_finite(config, &pack)) {
        mf_pack_done(&pack);
        return MF_FAIL(err, MF_E_CORRUPT, "it holds a NaN or an infinity");
    }
    *out = pack;
    return MF_OK;
}

void mf_pack_done(mf_pack *pack) {
    mf_free(pack->layers);
    *pack = (mf_pack){0};
}
