/* words_fuzz.c - any bytes as the words of a document and as a query for it.
 *
 * Cutting gives the same terms each time; a document is found by its own text with a
 * score in range, and leaves nothing behind when it is removed. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "index/user_index.h"
#include "index/words.h"

static void check_terms(mf_str text) {
    mf_terms once = {0};
    mf_terms twice = {0};
    MF_ASSERT(mf_words_cut(text, &once, NULL) == MF_OK);
    MF_ASSERT(mf_words_cut(text, &twice, NULL) == MF_OK);
    MF_ASSERT(once.count == twice.count && once.count <= 2 * text.len);
    for (size_t i = 0; i < once.count; i++) {
        MF_ASSERT(once.hashes[i] != 0 && once.hashes[i] == twice.hashes[i]);
    }
    mf_terms_done(&once);
    mf_terms_done(&twice);
}

static void check_index(mf_str text) {
    mf_index *index = NULL;
    mf_index_doc *doc = NULL;
    mf_index_facts facts = {.key = {0, 1}, .session_id = {{1}}};
    MF_ASSERT(mf_index_open(8, &index, NULL) == MF_OK);
    MF_ASSERT(mf_index_doc_prepare(&facts, text, &doc, NULL) == MF_OK);
    MF_ASSERT(mf_index_add(index, doc, NULL) == MF_OK);
    mf_index_query query = {.text = text, .messages = true, .hits_max = 2};
    mf_index_weights weights = mf_index_weights_default();
    mf_index_hit hits[2];
    size_t count = 0;
    MF_ASSERT(mf_index_search(index, &query, &weights, hits, &count, NULL) == MF_OK);
    MF_ASSERT(count == 1 && hits[0].score >= 0.0F && hits[0].score <= 1.0F);
    MF_ASSERT(mf_index_remove(index, facts.key) && mf_index_count(index) == 0);
    mf_index_close(index);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    mf_str text = {(const char *)data, size};
    size_t live = mf_alloc_live();
    check_terms(text);
    check_index(text);
    MF_ASSERT(mf_alloc_live() == live);
    return 0;
}
