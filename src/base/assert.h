/* assert.h - checks for programmer errors, on in every build.
 *
 * A failed MF_ASSERT prints the condition and place to stderr and aborts; an embedder's
 * hook runs first.  MF_DEBUG_ASSERT is for checks too costly for release builds. */
#ifndef MF_BASE_ASSERT_H
#define MF_BASE_ASSERT_H

typedef void (*mf_assert_hook)(const char *condition, const char *file, int line);
void mf_assert_set_hook(mf_assert_hook hook);
_Noreturn void mf_assert_fail(const char *condition, const char *file, int line);

#define MF_ASSERT(condition)                                                           \
    ((condition) ? (void)0 : mf_assert_fail(#condition, __FILE__, __LINE__))
#ifdef MF_DEBUG
#define MF_DEBUG_ASSERT(condition) MF_ASSERT(condition)
#else
#define MF_DEBUG_ASSERT(condition) ((void)0)
#endif

#endif
