/* chunk_strategy_test.c - every strategy keeps every byte, keeps its bound, and gives a
 * message the windows that hold its own text.
 *
 * The vocabulary is made here: every letter is a piece, so a word of n letters has n
 * ids and windows can be counted by hand. */
#include "memory/chunk_strategy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "memory/chunks.h"
#include "text/utf8.h"

static char folder[] = "/tmp/mf_chunk_strategy_XXXXXX";

typedef struct world {
    mf_model_tokenizer *wp;
    mf_token_counter *tokens;
    mf_arena *arena;
    const mf_chunk_rules *rules;
    mf_chunk_list list;
} world;

static int make_world(void **state) {
    static world place;
    world *t = &place;
    char path[64];
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof path, "%s/vocab.txt", folder);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    (void)fputs("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n.\n[\n]\n:\n", file);
    for (char letter = 'a'; letter <= 'z'; letter++) {
        (void)fprintf(file, "%c\n##%c\n", letter, letter);
    }
    assert_int_equal(fclose(file), 0);
    assert_int_equal(mf_model_tokenizer_open(folder, &t->wp, NULL), MF_OK);
    assert_int_equal(mf_token_counter_open(NULL, &t->tokens, NULL), MF_OK);
    assert_int_equal(mf_arena_new((size_t)1 << 28, &t->arena, NULL), MF_OK);
    *state = t;
    return 0;
}

static int drop_world(void **state) {
    world *t = *state;
    char path[64];
    (void)snprintf(path, sizeof path, "%s/vocab.txt", folder);
    mf_arena_free(t->arena);
    mf_token_counter_close(t->tokens);
    mf_model_tokenizer_close(t->wp);
    assert_int_equal(mf_alloc_live(), 0);
    return unlink(path) != 0 || rmdir(folder) != 0;
}

static mf_chunk_rules rules_of(const world *t, mf_chunk_strategy strategy) {
    return (mf_chunk_rules){.strategy = strategy,
                            .words_max = 5,
                            .context_chunks = strategy == MF_CHUNK_CONTEXTUAL ? 2 : 0,
                            .characters_max = 10,
                            .characters_overlap = 3,
                            .tokens_max = 6,
                            .tokens = t->tokens};
}

/* A message per line of `text`, by users. */
static void cut(world *t, const mf_chunk_rules *rules, const char *text) {
    static mf_chunk_line lines[64];
    size_t count = 0;
    t->rules = rules;
    mf_str rest = mf_str_from(text);
    while (rest.len > 0) {
        lines[count++] = (mf_chunk_line){MF_ROLE_USER, mf_str_split(&rest, '|')};
    }
    assert_int_equal(mf_chunk_list_cut(rules, lines, count, t->arena, &t->list, NULL),
                     MF_OK);
}

static void assert_text(mf_str text, const char *expected) {
    if (!mf_str_eq(text, mf_str_from(expected))) {
        fail_msg("'%.*s' instead of '%s'", MF_STR_ARGS(text), expected);
    }
}

static void assert_chunks(const world *t, size_t count, const char *const *expected) {
    for (size_t i = 0; i < count && i < t->list.chunk_count; i++) {
        mf_str text;
        assert_int_equal(
            mf_chunk_list_show(&t->list, t->rules, i, t->arena, &text, NULL), MF_OK);
        assert_text(text, expected[i]);
    }
    assert_int_equal(t->list.chunk_count, count);
}

#define CHUNKS(...)                                                                    \
    assert_chunks(t, sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *),           \
                  (const char *[]){__VA_ARGS__})

static void turn_takes_each_message_by_itself(void **state) {
    world *t = *state;
    mf_chunk_rules rules = rules_of(t, MF_CHUNK_TURN);
    cut(t, &rules, "one two|three");
    CHUNKS("one two", "three");
}

static void message_makes_one_chunk_of_a_list(void **state) {
    world *t = *state;
    mf_chunk_rules rules = rules_of(t, MF_CHUNK_MESSAGE);
    mf_chunk_line lines[] = {{MF_ROLE_USER, MF_STR("one two")},
                             {MF_ROLE_ASSISTANT, MF_STR("three\nfour")},
                             {MF_ROLE_SYSTEM, MF_STR_NONE}};
    t->rules = &rules;
    assert_int_equal(mf_chunk_list_cut(&rules, lines, 3, t->arena, &t->list, NULL),
                     MF_OK);
    CHUNKS("[user]: one two\n[assistant]: three\nfour\n[system]: ");
}

static void contextual_puts_whole_messages_together_up_to_its_words(void **state) {
    world *t = *state;
    mf_chunk_rules rules = rules_of(t, MF_CHUNK_CONTEXTUAL); /* five words */
    cut(t, &rules, "a|b c|d e f|g");
    CHUNKS("[user]: a\n[user]: b c", "[user]: d e f\n[user]: g");
    cut(t, &rules, "a|b c d e f g h i j k l|m");
    CHUNKS("[user]: a", "[user]: b c d e f", " g h i j k", " l", "[user]: m");
    cut(t, &rules, "a b c d e  "); /* blanks at the end are no word */
    CHUNKS("[user]: a b c d e  ");
    cut(t, &rules, "||");
    CHUNKS("[user]: \n[user]: ");
}

static void a_cjk_character_counts_as_a_word(void **state) {
    world *t = *state;
    mf_chunk_rules rules = rules_of(t, MF_CHUNK_CONTEXTUAL);
    cut(t, &rules, "日本語を話す");
    CHUNKS("[user]: 日本語を話", "す");
    cut(t, &rules, "ab日cd本e");
    CHUNKS("[user]: ab日cd本e");
    cut(t, &rules, "ab日cd本e日");
    CHUNKS("[user]: ab日cd本e", "日");
}

static void character_overlaps_and_never_cuts_a_character(void **state) {
    world *t = *state;
    mf_chunk_rules rules = rules_of(t, MF_CHUNK_CHARACTER); /* 10, overlap 3 */
    cut(t, &rules, "abcdefghijklmnopqrs");
    CHUNKS("[user]: abcdefghij", "hijklmnopq", "opqrs");
    cut(t, &rules, "abcdefghij");
    CHUNKS("[user]: abcdefghij");
    cut(t, &rules, "abcdefg|hijkl");
    CHUNKS("[user]: abcdefg\n[user]: hi", "\n[user]: hijkl");
    cut(t, &rules, "日本語日本語日本\xF0\x9F\x98\x80を話す");
    CHUNKS("[user]: 日本語日本語日本\xF0\x9F\x98\x80を", "本\xF0\x9F\x98\x80を話す");
}

static void integrated_keeps_words_and_tokens(void **state) {
    world *t = *state;
    mf_chunk_rules rules = rules_of(t, MF_CHUNK_INTEGRATED); /* 5 words, 6 tokens */
    cut(t, &rules, "a b c d e|f");
    for (size_t i = 0; i < t->list.chunk_count; i++) {
        assert_in_range(mf_token_count(t->tokens, mf_chunk_list_chunk(&t->list, i)), 1,
                        rules.tokens_max);
    }
    assert_int_equal(t->list.chunk_count, 3);
    rules.tokens_max = 1; /* less than any word has: one word each */
    cut(t, &rules, "ab cd");
    CHUNKS("[user]: ab", " cd");
}

/* --- what holds for all of them --- */

static size_t random_text(mf_rng *rng, char *out, size_t pieces) {
    static const char *const parts[] = {
        "a", "bc", "def", " ", "  ", "\n", "日", "é", "\xF0\x9F\x98\x80", ".", "\t"};
    size_t len = 0;
    for (size_t i = 0; i < pieces; i++) {
        const char *part = parts[mf_rng_below(rng, sizeof parts / sizeof parts[0])];
        memcpy(out + len, part, strlen(part));
        len += strlen(part);
    }
    return len;
}

static bool is_blank_text(mf_str text) {
    return mf_str_trim(text).len == 0;
}

/* Chunks cover the text in order; what lies between them is white space. */
static void check_cover(const mf_chunk_rules *rules, const mf_chunk_list *list) {
    size_t at = 0;
    for (size_t i = 0; i < list->chunk_count; i++) {
        mf_chunk_span span = list->chunks[i];
        assert_true(span.from <= span.to && span.to <= list->text.len);
        assert_true(mf_utf8_valid(mf_chunk_list_chunk(list, i)));
        if (span.from > at) {
            assert_true(is_blank_text(mf_str_sub(list->text, at, span.from - at)));
        }
        if (rules->strategy == MF_CHUNK_CHARACTER) {
            assert_in_range(mf_utf8_count(mf_chunk_list_chunk(list, i)), 0,
                            rules->characters_max);
        } else {
            assert_true(span.from >= at);
        }
        at = span.to;
    }
    assert_true(is_blank_text(mf_str_sub(list->text, at, list->text.len - at)));
}

/* Every word of a message stands in one of its texts, and no text is without any. */
static void check_texts(world *t, const mf_chunk_rules *rules) {
    enum { WINDOW = 24, PARTS = 512 };
    static mf_str parts[PARTS];
    static mf_str own_parts[PARTS];
    mf_chunk_list *list = &t->list;
    assert_int_equal(mf_chunk_list_fit(list, t->wp, WINDOW, t->arena, NULL), MF_OK);
    for (size_t line = 0; line < list->line_count; line++) {
        mf_chunk_span own = list->lines[line];
        size_t count = 0;
        assert_int_equal(mf_chunk_list_texts(list, rules, t->wp, WINDOW, NULL, 0, line,
                                             t->arena, parts, PARTS, &count, NULL),
                         MF_OK);
        assert_true(count >= 1);
        size_t windows = 0;
        size_t covered = own.from;
        for (size_t i = 0; i < list->window_count; i++) {
            mf_chunk_span span = list->windows[i].span;
            if (own.from < own.to && span.from < own.to && own.from < span.to) {
                windows++;
                if (span.from > covered) {
                    assert_true(is_blank_text(
                        mf_str_sub(list->text, covered, span.from - covered)));
                }
                covered = span.to > covered ? span.to : covered;
            }
        }
        if (covered < own.to) {
            assert_true(
                is_blank_text(mf_str_sub(list->text, covered, own.to - covered)));
        }
        mf_str own_text = mf_str_sub(list->text, own.from, own.to - own.from);
        size_t alone = 0;
        assert_int_equal(
            mf_chunks_cut(t->wp, WINDOW, own_text, own_parts, PARTS, &alone, NULL),
            MF_OK);
        alone = list->line_count > 1 && own_text.len > 0 ? alone : 0;
        assert_in_range(count, alone > 0 ? alone : 1, windows + alone + 1);
        if (alone == 0) {
            assert_int_equal(count, windows > 0 ? windows : 1);
        }
        for (size_t i = 0; i < alone; i++) {
            assert_true(mf_str_eq(parts[i], own_parts[i]));
        }
        for (size_t i = 0; i < count; i++) {
            bool truncated = false;
            int32_t ids[WINDOW];
            (void)mf_model_tokenizer_encode(t->wp, parts[i], ids, WINDOW, &truncated);
            assert_true(!truncated || windows > 0);
        }
    }
}

static void every_strategy_keeps_every_word(void **state) {
    world *t = *state;
    mf_rng rng;
    mf_rng_init(&rng, 4);
    static char space[64][512];
    for (int round = 0; round < 300; round++) {
        mf_chunk_line lines[64];
        size_t count = 1 + mf_rng_below(&rng, 12);
        for (size_t i = 0; i < count; i++) {
            size_t len = random_text(&rng, space[i], mf_rng_below(&rng, 60));
            lines[i] = (mf_chunk_line){(mf_role)mf_rng_below(&rng, 3), {space[i], len}};
        }
        mf_chunk_rules rules = rules_of(t, (mf_chunk_strategy)(round % 5));
        rules.words_max = 1 + mf_rng_below(&rng, 30);
        rules.tokens_max = 1 + mf_rng_below(&rng, 40);
        rules.characters_max = 1 + mf_rng_below(&rng, 80);
        rules.characters_overlap = mf_rng_below(&rng, rules.characters_max);
        assert_int_equal(
            mf_chunk_list_cut(&rules, lines, count, t->arena, &t->list, NULL), MF_OK);
        check_cover(&rules, &t->list);
        check_texts(t, &rules);
        mf_arena_reset(t->arena);
    }
}

/* --- texts of a message --- */

static size_t texts_of(world *t, const mf_chunk_rules *rules, size_t window,
                       const mf_str *before, size_t before_count, size_t line,
                       mf_str *parts, size_t parts_max) {
    size_t count = 0;
    assert_int_equal(mf_chunk_list_fit(&t->list, t->wp, window, t->arena, NULL), MF_OK);
    assert_int_equal(mf_chunk_list_texts(&t->list, rules, t->wp, window, before,
                                         before_count, line, t->arena, parts, parts_max,
                                         &count, NULL),
                     MF_OK);
    return count;
}

static void a_message_has_the_windows_its_own_text_stands_in(void **state) {
    world *t = *state;
    mf_chunk_rules rules = rules_of(t, MF_CHUNK_MESSAGE);
    mf_str parts[4];
    cut(t, &rules, "aaaa bbbb|cccc dddd");
    /* Two of the ids of a window are special ones. */
    assert_int_equal(texts_of(t, &rules, 10, NULL, 0, 0, parts, 4), 1);
    assert_text(parts[0], "aaaa bbbb");
    assert_int_equal(texts_of(t, &rules, 10, NULL, 0, 1, parts, 4), 1);
    assert_text(parts[0], "cccc dddd");
    cut(t, &rules, "aa bb|cccc dddd eeee");
    assert_int_equal(texts_of(t, &rules, 14, NULL, 0, 1, parts, 4), 3);
    assert_text(parts[0], "cccc dddd eeee"); /* alone */
    assert_text(parts[1], "aa bb\ncccc dddd");
    assert_text(parts[2], "eeee");
    assert_int_equal(texts_of(t, &rules, 14, NULL, 0, 1, parts, 1), 1); /* no room */
    assert_int_equal(texts_of(t, &rules, 14, NULL, 0, 0, parts, 4), 2);
    assert_text(parts[0], "aa bb");
    assert_text(parts[1], "aa bb\ncccc dddd");
}

static void context_fills_the_room_a_chunk_leaves_the_nearest_first(void **state) {
    world *t = *state;
    mf_chunk_rules rules = rules_of(t, MF_CHUNK_CONTEXTUAL);
    const mf_str before[] = {MF_STR("xx"), MF_STR("yy"), MF_STR("zz")};
    mf_str parts[4];
    cut(t, &rules, "aa bb cc|dd ee ff|gg");
    CHUNKS("[user]: aa bb cc", "[user]: dd ee ff\n[user]: gg");
    assert_int_equal(texts_of(t, &rules, 60, before, 3, 0, parts, 4), 2);
    assert_text(parts[0], "aa bb cc");
    assert_text(parts[1], "aa bb cc\nzz\nyy");
    assert_int_equal(texts_of(t, &rules, 60, before, 3, 2, parts, 4), 2);
    assert_text(parts[0], "gg");
    assert_text(parts[1], "dd ee ff\ngg\naa bb cc\nzz");
    /* 2 special ids and 6 of its own leave room for one word. */
    assert_int_equal(texts_of(t, &rules, 10, before, 3, 0, parts, 4), 2);
    assert_text(parts[1], "aa bb cc\nzz");
    assert_int_equal(texts_of(t, &rules, 60, NULL, 0, 0, parts, 4), 1);
    assert_text(parts[0], "aa bb cc");
    cut(t, &rules, "aa bb cc"); /* the only one: its context is with it at once */
    assert_int_equal(texts_of(t, &rules, 60, before, 3, 0, parts, 4), 1);
    assert_text(parts[0], "aa bb cc\nzz\nyy");
}

static void a_blank_message_has_one_empty_text(void **state) {
    world *t = *state;
    mf_chunk_rules rules = rules_of(t, MF_CHUNK_MESSAGE);
    mf_chunk_line lines[] = {{MF_ROLE_USER, MF_STR_NONE}, {MF_ROLE_USER, MF_STR("a")}};
    mf_str parts[2];
    assert_int_equal(mf_chunk_list_cut(&rules, lines, 2, t->arena, &t->list, NULL),
                     MF_OK);
    assert_int_equal(texts_of(t, &rules, 60, NULL, 0, 0, parts, 2), 1);
    assert_int_equal(parts[0].len, 0);
    assert_true(mf_chunk_list_holds(&t->list, 0, 0));
}

/* --- rules --- */

static void the_settings_make_the_rules(void **state) {
    world *t = *state;
    mf_config config;
    mf_chunk_rules rules;
    mf_err err;
    char text[MF_CHUNK_RULES_TEXT];
    static const struct {
        const char *name, *text;
    } cases[] = {{"turn", ""},
                 {"message", "message"},
                 {"contextual", "contextual/800/2"},
                 {"character", "character/1000/100"},
                 {"integrated", "integrated/200/~200"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mf_config_defaults(&config);
        (void)snprintf(config.buffer_chunk_strategy,
                       sizeof config.buffer_chunk_strategy, "%s", cases[i].name);
        assert_int_equal(mf_chunk_rules_of(&config, t->tokens, &rules, NULL), MF_OK);
        assert_string_equal(mf_chunk_strategy_name(rules.strategy), cases[i].name);
        mf_chunk_rules_text(&rules, text);
        assert_string_equal(text, cases[i].text);
    }
    (void)snprintf(config.buffer_chunk_strategy, sizeof config.buffer_chunk_strategy,
                   "character");
    config.buffer_chunk_overlap = config.buffer_chunk_characters;
    assert_int_equal(mf_chunk_rules_of(&config, t->tokens, &rules, &err), MF_E_INVAL);
    assert_string_equal(err.field, "buffer.hybrid_buffer.chunk_overlap");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(turn_takes_each_message_by_itself),
        cmocka_unit_test(message_makes_one_chunk_of_a_list),
        cmocka_unit_test(contextual_puts_whole_messages_together_up_to_its_words),
        cmocka_unit_test(a_cjk_character_counts_as_a_word),
        cmocka_unit_test(character_overlaps_and_never_cuts_a_character),
        cmocka_unit_test(integrated_keeps_words_and_tokens),
        cmocka_unit_test(every_strategy_keeps_every_word),
        cmocka_unit_test(a_message_has_the_windows_its_own_text_stands_in),
        cmocka_unit_test(context_fills_the_room_a_chunk_leaves_the_nearest_first),
        cmocka_unit_test(a_blank_message_has_one_empty_text),
        cmocka_unit_test(the_settings_make_the_rules),
    };
    return cmocka_run_group_tests(tests, make_world, drop_world);
}
