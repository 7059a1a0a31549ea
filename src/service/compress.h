/* compress.h - packs the texts of old messages, as a job of the background.
 *
 * One job of nobody in particular that comes again and again.  A run trains a
 * dictionary when one is due, then packs what has become cold since the last run, a
 * slice at a time on the writer thread, so that requests wait behind one slice at most.
 * What a run has done is committed slice by slice: it can be called off or die at any
 * point, and the next one goes on where it was. */
#ifndef MF_SERVICE_COMPRESS_H
#define MF_SERVICE_COMPRESS_H

#include "service/jobs.h"
#include "text/config.h"

typedef struct mf_compress {
    const mf_settings *settings; /* borrowed */
    atomic_ullong runs, messages, packed, bytes_before, bytes_after, trained;
} mf_compress;

typedef struct mf_compress_stats {
    /* since the start */
    uint64_t runs;                      /* that came to their end */
    uint64_t messages, packed;          /* looked at; of them packed */
    uint64_t bytes_before, bytes_after; /* of those packed */
    uint64_t trained;                   /* dictionaries */
} mf_compress_stats;

void mf_compress_init(mf_compress *compress, const mf_settings *settings);
void mf_compress_get_stats(mf_compress *compress, mf_compress_stats *out);
/* For mf_jobs_register; only when store.compression is not off.  `compress` outlives
 * the jobs. */
mf_job_kind mf_compress_kind(mf_compress *compress);

#endif
