/* encoder_calibration.c - gathers what goes into linear layers. */
#include "model/encoder_calibration.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "num/matrix8.h"

mf_rc mf_calibration_init(mf_calibration *c, const mf_encoder_config *config,
                          mf_cpu_level level, mf_err *err) {
    *c = (mf_calibration){.places[MF_PLACE_QKV].width = config->hidden,
                          .places[MF_PLACE_OUT].width = config->hidden,
                          .places[MF_PLACE_INNER].width = config->hidden,
                          .places[MF_PLACE_OUTER].width = config->inner};
    mf_rc rc = MF_OK;
    for (int place = 0; rc == MF_OK && place < MF_PLACE_COUNT; place++) {
        mf_inputs *in = &c->places[place];
        in->peaks = mf_alloc_zero(in->width, sizeof *in->peaks);
        in->least = mf_alloc_zero(in->width, sizeof *in->least);
        in->most = mf_alloc_zero(in->width, sizeof *in->most);
        rc = in->peaks == NULL || in->least == NULL || in->most == NULL
                 ? MF_FAIL(err, MF_E_NOMEM, "no memory to calibrate")
                 : mf_rounding_new(level, in->width, &in->rounding, err);
    }
    if (rc != MF_OK) {
        mf_calibration_done(c);
        return rc;
    }
    mf_calibration_reset(c);
    return MF_OK;
}

void mf_calibration_done(mf_calibration *c) {
    for (int place = 0; place < MF_PLACE_COUNT; place++) {
        mf_inputs *in = &c->places[place];
        mf_free(in->peaks);
        mf_free(in->least);
        mf_free(in->most);
        mf_rounding_free(in->rounding);
    }
    *c = (mf_calibration){0};
}

void mf_calibration_reset(mf_calibration *c) {
    for (int place = 0; place < MF_PLACE_COUNT; place++) {
        mf_inputs *in = &c->places[place];
        memset(in->peaks, 0, in->width * sizeof *in->peaks);
        for (size_t i = 0; i < in->width; i++) {
            in->least[i] = INFINITY;
            in->most[i] = -INFINITY;
        }
        mf_rounding_reset(in->rounding);
    }
}

void mf_calibration_note(mf_calibration *c, mf_place place, const float *x, size_t row,
                         size_t rows) {
    mf_inputs *in = &c->places[place];
    bool apart = place != MF_PLACE_OUT;
    for (size_t end = row + rows; row < end; row++, x += in->width) {
        bool first = c->first[row];
        for (size_t i = 0; first && i < in->width; i++) {
            in->least[i] = x[i] < in->least[i] ? x[i] : in->least[i];
            in->most[i] = x[i] > in->most[i] ? x[i] : in->most[i];
        }
        for (size_t i = 0; (!first || !apart) && i < in->width; i++) {
            float size = fabsf(x[i]);
            in->peaks[i] = size > in->peaks[i] ? size : in->peaks[i];
        }
        if (!first || !apart) {
            mf_rounding_note(in->rounding, x);
        }
    }
}
