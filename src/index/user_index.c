/* user_index.c - keeps documents, postings and vectors of one user in step.
 *
 * The three know a document by the same slot.  An addition first reserves its place in
 * docs (which gives the slot), then adds its postings, and only when both have
 * succeeded takes a document of the same key out and files the new one: a failed
 * replacement leaves the old document as it was.
 *
 * The prepared document stays with docs: its packed terms are what removal needs to
 * take exactly its own postings out again. */
#include "index/user_index.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "index/user_index_impl.h"
#include "index/words.h"
#include "num/vec_scan.h"
#include "text/timestamp.h"

mf_rc mf_index_open(size_t dim, mf_index **out, mf_err *err) {
    if (dim < 1 || dim > MF_SCAN_DIM_MAX) {
        return MF_FAIL(err, MF_E_INVAL, "an index cannot have %zu dimensions", dim);
    }
    mf_index *index = mf_alloc_zero(1, sizeof(*index));
    if (index == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for an index");
    }
    mf_rc rc = mf_docs_init(&index->docs, err);
    if (rc != MF_OK) {
        mf_free(index);
        return rc;
    }
    mf_vectors_init(&index->vectors, dim);
    *out = index;
    return MF_OK;
}

void mf_index_close(mf_index *index) {
    if (index == NULL) {
        return;
    }
    mf_docs_done(&index->docs);
    mf_postings_done(&index->postings);
    mf_vectors_done(&index->vectors);
    mf_free(index);
}

/* Adds "8 May 2023" for a time on that day, as people write it in questions. */
static mf_rc cut_date(int64_t us, mf_terms *terms, mf_err *err) {
    static const char *const months[] = {
        "January", "February", "March",     "April",   "May",      "June",
        "July",    "August",   "September", "October", "November", "December"};
    if (us == 0) {
        return MF_OK;
    }
    char iso[MF_TIMESTAMP_TEXT + 1]; /* YYYY-MM-DD... */
    mf_timestamp_format(us, iso);
    int64_t month = 1;
    bool read = mf_str_to_i64((mf_str){iso + 5, 2}, &month);
    MF_ASSERT(read && month >= 1 && month <= 12);
    size_t from = iso[8] == '0' ? 9 : 8;
    MF_TRY(mf_words_cut((mf_str){iso + from, 10 - from}, terms, err));
    MF_TRY(mf_words_cut(mf_str_from(months[month - 1]), terms, err));
    return mf_words_cut((mf_str){iso, 4}, terms, err);
}

/* The document takes its own copy of `terms`, which are packed in place. */
static mf_rc make_doc(const mf_index_facts *facts, mf_terms *terms, mf_index_doc **out,
                      mf_err *err) {
    if (terms->count > UINT32_MAX) {
        return MF_FAIL(err, MF_E_LIMIT, "a document has more than 2^32 words");
    }
    size_t length = terms->count;
    size_t count = mf_terms_pack(terms->hashes, terms->count);
    mf_index_doc *doc = mf_alloc(sizeof(*doc) + count * sizeof(doc->terms[0]));
    if (doc == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a document of %zu words", count);
    }
    doc->facts = *facts;
    doc->length = (uint32_t)length;
    doc->term_count = (uint32_t)count;
    if (count > 0) {
        memcpy(doc->terms, terms->hashes, count * sizeof(doc->terms[0]));
    }
    *out = doc;
    return MF_OK;
}

mf_rc mf_index_doc_prepare(const mf_index_facts *facts, mf_str words,
                           mf_index_doc **out, mf_err *err) {
    mf_terms terms = {0};
    mf_rc rc = mf_words_cut(words, &terms, err);
    if (rc == MF_OK) {
        rc = cut_date(facts->created_us, &terms, err);
    }
    if (rc == MF_OK) {
        rc = make_doc(facts, &terms, out, err);
    }
    mf_terms_done(&terms);
    return rc;
}

void mf_index_doc_free(mf_index_doc *doc) {
    mf_free(doc);
}

static mf_index_doc *take_out(mf_index *index, uint32_t slot) {
    mf_vectors_clear(&index->vectors, slot);
    mf_index_doc *doc = mf_docs_take(&index->docs, slot);
    mf_postings_remove(&index->postings, slot, doc->terms, doc->term_count,
                       doc->length);
    return doc;
}

/* On failure the document stays with the caller and the index as it was. */
static mf_rc put_in(mf_index *index, mf_index_doc *doc, mf_err *err) {
    uint32_t slot;
    MF_TRY(mf_docs_reserve(&index->docs, &doc->facts, &slot, err));
    mf_rc rc = mf_postings_add(&index->postings, slot, doc->terms, doc->term_count,
                               doc->length, err);
    if (rc != MF_OK) {
        mf_docs_cancel(&index->docs, slot);
        return rc;
    }
    uint32_t old = mf_docs_find(&index->docs, doc->facts.key);
    if (old != MF_DOCS_NONE) {
        mf_index_doc_free(take_out(index, old));
    }
    mf_docs_commit(&index->docs, slot, doc);
    return MF_OK;
}

mf_rc mf_index_add(mf_index *index, mf_index_doc *doc, mf_err *err) {
    mf_rc rc = put_in(index, doc, err);
    if (rc != MF_OK) {
        mf_index_doc_free(doc);
    }
    return rc;
}

mf_rc mf_index_set_vectors(mf_index *index, mf_index_key key, const float *vectors,
                           size_t part_count, mf_err *err) {
    uint32_t slot = mf_docs_find(&index->docs, key);
    if (slot == MF_DOCS_NONE) {
        return MF_FAIL(err, MF_E_NOTFOUND, "document %lld is not in this index",
                       (long long)key.num);
    }
    size_t values;
    if (part_count == 0 || !mf_mul_size(part_count, index->vectors.dim, &values)) {
        return MF_FAIL(err, MF_E_INVAL, "a document cannot have %zu vectors",
                       part_count);
    }
    for (size_t i = 0; i < values; i++) {
        if (!isfinite(vectors[i])) {
            return MF_FAIL(err, MF_E_INVAL, "value %zu of a vector is not a number", i);
        }
    }
    MF_TRY(mf_vectors_set(&index->vectors, slot, vectors, part_count, err));
    mf_docs_set_pending(&index->docs, slot, false);
    return MF_OK;
}

void mf_index_drop_vectors(mf_index *index, mf_index_key key) {
    uint32_t slot = mf_docs_find(&index->docs, key);
    if (slot != MF_DOCS_NONE) {
        mf_vectors_clear(&index->vectors, slot);
        mf_docs_set_pending(&index->docs, slot, true);
    }
}

bool mf_index_remove(mf_index *index, mf_index_key key) {
    uint32_t slot = mf_docs_find(&index->docs, key);
    if (slot == MF_DOCS_NONE) {
        return false;
    }
    mf_index_doc_free(take_out(index, slot));
    return true;
}

size_t mf_index_remove_session(mf_index *index, mf_uuid session_id) {
    if (mf_uuid_is_none(session_id)) {
        return 0; /* knowledge belongs to no session */
    }
    size_t removed = 0;
    for (uint32_t i = 0; i < index->docs.group_count; i++) {
        mf_docs_group *group = &index->docs.groups[i];
        bool meant = group->count > 0 && mf_uuid_eq(group->session_id, session_id);
        while (meant &&
               group->count > 0) { /* from the end: the cheapest gaps to close */
            mf_index_doc_free(take_out(index, group->slots[group->count - 1]));
            removed++;
        }
    }
    return removed;
}

bool mf_index_has(const mf_index *index, mf_index_key key) {
    return mf_docs_find(&index->docs, key) != MF_DOCS_NONE;
}

size_t mf_index_count(const mf_index *index) {
    return index->docs.count;
}

size_t mf_index_vector_count(const mf_index *index) {
    return index->vectors.row_count;
}

size_t mf_index_bytes(const mf_index *index) {
    return sizeof(*index) + mf_docs_bytes(&index->docs) +
           mf_postings_bytes(&index->postings) + mf_vectors_bytes(&index->vectors);
}

size_t mf_index_pending(const mf_index *index, mf_index_key *keys, size_t keys_max) {
    size_t count = 0;
    for (uint32_t slot = index->docs.pending_first;
         slot != MF_DOCS_NONE && count < keys_max;
         slot = index->docs.slots[slot].after) {
        keys[count++] = index->docs.slots[slot].doc->facts.key;
    }
    return count;
}

size_t mf_index_pending_count(const mf_index *index) {
    return index->docs.pending_count;
}
