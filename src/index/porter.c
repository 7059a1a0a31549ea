/* porter.c - the five steps of Porter's algorithm.
 *
 * The paper reads a word as [C](VC)^m[V], where C and V are runs of consonants and of
 * vowels; `m`, the measure, is roughly the number of syllables and decides whether a
 * suffix may go.  In each step the longest suffix that matches is the only candidate:
 * when its condition fails, the step changes nothing.
 *
 * A replacement is never longer than the suffix it replaces, but for the "e" that step
 * 1b puts back after it removed at least two letters, so everything happens in
 * place. */
#include "index/porter.h"

#include <stdbool.h>
#include <string.h>

#include "base/assert.h"

typedef struct stem {
    char *p;
    size_t len;
} stem;

typedef struct suffix_rule {
    const char *suffix;
    const char *replacement;
} suffix_rule;

/* A "y" is a vowel behind a consonant and a consonant elsewhere. */
static bool is_consonant(const char *p, size_t at) {
    switch (p[at]) {
    case 'a':
    case 'e':
    case 'i':
    case 'o':
    case 'u':
        return false;
    case 'y':
        return at == 0 || !is_consonant(p, at - 1);
    default:
        return true;
    }
}

/* How often a vowel is followed by a consonant in the first `len` letters.  Whether the
 * letter before was a consonant is carried along, which keeps runs of "y" linear. */
static size_t measure(const char *p, size_t len) {
    size_t m = 0;
    bool before = true;
    for (size_t i = 0; i < len; i++) {
        bool consonant = p[i] == 'y' ? (i == 0 || !before) : is_consonant(p, i);
        if (i > 0 && consonant && !before) {
            m++;
        }
        before = consonant;
    }
    return m;
}

static bool has_vowel(const char *p, size_t len) {
    for (size_t i = 0; i < len; i++) {
        if (p[i] == 'y' ? i > 0 && is_consonant(p, i - 1) : !is_consonant(p, i)) {
            return true;
        }
    }
    return false;
}

static bool ends_double_consonant(const char *p, size_t len) {
    return len >= 2 && p[len - 1] == p[len - 2] && is_consonant(p, len - 1);
}

/* Consonant, vowel, consonant other than w, x, y: "hop", but not "snow". */
static bool ends_cvc(const char *p, size_t len) {
    if (len < 3) {
        return false;
    }
    char last = p[len - 1];
    return is_consonant(p, len - 3) && !is_consonant(p, len - 2) &&
           is_consonant(p, len - 1) && last != 'w' && last != 'x' && last != 'y';
}

static bool ends_with(const stem *word, const char *suffix) {
    size_t len = strlen(suffix);
    return word->len >= len && memcmp(word->p + word->len - len, suffix, len) == 0;
}

static void replace(stem *word, size_t suffix_len, const char *replacement) {
    size_t len = strlen(replacement);
    memcpy(word->p + word->len - suffix_len, replacement, len);
    word->len = word->len - suffix_len + len;
}

static const suffix_rule *longest_rule(const stem *word, const suffix_rule *rules,
                                       size_t count) {
    const suffix_rule *best = NULL;
    for (size_t i = 0; i < count; i++) {
        if ((best == NULL || strlen(rules[i].suffix) > strlen(best->suffix)) &&
            ends_with(word, rules[i].suffix)) {
            best = &rules[i];
        }
    }
    return best;
}

/* Plurals. */
static void step_1a(stem *word) {
    if (ends_with(word, "sses") || ends_with(word, "ies")) {
        word->len -= 2;
    } else if (ends_with(word, "s") && !ends_with(word, "ss")) {
        word->len -= 1;
    }
}

/* Past tense and "-ing", and what they did to the word before them. */
static void step_1b(stem *word) {
    if (ends_with(word, "eed")) {
        if (measure(word->p, word->len - 3) > 0) {
            word->len -= 1;
        }
        return;
    }
    size_t suffix_len = ends_with(word, "ed") ? 2 : ends_with(word, "ing") ? 3 : 0;
    if (suffix_len == 0 || !has_vowel(word->p, word->len - suffix_len)) {
        return;
    }
    word->len -= suffix_len;
    if (ends_with(word, "at") || ends_with(word, "bl") || ends_with(word, "iz")) {
        replace(word, 0, "e");
    } else if (ends_double_consonant(word->p, word->len)) {
        char last = word->p[word->len - 1];
        if (last != 'l' && last != 's' && last != 'z') {
            word->len -= 1;
        }
    } else if (measure(word->p, word->len) == 1 && ends_cvc(word->p, word->len)) {
        replace(word, 0, "e");
    }
}

static void step_1c(stem *word) {
    if (ends_with(word, "y") && has_vowel(word->p, word->len - 1)) {
        word->p[word->len - 1] = 'i';
    }
}

/* Double suffixes become single ones. */
static void step_2(stem *word) {
    static const suffix_rule rules[] = {
        {"ational", "ate"}, {"tional", "tion"}, {"enci", "ence"},   {"anci", "ance"},
        {"izer", "ize"},    {"abli", "able"},   {"alli", "al"},     {"entli", "ent"},
        {"eli", "e"},       {"ousli", "ous"},   {"ization", "ize"}, {"ation", "ate"},
        {"ator", "ate"},    {"alism", "al"},    {"iveness", "ive"}, {"fulness", "ful"},
        {"ousness", "ous"}, {"aliti", "al"},    {"iviti", "ive"},   {"biliti", "ble"},
    };
    const suffix_rule *rule =
        longest_rule(word, rules, sizeof(rules) / sizeof(rules[0]));
    if (rule != NULL && measure(word->p, word->len - strlen(rule->suffix)) > 0) {
        replace(word, strlen(rule->suffix), rule->replacement);
    }
}

static void step_3(stem *word) {
    static const suffix_rule rules[] = {
        {"icate", "ic"}, {"ative", ""}, {"alize", "al"}, {"iciti", "ic"},
        {"ical", "ic"},  {"ful", ""},   {"ness", ""},
    };
    const suffix_rule *rule =
        longest_rule(word, rules, sizeof(rules) / sizeof(rules[0]));
    if (rule != NULL && measure(word->p, word->len - strlen(rule->suffix)) > 0) {
        replace(word, strlen(rule->suffix), rule->replacement);
    }
}

/* Single suffixes go when enough of the word is left. */
static void step_4(stem *word) {
    static const suffix_rule rules[] = {
        {"al", ""},   {"ance", ""}, {"ence", ""}, {"er", ""},    {"ic", ""},
        {"able", ""}, {"ible", ""}, {"ant", ""},  {"ement", ""}, {"ment", ""},
        {"ent", ""},  {"ion", ""},  {"ou", ""},   {"ism", ""},   {"ate", ""},
        {"iti", ""},  {"ous", ""},  {"ive", ""},  {"ize", ""},
    };
    const suffix_rule *rule =
        longest_rule(word, rules, sizeof(rules) / sizeof(rules[0]));
    if (rule == NULL) {
        return;
    }
    size_t left = word->len - strlen(rule->suffix);
    if (strcmp(rule->suffix, "ion") == 0 &&
        (left == 0 || (word->p[left - 1] != 's' && word->p[left - 1] != 't'))) {
        return;
    }
    if (measure(word->p, left) > 1) {
        word->len = left;
    }
}

static void step_5(stem *word) {
    if (ends_with(word, "e")) {
        size_t m = measure(word->p, word->len - 1);
        if (m > 1 || (m == 1 && !ends_cvc(word->p, word->len - 1))) {
            word->len -= 1;
        }
    }
    if (ends_with(word, "ll") && measure(word->p, word->len) > 1) {
        word->len -= 1;
    }
}

size_t mf_porter_stem(char *word, size_t len) {
    if (len <= 2) {
        return len;
    }
    stem s = {word, len};
    step_1a(&s);
    step_1b(&s);
    step_1c(&s);
    step_2(&s);
    step_3(&s);
    step_4(&s);
    step_5(&s);
    MF_ASSERT(s.len > 0 && s.len <= len);
    return s.len;
}
