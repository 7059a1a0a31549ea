/* purge.h - drops idempotency records that are a day old, as a job of the background.
 *
 * One job of nobody in particular that comes again every hour, also across restarts, so
 * that no request pays for it. */
#ifndef MF_SERVICE_PURGE_H
#define MF_SERVICE_PURGE_H

#include "service/jobs.h"

/* For mf_jobs_register. */
mf_job_kind mf_purge_kind(void);

#endif
