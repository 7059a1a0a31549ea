/* safetensors.h - reads tensors from a safetensors file without trusting it.
 *
 * The file is: header length (8 bytes, little-endian), a JSON object naming each tensor
 * with its type, shape and byte range, then the bytes of all tensors.  Opening checks
 * the whole header, so that a tensor handed out is known to lie inside the file:
 *
 *   - the header is at most MF_SAFETENSORS_HEADER_MAX bytes and fits in the file;
 *   - it is JSON: one object of tensors, and text under "__metadata__";
 *   - each tensor has a known type, and its shape takes exactly its bytes;
 *   - the tensors cover the data without a gap or an overlap, up to the last byte;
 *   - no name appears twice.
 *
 * Immutable after open; any number of threads may share it.  Data stays where it was
 * mapped and is valid until close. */
#ifndef MF_MODEL_SAFETENSORS_H
#define MF_MODEL_SAFETENSORS_H

#include "base/err.h"
#include "base/str.h"

enum {
    MF_SAFETENSORS_HEADER_MAX = 16 << 20, /* bytes */
    MF_SAFETENSORS_RANK_MAX = 8,          /* dimensions of one tensor */
};

typedef struct mf_safetensors mf_safetensors;

/* Maps `path` and checks it.  MF_E_IO, MF_E_CORRUPT (names what is wrong) or
 * MF_E_NOMEM. */
MF_CHECKED mf_rc mf_safetensors_open(const char *path, mf_safetensors **out,
                                     mf_err *err);
/* The same for bytes already in memory, borrowed until close. */
MF_CHECKED mf_rc mf_safetensors_view(mf_str bytes, mf_safetensors **out, mf_err *err);
void mf_safetensors_close(mf_safetensors *file); /* NULL is fine */

size_t mf_safetensors_count(const mf_safetensors *file);
size_t mf_safetensors_numbers(const mf_safetensors *file); /* in all tensors together */
bool mf_safetensors_has(const mf_safetensors *file, const char *name);

/* Is there a tensor `name` of F16 or BF16? */
bool mf_safetensors_is_16bit(const mf_safetensors *file, const char *name);

/* The float32 tensor `name` of exactly `shape` (`rank` sizes), row-major. MF_E_CORRUPT,
 * naming tensor and expectation, when it is absent, has another type or shape, is not
 * aligned for float, or holds a NaN or an infinity. */
MF_CHECKED mf_rc mf_safetensors_get_f32(const mf_safetensors *file, const char *name,
                                        const size_t *shape, size_t rank,
                                        const float **out, mf_err *err);

/* Is the tensor `name`, of F16 or BF16, there in exactly `shape`?  MF_E_CORRUPT
 * as above. */
MF_CHECKED mf_rc mf_safetensors_expect(const mf_safetensors *file, const char *name,
                                       const size_t *shape, size_t rank, mf_err *err);
/* Writes the numbers of `name`, which mf_safetensors_is_16bit() and _expect() have
 * found, to `out` in fp32, which holds them exactly.  MF_E_CORRUPT when one of them is
 * a NaN or an infinity. */
MF_CHECKED mf_rc mf_safetensors_convert(const mf_safetensors *file, const char *name,
                                        float *out, mf_err *err);

/* Tells the system that the mapped bytes are not needed for now: they leave memory and
 * are read again when touched.  Nothing happens for a view. */
void mf_safetensors_cool(const mf_safetensors *file);

#endif
