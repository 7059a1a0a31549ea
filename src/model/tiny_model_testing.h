/* tiny_model_testing.h - for tests in model/: writes a BERT model small enough for slow
 * sanitizers (2 layers, 32 numbers per token, 2 heads) with seeded random weights into
 * a folder of its own, whole or with one thing wrong. */
#ifndef MF_MODEL_TINY_MODEL_TESTING_H
#define MF_MODEL_TINY_MODEL_TESTING_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/rng.h"
#include "os/file.h"

enum {
    TINY_HIDDEN = 32,
    TINY_INNER = 48,
    TINY_WINDOW = 24,
    TINY_POSITIONS = 32,
    TINY_VOCAB = 12,
    TINY_LAYERS = 2,
};

static const char tiny_vocab[] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n"
                                 "red\ngreen\nblue\ncat\ndog\nruns\n##s\n";

static const char tiny_config[] =
    "{\"model_type\":\"bert\",\"hidden_act\":\"gelu\",\"hidden_size\":32,"
    "\"num_hidden_layers\":2,\"num_attention_heads\":2,\"intermediate_size\":48,"
    "\"max_position_embeddings\":32,\"layer_norm_eps\":1e-12,\"vocab_size\":12,"
    "\"type_vocab_size\":2}";

/* What tiny_model_write changes in one tensor. */
typedef struct tiny_damage {
    const char *tensor; /* NULL: none */
    enum { TINY_MISSING, TINY_TRANSPOSED, TINY_NAN } how;
    const char *prefix; /* put before every name; NULL: none */
} tiny_damage;

typedef struct tiny_writer {
    mf_buf header;
    mf_buf data;
    mf_rng rng;
    const tiny_damage *damage;
} tiny_writer;

static void tiny_tensor(tiny_writer *w, const char *name, size_t rows, size_t columns,
                        float centre) {
    bool hit = w->damage->tensor != NULL && strcmp(w->damage->tensor, name) == 0;
    if (hit && w->damage->how == TINY_MISSING) {
        return;
    }
    size_t count = columns == 0 ? rows : rows * columns;
    size_t begin = w->data.len;
    for (size_t i = 0; i < count; i++) {
        float value = centre + (float)(mf_rng_unit(&w->rng) - 0.5) * 0.5F;
        if (hit && w->damage->how == TINY_NAN && i == count - 1) {
            value = NAN;
        }
        (void)mf_buf_add(&w->data, &value, sizeof value);
    }
    (void)mf_buf_printf(&w->header, "%s\"%s%s\":{\"dtype\":\"F32\",\"shape\":[",
                        w->header.len == 0 ? "{" : ",",
                        w->damage->prefix == NULL ? "" : w->damage->prefix, name);
    if (columns == 0) {
        (void)mf_buf_printf(&w->header, "%zu", rows);
    } else if (hit && w->damage->how == TINY_TRANSPOSED) {
        (void)mf_buf_printf(&w->header, "%zu,%zu", columns, rows);
    } else {
        (void)mf_buf_printf(&w->header, "%zu,%zu", rows, columns);
    }
    (void)mf_buf_printf(&w->header, "],\"data_offsets\":[%zu,%zu]}", begin,
                        w->data.len);
}

static void tiny_norm(tiny_writer *w, const char *module) {
    char name[160];
    (void)snprintf(name, sizeof name, "%s.weight", module);
    tiny_tensor(w, name, TINY_HIDDEN, 0, 1.0F);
    (void)snprintf(name, sizeof name, "%s.bias", module);
    tiny_tensor(w, name, TINY_HIDDEN, 0, 0.0F);
}

static void tiny_linear(tiny_writer *w, size_t layer, const char *module,
                        size_t outputs, size_t inputs) {
    char name[160];
    (void)snprintf(name, sizeof name, "encoder.layer.%zu.%s.weight", layer, module);
    tiny_tensor(w, name, outputs, inputs, 0.0F);
    (void)snprintf(name, sizeof name, "encoder.layer.%zu.%s.bias", layer, module);
    tiny_tensor(w, name, outputs, 0, 0.0F);
}

static void tiny_layer(tiny_writer *w, size_t layer) {
    static const char *const square[] = {"attention.self.query", "attention.self.key",
                                         "attention.self.value",
                                         "attention.output.dense"};
    char norm[128];
    for (size_t i = 0; i < 4; i++) {
        tiny_linear(w, layer, square[i], TINY_HIDDEN, TINY_HIDDEN);
    }
    tiny_linear(w, layer, "intermediate.dense", TINY_INNER, TINY_HIDDEN);
    tiny_linear(w, layer, "output.dense", TINY_HIDDEN, TINY_INNER);
    (void)snprintf(norm, sizeof norm, "encoder.layer.%zu.attention.output.LayerNorm",
                   layer);
    tiny_norm(w, norm);
    (void)snprintf(norm, sizeof norm, "encoder.layer.%zu.output.LayerNorm", layer);
    tiny_norm(w, norm);
}

/* Writes one file of the folder; stops the test program when it cannot. */
static void tiny_file(const char *dir, const char *name, mf_str bytes) {
    char path[512];
    mf_err err;
    if (mf_path_join(path, sizeof path, dir, name, &err) != MF_OK ||
        mf_file_write_atomic(path, bytes, &err) != MF_OK) {
        (void)fprintf(stderr, "%s\n", err.text);
        abort();
    }
}

static void tiny_weights(const char *dir, const tiny_damage *damage) {
    tiny_writer w = {.damage = damage};
    mf_buf file;
    mf_rng_init(&w.rng, 11);
    mf_buf_init(&w.header, 1 << 20);
    mf_buf_init(&w.data, 1 << 20);
    mf_buf_init(&file, 1 << 21);
    tiny_tensor(&w, "embeddings.word_embeddings.weight", TINY_VOCAB, TINY_HIDDEN, 0.0F);
    tiny_tensor(&w, "embeddings.position_embeddings.weight", TINY_POSITIONS,
                TINY_HIDDEN, 0.0F);
    tiny_tensor(&w, "embeddings.token_type_embeddings.weight", 2, TINY_HIDDEN, 0.0F);
    tiny_norm(&w, "embeddings.LayerNorm");
    for (size_t layer = 0; layer < TINY_LAYERS; layer++) {
        tiny_layer(&w, layer);
    }
    (void)mf_buf_add_str(&w.header, MF_STR("}"));
    while (w.header.len % 8 != 0) {
        (void)mf_buf_add_str(&w.header, MF_STR(" "));
    }
    uint64_t length = w.header.len;
    (void)mf_buf_add(&file, &length, sizeof length);
    (void)mf_buf_add_str(&file, mf_buf_view(&w.header));
    (void)mf_buf_add_str(&file, mf_buf_view(&w.data));
    tiny_file(dir, "model.safetensors", mf_buf_view(&file));
    mf_buf_done(&w.header);
    mf_buf_done(&w.data);
    mf_buf_done(&file);
}

/* Makes a folder under /tmp and writes a whole model; `dir` receives its path. */
static void tiny_model_make(char dir[64]) {
    static const tiny_damage none = {0};
    (void)snprintf(dir, 64, "/tmp/mf-tiny-model-XXXXXX");
    if (mkdtemp(dir) == NULL) {
        perror("mkdtemp");
        abort();
    }
    tiny_file(dir, "vocab.txt", mf_str_from(tiny_vocab));
    tiny_file(dir, "config.json", mf_str_from(tiny_config));
    tiny_file(dir, "sentence_bert_config.json", MF_STR("{\"max_seq_length\":24}"));
    tiny_weights(dir, &none);
}

/* Removes the file that opening in int8 leaves. */
static inline void tiny_model_forget_pack(const char *dir) {
    char path[512];
    (void)snprintf(path, sizeof path, "%s/int8.mfpack", dir);
    (void)unlink(path); /* it need not be there */
}

static inline void tiny_model_remove(const char *dir) {
    static const char *const names[] = {"vocab.txt", "config.json",
                                        "sentence_bert_config.json",
                                        "model.safetensors", "int8.mfpack"};
    char path[512];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        (void)unlink(path); /* a test may have removed it */
    }
    (void)rmdir(dir);
}

#endif
