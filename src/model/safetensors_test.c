/* safetensors_test.c - a well-formed file gives its tensors, a malformed one a
 * reason. */
#include "model/safetensors.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/fault.h"
#include "os/file.h"

/* A file of `header`, padded with blanks to keep floats aligned, and `data_len` bytes
 * of data: floats 0, 1, 2, ... */
static mf_str build(mf_buf *buf, const char *header, size_t data_len) {
    mf_buf_init(buf, 1 << 16);
    uint64_t length = (strlen(header) + 7) / 8 * 8;
    (void)mf_buf_add(buf, &length, sizeof length);
    (void)mf_buf_add_str(buf, mf_str_from(header));
    while (buf->len % 8 != 0) {
        (void)mf_buf_add_str(buf, MF_STR(" "));
    }
    for (size_t i = 0; i < data_len; i += sizeof(float)) {
        float value = (float)(i / sizeof(float));
        size_t rest = data_len - i;
        (void)mf_buf_add(buf, &value, rest < sizeof value ? rest : sizeof value);
    }
    assert_int_equal(buf->failed, MF_OK);
    return mf_buf_view(buf);
}

static const char good_header[] =
    "{\"__metadata__\":{\"format\":\"pt\"},"
    "\"b\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[16,40]},"
    "\"a\":{\"dtype\":\"I64\",\"shape\":[1,2],\"data_offsets\":[0,16]},"
    "\"empty\":{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[40,40]},"
    "\"scalar\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[40,44]}}";
enum { GOOD_DATA = 44 };

static void tensors_are_found_by_name_type_and_shape(void **state) {
    (void)state;
    mf_buf buf;
    mf_err err;
    mf_safetensors *file = NULL;
    const float *values = NULL;
    const size_t shape[2] = {2, 3};
    const size_t empty[2] = {0, 7};
    mf_str bytes = build(&buf, good_header, GOOD_DATA);
    assert_int_equal(mf_safetensors_view(bytes, &file, &err), MF_OK);
    assert_int_equal(mf_safetensors_count(file), 4);
    assert_int_equal(mf_safetensors_numbers(file), 9);
    assert_true(mf_safetensors_has(file, "a"));
    assert_false(mf_safetensors_has(file, "c"));
    assert_false(mf_safetensors_has(file, "__metadata__"));
    assert_int_equal(mf_safetensors_get_f32(file, "b", shape, 2, &values, &err), MF_OK);
    for (size_t i = 0; i < 6; i++) {
        assert_true(values[i] == (float)(i + 4));
    }
    assert_int_equal(mf_safetensors_get_f32(file, "scalar", NULL, 0, &values, &err),
                     MF_OK);
    assert_true(*values == 10.0F);
    assert_int_equal(mf_safetensors_get_f32(file, "empty", empty, 2, &values, &err),
                     MF_OK);
    mf_safetensors_cool(file); /* does nothing to a view */
    mf_safetensors_close(file);
    mf_safetensors_close(NULL);
    mf_buf_done(&buf);
}

static void a_wrong_expectation_is_told_with_what_is_there(void **state) {
    (void)state;
    static const struct {
        const char *name;
        size_t shape[2];
        size_t rank;
        const char *clue;
    } cases[] = {
        {"c", {2, 3}, 2, "tensor 'c' is missing, expected F32 [2, 3]"},
        {"a", {1, 2}, 2, "tensor 'a' is I64 [1, 2], expected F32 [1, 2]"},
        {"b", {3, 2}, 2, "tensor 'b' is F32 [2, 3], expected F32 [3, 2]"},
        {"b", {2, 0}, 1, "tensor 'b' is F32 [2, 3], expected F32 [2]"},
    };
    mf_buf buf;
    mf_err err;
    mf_safetensors *file = NULL;
    mf_str bytes = build(&buf, good_header, GOOD_DATA);
    assert_int_equal(mf_safetensors_view(bytes, &file, &err), MF_OK);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const float *values = NULL;
        assert_int_equal(mf_safetensors_get_f32(file, cases[i].name, cases[i].shape,
                                                cases[i].rank, &values, &err),
                         MF_E_CORRUPT);
        assert_string_equal(err.text, cases[i].clue);
        assert_null(values);
    }
    mf_safetensors_close(file);
    mf_buf_done(&buf);
}

static void numbers_that_are_none_are_refused(void **state) {
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    const size_t shape[1] = {40};
    for (size_t i = 0; i < 3; i++) {
        for (size_t at = 0; at < 40; at += 13) {
            mf_buf buf;
            mf_err err;
            mf_safetensors *file = NULL;
            const float *values = NULL;
            mf_str bytes = build(
                &buf,
                "{\"t\":{\"dtype\":\"F32\",\"shape\":[40],\"data_offsets\":[0,160]}}",
                160);
            memcpy(buf.p + bytes.len - 160 + at * sizeof(float), &bad[i],
                   sizeof(float));
            assert_int_equal(mf_safetensors_view(bytes, &file, &err), MF_OK);
            assert_int_equal(mf_safetensors_get_f32(file, "t", shape, 1, &values, &err),
                             MF_E_CORRUPT);
            assert_non_null(strstr(err.text, "tensor 't'"));
            assert_non_null(strstr(err.text, "NaN"));
            mf_safetensors_close(file);
            mf_buf_done(&buf);
        }
    }
}

#define F32(name, shape, begin, end)                                                   \
    "\"" name "\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":[" begin     \
    "," end "]}"

static void malformed_headers_are_refused_with_a_reason(void **state) {
    (void)state;
    static const struct {
        const char *header;
        size_t data_len;
        const char *clue;
    } cases[] = {
        {"", 0, "header"},
        {"{", 0, "header"},
        {"[]", 0, "not a JSON object"},
        {"null", 0, "not a JSON object"},
        {"{} {}", 0, "header"},
        {"{\"\xff\":1}", 0, "header"},
        {"{\"t\":1}", 0, "'t' is not a JSON object"},
        {"{\"t\":{}}", 0, "no known dtype"},
        {"{\"t\":{\"dtype\":\"F31\"}}", 0, "no known dtype"},
        {"{\"t\":{\"dtype\":32}}", 0, "no known dtype"},
        {"{\"t\":{\"dtype\":\"F32\"}}", 0, "shape"},
        {"{\"t\":{\"dtype\":\"F32\",\"shape\":4}}", 0, "shape"},
        {"{\"t\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1]}}", 4, "shape"},
        {"{\"t\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "data_offsets"},
        {"{" F32("t", "[1]", "0", "4,4") "}", 4, "data_offsets"},
        {"{" F32("t", "[1]", "4", "0") "}", 4, "data_offsets"},
        {"{" F32("t", "[1]", "-4", "0") "}", 4, "data_offsets"},
        {"{" F32("t", "[1]", "0", "4.0") "}", 4, "data_offsets"},
        {"{" F32("t", "[-1]", "0", "4") "}", 4, "size 0 of its shape"},
        {"{" F32("t", "[1.5]", "0", "4") "}", 4, "size 0 of its shape"},
        {"{" F32("t", "[1,\"1\"]", "0", "4") "}", 4, "size 1 of its shape"},
        {"{" F32("t", "[4611686018427387904]", "0", "0") "}", 0, "size 0"},
        {"{" F32("t", "[4294967296,4294967296]", "0", "0") "}", 0, "size 1"},
        {"{" F32("t", "[1]", "0", "8") "}", 4, "ends at byte 8 of 4"},
        {"{" F32("t", "[1]", "0", "18446744073709551615") "}", 4, "ends at byte"},
        {"{" F32("t", "[2]", "0", "4") "}", 4, "has 4 bytes where its shape takes 8"},
        {"{" F32("t", "[0]", "0", "4") "}", 4, "has 4 bytes where its shape takes 0"},
        {"{" F32("t", "[1]", "4", "8") "}", 8, "leaves a gap"},
        {"{" F32("t", "[1]", "0", "4") "," F32("u", "[1]", "8", "12") "}", 12,
         "'u' leaves a gap"},
        {"{" F32("t", "[2]", "0", "8") "," F32("u", "[2]", "4", "12") "}", 12,
         "'u' overlaps another"},
        {"{" F32("t", "[1]", "0", "4") "," F32("u", "[1]", "0", "4") "}", 4,
         "overlaps"},
        {"{" F32("t", "[1]", "0", "4") "," F32("t", "[1]", "4", "8") "}", 8,
         "'t' appears twice"},
        {"{" F32("t", "[0]", "0", "0") "," F32("t", "[0]", "0", "0") "}", 0,
         "'t' appears twice"},
        {"{" F32("t", "[1]", "0", "4") "}", 5, "1 bytes behind the last tensor"},
        {"{}", 3, "3 bytes behind the last tensor"},
        {"{\"__metadata__\":[]}", 0, "__metadata__"},
        {"{\"__metadata__\":{\"a\":1}}", 0, "__metadata__"},
        {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, "__metadata__ appears twice"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mf_buf buf;
        mf_err err = {0};
        mf_safetensors *file = NULL;
        mf_str bytes = build(&buf, cases[i].header, cases[i].data_len);
        mf_rc rc = mf_safetensors_view(bytes, &file, &err);
        if (rc != MF_E_CORRUPT || strstr(err.text, cases[i].clue) == NULL) {
            fail_msg("%s: %s, %s", cases[i].header, mf_rc_name(rc), err.text);
        }
        assert_null(file);
        assert_int_equal(mf_safetensors_view(bytes, &file, NULL), MF_E_CORRUPT);
        mf_buf_done(&buf);
    }
    assert_int_equal(mf_alloc_live(), 0);
}

static void header_lengths_beyond_the_file_are_refused(void **state) {
    (void)state;
    static const uint64_t lengths[] = {1, 9, MF_SAFETENSORS_HEADER_MAX + 1,
                                       UINT64_MAX - 7, UINT64_MAX};
    mf_safetensors *file = NULL;
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        char bytes[sizeof lengths[i]];
        memcpy(bytes, &lengths[i], sizeof bytes);
        assert_int_equal(
            mf_safetensors_view((mf_str){bytes, sizeof bytes}, &file, NULL),
            MF_E_CORRUPT);
    }
    for (size_t len = 0; len < 8; len++) {
        assert_int_equal(
            mf_safetensors_view((mf_str){"\2\0\0\0\0\0\0\0", len}, &file, NULL),
            MF_E_CORRUPT);
    }
    /* Larger than allowed although the file would have the room. */
    size_t size = 8 + MF_SAFETENSORS_HEADER_MAX + 1;
    char *large = mf_alloc(size);
    assert_non_null(large);
    memset(large, ' ', size);
    uint64_t length = MF_SAFETENSORS_HEADER_MAX + 1;
    memcpy(large, &length, sizeof length);
    memcpy(large + 8, "{}", 2);
    mf_err err;
    assert_int_equal(mf_safetensors_view((mf_str){large, size}, &file, &err),
                     MF_E_CORRUPT);
    assert_non_null(strstr(err.text, "claims"));
    mf_free(large);
    assert_null(file);
}

static void a_file_cut_anywhere_is_refused(void **state) {
    (void)state;
    mf_buf buf;
    mf_str bytes = build(&buf, good_header, GOOD_DATA);
    for (size_t len = 0; len < bytes.len; len++) {
        mf_safetensors *file = NULL;
        assert_int_equal(mf_safetensors_view((mf_str){bytes.p, len}, &file, NULL),
                         MF_E_CORRUPT);
        assert_null(file);
    }
    mf_buf_done(&buf);
}

static void floats_off_their_boundary_are_refused(void **state) {
    (void)state;
    mf_buf buf;
    mf_err err;
    mf_safetensors *file = NULL;
    const float *values = NULL;
    const size_t shape[1] = {1};
    mf_str bytes = build(&buf,
                         "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":"
                         "[0,1]},\"t\":{\"dtype\":\"F32\",\"shape\":[1],"
                         "\"data_offsets\":[1,5]}}",
                         5);
    assert_int_equal(mf_safetensors_view(bytes, &file, &err), MF_OK);
    assert_int_equal(mf_safetensors_get_f32(file, "t", shape, 1, &values, &err),
                     MF_E_CORRUPT);
    assert_non_null(strstr(err.text, "aligned"));
    mf_safetensors_close(file);
    mf_buf_done(&buf);
}

/* Both types of 16 bits hold numbers that a float holds exactly, on any boundary. */
static void numbers_of_16_bits_become_the_same_floats(void **state) {
    (void)state;
    static const struct {
        const char *type;
        uint16_t bits[4];
        float values[4];
    } cases[] = {
        {"F16", {0x3C00, 0xC100, 0x0001, 0x7BFF}, {1.0F, -2.5F, 0x1p-24F, 65504.0F}},
        {"BF16",
         {0x3F80, 0xC020, 0x0001, 0x7F7F},
         {1.0F, -2.5F, 0x1p-133F, 0x1.FEp127F}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char header[160];
        mf_buf buf;
        mf_err err;
        mf_safetensors *file = NULL;
        const size_t shape[2] = {2, 2};
        float values[4];
        const float *exact = NULL;
        (void)snprintf(header, sizeof header,
                       "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                       "\"t\":{\"dtype\":\"%s\",\"shape\":[2,2],\"data_offsets\":"
                       "[1,9]}}",
                       cases[i].type);
        mf_str bytes = build(&buf, header, 9);
        memcpy(buf.p + buf.len - 8, cases[i].bits, 8);
        assert_int_equal(mf_safetensors_view(bytes, &file, &err), MF_OK);
        assert_true(mf_safetensors_is_16bit(file, "t"));
        assert_false(mf_safetensors_is_16bit(file, "a"));
        assert_false(mf_safetensors_is_16bit(file, "nowhere"));
        assert_int_equal(mf_safetensors_get_f32(file, "t", shape, 2, &exact, &err),
                         MF_E_CORRUPT);
        assert_int_equal(mf_safetensors_expect(file, "t", shape, 1, &err),
                         MF_E_CORRUPT);
        assert_non_null(strstr(err.text, cases[i].type));
        assert_int_equal(mf_safetensors_expect(file, "t", shape, 2, &err), MF_OK);
        assert_int_equal(mf_safetensors_convert(file, "t", values, &err), MF_OK);
        assert_memory_equal(values, cases[i].values, sizeof values);
        memset(buf.p + buf.len - 2, 0xFF, 2); /* a NaN in both */
        assert_int_equal(mf_safetensors_convert(file, "t", values, &err), MF_E_CORRUPT);
        assert_non_null(strstr(err.text, "'t' holds a NaN"));
        mf_safetensors_close(file);
        mf_buf_done(&buf);
    }
}

static void a_mapped_file_reads_like_its_bytes(void **state) {
    (void)state;
    char folder[] = "/tmp/mf-safetensors-XXXXXX";
    char path[64];
    mf_buf buf;
    mf_err err;
    mf_safetensors *file = NULL;
    const float *values = NULL;
    const size_t shape[2] = {2, 3};
    mf_str bytes = build(&buf, good_header, GOOD_DATA);
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof path, "%s/t.safetensors", folder);
    assert_int_equal(mf_safetensors_open(path, &file, &err), MF_E_NOTFOUND);
    assert_int_equal(mf_file_write_atomic(path, MF_STR(""), &err), MF_OK);
    assert_int_equal(mf_safetensors_open(path, &file, &err), MF_E_CORRUPT);
    assert_non_null(strstr(err.text, path));
    assert_int_equal(mf_file_write_atomic(path, bytes, &err), MF_OK);
    MF_EACH_FAULT(MF_FAULT_ALLOC, n) {
        mf_rc rc = mf_safetensors_open(path, &file, &err);
        assert_int_equal(rc, mf_fault_fired() ? MF_E_NOMEM : MF_OK);
    }
    assert_int_equal(mf_safetensors_get_f32(file, "b", shape, 2, &values, &err), MF_OK);
    mf_safetensors_cool(file);
    assert_true(values[5] == 9.0F);
    mf_safetensors_close(file);
    mf_buf_done(&buf);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
    assert_int_equal(mf_alloc_live(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_are_found_by_name_type_and_shape),
        cmocka_unit_test(a_wrong_expectation_is_told_with_what_is_there),
        cmocka_unit_test(numbers_that_are_none_are_refused),
        cmocka_unit_test(malformed_headers_are_refused_with_a_reason),
        cmocka_unit_test(header_lengths_beyond_the_file_are_refused),
        cmocka_unit_test(a_file_cut_anywhere_is_refused),
        cmocka_unit_test(floats_off_their_boundary_are_refused),
        cmocka_unit_test(numbers_of_16_bits_become_the_same_floats),
        cmocka_unit_test(a_mapped_file_reads_like_its_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
