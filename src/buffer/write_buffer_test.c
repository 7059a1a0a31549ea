/* write_buffer_test.c - vectors wait until they are many or old, and come back when
 * they could not be committed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "buffer/write_buffer.h"

enum { DIM = 4 };
static const mf_hybrid_limits limits = {.rounds_max = 2, .wait_ns = 100};

static void put(mf_hybrid_buffer *buffer, int64_t num, mf_uuid round, size_t parts,
                int64_t now_ns) {
    static const float vectors[3 * DIM] = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0};
    static const mf_content_key keys[3] = {{{1}}, {{2}}, {{3}}};
    mf_hybrid_doc doc = {.kind = MF_DOC_MESSAGE, .num = num, .round_id = round};
    mf_hybrid_entry *entry;
    assert_int_equal(mf_hybrid_entry_new(&doc, vectors, keys, parts, DIM, &entry, NULL),
                     MF_OK);
    mf_hybrid_buffer_put(buffer, entry, now_ns);
}

static void vectors_are_due_when_many_or_old(void **state) {
    (void)state;
    mf_hybrid_buffer *buffer;
    assert_int_equal(mf_hybrid_buffer_open(&buffer, NULL), MF_OK);
    assert_int_equal(mf_hybrid_buffer_due_ns(buffer, limits), INT64_MAX);
    mf_uuid round = mf_uuid_new();
    put(buffer, 1, round, 1, 1000);
    put(buffer, 2, round, 3, 1010); /* the same round */
    assert_int_equal(mf_hybrid_buffer_rounds(buffer), 1);
    assert_int_equal(mf_hybrid_buffer_chunks(buffer), 4);
    put(buffer, 3, mf_uuid_new(), 1, 1020);
    assert_int_equal(mf_hybrid_buffer_due_ns(buffer, limits), 1100);
    put(buffer, 4, MF_UUID_NONE, 1, 1030); /* knowledge is a round of its own */
    assert_int_equal(mf_hybrid_buffer_due_ns(buffer, limits), INT64_MIN);
    assert_true(mf_hybrid_buffer_holds(buffer, MF_DOC_MESSAGE, 2));
    assert_false(mf_hybrid_buffer_holds(buffer, MF_DOC_KNOWLEDGE, 2));
    assert_false(mf_hybrid_buffer_holds(buffer, MF_DOC_MESSAGE, 5));
    mf_hybrid_buffer_close(buffer);
}

static void what_could_not_be_committed_comes_back_in_front(void **state) {
    (void)state;
    size_t live = mf_alloc_live();
    mf_write_buffer *buffer;
    assert_int_equal(mf_write_buffer_open(&buffer, NULL), MF_OK);
    mf_hybrid_buffer *hybrid = mf_write_buffer_hybrid(buffer);
    put(hybrid, 1, mf_uuid_new(), 1, 1000);
    put(hybrid, 2, mf_uuid_new(), 2, 1001);
    mf_hybrid_batch batch = mf_write_buffer_flush_all(buffer);
    assert_int_equal(batch.chunks, 3);
    assert_false(mf_hybrid_buffer_holds(hybrid, MF_DOC_MESSAGE, 1));
    put(hybrid, 3, mf_uuid_new(), 1, 2000); /* came in meanwhile */
    mf_write_buffer_flushed(buffer, &batch, false);
    assert_null(batch.first);
    assert_int_equal(mf_hybrid_buffer_chunks(hybrid), 4);
    assert_int_equal(mf_hybrid_buffer_due_ns(
                         hybrid, (mf_hybrid_limits){.rounds_max = 9, .wait_ns = 5}),
                     1005);
    mf_write_buffer_stats stats;
    mf_write_buffer_get_stats(buffer, &stats);
    assert_int_equal(stats.flush_operations, 0);
    assert_int_equal(stats.chunk_count, 4);
    batch = mf_write_buffer_flush_all(buffer);
    mf_write_buffer_flushed(buffer, &batch, true);
    mf_write_buffer_get_stats(buffer, &stats);
    assert_int_equal(stats.flush_operations, 1);
    assert_int_equal(stats.chunk_count, 0);
    batch = mf_write_buffer_flush_all(buffer);
    mf_write_buffer_flushed(buffer, &batch, true); /* nothing is no operation */
    mf_write_buffer_get_stats(buffer, &stats);
    assert_int_equal(stats.flush_operations, 1);
    mf_write_buffer_close(buffer);
    assert_int_equal(mf_alloc_live(), live);
}

static void rounds_are_counted_as_they_pass(void **state) {
    (void)state;
    mf_write_buffer *buffer;
    assert_int_equal(mf_write_buffer_open(&buffer, NULL), MF_OK);
    mf_uuid session = mf_uuid_new();
    mf_round_limits window = {.tokens_max = 5, .rounds_max = 2};
    mf_round round = {.first_num = 1, .tokens = 2};
    mf_write_outcome outcome;
    mf_write_buffer_add(buffer, session, &round, NULL, &outcome); /* bypass */
    assert_int_equal(outcome.window.rounds, 0);
    mf_round_buffer *rounds = mf_write_buffer_rounds(buffer);
    uint64_t ticket = mf_round_buffer_load_begin(rounds, session);
    assert_true(mf_round_buffer_load_end(rounds, session, ticket, NULL, 0, window));
    for (int i = 0; i < 4; i++) {
        mf_write_buffer_add(buffer, session, &round, &window, &outcome);
        assert_int_equal(outcome.transfer_triggered, i >= 2);
    }
    mf_write_buffer_stats stats;
    mf_write_buffer_get_stats(buffer, &stats);
    assert_int_equal(stats.total_writes, 5);
    assert_int_equal(stats.total_transfers, 3);
    assert_int_equal(stats.round_count, 2);
    assert_int_equal(stats.current_tokens, 4);
    mf_write_buffer_close(buffer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_are_due_when_many_or_old),
        cmocka_unit_test(what_could_not_be_committed_comes_back_in_front),
        cmocka_unit_test(rounds_are_counted_as_they_pass),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
