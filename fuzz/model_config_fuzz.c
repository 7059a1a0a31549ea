/* model_config_fuzz.c - any five texts in place of the JSON files of a model folder are
 * refused or give a network within the stated bounds.
 *
 * The input is config.json, sentence_bert_config.json, 1_Pooling/config.json,
 * modules.json and tokenizer_config.json, with a NUL byte between them; an empty part
 * stands for an absent file. */
#include <stdint.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "model/encoder_config.h"
#include "num/kernels.h"

static void check(const mf_encoder_config *config) {
    bool good = config->hidden >= MF_LANES && config->hidden <= MF_ENCODER_HIDDEN_MAX &&
                config->layers >= 1 && config->layers <= MF_ENCODER_LAYERS_MAX &&
                config->heads * config->head_dim == config->hidden &&
                config->head_dim % MF_LANES == 0 && config->head_dim >= MF_LANES &&
                config->head_dim <= MF_HEAD_DIM_MAX && config->inner >= 1 &&
                config->inner <= MF_ENCODER_INNER_MAX && config->window >= 2 &&
                config->window <= config->positions - config->position_first &&
                config->position_first < config->positions &&
                config->positions <= MF_ENCODER_POSITIONS_MAX && config->vocab >= 1 &&
                config->vocab <= MF_ENCODER_VOCAB_MAX &&
                config->types <= MF_ENCODER_TYPES_MAX &&
                config->buckets <= MF_ENCODER_BUCKETS_MAX &&
                config->labels <= MF_ENCODER_LABELS_MAX && config->epsilon > 0.0F;
    if (!good) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    size_t live = mf_alloc_live();
    mf_str rest = {(const char *)data, size};
    mf_encoder_texts texts;
    mf_str *const parts[] = {&texts.config, &texts.sentence, &texts.pooling,
                             &texts.modules, &texts.tokenizer};
    mf_encoder_config config = {0};
    mf_err err;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        *parts[i] = mf_str_split(&rest, '\0');
        if (i > 0 && parts[i]->len == 0) {
            *parts[i] = MF_STR_NONE;
        }
    }
    mf_rc rc = mf_encoder_config_parse(&texts, &config, &err);
    if (rc == MF_OK) {
        check(&config);
    } else if (rc != MF_E_CORRUPT && rc != MF_E_UNSUPPORTED && rc != MF_E_NOMEM) {
        abort();
    }
    if (mf_alloc_live() != live) {
        abort();
    }
    return 0;
}
