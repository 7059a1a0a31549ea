/* stop_words.h - English words too common to tell one message from another. */
#ifndef MF_INDEX_STOP_WORDS_H
#define MF_INDEX_STOP_WORDS_H

#include <stdbool.h>

#include "base/str.h"

/* `word` is lower-case ASCII letters, unstemmed, without its apostrophe part ("it" for
 * "it's").  Pure. */
bool mf_stop_word(mf_str word);
/* True if the list is in rising order, which the search relies on; for tests. */
bool mf_stop_words_check(void);

#endif
