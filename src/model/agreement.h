/* agreement.h - how well the vectors of one encoder agree with those of another, say of
 * the same model in 8 bits and in fp32.
 *
 * Two figures say different things.  The cosine between both vectors of a text says how
 * far they are apart.  Recall says whether that matters: each text asks for the texts
 * nearest to it, once among the vectors of the one encoder and once among those of the
 * other, and recall is the share of the former answers that the latter hold as well. */
#ifndef MF_MODEL_AGREEMENT_H
#define MF_MODEL_AGREEMENT_H

#include "model/encoder.h"

enum {
    MF_AGREEMENT_TEXTS_MAX = 1 << 15,
    MF_AGREEMENT_NEAREST_MAX = 64,
};

/* Told every few texts how many of them both encoders have done; false stops. */
typedef bool mf_agreement_progress(void *context, size_t done, size_t total);

typedef struct mf_agreement_call {
    mf_encoder *exact; /* what the other is held against */
    mf_encoder *other; /* with vectors of the same width */
    const mf_str
        *texts;     /* borrowed; distinct, or equal ones are each other's nearest */
    size_t count;   /* 2..MF_AGREEMENT_TEXTS_MAX */
    size_t nearest; /* texts to ask for, 1..MF_AGREEMENT_NEAREST_MAX; fewer if `count`
                     * leaves fewer */
    mf_agreement_progress *progress; /* NULL: nobody is told */
    void *context;
} mf_agreement_call;

typedef struct mf_agreement {
    double cosine_min;
    double cosine_mean;
    double recall; /* 0..1 */
    size_t worst;  /* the text with the least cosine */
} mf_agreement;

/* Encodes all texts with both and compares.  Takes 8 bytes per text and number of a
 * vector, and time that grows with the square of `count`: about a second for 10,000
 * texts, besides what encoding them takes.  Blocks; any thread.  MF_E_INVAL (widths
 * differ, or a bound above), MF_E_LIMIT (a text is too long), MF_E_NOMEM, or
 * MF_E_STOPPING. */
MF_CHECKED mf_rc mf_agreement_measure(const mf_agreement_call *call, mf_agreement *out,
                                      mf_err *err);

#endif
