/* user_index_impl.h - what user_index.c and user_index_search.c share. */
#ifndef MF_INDEX_USER_INDEX_IMPL_H
#define MF_INDEX_USER_INDEX_IMPL_H

#include "index/docs.h"
#include "index/postings.h"
#include "index/user_index.h"
#include "index/vectors.h"

struct mf_index {
    mf_docs docs;
    mf_postings postings;
    mf_vectors vectors;
};

#endif
