/* encoder_config_test.c - the shape of a network is read in full or refused by key. */
#include "model/encoder_config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/fault.h"
#include "model/tiny_model_testing.h"

#define CONFIG(hidden, layers, heads, inner, positions, vocab, types, eps, more)       \
    "{\"hidden_size\":" hidden ",\"num_hidden_layers\":" layers                        \
    ",\"num_attention_heads\":" heads ",\"intermediate_size\":" inner                  \
    ",\"max_position_embeddings\":" positions ",\"vocab_size\":" vocab                 \
    ",\"type_vocab_size\":" types ",\"layer_norm_eps\":" eps more "}"
#define GOOD CONFIG("384", "6", "12", "1536", "512", "30522", "2", "1e-12", "")

static mf_rc parse(const char *config, const char *sentence, const char *pooling,
                   mf_encoder_config *out, mf_err *err) {
    const mf_encoder_texts texts = {.config = mf_str_from(config),
                                    .sentence = mf_str_from(sentence),
                                    .pooling = mf_str_from(pooling)};
    return mf_encoder_config_parse(&texts, out, err);
}

static void a_complete_folder_is_read(void **state) {
    (void)state;
    mf_encoder_config config = {0};
    mf_err err;
    assert_int_equal(parse(GOOD, "{\"max_seq_length\": 256, \"do_lower_case\": false}",
                           "{\"word_embedding_dimension\":384,"
                           "\"pooling_mode_cls_token\":false,"
                           "\"pooling_mode_mean_tokens\":true}",
                           &config, &err),
                     MF_OK);
    assert_int_equal(config.hidden, 384);
    assert_int_equal(config.layers, 6);
    assert_int_equal(config.heads, 12);
    assert_int_equal(config.head_dim, 32);
    assert_int_equal(config.inner, 1536);
    assert_int_equal(config.positions, 512);
    assert_int_equal(config.vocab, 30522);
    assert_int_equal(config.types, 2);
    assert_int_equal(config.window, 256);
    assert_true(config.epsilon == 1e-12F);
    assert_int_equal(config.pooling, MF_POOLING_MEAN);
}

static void absent_optional_files_leave_defaults(void **state) {
    (void)state;
    mf_encoder_config config = {0};
    assert_int_equal(parse(GOOD, NULL, NULL, &config, NULL), MF_OK);
    assert_int_equal(config.window, 512);
    assert_int_equal(config.pooling, MF_POOLING_MEAN);
    assert_int_equal(
        parse(GOOD, NULL, "{\"pooling_mode_cls_token\":true}", &config, NULL), MF_OK);
    assert_int_equal(config.pooling, MF_POOLING_CLS);
}

#define SIZES                                                                          \
    "{\"hidden_size\":32,\"num_hidden_layers\":2,\"num_attention_heads\":2,"           \
    "\"intermediate_size\":56,\"vocab_size\":99,\"layer_norm_eps\":1e-5,"              \
    "\"max_position_embeddings\":66,"
#define DISTILBERT                                                                     \
    "{\"model_type\":\"distilbert\",\"dim\":32,\"n_layers\":2,\"n_heads\":2,"          \
    "\"hidden_dim\":56,\"vocab_size\":99,\"max_position_embeddings\":64,"              \
    "\"activation\":\"gelu\""
#define STEPS(more)                                                                    \
    "[{\"type\":\"sentence_transformers.models.Transformer\",\"path\":\"\"}" more "]"
#define POOLING ",{\"type\":\"x.y.Pooling\",\"path\":\"1_Pooling\"}"

static mf_encoder_config must_parse(mf_encoder_texts texts) {
    mf_encoder_config config = {0};
    mf_err err;
    if (mf_encoder_config_parse(&texts, &config, &err) != MF_OK) {
        fail_msg("%s", err.text);
    }
    return config;
}

static void each_network_has_its_own_keys_and_extras(void **state) {
    (void)state;
    mf_encoder_config mpnet = must_parse(
        (mf_encoder_texts){.config = MF_STR(SIZES "\"model_type\":\"mpnet\"}")});
    assert_int_equal(mpnet.network, MF_NETWORK_MPNET);
    assert_int_equal(mpnet.position_first, 2);
    assert_int_equal(mpnet.buckets, 32);
    assert_int_equal(mpnet.types, 0);
    assert_int_equal(mpnet.window, 64);
    mf_encoder_config roberta = must_parse((mf_encoder_texts){
        .config = MF_STR(SIZES "\"model_type\":\"xlm-roberta\",\"type_vocab_size\":1,"
                               "\"pad_token_id\":3}")});
    assert_int_equal(roberta.network, MF_NETWORK_ROBERTA);
    assert_int_equal(roberta.position_first, 4);
    assert_int_equal(roberta.window, 62);
    assert_int_equal(roberta.types, 1);
    mf_encoder_config distilled =
        must_parse((mf_encoder_texts){.config = MF_STR(DISTILBERT "}")});
    assert_int_equal(distilled.network, MF_NETWORK_DISTILBERT);
    assert_int_equal(distilled.inner, 56);
    assert_true(distilled.epsilon == 1e-12F);
    assert_int_equal(distilled.window, 64);
}

static void the_window_is_what_the_files_agree_on(void **state) {
    (void)state;
    mf_encoder_texts texts = {.config = MF_STR(DISTILBERT "}"),
                              .tokenizer = MF_STR("{\"model_max_length\":48}")};
    assert_int_equal(must_parse(texts).window, 48);
    texts.sentence = MF_STR("{\"max_seq_length\":null}");
    assert_int_equal(must_parse(texts).window, 48);
    texts.sentence = MF_STR("{\"max_seq_length\":60}");
    assert_int_equal(must_parse(texts).window, 60);
    texts.sentence = MF_STR_NONE;
    texts.tokenizer = MF_STR("{\"model_max_length\":1000000000000000019884624838656}");
    assert_int_equal(must_parse(texts).window, 64);
}

static void rerankers_are_told_by_their_class(void **state) {
    (void)state;
    mf_encoder_texts texts = {
        .config =
            MF_STR(DISTILBERT
                   ",\"architectures\":[\"DistilBertForSequenceClassification\"]}")};
    assert_int_equal(must_parse(texts).labels, 2);
    assert_int_equal(must_parse(texts).pooling, MF_POOLING_CLS);
    texts.modules = MF_STR(STEPS(""));
    assert_int_equal(must_parse(texts).labels, 2);
    texts.modules = MF_STR(STEPS(POOLING));
    assert_int_equal(must_parse(texts).labels, 0);
    texts = (mf_encoder_texts){
        .config = MF_STR(DISTILBERT
                         ",\"architectures\":[\"DistilBertForSequenceClassification\"],"
                         "\"id2label\":{\"0\":\"a\",\"1\":\"b\",\"2\":\"c\"}}")};
    assert_int_equal(must_parse(texts).labels, 3);
}

static void pooling_is_read_in_the_words_of_both_releases(void **state) {
    (void)state;
    static const struct {
        const char *text;
        mf_pooling pooling;
    } cases[] = {
        {"{\"pooling_mode\":\"mean\",\"embedding_dimension\":32}", MF_POOLING_MEAN},
        {"{\"pooling_mode\":\"cls\"}", MF_POOLING_CLS},
        {"{\"pooling_mode\":\"max\"}", MF_POOLING_MAX},
        {"{\"pooling_mode_max_tokens\":true,\"pooling_mode_cls_token\":false}",
         MF_POOLING_MAX},
        {"{\"pooling_mode_mean_tokens\":true}", MF_POOLING_MEAN},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mf_encoder_texts texts = {.config = MF_STR(DISTILBERT "}"),
                                  .pooling = mf_str_from(cases[i].text)};
        assert_int_equal(must_parse(texts).pooling, cases[i].pooling);
    }
}

static void steps_that_are_not_built_are_refused_by_name(void **state) {
    (void)state;
    static const struct {
        const char *modules;
        mf_rc rc;
        const char *clue;
    } cases[] = {
        {"{}", MF_E_CORRUPT, "not a list of modules"},
        {"[]", MF_E_CORRUPT, "not a list of modules"},
        {"[1]", MF_E_CORRUPT, "lacks type or path"},
        {STEPS(""), MF_E_UNSUPPORTED, "has no Pooling"},
        {STEPS(POOLING ",{\"type\":\"a.Dense\",\"path\":\"2_Dense\"}"),
         MF_E_UNSUPPORTED, "a Dense module"},
        {STEPS(",{\"type\":\"Pooling\",\"path\":\"../../etc\"}"), MF_E_CORRUPT,
         "no plain name"},
        {STEPS(",{\"type\":\"Pooling\",\"path\":\"\"}"), MF_E_CORRUPT, "no plain name"},
        {"[{\"type\":\"m.Transformer\",\"path\":\"0_Transformer\"}]", MF_E_UNSUPPORTED,
         "'0_Transformer'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mf_encoder_texts texts = {.config = MF_STR(DISTILBERT "}"),
                                  .modules = mf_str_from(cases[i].modules)};
        mf_encoder_config config = {.hidden = 77};
        mf_err err = {0};
        mf_rc rc = mf_encoder_config_parse(&texts, &config, &err);
        if (rc != cases[i].rc || strstr(err.text, cases[i].clue) == NULL) {
            fail_msg("case %zu, expected '%s': %s", i, cases[i].clue, err.text);
        }
        assert_int_equal(config.hidden, 77);
    }
}

static void what_is_wrong_is_refused_by_key(void **state) {
    (void)state;
    static const struct {
        const char *config, *sentence, *pooling;
        mf_rc rc;
        const char *clue;
    } cases[] = {
        {"", NULL, NULL, MF_E_CORRUPT, "config.json"},
        {"[]", NULL, NULL, MF_E_CORRUPT, "not a JSON object"},
        {"{}", NULL, NULL, MF_E_CORRUPT, "hidden_size"},
        {CONFIG("384.5", "6", "12", "8", "512", "9", "2", "1e-12", ""), NULL, NULL,
         MF_E_CORRUPT, "hidden_size must be a whole number"},
        {CONFIG("\"384\"", "6", "12", "8", "512", "9", "2", "1e-12", ""), NULL, NULL,
         MF_E_CORRUPT, "hidden_size must be a whole number"},
        {CONFIG("-384", "6", "12", "8", "512", "9", "2", "1e-12", ""), NULL, NULL,
         MF_E_CORRUPT, "hidden_size is outside 16..4096"},
        {CONFIG("4112", "6", "1", "8", "512", "9", "2", "1e-12", ""), NULL, NULL,
         MF_E_CORRUPT, "hidden_size is outside 16..4096"},
        {CONFIG("384", "0", "12", "8", "512", "9", "2", "1e-12", ""), NULL, NULL,
         MF_E_CORRUPT, "num_hidden_layers is outside 1..64"},
        {CONFIG("384", "6", "0", "8", "512", "9", "2", "1e-12", ""), NULL, NULL,
         MF_E_CORRUPT, "num_attention_heads is outside 1..128"},
        {CONFIG("384", "6", "12", "16385", "512", "9", "2", "1e-12", ""), NULL, NULL,
         MF_E_CORRUPT, "intermediate_size is outside 1..16384"},
        {CONFIG("384", "6", "12", "8", "8195", "9", "2", "1e-12", ""), NULL, NULL,
         MF_E_CORRUPT, "max_position_embeddings is outside 2..8194"},
        {CONFIG("384", "6", "12", "8", "512", "18446744073709551615", "2", "1e-12", ""),
         NULL, NULL, MF_E_CORRUPT, "vocab_size is outside 1..1048576"},
        {CONFIG("384", "6", "12", "8", "512", "9", "17", "1e-12", ""), NULL, NULL,
         MF_E_CORRUPT, "type_vocab_size is outside 1..16"},
        {CONFIG("384", "6", "12", "8", "512", "9", "2", "0", ""), NULL, NULL,
         MF_E_CORRUPT, "layer_norm_eps"},
        {CONFIG("384", "6", "12", "8", "512", "9", "2", "1", ""), NULL, NULL,
         MF_E_CORRUPT, "layer_norm_eps"},
        {CONFIG("384", "6", "7", "8", "512", "9", "2", "1e-12", ""), NULL, NULL,
         MF_E_UNSUPPORTED, "384 numbers in 7 heads"},
        {CONFIG("384", "6", "48", "8", "512", "9", "2", "1e-12", ""), NULL, NULL,
         MF_E_UNSUPPORTED, "multiple of 16"},
        {CONFIG("4096", "6", "1", "8", "512", "9", "2", "1e-12", ""), NULL, NULL,
         MF_E_UNSUPPORTED, "at most 256"},
        {CONFIG("384", "6", "12", "8", "512", "9", "2", "1e-12",
                ",\"hidden_act\":\"relu\""),
         NULL, NULL, MF_E_UNSUPPORTED, "hidden_act 'gelu'"},
        {CONFIG("384", "6", "12", "8", "512", "9", "2", "1e-12",
                ",\"model_type\":\"t5\""),
         NULL, NULL, MF_E_UNSUPPORTED, "model_type 't5'"},
        {CONFIG("384", "6", "12", "8", "512", "9", "2", "1e-12",
                ",\"position_embedding_type\":\"relative_key\""),
         NULL, NULL, MF_E_UNSUPPORTED, "position_embedding_type 'absolute'"},
        {SIZES "\"model_type\":\"mpnet\",\"relative_attention_num_buckets\":31}", NULL,
         NULL, MF_E_CORRUPT, "must be even"},
        {SIZES "\"model_type\":\"mpnet\",\"relative_attention_num_buckets\":2048}",
         NULL, NULL, MF_E_CORRUPT, "outside 4..1024"},
        {SIZES "\"model_type\":\"roberta\",\"pad_token_id\":-1,\"type_vocab_size\":1}",
         NULL, NULL, MF_E_CORRUPT, "pad_token_id is outside 0..8"},
        {SIZES "\"model_type\":\"bert\"}", NULL, NULL, MF_E_CORRUPT,
         "type_vocab_size must be a whole number"},
        {DISTILBERT ",\"architectures\":[\"XForSequenceClassification\"],"
                    "\"num_labels\":0}",
         NULL, NULL, MF_E_CORRUPT, "num_labels is outside 1..256"},
        {DISTILBERT ",\"architectures\":[\"XForSequenceClassification\"],"
                    "\"id2label\":{}}",
         NULL, NULL, MF_E_CORRUPT, "id2label has 0 entries"},
        {DISTILBERT ",\"is_decoder\":true}", NULL, NULL, MF_E_UNSUPPORTED,
         "is_decoder"},
        {GOOD, "", NULL, MF_E_CORRUPT, "sentence_bert_config.json"},
        {GOOD, "{\"max_seq_length\":\"x\"}", NULL, MF_E_CORRUPT,
         "max_seq_length must be a whole number"},
        {GOOD, "{\"max_seq_length\":1}", NULL, MF_E_CORRUPT, "outside 2..512"},
        {GOOD, "{\"max_seq_length\":513}", NULL, MF_E_CORRUPT, "outside 2..512"},
        {GOOD, NULL, "7", MF_E_CORRUPT, "Pooling/config.json"},
        {GOOD, NULL, "{}", MF_E_UNSUPPORTED, "exactly one mode"},
        {GOOD, NULL,
         "{\"pooling_mode_mean_tokens\":true,\"pooling_mode_cls_token\":true}",
         MF_E_UNSUPPORTED, "exactly one mode"},
        {GOOD, NULL, "{\"pooling_mode_lasttoken\":true}", MF_E_UNSUPPORTED,
         "pooling_mode 'lasttoken'"},
        {GOOD, NULL, "{\"pooling_mode\":\"weightedmean\"}", MF_E_UNSUPPORTED,
         "pooling_mode 'weightedmean'"},
        {GOOD, NULL, "{\"pooling_mode\":[\"mean\",\"cls\"]}", MF_E_UNSUPPORTED,
         "exactly one mode"},
        {GOOD, NULL,
         "{\"pooling_mode_mean_tokens\":true,\"word_embedding_dimension\":768}",
         MF_E_CORRUPT, "word_embedding_dimension"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mf_err err = {0};
        mf_encoder_config config = {.hidden = 77};
        mf_rc rc =
            parse(cases[i].config, cases[i].sentence, cases[i].pooling, &config, &err);
        if (rc != cases[i].rc || strstr(err.text, cases[i].clue) == NULL) {
            fail_msg("case %zu, expected '%s': %s, %s", i, cases[i].clue,
                     mf_rc_name(rc), err.text);
        }
        assert_int_equal(err.rc, rc);
        assert_int_equal(config.hidden, 77);
    }
}

static void reading_survives_each_failed_allocation(void **state) {
    (void)state;
    char dir[64];
    tiny_model_make(dir);
    MF_EACH_FAULT(MF_FAULT_ALLOC, n) {
        mf_encoder_config config;
        mf_err err;
        mf_rc rc = mf_encoder_config_read(dir, &config, &err);
        assert_int_equal(rc, mf_fault_fired() ? MF_E_NOMEM : MF_OK);
        assert_int_equal(mf_alloc_live(), 0);
    }
    tiny_model_remove(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_complete_folder_is_read),
        cmocka_unit_test(absent_optional_files_leave_defaults),
        cmocka_unit_test(each_network_has_its_own_keys_and_extras),
        cmocka_unit_test(the_window_is_what_the_files_agree_on),
        cmocka_unit_test(rerankers_are_told_by_their_class),
        cmocka_unit_test(pooling_is_read_in_the_words_of_both_releases),
        cmocka_unit_test(steps_that_are_not_built_are_refused_by_name),
        cmocka_unit_test(what_is_wrong_is_refused_by_key),
        cmocka_unit_test(reading_survives_each_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
