/* safetensors.c - checks a safetensors header and looks tensors up in it.
 *
 * The tensors are kept in two orders: sorted by name, where a duplicate is its own
 * neighbour and lookup is a binary search, and, only while checking, by position, where
 * a gap or an overlap shows between neighbours. */
#include "model/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yyjson.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "num/half.h"
#include "num/kernels.h"
#include "os/file.h"
#include "os/file_advise.h"

enum {
    LENGTH_BYTES = 8,
    SHAPE_TEXT = 192,
    HALVES = 512, /* numbers converted at once */
};

typedef struct element_type {
    const char *name;
    size_t bytes;
} element_type;

static const element_type element_types[] = {
    {"F32", 4}, {"F64", 8}, {"F16", 2},  {"BF16", 2},    {"I64", 8},
    {"I32", 4}, {"I16", 2}, {"I8", 1},   {"U64", 8},     {"U32", 4},
    {"U16", 2}, {"U8", 1},  {"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1},
};
#define TYPE_F32 (&element_types[0])
#define TYPE_F16 (&element_types[2])
#define TYPE_BF16 (&element_types[3])

static bool is_16bit(const element_type *type) {
    return type == TYPE_F16 || type == TYPE_BF16;
}

typedef struct tensor {
    mf_str name; /* in the JSON document */
    const element_type *type;
    size_t rank;
    size_t shape[MF_SAFETENSORS_RANK_MAX];
    size_t begin; /* bytes from the start of the data */
    size_t end;
} tensor;

struct mf_safetensors {
    mf_file_view map; /* empty for a view */
    mf_str data;      /* the bytes behind the header */
    yyjson_doc *header;
    tensor *tensors; /* sorted by name */
    size_t count;
};

/* --- memory for the JSON library -------------------------------------------------- */

static void *json_alloc(void *ctx, size_t size) {
    (void)ctx;
    return mf_alloc(size);
}

static void *json_realloc(void *ctx, void *block, size_t old_size, size_t size) {
    (void)ctx;
    (void)old_size;
    return mf_realloc(block, size);
}

static void json_free(void *ctx, void *block) {
    (void)ctx;
    mf_free(block);
}

/* --- one tensor of the header ----------------------------------------------------- */

static const element_type *find_type(yyjson_val *value) {
    for (size_t i = 0; i < sizeof element_types / sizeof element_types[0]; i++) {
        if (yyjson_equals_str(value, element_types[i].name)) {
            return &element_types[i];
        }
    }
    return NULL;
}

static bool to_size(yyjson_val *value, size_t *out) {
    if (!yyjson_is_uint(value) || yyjson_get_uint(value) > SIZE_MAX) {
        return false;
    }
    *out = (size_t)yyjson_get_uint(value);
    return true;
}

static mf_rc read_shape(yyjson_val *value, tensor *t, size_t *bytes, mf_err *err) {
    size_t rank = yyjson_arr_size(value);
    if (!yyjson_is_arr(value) || rank > MF_SAFETENSORS_RANK_MAX) {
        return MF_FAIL(err, MF_E_CORRUPT,
                       "tensor '%.*s': shape is not a list of at most %d sizes",
                       MF_STR_ARGS(t->name), MF_SAFETENSORS_RANK_MAX);
    }
    *bytes = t->type->bytes;
    t->rank = rank;
    for (size_t i = 0; i < rank; i++) {
        if (!to_size(yyjson_arr_get(value, i), &t->shape[i]) ||
            !mf_mul_size(*bytes, t->shape[i], bytes)) {
            return MF_FAIL(err, MF_E_CORRUPT,
                           "tensor '%.*s': size %zu of its shape is not a whole number "
                           "in range",
                           MF_STR_ARGS(t->name), i);
        }
    }
    return MF_OK;
}

static mf_rc read_tensor(yyjson_val *value, size_t data_len, tensor *t, mf_err *err) {
    if (!yyjson_is_obj(value)) {
        return MF_FAIL(err, MF_E_CORRUPT, "tensor '%.*s' is not a JSON object",
                       MF_STR_ARGS(t->name));
    }
    t->type = find_type(yyjson_obj_get(value, "dtype"));
    if (t->type == NULL) {
        return MF_FAIL(err, MF_E_CORRUPT, "tensor '%.*s' has no known dtype",
                       MF_STR_ARGS(t->name));
    }
    size_t bytes = 0;
    MF_TRY(read_shape(yyjson_obj_get(value, "shape"), t, &bytes, err));
    yyjson_val *range = yyjson_obj_get(value, "data_offsets");
    if (yyjson_arr_size(range) != 2 || !to_size(yyjson_arr_get(range, 0), &t->begin) ||
        !to_size(yyjson_arr_get(range, 1), &t->end) || t->begin > t->end) {
        return MF_FAIL(err, MF_E_CORRUPT,
                       "tensor '%.*s': data_offsets is not a [begin, end] pair",
                       MF_STR_ARGS(t->name));
    }
    if (t->end > data_len) {
        return MF_FAIL(err, MF_E_CORRUPT,
                       "tensor '%.*s' ends at byte %zu of %zu bytes of data",
                       MF_STR_ARGS(t->name), t->end, data_len);
    }
    if (t->end - t->begin != bytes) {
        return MF_FAIL(err, MF_E_CORRUPT,
                       "tensor '%.*s' has %zu bytes where its shape takes %zu",
                       MF_STR_ARGS(t->name), t->end - t->begin, bytes);
    }
    return MF_OK;
}

/* --- the header as a whole -------------------------------------------------------- */

static mf_rc check_metadata(yyjson_val *value, mf_err *err) {
    if (!yyjson_is_obj(value)) {
        return MF_FAIL(err, MF_E_CORRUPT, "__metadata__ is not a JSON object");
    }
    yyjson_obj_iter iter = yyjson_obj_iter_with(value);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&iter)) != NULL;) {
        if (!yyjson_is_str(yyjson_obj_iter_get_val(key))) {
            return MF_FAIL(err, MF_E_CORRUPT, "__metadata__ holds more than text");
        }
    }
    return MF_OK;
}

static int by_position(const void *a, const void *b) {
    const tensor *x = a;
    const tensor *y = b;
    if (x->begin != y->begin) {
        return x->begin < y->begin ? -1 : 1;
    }
    return (x->end > y->end) - (x->end < y->end);
}

static int by_name(const void *a, const void *b) {
    const tensor *x = a;
    const tensor *y = b;
    return mf_str_cmp(x->name, y->name);
}

/* Tensors must follow each other byte by byte.  Leaves them sorted by name. */
static mf_rc check_order(mf_safetensors *file, mf_err *err) {
    size_t at = 0;
    if (file->count > 0) {
        qsort(file->tensors, file->count, sizeof *file->tensors, by_position);
    }
    for (size_t i = 0; i < file->count; i++) {
        const tensor *t = &file->tensors[i];
        if (t->begin != at) {
            return MF_FAIL(err, MF_E_CORRUPT, "tensor '%.*s' %s", MF_STR_ARGS(t->name),
                           t->begin < at ? "overlaps another"
                                         : "leaves a gap before it");
        }
        at = t->end;
    }
    if (at != file->data.len) {
        return MF_FAIL(err, MF_E_CORRUPT, "%zu bytes behind the last tensor",
                       file->data.len - at);
    }
    if (file->count > 0) {
        qsort(file->tensors, file->count, sizeof *file->tensors, by_name);
    }
    for (size_t i = 1; i < file->count; i++) {
        if (mf_str_eq(file->tensors[i - 1].name, file->tensors[i].name)) {
            return MF_FAIL(err, MF_E_CORRUPT, "tensor '%.*s' appears twice",
                           MF_STR_ARGS(file->tensors[i].name));
        }
    }
    return MF_OK;
}

static mf_rc read_tensors(mf_safetensors *file, mf_err *err) {
    yyjson_val *root = yyjson_doc_get_root(file->header);
    if (!yyjson_is_obj(root)) {
        return MF_FAIL(err, MF_E_CORRUPT, "the header is not a JSON object");
    }
    file->tensors = mf_alloc_zero(yyjson_obj_size(root) + 1, sizeof *file->tensors);
    if (file->tensors == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a table of %zu tensors",
                       yyjson_obj_size(root));
    }
    bool metadata_seen = false;
    yyjson_obj_iter iter = yyjson_obj_iter_with(root);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&iter)) != NULL;) {
        yyjson_val *value = yyjson_obj_iter_get_val(key);
        if (yyjson_equals_str(key, "__metadata__")) {
            if (metadata_seen) {
                return MF_FAIL(err, MF_E_CORRUPT, "__metadata__ appears twice");
            }
            metadata_seen = true;
            MF_TRY(check_metadata(value, err));
            continue;
        }
        tensor *t = &file->tensors[file->count];
        t->name = (mf_str){yyjson_get_str(key), yyjson_get_len(key)};
        MF_TRY(read_tensor(value, file->data.len, t, err));
        file->count++;
    }
    return check_order(file, err);
}

static mf_rc read_header(mf_safetensors *file, mf_str bytes, mf_err *err) {
    if (bytes.len < LENGTH_BYTES) {
        return MF_FAIL(err, MF_E_CORRUPT, "%zu bytes are too few for a header",
                       bytes.len);
    }
    uint64_t length = 0;
    for (size_t i = LENGTH_BYTES; i-- > 0;) {
        length = length << 8 | (unsigned char)bytes.p[i];
    }
    if (length > MF_SAFETENSORS_HEADER_MAX || length > bytes.len - LENGTH_BYTES) {
        return MF_FAIL(err, MF_E_CORRUPT,
                       "the header claims %llu bytes of a file of %zu",
                       (unsigned long long)length, bytes.len);
    }
    size_t data_at = LENGTH_BYTES + (size_t)length;
    file->data = (mf_str){bytes.p + data_at, bytes.len - data_at};
    const yyjson_alc memory = {json_alloc, json_realloc, json_free, NULL};
    yyjson_read_err problem = {0};
    /* Without the in-situ flag the library copies the text; it only wants it
     * writable. */
    union {
        const char *in;
        char *out;
    } text = {.in = bytes.p + LENGTH_BYTES};
    file->header = yyjson_read_opts(text.out, (size_t)length, YYJSON_READ_NOFLAG,
                                    &memory, &problem);
    if (file->header == NULL) {
        bool memory_short = problem.code == YYJSON_READ_ERROR_MEMORY_ALLOCATION;
        return MF_FAIL(err, memory_short ? MF_E_NOMEM : MF_E_CORRUPT,
                       "header, byte %zu: %s", problem.pos, problem.msg);
    }
    return read_tensors(file, err);
}

/* --- interface -------------------------------------------------------------------- */

mf_rc mf_safetensors_view(mf_str bytes, mf_safetensors **out, mf_err *err) {
    mf_safetensors *file = mf_alloc_zero(1, sizeof *file);
    if (file == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a table of tensors");
    }
    mf_rc rc = read_header(file, bytes, err);
    if (rc != MF_OK) {
        mf_safetensors_close(file);
        return rc;
    }
    *out = file;
    return MF_OK;
}

mf_rc mf_safetensors_open(const char *path, mf_safetensors **out, mf_err *err) {
    mf_file_view map = {NULL, 0};
    MF_TRY(mf_file_map(path, &map, err));
    mf_str bytes = {(const char *)map.p, map.size};
    mf_safetensors *file = NULL;
    mf_rc rc = mf_safetensors_view(bytes, &file, err);
    if (rc != MF_OK) {
        mf_file_unmap(&map);
        return mf_err_wrap(err, rc, "reading '%s'", path);
    }
    file->map = map;
    *out = file;
    return MF_OK;
}

void mf_safetensors_close(mf_safetensors *file) {
    if (file != NULL) {
        yyjson_doc_free(file->header);
        mf_free(file->tensors);
        mf_file_unmap(&file->map);
        mf_free(file);
    }
}

size_t mf_safetensors_numbers(const mf_safetensors *file) {
    size_t numbers = 0;
    for (size_t i = 0; i < file->count; i++) {
        const tensor *t = &file->tensors[i];
        numbers += (t->end - t->begin) / t->type->bytes;
    }
    return numbers;
}

size_t mf_safetensors_count(const mf_safetensors *file) {
    return file->count;
}

static const tensor *find(const mf_safetensors *file, const char *name) {
    if (file->count == 0) {
        return NULL;
    }
    tensor key = {.name = mf_str_from(name)};
    return bsearch(&key, file->tensors, file->count, sizeof key, by_name);
}

bool mf_safetensors_has(const mf_safetensors *file, const char *name) {
    return find(file, name) != NULL;
}

/* "F32 [384, 1536]"; a shape too long for `out` is cut. */
static const char *describe(char out[SHAPE_TEXT], const char *type, const size_t *shape,
                            size_t rank) {
    int at = snprintf(out, SHAPE_TEXT, "%s [", type);
    for (size_t i = 0; i < rank && at < SHAPE_TEXT; i++) {
        at += snprintf(out + at, (size_t)(SHAPE_TEXT - at), "%s%zu", i == 0 ? "" : ", ",
                       shape[i]);
    }
    if (at < SHAPE_TEXT) {
        (void)snprintf(out + at, (size_t)(SHAPE_TEXT - at), "]");
    }
    return out;
}

static bool same_shape(const tensor *t, const size_t *shape, size_t rank) {
    if (t->rank != rank) {
        return false;
    }
    for (size_t i = 0; i < rank; i++) {
        if (t->shape[i] != shape[i]) {
            return false;
        }
    }
    return true;
}

/* Finds `name` and compares its shape; `type` NULL takes any of 16 bits. */
static mf_rc find_expected(const mf_safetensors *file, const char *name,
                           const element_type *type, const size_t *shape, size_t rank,
                           const tensor **out, mf_err *err) {
    char wanted[SHAPE_TEXT];
    char found[SHAPE_TEXT];
    MF_ASSERT(rank <= MF_SAFETENSORS_RANK_MAX);
    const tensor *t = find(file, name);
    const element_type *shown = type == NULL && t != NULL ? t->type : TYPE_F32;
    describe(wanted, shown->name, shape, rank);
    if (t == NULL) {
        return MF_FAIL(err, MF_E_CORRUPT, "tensor '%s' is missing, expected %s", name,
                       wanted);
    }
    if ((type != NULL ? t->type != type : !is_16bit(t->type)) ||
        !same_shape(t, shape, rank)) {
        return MF_FAIL(err, MF_E_CORRUPT, "tensor '%s' is %s, expected %s", name,
                       describe(found, t->type->name, t->shape, t->rank), wanted);
    }
    *out = t;
    return MF_OK;
}

static mf_rc check_finite(const char *name, const float *values, size_t count,
                          mf_err *err) {
    if (!mf_kernels_best()->all_finite(values, count)) {
        return MF_FAIL(err, MF_E_CORRUPT, "tensor '%s' holds a NaN or an infinity",
                       name);
    }
    return MF_OK;
}

mf_rc mf_safetensors_get_f32(const mf_safetensors *file, const char *name,
                             const size_t *shape, size_t rank, const float **out,
                             mf_err *err) {
    const tensor *t = NULL;
    MF_TRY(find_expected(file, name, TYPE_F32, shape, rank, &t, err));
    const char *bytes = file->data.p + t->begin;
    if ((uintptr_t)bytes % sizeof(float) != 0) {
        return MF_FAIL(err, MF_E_CORRUPT, "tensor '%s' is not aligned for %s", name,
                       TYPE_F32->name);
    }
    const float *values = (const float *)(const void *)bytes;
    MF_TRY(check_finite(name, values, (t->end - t->begin) / sizeof *values, err));
    *out = values;
    return MF_OK;
}

bool mf_safetensors_is_16bit(const mf_safetensors *file, const char *name) {
    const tensor *t = find(file, name);
    return t != NULL && is_16bit(t->type);
}

mf_rc mf_safetensors_expect(const mf_safetensors *file, const char *name,
                            const size_t *shape, size_t rank, mf_err *err) {
    const tensor *t = NULL;
    return find_expected(file, name, NULL, shape, rank, &t, err);
}

/* `count` numbers of 16 bits, on any boundary. */
static void widen(const element_type *type, const char *bytes, size_t count,
                  float *out) {
    uint16_t halves[HALVES];
    while (count > 0) {
        size_t take = count < HALVES ? count : HALVES;
        memcpy(halves, bytes, take * sizeof halves[0]);
        if (type == TYPE_F16) {
            mf_half_to_float(halves, out, take);
        } else {
            for (size_t i = 0; i < take; i++) {
                uint32_t bits = (uint32_t)halves[i] << 16; /* a float's upper half */
                memcpy(&out[i], &bits, sizeof bits);
            }
        }
        bytes += take * sizeof halves[0];
        out += take;
        count -= take;
    }
}

mf_rc mf_safetensors_convert(const mf_safetensors *file, const char *name, float *out,
                             mf_err *err) {
    const tensor *t = find(file, name);
    MF_ASSERT(t != NULL && is_16bit(t->type));
    size_t count = (t->end - t->begin) / sizeof(uint16_t);
    widen(t->type, file->data.p + t->begin, count, out);
    return check_finite(name, out, count, err);
}

void mf_safetensors_cool(const mf_safetensors *file) {
    mf_file_view_cool(&file->map);
}
