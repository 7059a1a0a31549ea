/* stop_words.c - the list, sorted, and a binary search.
 *
 * Function words, question words and the contractions people type without an
 * apostrophe.  Words that carry a fact ("no", "against", "before", "after", "first")
 * are left out of it on purpose.  The test checks the order. */
#include "index/stop_words.h"

#include <stddef.h>

static const char *const words[] = {
    "a",      "about", "am",        "an",     "and",        "any",        "are",
    "arent",  "as",    "at",        "be",     "been",       "being",      "but",
    "by",     "can",   "cannot",    "cant",   "could",      "did",        "didnt",
    "do",     "does",  "doesnt",    "doing",  "dont",       "each",       "for",
    "from",   "had",   "has",       "have",   "having",     "he",         "her",
    "here",   "hers",  "herself",   "him",    "himself",    "his",        "how",
    "i",      "if",    "im",        "in",     "into",       "is",         "isnt",
    "it",     "its",   "itself",    "ive",    "just",       "me",         "might",
    "mine",   "must",  "my",        "myself", "of",         "on",         "or",
    "our",    "ours",  "ourselves", "s",      "shall",      "she",        "should",
    "so",     "some",  "such",      "t",      "than",       "that",       "thats",
    "the",    "their", "theirs",    "them",   "themselves", "then",       "there",
    "theres", "these", "they",      "theyre", "this",       "those",      "to",
    "too",    "us",    "very",      "was",    "wasnt",      "we",         "were",
    "what",   "whats", "when",      "where",  "which",      "while",      "who",
    "whom",   "whose", "why",       "will",   "with",       "wont",       "would",
    "you",    "your",  "youre",     "yours",  "yourself",   "yourselves",
};

bool mf_stop_word(mf_str word) {
    size_t low = 0;
    size_t high = sizeof(words) / sizeof(words[0]);
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = mf_str_cmp(word, mf_str_from(words[middle]));
        if (order == 0) {
            return true;
        }
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return false;
}

bool mf_stop_words_check(void) {
    for (size_t i = 1; i < sizeof(words) / sizeof(words[0]); i++) {
        if (mf_str_cmp(mf_str_from(words[i - 1]), mf_str_from(words[i])) >= 0) {
            return false;
        }
    }
    return true;
}
