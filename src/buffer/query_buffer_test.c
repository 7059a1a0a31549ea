/* query_buffer_test.c - an answer is found for the very question and version it is
 * of. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/fault.h"
#include "buffer/query_buffer.h"

static bool get(mf_query_buffer *buffer, const mf_query_key *key, uint64_t version,
                size_t *count) {
    mf_arena *arena;
    mf_index_hit *hits;
    assert_int_equal(mf_arena_new(1 << 20, &arena, NULL), MF_OK);
    bool found = mf_query_buffer_get(buffer, key, version, arena, &hits, count);
    if (found && *count > 0) {
        assert_int_equal(hits[0].facts.key.num, 7);
    }
    mf_arena_free(arena);
    return found;
}

static void every_part_of_the_question_counts(void **state) {
    (void)state;
    size_t live = mf_alloc_live();
    mf_query_buffer *buffer;
    assert_int_equal(mf_query_buffer_open(10, 60000, NULL, &buffer, NULL), MF_OK);
    mf_query_key key = {.text = MF_STR("cat"),
                        .session_id = mf_uuid_new(),
                        .agent_id = mf_uuid_new(),
                        .hits_max = 5,
                        .path = MF_PATH_BLEND,
                        .messages = true,
                        .knowledge = true,
                        .config = &live};
    mf_index_hit hits[2] = {{.facts = {.key = {.num = 7}}}, {.score = 1}};
    size_t count;
    assert_false(get(buffer, &key, 1, &count));
    mf_query_buffer_put(buffer, &key, 1, hits, 2);
    assert_true(get(buffer, &key, 1, &count));
    assert_int_equal(count, 2);
    assert_false(get(buffer, &key, 2, &count));
    assert_false(get(buffer, &key, 0, &count));
    mf_query_key others[8];
    for (size_t i = 0; i < 8; i++) {
        others[i] = key;
    }
    others[0].text = MF_STR("cats");
    others[1].session_id = MF_UUID_NONE;
    others[2].agent_id = MF_UUID_NONE;
    others[3].hits_max = 6;
    others[4].path = MF_PATH_VECTOR;
    others[5].messages = false;
    others[6].knowledge = false;
    others[7].config = NULL;
    for (size_t i = 0; i < 8; i++) {
        assert_false(get(buffer, &others[i], 1, &count));
    }
    mf_query_buffer_put(buffer, &key, 2, NULL, 0); /* replaces */
    assert_false(get(buffer, &key, 1, &count));
    assert_true(get(buffer, &key, 2, &count));
    assert_int_equal(count, 0);
    mf_query_buffer_close(buffer);
    assert_int_equal(mf_alloc_live(), live);
}

static void a_very_long_question_is_not_kept(void **state) {
    (void)state;
    static char text[1 << 20];
    mf_query_buffer *buffer;
    size_t count;
    assert_int_equal(mf_query_buffer_open(10, 60000, NULL, &buffer, NULL), MF_OK);
    mf_query_key key = {.text = {text, sizeof text}};
    mf_query_buffer_put(buffer, &key, 1, NULL, 0);
    assert_false(get(buffer, &key, 1, &count));
    mf_query_buffer_close(buffer);
}

static void short_memory_keeps_nothing_and_harms_nothing(void **state) {
    (void)state;
    size_t live = mf_alloc_live();
    bool fired = true;
    for (uint64_t n = 0; fired; n++) {
        mf_query_buffer *buffer = NULL;
        mf_index_hit hits[1] = {{.facts = {.key = {.num = 7}}}};
        mf_query_key key = {.text = MF_STR("cat")};
        size_t count;
        mf_fault_arm(MF_FAULT_ALLOC, n, false);
        mf_rc rc = mf_query_buffer_open(10, 60000, NULL, &buffer, NULL);
        if (rc == MF_OK) {
            mf_query_buffer_put(buffer, &key, 1, hits, 1);
        }
        fired = mf_fault_fired();
        mf_fault_disarm();
        assert_int_equal(rc, rc == MF_OK ? MF_OK : MF_E_NOMEM);
        if (rc == MF_OK) {
            bool kept = get(buffer, &key, 1, &count);
            assert_true(kept || fired);
        }
        mf_query_buffer_close(buffer);
        assert_int_equal(mf_alloc_live(), live);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_part_of_the_question_counts),
        cmocka_unit_test(a_very_long_question_is_not_kept),
        cmocka_unit_test(short_memory_keeps_nothing_and_harms_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
