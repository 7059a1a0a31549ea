/* content_key_test.c - keys are those of the published function, and another secret
 * makes other keys. */
#include "base/content_key.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

/* The secret 00 01 .. 0f and texts 00 01 .. of some lengths, as in the paper's
 * appendix; the longer ones as libsodium's crypto_shorthash_siphashx24 gives them. */
static const struct {
    size_t len;
    const char *hex;
} known[] = {
    {0, "a3817f04ba25a8e66df67214c7550293"},  {1, "da87c1d86b99af44347659119b22fc45"},
    {2, "8177228da4a45dc7fca38bdef60affe4"},  {7, "a1f1ebbed8dbc153c0b84aa61ff08239"},
    {8, "3b62a9ba6258f5610f83e264f31497b4"},  {9, "264499060ad9baabc47f8b02bb6d71ed"},
    {15, "5493e99933b0a8117e08ec0f97cfc3d9"}, {16, "6ee2a4ca67b054bbfd3315bf85230577"},
    {63, "5150d1772f50834a503e069a973fbd7c"}, {255, "1c9bb67528165f8e468248e3799b0eab"},
};

static void keys_are_those_of_siphash(void **state) {
    (void)state;
    char text[256];
    mf_content_key secret;
    for (size_t i = 0; i < sizeof text; i++) {
        text[i] = (char)i;
    }
    for (size_t i = 0; i < sizeof secret.b; i++) {
        secret.b[i] = (uint8_t)i;
    }
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        mf_content_key key = mf_content_key_of(&secret, (mf_str){text, known[i].len});
        char hex[2 * MF_CONTENT_KEY_BYTES + 1];
        for (size_t b = 0; b < MF_CONTENT_KEY_BYTES; b++) {
            (void)snprintf(hex + 2 * b, 3, "%02x", key.b[b]);
        }
        assert_string_equal(hex, known[i].hex);
    }
}

static void another_secret_makes_another_key(void **state) {
    (void)state;
    mf_content_key secret = MF_CONTENT_KEY_NONE;
    mf_content_key first = mf_content_key_of(&secret, MF_STR("I moved to Lisbon."));
    assert_false(mf_content_key_is_none(&first));
    for (size_t bit = 0; bit < 8 * MF_CONTENT_KEY_BYTES; bit++) {
        secret = MF_CONTENT_KEY_NONE;
        secret.b[bit / 8] = (uint8_t)(1U << bit % 8);
        mf_content_key key = mf_content_key_of(&secret, MF_STR("I moved to Lisbon."));
        assert_false(mf_content_key_eq(&key, &first));
    }
}

static void texts_that_differ_in_length_or_a_bit_have_other_keys(void **state) {
    (void)state;
    static const char zeros[64];
    const mf_content_key secret = {{1, 2, 3}};
    mf_content_key keys[sizeof zeros];
    for (size_t len = 0; len < sizeof zeros; len++) {
        keys[len] = mf_content_key_of(&secret, (mf_str){zeros, len});
        for (size_t i = 0; i < len; i++) {
            assert_false(mf_content_key_eq(&keys[i], &keys[len]));
        }
    }
    mf_content_key a = mf_content_key_of(&secret, MF_STR("the cat"));
    mf_content_key b = mf_content_key_of(&secret, MF_STR("the cau"));
    assert_false(mf_content_key_eq(&a, &b));
    b = mf_content_key_of(&secret, MF_STR("the cat"));
    assert_true(mf_content_key_eq(&a, &b));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_are_those_of_siphash),
        cmocka_unit_test(another_secret_makes_another_key),
        cmocka_unit_test(texts_that_differ_in_length_or_a_bit_have_other_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
