/* openapi.h - the API's description of itself, OpenAPI 3.1. */
#ifndef MF_HTTP_OPENAPI_H
#define MF_HTTP_OPENAPI_H

#include "base/err.h"
#include "base/str.h"

/* Makes the JSON document from routes.def; free it with mf_openapi_free.
 * MF_E_NOMEM. */
MF_CHECKED mf_rc mf_openapi_build(mf_str *out, mf_err *err);
void mf_openapi_free(mf_str *document);

#endif
