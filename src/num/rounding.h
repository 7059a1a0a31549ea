/* rounding.h - rounds the weights of a layer so that their errors cancel.
 *
 * A weight rounded to the nearest step is off by up to half a step, whatever the others
 * do.  But the inputs of a layer go together: where one is large, others tend to be,
 * and an error at the one can be made up for at the others.  What is wanted is not the
 * least error of the weights but of the outputs, e H e' for the errors e of one output
 * and H = X' X for inputs X that occur in practice.  With H = R R', R upper triangular,
 * that is |e R|^2, and weight k is rounded so that part k of e R, which depends on the
 * errors up to k only, is as small as a step allows.  (Nearest-plane rounding, Babai
 * 1986; for weights, in another form, GPTQ, Frantar et al. 2022.)
 *
 * Everything runs in one order of operations, so equal inputs give equal weights: on
 * every processor but those of plain C, whose moments differ as its fp32 products do.
 */
#ifndef MF_NUM_ROUNDING_H
#define MF_NUM_ROUNDING_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "num/cpu.h"

enum { MF_ROUNDING_OUTPUTS = 32 }; /* outputs rounded side by side */

typedef struct mf_rounding mf_rounding;

/* Calculating with the kernels of `level`, for layers of `width`
 * inputs, 1..MF_MATRIX8_INPUTS_MAX; it has seen no input yet and takes some 4 * width *
 * (width + 1200) bytes. MF_E_NOMEM.
 */
MF_CHECKED mf_rc mf_rounding_new(mf_cpu_level level, size_t width, mf_rounding **out,
                                 mf_err *err);
void mf_rounding_free(mf_rounding *rounding); /* NULL is fine */

/* Forgets all inputs. */
void mf_rounding_reset(mf_rounding *rounding);

/* Takes note of one row of inputs, `width` finite numbers. */
void mf_rounding_note(mf_rounding *rounding, const float *x);

/* Makes ready for weights that meet the inputs noted, number k of them divided by
 * factors[k] (NULL: by 1).  Further inputs need a reset first. */
void mf_rounding_prepare(mf_rounding *rounding, const float *factors);

/* Where to put up to MF_ROUNDING_OUTPUTS outputs' weights, [width,
 * MF_ROUNDING_OUTPUTS], all of them; and where mf_rounding_run leaves them, rounded to
 * q in -127..127 with weight = scale * q, nearly. */
float *mf_rounding_weights(mf_rounding *rounding);
const int8_t *mf_rounding_result(const mf_rounding *rounding);
void mf_rounding_run(mf_rounding *rounding, const float scales[MF_ROUNDING_OUTPUTS]);

#endif
