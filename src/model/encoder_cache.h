/* encoder_cache.h - private to model/: an encoder's 8-bit weights, from the file beside
 * the model or freshly made. */
#ifndef MF_MODEL_ENCODER_CACHE_H
#define MF_MODEL_ENCODER_CACHE_H

#include "model/encoder_private.h"

/* Maps MF_PACK_FILE of the folder `dir` into enc->pack.  false, with `enc` as it was,
 * when there is none, it is damaged, or it was made from another model file. */
MF_CHECKED bool mf_encoder_cache_load(mf_encoder *enc, const char *dir);

/* Makes enc->pack from enc->weights and writes the file, if the folder lets it.  The
 * encoder must be ready for fp32, and be so again after the call.  `stamp` is the
 * stamp of the model file, taken before it was mapped.  MF_E_NOMEM, or what reading the
 * model file or encoding with it fails with. */
MF_CHECKED mf_rc mf_encoder_cache_make(mf_encoder *enc, const char *dir,
                                       const mf_file_stamp *stamp, mf_err *err);

void mf_encoder_cache_drop(mf_encoder *enc); /* lets go of enc->pack, if it has one */

#endif
