/* timestamp.h - points in time as ISO 8601 text.
 *
 * memfuse keeps microseconds since 1970-01-01 UTC and shows
 * `2026-01-02T03:04:05.000006Z`. */
#ifndef MF_TEXT_TIMESTAMP_H
#define MF_TEXT_TIMESTAMP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

enum { MF_TIMESTAMP_TEXT = 27 };

void mf_timestamp_format(
    int64_t us, char out[MF_TIMESTAMP_TEXT + 1]); /* years 0000..9999, clamped */
/* Accepts a date alone, `T` or a blank before the time, seconds optional, a fraction of
 * 1 to 9 digits (cut to microseconds), `Z`, +hh:mm, -hh:mm, +hhmm or nothing (taken as
 * UTC). false for anything else, an impossible date, or years outside 0000..9999. */
bool mf_timestamp_parse(mf_str text, int64_t *us);

#endif
