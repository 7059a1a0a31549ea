/* store.c - what all backends share. */
#include "store/store.h"

static const mf_str role_names[] = {
    [MF_ROLE_USER] = {"user", 4},
    [MF_ROLE_ASSISTANT] = {"assistant", 9},
    [MF_ROLE_SYSTEM] = {"system", 6},
};
enum { ROLE_COUNT = sizeof role_names / sizeof role_names[0] };

const char *mf_role_name(mf_role role) {
    return role_names[role].p;
}

bool mf_role_parse(mf_str text, mf_role *out) {
    for (int i = 0; i < ROLE_COUNT; i++) {
        if (mf_str_eq(text, role_names[i])) {
            *out = (mf_role)i;
            return true;
        }
    }
    return false;
}

/* --- jobs --- */

static const mf_str job_state_names[] = {
    [MF_JOB_OPEN] = {"open", 4},
    [MF_JOB_RUNNING] = {"running", 7},
    [MF_JOB_DEAD] = {"dead", 4},
};
enum { JOB_STATE_COUNT = sizeof job_state_names / sizeof job_state_names[0] };

const char *mf_job_state_name(mf_job_state state) {
    return job_state_names[state].p;
}

bool mf_job_state_parse(mf_str text, mf_job_state *out) {
    for (int i = 0; i < JOB_STATE_COUNT; i++) {
        if (mf_str_eq(text, job_state_names[i])) {
            *out = (mf_job_state)i;
            return true;
        }
    }
    return false;
}

mf_rc mf_job_check(const mf_job_row *row, mf_err *err) {
    if (row->kind.len == 0 || row->kind.len > MF_JOB_KIND_MAX) {
        return MF_FAIL_FIELD(err, MF_E_LIMIT, "kind",
                             "a job's kind has from 1 to %d bytes", MF_JOB_KIND_MAX);
    }
    if (row->key.len > MF_JOB_KEY_MAX) {
        return MF_FAIL_FIELD(err, MF_E_LIMIT, "key", "a job's key has at most %d bytes",
                             MF_JOB_KEY_MAX);
    }
    if (row->payload.len > MF_JOB_PAYLOAD_MAX) {
        return MF_FAIL_FIELD(err, MF_E_LIMIT, "payload",
                             "a job's payload has at most %d bytes",
                             MF_JOB_PAYLOAD_MAX);
    }
    if (row->priority < 0 || row->priority > MF_JOB_PRIORITY_MAX) {
        return MF_FAIL_FIELD(err, MF_E_LIMIT, "priority",
                             "a job's priority is from 0 to %d", MF_JOB_PRIORITY_MAX);
    }
    return MF_OK;
}

mf_str mf_job_error_cut(mf_str error) {
    if (error.len > MF_JOB_ERROR_MAX) {
        error.len = MF_JOB_ERROR_MAX;
        while (error.len > 0 && ((unsigned char)error.p[error.len] & 0xc0) == 0x80) {
            error.len--;
        }
    }
    return error;
}

bool mf_job_is_due(int64_t due_us, int64_t now_us) {
    static const int64_t ahead_max_us = INT64_C(24) * 3600 * 1000000;
    return due_us <= now_us || due_us - now_us > ahead_max_us;
}
