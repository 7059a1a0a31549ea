/* docs_page.h - the page at /docs: shows /openapi.json, loads nothing from
 * elsewhere. */
#ifndef MF_HTTP_DOCS_PAGE_H
#define MF_HTTP_DOCS_PAGE_H

extern const char mf_docs_page[];
extern const char mf_docs_page_policy[]; /* its Content-Security-Policy */

#endif
