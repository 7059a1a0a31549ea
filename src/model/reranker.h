/* reranker.h - a question and a text in, how well they match out.
 *
 * A reranker is a cross-encoder: question and text go through the network together, one
 * pair at a time, and a small head reads the result from the first token.  It is far
 * slower than comparing vectors, and better; it is for the few best of a search.
 *
 * Its folder is opened with mf_encoder_open and MF_TASK_RANK; lanes and batches are
 * those of encoder.h, and a pair gives the same numbers alone and in any batch. */
#ifndef MF_MODEL_RERANKER_H
#define MF_MODEL_RERANKER_H

#include "model/encoder.h"

enum { MF_RERANK_WINDOW_MIN = 8 }; /* tokens; a smaller window has no room for pairs */

/* Scores `query` with each of `count` texts, borrowed for the call, at most
 * MF_ENCODE_BATCH_MAX.  `logits` receives, row-major [count, labels], what the head
 * gives before any sigmoid or softmax: with one label, more is better.  Of a pair that
 * is longer than the window the longer text is cut, down to the length of the other,
 * then both; `*truncated`, unless NULL, receives how many pairs that happened to.
 * MF_E_INVAL (a sentence encoder), MF_E_LIMIT, MF_E_TIMEOUT and MF_E_CORRUPT as
 * mf_lane_encode. */
MF_CHECKED mf_rc mf_lane_score(mf_lane *lane, mf_str query, const mf_str *texts,
                               size_t count, int64_t deadline_ns, float *logits,
                               size_t *truncated, mf_err *err);

#endif
