/* encoder_calibration.h - private to model/: what goes into the linear layers of one
 * layer of the network in practice, which packing needs to know (encoder_pack.h).
 *
 * The first token of a text is looked at by itself: it is nearly the same in every
 * text, and unlike all others. */
#ifndef MF_MODEL_ENCODER_CALIBRATION_H
#define MF_MODEL_ENCODER_CALIBRATION_H

#include "model/encoder_config.h"
#include "num/rounding.h"

typedef enum mf_place {
    MF_PLACE_QKV,
    MF_PLACE_OUT,
    MF_PLACE_INNER,
    MF_PLACE_OUTER,
    MF_PLACE_COUNT
} mf_place;

/* All but OUT take the first token apart: `peaks` and `rounding` leave it out. */
typedef struct mf_inputs {
    size_t width;
    float *peaks;          /* [width]: largest magnitudes */
    float *least;          /* [width], of first tokens */
    float *most;           /* likewise */
    mf_rounding *rounding; /* has noted the rows */
} mf_inputs;

typedef struct mf_calibration {
    mf_inputs places[MF_PLACE_COUNT];
    bool *first; /* set by the caller: for each row of the group whether it is a first
                  * token's; borrowed */
} mf_calibration;

/* Nothing seen yet; the kernels of `level` do its arithmetic.  MF_E_NOMEM. */
MF_CHECKED mf_rc mf_calibration_init(mf_calibration *c, const mf_encoder_config *config,
                                     mf_cpu_level level, mf_err *err);
void mf_calibration_done(mf_calibration *c); /* all zero is fine */
void mf_calibration_reset(mf_calibration *c);

/* Looks at `rows` rows x that go into a place, the first of them row number `row` of
 * the group. */
void mf_calibration_note(mf_calibration *c, mf_place place, const float *x, size_t row,
                         size_t rows);

#endif
