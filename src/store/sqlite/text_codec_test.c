/* text_codec_test.c - texts come back byte for byte, damage is seen, and a dictionary
 * holds nothing that few texts say. */
#include "store/sqlite/text_codec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/rng.h"

enum { SAMPLES = 2000, SAMPLE_MAX = 400 };

typedef struct world {
    mf_text_codec *codec;
    mf_text_lane *lane;
    mf_arena *arena;
    mf_str samples[SAMPLES];
    mf_str dictionary;
} world;

/* Sentences of common words; every one has a word of its own as well. */
static mf_str make_sample(world *t, mf_rng *rng, size_t number) {
    static const char *const words[] = {
        "I ",    "think ", "we ",    "should ",  "talk ",     "about ",  "the ",
        "trip ", "to ",    "Japan ", "because ", "tomorrow ", "my ",     "sister ",
        "said ", "that ",  "it ",    "was ",     "great. ",   "Really? "};
    char text[SAMPLE_MAX];
    size_t len = 0;
    size_t from = mf_rng_below(rng, 10);
    for (size_t i = 0; i < 24; i++) {
        const char *word = words[(from + i + mf_rng_below(rng, 3)) % 20];
        memcpy(text + len, word, strlen(word));
        len += strlen(word);
        if (i == 12) {
            len += (size_t)snprintf(text + len, sizeof text - len, "secret%zu ",
                                    number * 7919);
        }
    }
    return mf_arena_str(t->arena, (mf_str){text, len});
}

static int make_world(void **state) {
    static world place;
    world *t = &place;
    mf_rng rng;
    mf_rng_init(&rng, 1);
    assert_int_equal(mf_arena_new((size_t)64 << 20, &t->arena, NULL), MF_OK);
    for (size_t i = 0; i < SAMPLES; i++) {
        t->samples[i] = make_sample(t, &rng, i);
    }
    assert_int_equal(mf_text_train(t->samples, SAMPLES, 16 << 10, &t->dictionary, NULL),
                     MF_OK);
    assert_non_null(t->dictionary.p);
    assert_int_equal(mf_text_codec_open(&t->codec, NULL), MF_OK);
    assert_int_equal(mf_text_codec_add(t->codec, 7, t->dictionary, NULL), MF_OK);
    assert_int_equal(mf_text_lane_open(t->codec, &t->lane, NULL), MF_OK);
    *state = t;
    return 0;
}

static int drop_world(void **state) {
    world *t = *state;
    mf_text_lane_close(t->lane);
    mf_text_codec_close(t->codec);
    mf_free((char *)(uintptr_t)t->dictionary.p);
    mf_arena_free(t->arena);
    mf_text_lane_close(NULL);
    mf_text_codec_close(NULL);
    return mf_alloc_live() != 0;
}

/* The frame, copied; .p NULL when the text stays plain. */
static mf_str pack(world *t, int64_t id, mf_str text) {
    mf_str frame;
    assert_int_equal(mf_text_lane_pack(t->lane, id, text, &frame, NULL), MF_OK);
    return frame.p != NULL ? mf_arena_str(t->arena, frame) : frame;
}

static mf_rc unpack(world *t, int64_t id, mf_str frame, size_t len, mf_arena *arena,
                    mf_str *text) {
    return mf_text_lane_unpack(t->lane, id, frame, (int64_t)len, arena, text, NULL);
}

static void assert_returns(world *t, int64_t id, mf_str text, mf_str frame) {
    mf_str got;
    assert_int_equal(unpack(t, id, frame, text.len, NULL, &got), MF_OK);
    assert_true(mf_str_eq(got, text));
    assert_int_equal(unpack(t, id, frame, text.len, t->arena, &got), MF_OK);
    assert_true(mf_str_eq(got, text));
    assert_int_equal(got.p[got.len], 0);
}

static void texts_come_back_and_a_dictionary_makes_them_smaller(void **state) {
    world *t = *state;
    size_t plain = 0;
    size_t with = 0;
    for (size_t i = 0; i < SAMPLES; i++) {
        mf_str frame = pack(t, 7, t->samples[i]);
        assert_non_null(frame.p);
        assert_returns(t, 7, t->samples[i], frame);
        plain += t->samples[i].len;
        with += frame.len;
        frame = pack(t, 0, t->samples[i]);
        if (frame.p != NULL) {
            assert_returns(t, 0, t->samples[i], frame);
        }
    }
    assert_true(with * 2 < plain);
}

static void short_long_and_random_texts_stay_plain(void **state) {
    world *t = *state;
    mf_rng rng;
    mf_rng_init(&rng, 2);
    char *noise = mf_alloc(MF_PACK_TEXT_MAX + 1);
    assert_non_null(noise);
    assert_null(pack(t, 7, MF_STR_NONE).p);
    assert_null(pack(t, 7, MF_STR("I think we should talk about")).p);
    for (size_t i = 0; i < 2000; i++) {
        noise[i] = (char)mf_rng_below(&rng, 256);
    }
    assert_null(pack(t, 7, (mf_str){noise, 2000}).p);
    memset(noise, 'a', MF_PACK_TEXT_MAX + 1);
    assert_null(pack(t, 7, (mf_str){noise, MF_PACK_TEXT_MAX + 1}).p);
    mf_str longest = {noise, MF_PACK_TEXT_MAX};
    mf_str frame = pack(t, 7, longest);
    assert_non_null(frame.p);
    assert_returns(t, 7, longest, frame);
    mf_free(noise);
}

static void every_damaged_byte_is_seen(void **state) {
    world *t = *state;
    mf_rng rng;
    mf_rng_init(&rng, 3);
    for (size_t n = 0; n < 200; n++) {
        mf_str text = t->samples[n];
        mf_str frame = pack(t, 7, text);
        char bytes[SAMPLE_MAX + 64];
        mf_str got = MF_STR("untouched");
        for (size_t at = 0; at < frame.len; at++) {
            memcpy(bytes, frame.p, frame.len);
            bytes[at] = (char)(bytes[at] ^ (char)(1 + mf_rng_below(&rng, 255)));
            mf_rc rc = unpack(t, 7, (mf_str){bytes, frame.len}, text.len, NULL, &got);
            /* A few header bits mean nothing; then the text is still right. */
            assert_true(rc == MF_E_CORRUPT || (rc == MF_OK && mf_str_eq(got, text)));
        }
        for (size_t len = 0; len < frame.len; len++) {
            assert_int_equal(unpack(t, 7, (mf_str){frame.p, len}, text.len, NULL, &got),
                             MF_E_CORRUPT);
        }
        assert_int_equal(unpack(t, 7, frame, text.len + 1, NULL, &got), MF_E_CORRUPT);
        assert_int_equal(unpack(t, 7, frame, text.len - 1, NULL, &got), MF_E_CORRUPT);
        assert_int_equal(unpack(t, 0, frame, text.len, NULL, &got), MF_E_CORRUPT);
    }
}

static void random_bytes_are_no_frame(void **state) {
    world *t = *state;
    mf_rng rng;
    mf_rng_init(&rng, 4);
    static const unsigned char magic[4] = {0x28, 0xB5, 0x2F, 0xFD};
    for (size_t n = 0; n < 20000; n++) {
        char bytes[128];
        size_t len = mf_rng_below(&rng, sizeof bytes + 1);
        for (size_t i = 0; i < len; i++) {
            bytes[i] = (char)mf_rng_below(&rng, 256);
        }
        if (n % 2 == 0 && len >= 4) {
            memcpy(bytes, magic, 4);
        }
        mf_str got;
        int64_t told = (int64_t)mf_rng_below(&rng, 300) - 10;
        assert_int_equal(mf_text_lane_unpack(t->lane, n % 3 == 0 ? 0 : 7,
                                             (mf_str){bytes, len}, told, NULL, &got,
                                             NULL),
                         MF_E_CORRUPT);
    }
}

/* A frame that says it holds a gigabyte is refused before any memory is asked for. */
static void a_length_beyond_the_bound_is_refused(void **state) {
    world *t = *state;
    static const char frame[] = {0x28, (char)0xB5, 0x2F, (char)0xFD, (char)0xA0, 0,
                                 0,    0,          0x40, 1,          0,          0};
    mf_str got;
    assert_int_equal(
        unpack(t, 0, (mf_str){frame, sizeof frame}, (size_t)1 << 30, t->arena, &got),
        MF_E_CORRUPT);
}

static void what_is_no_dictionary_is_refused(void **state) {
    world *t = *state;
    mf_err err;
    char bytes[64] = "nothing of the kind";
    assert_int_equal(mf_text_codec_add(t->codec, 8, MF_STR_NONE, &err), MF_E_CORRUPT);
    assert_int_equal(mf_text_codec_add(t->codec, 8, (mf_str){bytes, 64}, &err),
                     MF_E_CORRUPT);
    assert_int_equal(mf_text_codec_add(t->codec, 0, t->dictionary, &err), MF_E_CORRUPT);
    mf_str cut = {t->dictionary.p, 40}; /* the mark is there, the tables are not */
    assert_int_equal(mf_text_codec_add(t->codec, 8, cut, &err), MF_E_CORRUPT);
    assert_false(mf_text_codec_has(t->codec, 8));
    assert_true(mf_text_codec_has(t->codec, 7));
    assert_true(mf_text_codec_has(t->codec, 0));
    assert_int_equal(mf_text_codec_add(t->codec, 7, t->dictionary, &err), MF_OK);
}

static void damaged_dictionaries_do_no_harm(void **state) {
    world *t = *state;
    mf_rng rng;
    mf_rng_init(&rng, 5);
    char *bytes = mf_alloc(t->dictionary.len);
    assert_non_null(bytes);
    for (size_t n = 0; n < 300; n++) {
        mf_text_codec *codec;
        assert_int_equal(mf_text_codec_open(&codec, NULL), MF_OK);
        memcpy(bytes, t->dictionary.p, t->dictionary.len);
        for (size_t i = 0; i < 1 + n % 4; i++) {
            bytes[mf_rng_below(&rng, n % 2 == 0 ? 200 : t->dictionary.len)] =
                (char)mf_rng_below(&rng, 256);
        }
        mf_text_lane *lane;
        mf_str got;
        mf_str frame = pack(t, 7, t->samples[n]);
        mf_str damaged = {bytes, t->dictionary.len};
        if (mf_text_codec_add(codec, 1, damaged, NULL) == MF_OK) {
            assert_int_equal(mf_text_lane_open(codec, &lane, NULL), MF_OK);
            mf_rc rc = mf_text_lane_unpack(lane, 1, frame, (int64_t)t->samples[n].len,
                                           NULL, &got, NULL);
            assert_true(rc == MF_E_CORRUPT ||
                        (rc == MF_OK && mf_str_eq(got, t->samples[n])));
            mf_text_lane_close(lane);
        }
        mf_text_codec_close(codec);
    }
    mf_free(bytes);
}

static bool holds(mf_str bytes, mf_str text) {
    return mf_str_find(bytes, text, 0) != SIZE_MAX && text.len > 0;
}

static void a_dictionary_holds_only_what_many_texts_say(void **state) {
    world *t = *state;
    assert_true(holds(t->dictionary, MF_STR("talk about")));
    assert_false(holds(t->dictionary, MF_STR("secret")));
    /* Shared by one sample less than it takes. */
    static mf_str samples[SAMPLES];
    memcpy(samples, t->samples, sizeof samples);
    char text[SAMPLE_MAX + 64];
    for (size_t i = 0; i < MF_PACK_SHARED - 1; i++) {
        int len = snprintf(text, sizeof text, "hunter2 swordfish %.*s",
                           MF_STR_ARGS(samples[i]));
        samples[i] = mf_arena_str(t->arena, (mf_str){text, (size_t)len});
    }
    mf_str made;
    assert_int_equal(mf_text_train(samples, SAMPLES, 16 << 10, &made, NULL), MF_OK);
    assert_non_null(made.p);
    assert_false(holds(made, MF_STR("hunter2")));
    assert_false(holds(made, MF_STR("swordfish")));
    mf_free((char *)(uintptr_t)made.p);
}

static void texts_with_nothing_in_common_train_nothing(void **state) {
    world *t = *state;
    static mf_str samples[SAMPLES];
    for (size_t i = 0; i < SAMPLES; i++) {
        samples[i] = mf_arena_printf(t->arena, "a%zu b%zu c%zu", i, i * 3, i * 7);
    }
    mf_str made;
    assert_int_equal(mf_text_train(samples, SAMPLES, 16 << 10, &made, NULL), MF_OK);
    assert_null(made.p);
    assert_int_equal(mf_text_train(t->samples, 3, 16 << 10, &made, NULL), MF_OK);
    assert_null(made.p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_come_back_and_a_dictionary_makes_them_smaller),
        cmocka_unit_test(short_long_and_random_texts_stay_plain),
        cmocka_unit_test(every_damaged_byte_is_seen),
        cmocka_unit_test(random_bytes_are_no_frame),
        cmocka_unit_test(a_length_beyond_the_bound_is_refused),
        cmocka_unit_test(what_is_no_dictionary_is_refused),
        cmocka_unit_test(damaged_dictionaries_do_no_harm),
        cmocka_unit_test(a_dictionary_holds_only_what_many_texts_say),
        cmocka_unit_test(texts_with_nothing_in_common_train_nothing),
    };
    return cmocka_run_group_tests(tests, make_world, drop_world);
}
